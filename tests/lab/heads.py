"""A cluster's daemons that are neither its nodes nor its sshd: munged, slurmdbd and the controller."""

import signal

from tests.lab import processes
from tests.lab.running import Running, wait


class Heads(Running):
    """The part of a Lab that is its controller and what that needs."""

    __slots__ = ()

    def start_munged(self) -> None:
        """Start munged unless it runs and wait for its socket. Raises BrokenError."""
        if self.pid("munged") is None:
            self.cluster.munge_socket.unlink(missing_ok=True)
        self.start("munged", self._munged())
        wait(self.cluster.munge_socket.is_socket, 10, f"munged does not start: see {self.cluster.directory}/log")

    def _munged(self) -> tuple[str, ...]:
        home = self.cluster.directory
        return (
            "munged",
            "--foreground",
            # The way to the socket may belong to the owner of the source tree, not to root.
            "--force",
            f"--key-file={home}/etc/munge.key",
            f"--socket={self.cluster.munge_socket}",
            f"--pid-file={home}/run/munged.pid",
            f"--log-file={home}/log/munged.log",
            f"--seed-file={home}/run/munged.seed",
            "--num-threads=2",
        )

    def start_slurmdbd(self) -> None:
        """Start slurmdbd unless it runs; SLURM_CONF tells it the directory of slurmdbd.conf."""
        environment = {
            "SLURM_CONF": str(self.cluster.slurm_conf),
            "MYSQL_UNIX_PORT": str(self.home / "mariadb/socket"),
        }
        self.start("slurmdbd", self.on_head("slurmdbd", "-D"), **environment)

    def start_controller(self) -> None:
        """Start slurmctld unless it runs; its state of before is kept."""
        self.start("slurmctld", self.on_head("slurmctld", "-D", "-f", str(self.cluster.slurm_conf)))

    def stop_controller(self) -> None:
        """Stop slurmctld as an administrator does, with its state saved."""
        self.send("slurmctld", signal.SIGTERM)
        self.thaw()
        processes.await_end([self.record("slurmctld")], 10)
        processes.kill([self.record("slurmctld")])

    def kill_controller(self) -> None:
        """End slurmctld with SIGKILL."""
        processes.kill([self.record("slurmctld")])

    def freeze(self) -> None:
        """Stop slurmctld from answering, as an overloaded one: its clients wait, and time out."""
        self.send("slurmctld", signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen slurmctld go on; it then works through what waits at its port."""
        self.send("slurmctld", signal.SIGCONT)

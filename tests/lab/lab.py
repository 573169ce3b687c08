"""One running cluster that can be asked, hurt and mended: what the tests hold in their hands.

Bringing a whole lab up and taking it down is in up.py.
"""

import os
import pwd
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.lab import processes
from tests.lab.cluster import NODE_CONF, Cluster
from tests.lab.install import BrokenError, RefusedError

# A suffix, such as * for a node that does not answer, makes another word of a state.
WORKING = {"idle", "mixed", "allocated", "completing"}
NAMESPACE = ("unshare", "--uts", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child=KILL")
# What a machine sees as its own, from etc $1, slurm.conf $2 and name $3: the bind mounts end with their namespace.
OWN = 'mount --bind "$1/hosts" /etc/hosts && mount --bind "$1/$2" "$1/slurm.conf" && hostname "$3" && shift 3'
# The shell stays as a node's pid 1 and reaps what jobs leave; `exit` keeps it from becoming its last command.
AS_NODE = ("sh", "-c", f'{OWN} && "$@"; exit $?', "sh")
AS_HEAD = ("sh", "-c", f'{OWN} && exec "$@"', "sh")


@dataclass(frozen=True, slots=True, kw_only=True)
class Lab:
    """One cluster of a lab, as a person at its head node has it."""

    cluster: Cluster
    home: Path

    @property
    def site_path(self) -> Path:
        """The site file that points hpc at this cluster."""
        return self.home / "sites" / f"{self.cluster.name}.yaml"

    def environment(self) -> dict[str, str]:
        """The environment of a client: nothing of Slurm's from outside but SLURM_CONF."""
        outside = {key: value for key, value in os.environ.items() if not key.startswith(("SLURM", "SBATCH", "SQUEUE"))}
        return {**outside, "SLURM_CONF": str(self.cluster.slurm_conf)}

    def run(self, *argv: str, user: str | None = None, check: bool = True, seconds: float = 60) -> str:
        """Run a client command, as root or as `user`, in the job root and return its standard output.

        Raises subprocess.CalledProcessError with its standard error, and TimeoutExpired.
        """
        environment = self.environment()
        if user:
            environment |= {"HOME": pwd.getpwnam(user).pw_dir, "USER": user, "LOGNAME": user}
        done = subprocess.run(
            argv,
            cwd=self.cluster.job_root,
            env=environment,
            user=user,
            group=pwd.getpwnam(user).pw_gid if user else None,
            extra_groups=[] if user else None,
            capture_output=True,
            text=True,
            timeout=seconds,
        )
        if check and done.returncode:
            raise subprocess.CalledProcessError(done.returncode, argv, done.stdout, done.stderr)
        return done.stdout

    def record(self, name: str) -> Path:
        """The record of a daemon: munged, slurmctld or a node's name."""
        return self.cluster.directory / "run" / f"{name}.stat"

    def pid(self, name: str) -> int | None:
        """The pid of a running daemon (of a node: of its whole machine), or None."""
        return processes.running(self.record(name))

    def node_states(self) -> dict[str, str]:
        """Each node's state in sinfo's words; empty when the controller does not answer."""
        answer = self.run("sinfo", "-h", "-N", "-o", "%N %T", check=False)
        return dict(line.split() for line in answer.splitlines())

    def ready(self) -> bool:
        """Whether every node answers and can take jobs."""
        states = self.node_states()
        return set(states) == set(self.cluster.nodes) and set(states.values()) <= WORKING

    def kill_node(self, name: str) -> None:
        """End a node as a power cut does: its slurmd and all its jobs vanish at once, nobody is told.

        The controller notices by itself after some 17 s; report_lost tells it at once.
        """
        processes.kill([self.record(self._node(name))])

    def report_lost(self, name: str) -> None:
        """Tell the controller that a node is gone, as a cloud's agent does: its jobs are requeued at once."""
        self.run("scontrol", "update", f"nodename={self._node(name)}", "state=down", "reason=lost")

    def start_node(self, name: str) -> None:
        """Boot a node unless it runs; the controller takes it back when it registers."""
        slurmd = ("slurmd", "-D", "-b", "-N", self._node(name), "-f", str(self.cluster.slurm_conf))
        self._start(name, (*NAMESPACE, *AS_NODE, self._etc, NODE_CONF, name, *slurmd))

    def start_controller(self) -> None:
        """Start slurmctld unless it runs; its state of before is kept."""
        slurmctld = ("slurmctld", "-D", "-f", str(self.cluster.slurm_conf))
        machine = ("unshare", "--uts", "--mount", *AS_HEAD, self._etc, "slurm.conf", self.cluster.head)
        self._start("slurmctld", (*machine, *slurmctld))

    def stop_controller(self) -> None:
        """Stop slurmctld as an administrator does, with its state saved."""
        processes.send(self.record("slurmctld"), signal.SIGTERM)
        self.thaw()
        processes.await_end([self.record("slurmctld")], 10)
        processes.kill([self.record("slurmctld")])

    def kill_controller(self) -> None:
        """End slurmctld with SIGKILL."""
        processes.kill([self.record("slurmctld")])

    def freeze(self) -> None:
        """Stop slurmctld from answering, as an overloaded one: its clients wait, and time out."""
        processes.send(self.record("slurmctld"), signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen slurmctld go on; it then works through what waits at its port."""
        processes.send(self.record("slurmctld"), signal.SIGCONT)

    @property
    def _etc(self) -> str:
        return str(self.cluster.directory / "etc")

    def _node(self, name: str) -> str:
        if name not in self.cluster.nodes:
            raise BrokenError(f"no node {name!r} in {self.cluster.name}; there are {', '.join(self.cluster.nodes)}")
        return name

    def _start(self, name: str, argv: Sequence[str]) -> None:
        if self.pid(name) is not None:
            return
        if name in self.cluster.ports:
            self._check_port(name)
        processes.start(self.record(name), self.cluster.directory / f"log/{name}.out", argv, self.home)

    def _check_port(self, name: str) -> None:
        port = self.cluster.ports[name]
        # A daemon that was killed a moment ago may still be letting go of it.
        patience = time.monotonic() + 2
        while fault := port_fault(self.cluster.address, port):
            if time.monotonic() > patience:
                where = f"{self.cluster.address} port {port}, which the lab's {name} needs"
                raise RefusedError(f"{where}: {fault}; set HPC_LAB_PORT to the first port of a free block")
            time.sleep(0.02)

    def start_munged(self) -> None:
        """Start munged unless it runs and wait for its socket. Raises BrokenError."""
        if self.pid("munged") is None:
            self.cluster.munge_socket.unlink(missing_ok=True)
        self._start("munged", self._munged())
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


def wait(happened: Callable[[], bool], seconds: float, complaint: str) -> None:
    """Wait until something has happened. Raises BrokenError with the complaint when it does not in so many seconds."""
    deadline = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > deadline:
            raise BrokenError(f"{complaint} (waited {seconds:g} s)")
        time.sleep(0.05)


def port_fault(address: str, port: int) -> str:
    """Say why nothing could listen at a port; empty when it is free."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            return error.strerror or str(error)
    return ""

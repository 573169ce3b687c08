"""One running cluster as something to ask and to start daemons of: what its parts have in common."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.lab import processes
from tests.lab.cluster import Cluster
from tests.lab.install import BrokenError, RefusedError
from tests.lab.slurm_files import ADDRESS

NAMESPACE_OF_HEAD = ("unshare", "--uts", "--mount")


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A cluster of the lab in `home`."""

    cluster: Cluster
    home: Path

    def environment(self) -> dict[str, str]:
        """The environment of a client: nothing of Slurm's from outside but SLURM_CONF."""
        outside = {key: value for key, value in os.environ.items() if not key.startswith(("SLURM", "SBATCH", "SQUEUE"))}
        return {**outside, "SLURM_CONF": str(self.cluster.slurm_conf)}

    def run(self, *argv: str, user: str | None = None, check: bool = True, seconds: float = 60) -> str:
        """Run a client command, as root or as the cluster's user, in the job root; return its standard output.

        It runs on the head node where it must: for its user, and where the cluster's Slurm is not this machine's.
        Raises subprocess.CalledProcessError with its standard error, and TimeoutExpired.
        """
        environment = self.environment()
        command: Sequence[str] = argv
        if user:
            environment |= {"HOME": str(self.cluster.user_home), "USER": user, "LOGNAME": user}
            command = ("setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", *argv)
        if user or self.cluster.tree:
            there = ("sh", "-c", 'cd "$1" && shift && exec "$@"', "sh", str(self.cluster.job_root))
            command = self.on_head(*there, *command)
        done = subprocess.run(
            command, cwd=self.cluster.job_root, env=environment, capture_output=True, text=True, timeout=seconds
        )
        if check and done.returncode:
            raise subprocess.CalledProcessError(done.returncode, argv, done.stdout, done.stderr)
        return done.stdout

    def on_head(self, *argv: str) -> tuple[str, ...]:
        """The command that runs argv on the head node, as root."""
        return (*NAMESPACE_OF_HEAD, *self.as_machine("slurm.conf", self.cluster.head), *argv)

    def as_machine(self, conf: str, name: str) -> tuple[str, ...]:
        """The first words of a machine's own program: in fresh namespaces, before the command to run there."""
        return ("sh", str(self.cluster.directory / "etc/machine"), conf, name)

    def record(self, name: str) -> Path:
        """The record of a daemon: munged, slurmdbd, slurmctld, sshd or a node's name."""
        return self.cluster.directory / "run" / f"{name}.stat"

    def pid(self, name: str) -> int | None:
        """The pid of a running daemon (of a node or an sshd: of its whole machine), or None."""
        return processes.running(self.record(name))

    def control(self, name: str) -> Path:
        """A file by which the cluster's own programs are told what to do."""
        return self.cluster.directory / "ctl" / name

    def send(self, name: str, number: signal.Signals) -> None:
        """Send a signal to a daemon, if it runs."""
        processes.send(self.record(name), number)

    def start(self, name: str, argv: Sequence[str], **environment: str) -> None:
        """Start a daemon unless it runs. Raises RefusedError when its port is taken."""
        if self.pid(name) is not None:
            return
        if name in self.cluster.ports:
            self.check_port(name, ADDRESS, self.cluster.ports[name])
        log = self.cluster.directory / f"log/{name}.out"
        processes.start(self.record(name), log, argv, self.home, environment)

    def check_runs(self, name: str) -> None:
        """Raise BrokenError when a daemon that was started is gone."""
        if self.pid(name) is None:
            log = self.cluster.directory / f"log/{name}.out"
            raise BrokenError(f"{name} of {self.cluster.name} ended at once: see {log}")

    def check_port(self, name: str, address: str, port: int) -> None:
        """Raise RefusedError unless a daemon can listen there."""
        # A daemon that was killed a moment ago may still be letting go of it.
        patience = time.monotonic() + 2
        while fault := port_fault(address, port):
            if time.monotonic() > patience:
                where = f"{address} port {port}, which the lab's {name} needs"
                raise RefusedError(f"{where}: {fault}; set HPC_LAB_PORT to the first port of a free block")
            time.sleep(0.02)


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

"""A cluster's login node: its sshd, the way to it, and the disk its people's homes are on."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.lab import processes
from tests.lab.install import SYSTEM_ENVIRONMENT, BrokenError
from tests.lab.machine_files import NAMESPACES
from tests.lab.running import Running, wait

# Of memory, and only as far as it is used; how full it is can be set at will without touching the machine's disks.
HOME_SIZE = "1g"
SLOW = Path(__file__).with_name("slow.py")


class Login(Running):
    """The part of a Lab that people log in to."""

    __slots__ = ()

    def start_ssh(self) -> None:
        """Start the login node unless it runs; ctl/ssh-port says where its sshd listens."""
        if self.pid("sshd") is None:
            self.check_port("sshd", self.cluster.ssh_address, int(self.control("ssh-port").read_text()))
            command = ("sh", str(self.cluster.directory / "etc/login"))
            self.start("sshd", (*NAMESPACES, *self.as_machine("slurm.conf", self.cluster.head), *command))
        wait(self.ssh_answers, 20, f"sshd of {self.cluster.name} does not answer: see {self.cluster.directory}/log")

    def ssh_answers(self) -> bool:
        """Whether an sshd introduces itself where people look for it."""
        with socket.socket() as client:
            client.settimeout(1)
            try:
                client.connect((self.cluster.ssh_address, self.cluster.ssh_port))
                return client.recv(3) == b"SSH"
            except OSError:
                return False

    def drop_ssh(self) -> None:
        """End sshd and every session; what people started there lives on, as when a network is cut."""
        self.control("no-ssh").touch()
        self._signal_ssh(signal.SIGKILL)
        wait(lambda: not list(self._ssh_processes()), 10, f"sshd of {self.cluster.name} does not end")

    def restore_ssh(self) -> None:
        """Let sshd run again, on a login node that is started if it must be."""
        self.control("no-ssh").unlink(missing_ok=True)
        self.start_ssh()

    def freeze_ssh(self) -> None:
        """Silence sshd: connections are accepted, by the kernel, and then nobody says a word. Sessions stop too."""
        self._signal_ssh(signal.SIGSTOP)

    def thaw_ssh(self) -> None:
        """Let a frozen sshd go on."""
        self._signal_ssh(signal.SIGCONT)

    def slow_link(self, milliseconds: str) -> None:
        """Add so much to every round trip to sshd. Open sessions are ended, since only new ones go the slow way."""
        if not milliseconds.isdecimal():
            raise BrokenError(f"{milliseconds!r}: give whole milliseconds")
        self.drop_ssh()
        processes.kill([self.record("link")])
        cluster = self.cluster
        self.control("ssh-port").write_text(str(cluster.hidden_ssh_port))
        ends = (cluster.ssh_address, str(cluster.ssh_port), str(cluster.hidden_ssh_port))
        self.check_port("link", cluster.ssh_address, cluster.ssh_port)
        self.start("link", (sys.executable, str(SLOW), *ends, milliseconds))
        self.restore_ssh()

    def mend_link(self) -> None:
        """Take the slowness away; its sessions end with it."""
        if self.pid("link") is None and self.control("ssh-port").read_text() == str(self.cluster.ssh_port):
            return
        self.drop_ssh()
        processes.kill([self.record("link")])
        self.control("ssh-port").write_text(str(self.cluster.ssh_port))
        self.restore_ssh()

    def fill_disk(self) -> None:
        """Fill the file system of the homes, where job directories are: not one block is left."""
        filler = self.cluster.homes / ".filler"
        # A size of 0 would mean no limit.
        filler.write_bytes(b"\0" * os.sysconf("SC_PAGE_SIZE"))
        left = os.statvfs(self.cluster.homes)
        self._resize(str((left.f_blocks - left.f_bfree) * left.f_frsize))

    def free_disk(self) -> None:
        """Give the homes their room again."""
        self._resize(HOME_SIZE)
        (self.cluster.homes / ".filler").unlink(missing_ok=True)

    def _resize(self, size: str) -> None:
        words = ("mount", "-o", f"remount,size={size}", str(self.cluster.homes))
        done = subprocess.run(words, env=SYSTEM_ENVIRONMENT, capture_output=True, text=True)
        if done.returncode:
            raise BrokenError(f"{' '.join(words)}: {done.stderr.strip()}")

    def _signal_ssh(self, number: signal.Signals) -> None:
        for pid in self._ssh_processes():
            processes.signal_one(pid, number)

    def _ssh_processes(self) -> Iterator[int]:
        """Yield the pids of sshd and its sessions: those of that name in the login node's process namespace."""
        machine = self.pid("sshd")
        if machine is None:
            return
        namespace = Path(f"/proc/{machine}/ns/pid_for_children").readlink()
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                if (entry / "ns/pid").readlink() == namespace and (entry / "comm").read_text().startswith("sshd"):
                    yield int(entry.name)
            except OSError:
                continue

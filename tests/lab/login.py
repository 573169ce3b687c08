"""A cluster's login node: its sshd, the way to it, and the disk behind it."""

from tests.lab.machine_files import NAMESPACES
from tests.lab.running import Running


class Login(Running):
    """The part of a Lab that people log in to."""

    __slots__ = ()

    def start_ssh(self) -> None:
        """Start the login node unless it runs; ctl/ssh-port says where its sshd listens."""
        if self.pid("sshd") is not None:
            return
        self.check_port("sshd", self.cluster.ssh_address, self.cluster.ssh_port)
        command = ("sh", str(self.cluster.directory / "etc/login"))
        self.start("sshd", (*NAMESPACES, *self.as_machine("slurm.conf", self.cluster.head), *command))

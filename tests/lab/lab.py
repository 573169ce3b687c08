"""One running cluster that can be asked, hurt and mended: what the tests hold in their hands.

Bringing a whole lab up and taking it down is in up.py.
"""

from pathlib import Path

from tests.lab.heads import Heads
from tests.lab.login import Login
from tests.lab.nodes import Nodes


class Lab(Nodes, Heads, Login):
    """One cluster of a lab, as a person at its head node has it."""

    __slots__ = ()

    @property
    def site_path(self) -> Path:
        """The site file for hpc on this machine, with the local transport; only where its Slurm is this machine's."""
        return self.home / "local/sites" / f"{self.cluster.name}.yaml"

    @property
    def ssh_site_path(self) -> Path:
        """The site file for hpc elsewhere, through the cluster's sshd."""
        return self.home / "sites" / f"{self.cluster.name}.yaml"

    def mend(self) -> None:
        """Undo every fault but a stopped controller and lost nodes; start the login node if it does not run."""
        self.thaw()
        self.mend_boots()
        self.thaw_ssh()
        self.mend_link()
        self.restore_ssh()
        self.free_disk()

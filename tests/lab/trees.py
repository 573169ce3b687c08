"""Other Debians' Slurms: root directories made by debootstrap, kept in a cache that labs only read."""

import os
from functools import cache as kept
from pathlib import Path

from tests.lab.company import SUITES
from tests.lab.install import slurm_release

RELEASE_FILE = "hybridhpc-lab-release"


def cache() -> Path:
    """Where the trees are: HPC_LAB_CACHE, else /var/cache/hybridhpc-lab."""
    return Path(os.environ.get("HPC_LAB_CACHE") or "/var/cache/hybridhpc-lab")


def tree_for(name: str) -> Path | None:
    """Return the tree whose Slurm a cluster runs, None where it runs this machine's own."""
    tree = cache() / SUITES[name] if name in SUITES else None
    return tree if tree and (tree / RELEASE_FILE).exists() else None


@kept
def release(tree: Path | None) -> tuple[int, int]:
    """Return year and month of a tree's Slurm, or of this machine's, as in (22, 5)."""
    if tree is None:
        return slurm_release()
    year, month = (tree / RELEASE_FILE).read_text().split(".")[:2]
    return int(year), int(month)

"""Other Debians' Slurms: root directories made by debootstrap, which labs only read."""

import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from functools import cache as kept
from pathlib import Path

from tests.lab.cache import cache, locked_cache
from tests.lab.company import SUITES
from tests.lab.install import SYSTEM_ENVIRONMENT, BrokenError, slurm_release

MIRROR = "http://deb.debian.org/debian"
PACKAGES = (
    "slurm-wlm",
    "slurm-client",
    "slurmd",
    "slurmctld",
    "slurmdbd",
    "slurm-wlm-basic-plugins",
    "slurm-wlm-mysql-plugin",
    "munge",
    "openssh-server",
    "python3-minimal",
)
RELEASE_FILE = "hybridhpc-lab-release"
# A chroot without /proc breaks some packages' scripts; the mount ends with its namespace.
IN_TREE = ("unshare", "--mount", "sh", "-ec", 'mount -t proc proc "$1/proc"; exec chroot "$@"', "sh")


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


def fetch(names: Iterable[str]) -> Iterator[str]:
    """Make the trees that these clusters want and that are not there; yield a line for each that came or did not."""
    for name in names:
        if name in SUITES and tree_for(name) is None:
            suite = SUITES[name]
            try:
                _make(suite)
                yield f"{name} runs the Slurm of Debian {suite}, kept in {cache()}"
            except BrokenError as broken:
                yield f"{name} runs this machine's own Slurm, for Debian {suite} cannot be had: {broken}"


def _make(suite: str) -> None:
    """Make a tree beside its place and move it there once it is whole."""
    with locked_cache() as directory:
        tree, new = directory / suite, directory / f"{suite}.new"
        if (tree / RELEASE_FILE).exists():
            return
        for path in (new, tree):
            shutil.rmtree(path, ignore_errors=True)
        try:
            _fill(new, suite)
            new.rename(tree)
        finally:
            shutil.rmtree(new, ignore_errors=True)


def _fill(new: Path, suite: str) -> None:
    _do("debootstrap", "--variant=minbase", "--include=ca-certificates", suite, str(new), MIRROR)
    _write(new / "usr/sbin/policy-rc.d", "#!/bin/sh\nexit 101\n", 0o755)
    _write(new / "etc/resolv.conf", Path("/etc/resolv.conf").read_text(), 0o644)
    # Where the machine's clock is past the end of the mirror's signature.
    _write(new / "etc/apt/apt.conf.d/99lab", 'Acquire::Check-Valid-Until "false";\n', 0o644)
    _do(*IN_TREE, str(new), "apt-get", "update", "-q")
    _do(*IN_TREE, str(new), "apt-get", "install", "-y", "-q", "--no-install-recommends", *PACKAGES)
    shutil.rmtree(new / "var/cache/apt", ignore_errors=True)
    version = _do("chroot", str(new), "slurmctld", "-V")
    _write(new / RELEASE_FILE, version.split()[1] + "\n", 0o644)


def _write(path: Path, text: str, mode: int) -> None:
    path.unlink(missing_ok=True)
    path.write_text(text)
    path.chmod(mode)


def _do(*argv: str) -> str:
    environment = {**SYSTEM_ENVIRONMENT, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    outside = {key: value for key, value in os.environ.items() if key.endswith("_proxy")}
    done = subprocess.run(argv, env={**outside, **environment}, capture_output=True, text=True)
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise BrokenError(f"{argv[0]}: {said[-1] if said else f'exit status {done.returncode}'}")
    return done.stdout

"""Where a lab lives and on which ports: the environment's wishes, and directories Slurm can live in.

The repository's own .lab/ may be a link: Slurm's sockets need a short path that every user may pass.
"""

import fcntl
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.lab.cluster import SOCKET_PATH_LIMIT, Cluster, longest_socket_path, onprem
from tests.lab.install import BrokenError, RefusedError

DEFAULT_DIRECTORY = Path(__file__).resolve().parents[2] / ".lab"
# Whatever loopback address a daemon listens on, connections come from 127.0.0.1, and a step's answer goes back there.
# With all sockets on that address nothing need listen on the network's; clusters differ by their ports.
ADDRESS = "127.0.0.1"
FALLBACK_PARENT = Path("/var/tmp")
MARK_FILE = "made-by-hybridhpc-lab"
SAFE_PATH = re.compile(r"[A-Za-z0-9/._+@-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A lab's directory as the person named it, and the first port of its first cluster."""

    directory: Path = DEFAULT_DIRECTORY
    port: int = 17100

    @property
    def home(self) -> Path:
        """The real directory behind `directory`: Slurm's files name this one."""
        return self.directory.resolve()


def from_environment() -> Place:
    """Read HPC_LAB_DIR and HPC_LAB_PORT. Raises RefusedError for a port that is none."""
    read = os.environ.get
    port = read("HPC_LAB_PORT", "17100")
    if not port.isdecimal() or not 1024 <= int(port) <= 65000:
        raise RefusedError(f"HPC_LAB_PORT={port}: give the first port of a free block, 1024 to 65000")
    directory = Path(read("HPC_LAB_DIR") or DEFAULT_DIRECTORY).absolute()
    return Place(directory=directory, port=int(port))


def clusters(place: Place, release: tuple[int, int]) -> tuple[Cluster, ...]:
    """Every cluster of a lab, each in its own directory; the next would take the next 100 ports."""
    return (onprem(place.home / "onprem", ADDRESS, place.port, release),)


def is_made(place: Place) -> bool:
    """Return whether a lab made this directory: only then may it fill it and remove it."""
    return (place.home / MARK_FILE).exists()


def make_directory(place: Place, release: tuple[int, int]) -> None:
    """Make the lab's directory, or keep it; where Slurm could not live, the default one becomes a link to /var/tmp.

    Raises RefusedError when a directory the person chose will not do, or holds something else.
    """
    if is_made(place):
        return
    if place.directory.is_symlink() and not place.directory.exists():
        place.directory.unlink()
    if place.directory.exists() and any(place.directory.iterdir()) and not is_made(place):
        raise RefusedError(f"{place.directory} holds other things, and the lab removes its directory at the end")
    fault = unfit(place, release)
    if fault and place.directory != DEFAULT_DIRECTORY:
        raise RefusedError(f"HPC_LAB_DIR={place.directory}: {fault}; choose another, such as /var/tmp/hpc-lab")
    if fault:
        place.directory.symlink_to(tempfile.mkdtemp(prefix="hpc-lab-", dir=FALLBACK_PARENT))
    place.home.mkdir(parents=True, exist_ok=True)
    (place.home / MARK_FILE).touch()
    place.home.chmod(0o755)


def unfit(place: Place, release: tuple[int, int]) -> str:
    """Say why Slurm could not live in the lab's directory; empty when it can."""
    if not SAFE_PATH.fullmatch(str(place.home)):
        return "slurm.conf cannot hold the spaces or special characters of this path"
    if any(longest_socket_path(cluster) > SOCKET_PATH_LIMIT for cluster in clusters(place, release)):
        return f"the path is too long for unix sockets (at most {SOCKET_PATH_LIMIT} bytes with what comes below it)"
    for parent in place.home.parents:
        if parent.exists() and not parent.stat().st_mode & stat.S_IXOTH:
            return f"ordinary users cannot pass {parent}, and their jobs must"
    return ""


def remove_directory(place: Place) -> None:
    """Remove the lab's directory and the link to it."""
    shutil.rmtree(place.home)
    if place.directory.is_symlink():
        place.directory.unlink()


@contextmanager
def locked(place: Place) -> Iterator[None]:
    """Hold the lab's lock, so that two `up` or `down` at once take turns. The directory must exist.

    The lock is on the directory itself: `down` removes it, and who waited then finds another or none and looks again.
    """
    while is_made(place):
        descriptor = os.open(place.home, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if place.home.exists() and os.path.samestat(os.fstat(descriptor), place.home.stat()):
                yield
                return
        finally:
            os.close(descriptor)
    raise BrokenError(f"the lab in {place.directory} was taken down meanwhile")

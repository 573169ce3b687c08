"""Where a lab lives and on which ports: the environment's wishes, and directories Slurm can live in.

The repository's own .lab/ may be a link: Slurm's sockets need a short path that every user may pass.
"""

import fcntl
import json
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.lab.cluster import PORTS, SOCKET_PATH_LIMIT, Cluster, longest_socket_path
from tests.lab.company import NAMES, Choice, cluster
from tests.lab.install import BrokenError, RefusedError

DEFAULT_DIRECTORY = Path(__file__).resolve().parents[2] / ".lab"
FALLBACK_PARENT = Path("/var/tmp")
MARK_FILE = "made-by-hybridhpc-lab"
CHOICE_FILE = "choice.json"
SAFE_PATH = re.compile(r"[A-Za-z0-9/._+@-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A lab's directory as the person named it (then `chosen`), and the first port of its first cluster."""

    directory: Path = DEFAULT_DIRECTORY
    port: int = 17100
    chosen: bool = False

    @property
    def home(self) -> Path:
        """The real directory behind `directory`: Slurm's files name this one."""
        return self.directory.resolve()


def from_environment() -> Place:
    """Read HPC_LAB_DIR and HPC_LAB_PORT. Raises RefusedError for a port that is none."""
    read = os.environ.get
    port = read("HPC_LAB_PORT", "17100")
    last = 65536 - PORTS * len(NAMES)
    if not port.isdecimal() or not 1024 <= int(port) <= last:
        raise RefusedError(f"HPC_LAB_PORT={port}: give the first port of a free block, 1024 to {last}")
    directory = Path(read("HPC_LAB_DIR") or DEFAULT_DIRECTORY).absolute()
    return Place(directory=directory, port=int(port), chosen=bool(read("HPC_LAB_DIR")))


def clusters(place: Place, releases: Callable[[Path | None], tuple[int, int]]) -> tuple[Cluster, ...]:
    """The clusters that were made in this lab, running or not; `releases` tells the release of a tree's Slurm."""
    found = []
    for name in NAMES:
        path = place.home / name / CHOICE_FILE
        if path.exists():
            words = json.loads(path.read_text())
            tree = Path(words["tree"]) if words["tree"] else None
            choice = Choice(release=releases(tree), tree=tree, accounting=words["accounting"])
            found.append(cluster(name, place.home, place.port, choice))
    return tuple(found)


def remember(place: Place, name: str, choice: Choice) -> None:
    """Write down how a cluster is made, unless it was made before: a later `up` keeps to that."""
    path = place.home / name / CHOICE_FILE
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"tree": str(choice.tree or ""), "accounting": choice.accounting}))


def is_made(place: Place) -> bool:
    """Return whether a lab made this directory: only then may it fill it and remove it."""
    return (place.home / MARK_FILE).exists()


def make_directory(place: Place) -> None:
    """Make the lab's directory, or keep it; where Slurm could not live, one nobody chose becomes a link to /var/tmp.

    Raises RefusedError when a directory the person chose will not do, or holds something else.
    """
    if is_made(place):
        return
    if place.directory.is_symlink() and not place.directory.exists():
        place.directory.unlink()
    if place.directory.exists() and any(place.directory.iterdir()) and not is_made(place):
        raise RefusedError(f"{place.directory} holds other things, and the lab removes its directory at the end")
    fault = unfit(place)
    if fault and place.chosen:
        raise RefusedError(f"HPC_LAB_DIR={place.directory}: {fault}; choose another, such as /var/tmp/hpc-lab")
    if fault:
        place.directory.symlink_to(tempfile.mkdtemp(prefix="hpc-lab-", dir=FALLBACK_PARENT))
    place.home.mkdir(parents=True, exist_ok=True)
    (place.home / MARK_FILE).touch()
    place.home.chmod(0o755)


def unfit(place: Place) -> str:
    """Say why Slurm could not live in the lab's directory; empty when it can."""
    if not SAFE_PATH.fullmatch(str(place.home)):
        return "slurm.conf cannot hold the spaces or special characters of this path"
    every = (cluster(name, place.home, place.port, Choice(release=(0, 0))) for name in NAMES)
    if any(longest_socket_path(one) > SOCKET_PATH_LIMIT for one in every):
        return f"the path is too long for unix sockets (at most {SOCKET_PATH_LIMIT} bytes with what comes below it)"
    if place.home.is_relative_to("/home"):
        return "inside the clusters of the clouds /home is another one"
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

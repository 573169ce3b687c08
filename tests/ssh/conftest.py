"""Servers and people for the tests of sites behind ssh."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from shutil import which
from typing import Any

import pytest

from hybridhpc import registry
from hybridhpc.config import environment
from hybridhpc.sites.site import Site
from hybridhpc.transports.base import Transport
from tests.loopback import NO_SSHD, Loopback, can_run

NOISE = {
    "bash": (".bashrc", "echo 'Welcome to the login node'; printf 'no end of line'; echo noise >&2\n"),
    "tcsh": (".cshrc", "echo 'Welcome to the login node'\nalias ls 'echo no'\nset noclobber\n"),
    "fish": (".config/fish/config.fish", "echo 'Welcome to the login node'\nset -x LANG de_DE.UTF-8\n"),
}
"""Login scripts as people have them."""


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loopback]:
    """Give a server that root logs into."""
    if not can_run():
        pytest.skip(NO_SSHD)
    server = Loopback(tmp_path_factory.mktemp("sshd"))
    yield server
    server.stop()


@pytest.fixture
def new_server(tmp_path: Path) -> Iterator[Callable[..., Loopback]]:
    """Give servers of this test's own, to be broken."""
    if not can_run():
        pytest.skip(NO_SSHD)
    made: list[Loopback] = []

    def make(name: str = "sshd", *options: str, **words: str) -> Loopback:
        made.append(Loopback(tmp_path / name, *options, **words))
        return made[-1]

    yield make
    for server in made:
        server.stop()


@pytest.fixture(params=["openssh", "ssh"])
def reach(request: pytest.FixtureRequest) -> Callable[..., Transport]:
    """Give what makes a transport to a server."""

    def make(server: Loopback, **site: Any) -> Transport:
        described: dict[str, Any] = {"file": None, "host": server.host, "ssh_config": str(server.config), **site}
        env = environment() | {"XDG_RUNTIME_DIR": str(server.place)}
        env.pop("SSH_AUTH_SOCK", None)
        return registry.transport(Site(name="s", scheduler="slurm", transport=request.param, **described), env)

    return make


@pytest.fixture(scope="session", params=sorted(NOISE))
def talkative(request: pytest.FixtureRequest) -> Iterator[Loopback]:
    """Give a server for a person whose login shell is not like the others, and says much."""
    shell = which(request.param)
    if not can_run() or shell is None:
        pytest.skip(f"{NO_SSHD}, and {request.param}")
    # pytest's own temporary directories are closed to other users.
    place = Path(tempfile.mkdtemp(prefix="hpc-test-", dir="/var/tmp"))
    name, home = f"{place.name[:20]}-{request.param}".lower().replace("_", "x"), place / "home"
    place.chmod(0o711)
    subprocess.run(["useradd", "-m", "-d", home, "-s", shell, "-p", "*", name], check=True, capture_output=True)
    file, text = NOISE[request.param]
    (home / file).parent.mkdir(parents=True, exist_ok=True)
    (home / file).write_text(text)
    server = Loopback(place / "sshd", user=name)
    yield server
    server.stop()
    subprocess.run(["userdel", "-f", name], check=False, capture_output=True)
    shutil.rmtree(place)


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Path]:
    """Give a file system with 64 KiB of room."""
    place = tmp_path / "full"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "none", place], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("needs the right to mount")
    yield place
    subprocess.run(["umount", "-l", place], check=True)

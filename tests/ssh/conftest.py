"""Servers and people for the tests of sites behind ssh."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
import time
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
SECRET = "031 415"


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


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Path]:
    """Give the socket of an agent without keys."""
    place = tmp_path / "agent"
    process = subprocess.Popen(["ssh-agent", "-D", "-a", place], stdout=subprocess.DEVNULL)
    while not place.exists():
        time.sleep(0.01)
    yield place
    process.terminate()
    process.wait()


@pytest.fixture(params=["openssh", "ssh"])
def reach(request: pytest.FixtureRequest) -> Callable[..., Transport]:
    """Give what makes a transport to a server."""

    def make(server: Loopback, **site: Any) -> Transport:
        described: dict[str, Any] = {"file": None, "host": server.host, "ssh_config": str(server.config), **site}
        env = environment() | {"XDG_RUNTIME_DIR": str(server.place)}
        env.pop("SSH_AUTH_SOCK", None)
        return registry.transport(Site(name="s", scheduler="slurm", transport=request.param, **described), env)

    return make


@contextlib.contextmanager
def account(shell: str, password: str = "*") -> Iterator[tuple[str, Path]]:
    """Give the name and place of somebody new on this machine; their home is the place's `home`."""
    # pytest's own temporary directories are closed to other users.
    place = Path(tempfile.mkdtemp(prefix="hpc-test-", dir="/var/tmp"))
    name = f"{place.name[:20]}-{Path(shell).name}".lower().replace("_", "x")
    place.chmod(0o711)
    argv = ["useradd", "-m", "-d", place / "home", "-s", shell, "-p", password, name]
    subprocess.run(argv, check=True, capture_output=True)
    try:
        yield name, place
    finally:
        subprocess.run(["userdel", "-f", name], check=False, capture_output=True)
        shutil.rmtree(place)


@pytest.fixture(scope="session", params=sorted(NOISE))
def talkative(request: pytest.FixtureRequest) -> Iterator[Loopback]:
    """Give a server for a person whose login shell is not like the others, and says much."""
    shell = which(request.param)
    if not can_run() or shell is None:
        pytest.skip(f"{NO_SSHD}, and {request.param}")
    with account(shell) as (name, place):
        file, text = NOISE[request.param]
        (place / "home" / file).parent.mkdir(parents=True, exist_ok=True)
        (place / "home" / file).write_text(text)
        server = Loopback(place / "sshd", user=name)
        yield server
        server.stop()


SECOND = {
    "password": ("PasswordAuthentication yes",),
    "keyboard-interactive": ("KbdInteractiveAuthentication yes", "UsePAM yes"),
}
"""What a server may want beside a key, and how sshd_config(5) says so."""


@pytest.fixture(params=sorted(SECOND))
def wary(request: pytest.FixtureRequest) -> Iterator[Loopback]:
    """Give a server that wants a key, and then that somebody types SECRET."""
    if not can_run() or not Path("/etc/pam.d/sshd").exists():
        pytest.skip(NO_SSHD)
    made = subprocess.run(["openssl", "passwd", "-6", SECRET], capture_output=True, text=True, check=True)
    with account("/bin/sh", made.stdout.strip()) as (name, place):
        server = Loopback(
            place / "sshd", f"AuthenticationMethods publickey,{request.param}", *SECOND[request.param], user=name
        )
        yield server
        server.stop()


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

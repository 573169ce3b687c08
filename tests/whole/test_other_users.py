"""Other users of the machine, as real ones: what they can read, and what they put in the way. Needs root."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.job_scripts import await_true
from tests.people import HPC

ME, STRANGER = 61001, 61002
VALUE = "xyzzy-of-mine-0815"


# Where the interpreter lies in a directory that is root's alone, these processes see that directory open, and empty but
# for the interpreter: mounts of their own, which end with them.
OPENED = """
set -e
mount --bind "$2" "$3"; mount -t tmpfs -o mode=755 tmpfs "$1"; mkdir -p "$2"; mount --bind "$3" "$2"
number=$4; shift 4
exec setpriv --reuid "$number" --regid "$number" --clear-groups "$@"
"""


def as_user(number: int, hold: Path) -> list[str]:
    """Return the words before a command that make it another user's."""
    needed = Path(sys.base_prefix).resolve()
    closed = [path for path in needed.parents if not path.stat().st_mode & 0o001]
    if not closed:
        return ["setpriv", "--reuid", str(number), "--regid", str(number), "--clear-groups"]
    hold.mkdir(exist_ok=True)
    return ["unshare", "-m", "sh", "-c", OPENED, "sh", str(closed[-1]), str(needed), str(hold), str(number)]


class User:
    """Someone with a number, a home and a shell."""

    def __init__(self, number: int, home: Path) -> None:
        self.number, self.home = number, home
        home.mkdir(mode=0o755)
        os.chown(home, number, number)
        self.env = {
            "HOME": str(home),
            "PATH": os.environ["PATH"],
            "HPC_HERE_CPUS": "4",
            "HPC_CONFIG_DIR": str(home / "config"),
            "HPC_STATE_DIR": str(home / "state"),
        }

    def run(self, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*as_user(self.number, self.home.parent / "hold"), *words],
            env=self.env | env,
            cwd=self.home,
            umask=0o022,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def sh(self, text: str) -> subprocess.CompletedProcess[str]:
        return self.run("sh", "-c", text)

    def hpc(self, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
        return self.run(HPC, *words, **env)

    def write(self, name: str, text: str) -> str:
        path = self.home / name
        path.write_text(text)
        os.chown(path, self.number, self.number)
        return str(path)


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory in which everybody can make files, as /tmp is one."""
    path = Path(tempfile.mkdtemp(prefix="hpc-users-", dir="/var/tmp"))
    path.chmod(0o1777)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def me(place: Path) -> User:
    if os.geteuid():
        pytest.skip("only root can be other users")
    someone = User(ME, place / "me")
    tried = someone.run(sys.executable, "-c", "import hybridhpc.cli.main")
    if tried.returncode:
        pytest.skip(f"no other users here: {tried.stderr[-300:]}")
    return someone


@pytest.fixture
def stranger(place: Path, me: User) -> User:
    return User(STRANGER, place / "stranger")


def submit(me: User, run: str, more: str = "") -> str:
    text = "name: mine\ntime: 2m\nresources: {memory: 50MiB}\nsecrets: {TOKEN: secret://env/TOKEN}\n"
    text += f"{more}run: {run}\n"
    me.env["TOKEN"] = VALUE
    answer = me.hpc("submit", me.write("job.yaml", text), "--where", "here", "--json")
    assert answer.returncode == 0, answer.stderr
    return str(json.loads(answer.stdout)["ref"])


def test_a_stranger_reads_and_changes_nothing_of_mine(me: User, stranger: User) -> None:
    # The worst that an ordinary umask leaves: the directories above are open to be looked into.
    (me.home / "state").mkdir(mode=0o755)
    os.chown(me.home / "state", ME, ME)
    (me.home / "code").mkdir(mode=0o755)
    (me.home / "code" / "main.py").write_text("secret plans")
    ref = submit(me, f"touch {me.home}/up; sleep 100", "workdir: code\n")
    await_true((me.home / "up").exists, lambda: me.hpc("why", ref).stdout, 60)
    jobs = [path for path in (me.home / "state" / "here").iterdir() if len(path.name) == 20]
    attempt = jobs[0] / "1"
    assert (attempt / ".hpc-secrets" / "TOKEN").read_text() == VALUE
    found = stranger.sh(
        f"find {me.home}/state ! -type d \\( -readable -o -writable \\) 2>/dev/null; find {me.home}/state -writable"
    )
    assert [line for line in found.stdout.splitlines() if "Permission denied" not in line] == []
    for attack in (
        f"cat {attempt}/.hpc-secrets/TOKEN",
        f"cat {attempt}/script",
        f"cat {attempt}/work/main.py",
        f"echo '0 1' >{attempt}/exit.-.0",
        f"ln -s /etc/passwd {attempt}/evil",
        f"mv {jobs[0]} {jobs[0]}.gone",
        f"echo x >>{me.home}/state/ledger.sqlite",
        f"rm -f {me.home}/state/ledger.sqlite",
        f"cat {me.home}/state/backups/ledger.1.sqlite",
        f"mkdir {me.home}/state/owners/x",
        f"cp {me.home}/state/here/here.sqlite {stranger.home}/copy",
    ):
        assert stranger.sh(attack).returncode != 0, attack
    seen = stranger.sh("cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' '\\n'").stdout
    assert VALUE not in seen
    assert json.loads(me.hpc("status", ref, "--json").stdout)[0]["state"] == "RUNNING"
    # The stranger's own hpc is another world.
    assert json.loads(stranger.hpc("status", "--json").stdout) == []
    assert stranger.hpc("cancel", ref).returncode == 9
    assert me.hpc("cancel", ref).returncode == 0


def spec(me: User) -> str:
    return me.write("plain.yaml", "run: 'true'\nresources: {memory: 50MiB}\n")


@pytest.mark.parametrize(
    "trap", ["mkdir -m 777 {}", "mkdir -m 755 {}", "ln -s {home} {}", "mkdir {home}/x && ln -s {home}/x {}"]
)
def test_a_state_directory_that_a_stranger_made_is_refused(me: User, stranger: User, place: Path, trap: str) -> None:
    laid = place / "hpc-state"
    assert stranger.sh(trap.replace("{home}", str(stranger.home)).replace("{}", str(laid))).returncode == 0
    for state in (laid, laid / "deeper"):
        answer = me.hpc("submit", spec(me), "--where", "here", HPC_STATE_DIR=str(state))
        assert answer.returncode not in (0, 1), answer.stderr
        assert "Traceback" not in answer.stderr
    assert not [path for path in place.rglob("ledger.sqlite*")]


def test_a_link_of_a_stranger_to_a_directory_of_mine_is_not_followed(me: User, stranger: User, place: Path) -> None:
    (me.home / "own").mkdir(mode=0o700)
    os.chown(me.home / "own", ME, ME)
    laid = place / "hpc-state"
    assert stranger.sh(f"ln -s {me.home}/own {laid}").returncode == 0
    answer = me.hpc("submit", spec(me), "--where", "here", HPC_STATE_DIR=str(laid))
    assert answer.returncode != 0
    assert "Traceback" not in answer.stderr
    assert list((me.home / "own").iterdir()) == []


@pytest.mark.parametrize("trap", ["mkdir -m 777 {}", "mkdir {home}/x; ln -s {home}/x {}"])
def test_a_job_root_that_a_stranger_made_is_refused(me: User, stranger: User, place: Path, trap: str) -> None:
    laid = place / "jobs"
    stranger.sh(trap.replace("{home}", str(stranger.home)).replace("{}", str(laid)))
    program = f"""
from hybridhpc.command import StagedFile
from hybridhpc.sites.site import Site
from hybridhpc.transports.local import LocalTransport
site = Site(name="s", file=None, scheduler="slurm", transport="local")
LocalTransport(site, {{}}).put("{laid}/token/1", [StagedFile(path="script", content=b"x")])
"""
    answer = me.run(sys.executable, "-c", program)
    assert "Undelivered" in answer.stderr
    assert not [path for path in place.rglob("script")]


def test_sockets_are_not_put_where_a_stranger_waits(me: User, stranger: User) -> None:
    waiting = Path(f"/tmp/hpc-{ME}")
    program = """
from hybridhpc.sites.site import Site
from hybridhpc.transports.openssh import shared_path
print(shared_path(Site(name="s", file=None, scheduler="slurm", transport="openssh", host="h"), {"HOME": "/"}))
"""
    for trap in (f"mkdir -m 777 {waiting}", f"ln -s {stranger.home} {waiting}"):
        try:
            assert stranger.sh(trap).returncode == 0
            answer = me.run(sys.executable, "-c", program)
            assert "Undelivered" in answer.stderr
            assert list(stranger.home.iterdir()) == []
        finally:
            waiting.unlink() if waiting.is_symlink() else waiting.rmdir()
    made = me.run(sys.executable, "-c", program)
    assert made.returncode == 0, made.stderr
    assert (waiting.stat().st_uid, waiting.stat().st_mode & 0o777) == (ME, 0o700)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(waiting / "s"))
        assert stranger.sh(f"ls {waiting}; echo x >{waiting}/s").returncode != 0
    shutil.rmtree(waiting)


def test_a_ledger_that_was_open_to_others_is_closed(me: User, stranger: User) -> None:
    assert me.hpc("status").returncode == 0
    ledger = me.home / "state" / "ledger.sqlite"
    ledger.chmod(0o666)
    assert me.hpc("status").returncode == 0
    assert ledger.stat().st_mode & 0o777 == 0o600
    os.chown(ledger, STRANGER, STRANGER)
    answer = me.hpc("status")
    assert answer.returncode == 8
    assert "no file of yours" in answer.stderr


def test_a_site_file_that_a_stranger_can_change_is_a_fault(me: User) -> None:
    sites = me.home / "config" / "sites"
    sites.mkdir(parents=True)
    (sites / "a.yaml").write_text("name: a\nscheduler: slurm\ntransport: local\n")
    for path in (me.home / "config", sites, sites / "a.yaml"):
        os.chown(path, ME, ME)
    (sites / "a.yaml").chmod(0o666)
    assert "everybody can change it: what it says runs in your jobs" in me.hpc("check").stdout

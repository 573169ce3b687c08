"""Whatever the login shell is and prints, and whatever `sh` is there: errands are done and answered to the byte."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from shutil import which

import pytest

from hybridhpc.command import Command, CommandResult, Errand, Folder, StagedFile
from hybridhpc.errors import HpcError, Undelivered
from hybridhpc.sites.site import Site
from hybridhpc.transports.base import Transport
from hybridhpc.transports.errands import BOOTSTRAP
from hybridhpc.transports.remote import RemoteTransport
from hybridhpc.transports.talk import Child, Talk
from tests.loopback import Loopback

HOSTILE = ("a b", "$(touch /tmp/never)", "`id`", "'\"", "\\n\\", "-n", "", "ü\n", "*", "!!", "#", "%s")
BINARY = bytes(range(256)) * 500


def check(transport: Transport, home: str) -> None:
    shown = transport.run(Command(argv=("printf", "<%s>", *HOSTILE)))
    assert shown.stdout.decode() == "".join(f"<{word}>" for word in HOSTILE)
    directory = transport.resolve("~/jobs/1")
    assert directory == f"{home}/jobs/1"
    errands = [
        Errand(
            command=Command(argv=("cat", "-", f"{number}/data"), stdin=BINARY),
            cwd=directory,
            folders=(Folder(path=directory, files=(StagedFile(path=f"{number}/data", content=BINARY[::-1]),)),),
        )
        for number in range(10)
    ]
    for _ in range(2):
        answers = transport.run_all(errands, within=30)
        assert all(isinstance(answer, CommandResult) and answer.stdout == BINARY + BINARY[::-1] for answer in answers)
    failed = transport.run(Command(argv=("sh", "-c", "echo why >&2; kill -9 $$")))
    assert (failed.exit_code, failed.stderr) == (137, b"why\n")
    assert transport.list(directory) == tuple(str(number) for number in range(10))


def test_the_login_shell_and_what_it_prints_do_not_matter(talkative: Loopback, reach: Callable[..., Transport]) -> None:
    check(reach(talkative), str(talkative.place.parent / "home"))


class Alone(RemoteTransport):
    """Our program in a shell on this machine, without ssh."""

    def __init__(self, shell: Sequence[str], path: str, home: Path, **site: str) -> None:
        super().__init__(Site(name="s", file=None, scheduler="slurm", transport="openssh", host="alone", **site), {})
        self.shell, self.env = shell, {"PATH": path, "HOME": str(home), "USER": "me"}

    @property
    def _whose(self) -> tuple[str, str]:
        return self.env["HOME"], self.env["PATH"]

    def _carry(
        self,
        send: Sequence[bytes] | Iterator[bytes],
        hear: Callable[[bytes], bool],
        *,
        within: float,
        idle: bool = False,
        listening: bool = True,
    ) -> HpcError | None:
        inner = BOOTSTRAP.removeprefix("exec sh -c '").removesuffix("'")
        talk = Talk(Child([*self.shell, "-c", inner], self.env), send, hear, listening=listening)
        return None if talk.hold(within, idle=idle) else HpcError(f"the shell ended: {talk.words}")


@pytest.fixture
def applets(tmp_path: Path) -> str:
    """Give a PATH on which every command is busybox's."""
    busybox = which("busybox")
    if busybox is None:
        pytest.skip("needs busybox")
    folder = tmp_path / "applets"
    folder.mkdir()
    subprocess.run([busybox, "--install", "-s", folder], check=True)
    return str(folder)


@pytest.mark.parametrize("shell", [("dash",), ("bash", "--posix"), ("bash",), ("busybox", "sh")])
def test_any_posix_shell_will_do(shell: tuple[str, ...], tmp_path: Path) -> None:
    if which(shell[0]) is None:
        pytest.skip(f"needs {shell[0]}")
    check(Alone(shell, "/usr/bin:/bin", tmp_path), str(tmp_path))


def test_busybox_alone_will_do(applets: str, tmp_path: Path) -> None:
    check(Alone((f"{applets}/sh",), applets, tmp_path), str(tmp_path))


def test_a_function_that_the_login_exports_reaches_a_submission(tmp_path: Path) -> None:
    transport = Alone(("dash",), "/usr/bin:/bin", tmp_path)
    transport.env |= {"BASH_FUNC_module%%": "() { echo loaded; }", "TWO": "lines\nof text"}
    said = transport.run(Command(argv=("bash", "-c", 'module; echo "$TWO"')), scrubbed=False)
    assert said.text == "loaded\nlines\nof text\n"


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    transport = Alone(("dash",), "/usr/bin:/bin", tmp_path)
    (tmp_path / "tmp").mkdir()
    transport.env["TMPDIR"] = str(tmp_path / "tmp")
    transport.run_all([Errand(command=Command(argv=("echo", "x")))] * 3, within=20)
    for _ in range(100):
        if not list((tmp_path / "tmp").iterdir()):
            return
        subprocess.run(["sleep", "0.05"], check=True)
    raise AssertionError("the working directory is still there")


def test_a_full_disk_is_said_and_hurts_no_other_errand(full: Path, tmp_path: Path) -> None:
    transport = Alone(("dash",), "/usr/bin:/bin", tmp_path)
    large = Errand(
        command=Command(argv=("true",)),
        folders=(Folder(path=f"{full}/job", files=(StagedFile(path="x", content=b"x" * 200_000),)),),
    )
    small = Errand(
        command=Command(argv=("cat", "y"), stdin=b""),
        cwd=str(tmp_path / "jobs"),
        folders=(Folder(path=str(tmp_path / "jobs"), files=(StagedFile(path="y", content=b"read"),)),),
    )
    refused, done = transport.run_all([large, small], within=20)
    assert isinstance(refused, Undelivered) and refused.message == "s: its disk is full"
    assert isinstance(done, CommandResult) and done.text == "read"
    assert list((full / "job").iterdir()) == []


@pytest.mark.parametrize("shell", ["dash", "bash"])
def test_not_even_a_short_file_is_said_to_be_written_where_nothing_is_left(full: Path, shell: str) -> None:
    transport = Alone((shell,), "/usr/bin:/bin", full)
    (full / "job").mkdir(mode=0o700)
    with suppress(OSError):
        (full / "filler").write_bytes(bytes(200_000))
    with pytest.raises(Undelivered, match=r"^s: its disk is full") as caught:
        transport.put(str(full / "job"), [StagedFile(path="x", content=b"short")])
    assert caught.value.hint.startswith("make room there: ")


def test_output_that_finds_no_room_is_no_answer(full: Path, tmp_path: Path) -> None:
    transport = Alone(("dash",), "/usr/bin:/bin", tmp_path)
    transport.env["TMPDIR"] = str(full)
    with pytest.raises(HpcError, match="found no room"):
        transport.run(Command(argv=("sh", "-c", "head -c 200000 /dev/zero; exit 0")))


def test_a_home_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    transport = Alone(("dash",), "/usr/bin:/bin", tmp_path)
    (answer,) = transport.run_all(
        [
            Errand(
                command=Command(argv=("true",)),
                folders=(Folder(path="/proc/jobs/1", files=(StagedFile(path="x", content=b""),)),),
            )
        ],
        within=20,
    )
    assert isinstance(answer, Undelivered) and "/proc/jobs" in answer.message


def test_half_a_message_does_nothing(tmp_path: Path) -> None:
    from hybridhpc.transports.errands import new_mark, pack

    trace = tmp_path / "trace"
    sent = pack([Errand(command=Command(argv=("touch", str(trace)), stdin=b"x" * 100))], mark=new_mark(), within=10)
    inner = BOOTSTRAP.removeprefix("exec sh -c '").removesuffix("'")
    for length in (10, 1000, len(sent) // 2, len(sent) - 130, len(sent) - 40, len(sent) - 1):
        subprocess.run(["dash", "-c", inner], input=sent[:length], capture_output=True, timeout=20, check=False)
        assert not trace.exists()
    subprocess.run(["dash", "-c", inner], input=sent, capture_output=True, timeout=20, check=False)

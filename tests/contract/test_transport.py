"""What every transport promises, run for each one there is."""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hybridhpc import registry
from hybridhpc.command import Command, CommandResult, Errand, Folder, StagedFile
from hybridhpc.config import environment
from hybridhpc.errors import TransportError, Undelivered
from hybridhpc.sites.site import Site
from hybridhpc.transports.base import MAX_OUTPUT, Transport
from tests.loopback import NO_SSHD, Loopback, can_run

DISTURBING = {
    "SQUEUE_STATES": "RUNNING",
    "SBATCH_ACCOUNT": "x",
    "SLURM_CLUSTERS": "y",
    "LANG": "de_DE.UTF-8",
    "HIDDEN_TOKEN": "xyzzy",
}


BEHIND_SSH = ("openssh", "ssh")


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loopback]:
    """An sshd whose sessions have the same disturbing environment."""
    disturbed = " ".join(f"{name}={value}" for name, value in DISTURBING.items())
    server = Loopback(tmp_path_factory.mktemp("sshd"), f"SetEnv {disturbed}")
    yield server
    server.stop()


@pytest.fixture(params=sorted(registry.BUILT_IN["hybridhpc.transports"]))
def transport(request: pytest.FixtureRequest, tmp_path: Path) -> Transport:
    (tmp_path / "a.conf").touch()
    site = Site(name="s", file=None, scheduler="slurm", transport=request.param, slurm_conf=str(tmp_path / "a.conf"))
    env = environment() | DISTURBING
    if request.param in BEHIND_SSH:
        if not can_run():
            pytest.skip(NO_SSHD)
        server = request.getfixturevalue("server")
        site = replace(site, host=server.host, ssh_config=str(server.config), job_root=str(tmp_path / "jobs"))
        env["XDG_RUNTIME_DIR"] = str(server.place)
    return registry.transport(site, env)


def python(program: str, stdin: bytes = b"", timeout: float = 20) -> Command:
    return Command(argv=(sys.executable, "-c", program), stdin=stdin, timeout=timeout)


def test_arguments_arrive_as_they_are(transport: Transport) -> None:
    hostile = ("a b", "$(touch /tmp/never)", "`id`", "'\"", "-n", "", "ü\n", "*")
    answer = transport.run(Command(argv=(sys.executable, "-c", "import sys; print(ascii(sys.argv[1:]))", *hostile)))
    assert answer.text.strip() == ascii(list(hostile))


def test_binary_input_and_output_pass_whole(transport: Transport) -> None:
    content = bytes(range(256)) * 20_000
    program = "import sys; sys.stdout.buffer.write(sys.stdin.buffer.read())"
    assert transport.run(python(program, content)).stdout == content


def test_a_command_that_does_not_read_is_no_trouble(transport: Transport) -> None:
    assert transport.run(python("print('done')", b"x" * 5_000_000)).text == "done\n"


@pytest.mark.parametrize(("end", "code"), [("sys.exit(3)", 3), ("os.kill(os.getpid(), 9)", 137), ("pass", 0)])
def test_the_exit_code_is_told_as_shells_count(transport: Transport, end: str, code: int) -> None:
    answer = transport.run(python(f"import os, sys; sys.stderr.write('why'); sys.stderr.flush(); {end}"))
    assert (answer.exit_code, answer.stderr) == (code, b"why")


def test_a_silent_command_is_given_up_in_time_with_its_children(transport: Transport, tmp_path: Path) -> None:
    trace = tmp_path / "alive"
    program = f"import os, time; os.fork(); time.sleep(2); open({str(trace)!r}, 'w')"
    began = time.monotonic()
    with pytest.raises(TransportError, match="no answer within"):
        transport.run(python(program, timeout=0.5))
    assert time.monotonic() - began < 1.8
    time.sleep(2)
    assert not trace.exists()


def test_a_missing_program_is_named(transport: Transport) -> None:
    with pytest.raises(TransportError, match="no-such-program"):
        transport.run(Command(argv=("no-such-program",)))


def test_endless_output_is_cut_and_said_so(transport: Transport) -> None:
    program = f"import sys\nfor _ in range({MAX_OUTPUT // 1_000_000 + 2}): sys.stdout.write('x' * 1_000_000)"
    answer = transport.run(python(program))
    assert answer.truncated
    assert len(answer.stdout) == MAX_OUTPUT


def test_a_missing_directory_is_told_from_a_missing_program(transport: Transport, tmp_path: Path) -> None:
    with pytest.raises(Undelivered, match=f"has no directory {tmp_path}/none to work in") as caught:
        transport.run(Command(argv=("true",)), cwd=f"{tmp_path}/none")
    assert "--chdir=DIR" in caught.value.hint
    with pytest.raises(Undelivered, match="no-such-program: "):
        transport.run(Command(argv=("no-such-program",)), cwd=str(tmp_path))


def test_questions_are_asked_in_a_fixed_environment(transport: Transport, tmp_path: Path) -> None:
    names = ("SQUEUE_STATES", "SBATCH_ACCOUNT", "SLURM_CLUSTERS", "LC_ALL", "TZ", "SLURM_TIME_FORMAT", "SLURM_CONF")
    program = f"import os; print([os.environ.get(name) for name in {names!r}])"
    scrubbed = transport.run(python(program)).text.strip()
    assert scrubbed == str([None, None, None, "C", "UTC", "%s", str(tmp_path / "a.conf")])
    assert "RUNNING" in transport.run(python(program), scrubbed=False).text


def test_files_are_put_read_listed_and_brought_back(transport: Transport, tmp_path: Path) -> None:
    directory = str(tmp_path / "new" / "job")
    script = StagedFile(path="script", content=b"#!/bin/sh\n", executable=True)
    transport.put(directory, [script, StagedFile(path="deep/data", content=b"\x00\xff")])
    assert transport.list(directory) == ("deep", "script")
    assert transport.list(directory + "/none") == ()
    assert transport.read(directory + "/deep/data", offset=1) == b"\xff"
    assert transport.read(directory + "/none") is None
    assert transport.get(directory, str(tmp_path / "back"))
    assert (tmp_path / "back" / "deep" / "data").read_bytes() == b"\x00\xff"
    assert not transport.get(directory + "/none", str(tmp_path / "nothing"))
    assert Path(directory).stat().st_mode & 0o777 == 0o700
    assert Path(directory, "script").stat().st_mode & 0o777 == 0o700
    assert Path(directory, "deep", "data").stat().st_mode & 0o777 == 0o600


def test_a_directory_others_could_change_is_refused(transport: Transport, tmp_path: Path) -> None:
    open_to_all = tmp_path / "open"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    with pytest.raises(TransportError, match="changed by others"):
        transport.put(str(open_to_all), [])


def test_home_is_resolved_at_the_site(transport: Transport) -> None:
    home = environment()["HOME"]
    assert transport.resolve("~/jobs") == transport.resolve("$HOME/jobs") == f"{home}/jobs"
    assert transport.resolve("/a/~b") == "/a/~b"
    assert "$" not in transport.resolve("/scratch/$USER/${USER}")


def holding(directory: str, **files: bytes) -> Folder:
    return Folder(path=directory, files=tuple(StagedFile(path=name, content=text) for name, text in files.items()))


def test_errands_are_done_in_one_go_and_answered_one_by_one(transport: Transport, tmp_path: Path) -> None:
    directory = str(tmp_path / "job")
    program = "import pathlib; print(pathlib.Path('data').read_text())"
    good = Errand(command=python(program), cwd=directory, folders=(holding(directory, data=b"read"),))
    missing = Errand(command=Command(argv=("no-such-program",)))
    silent = Errand(command=python("import time; time.sleep(5)", timeout=0.5))
    done, absent, late = transport.run_all([good, missing, silent], within=20)
    assert isinstance(done, CommandResult) and done.text == "read\n"
    assert isinstance(absent, Undelivered)
    assert isinstance(late, TransportError) and not isinstance(late, Undelivered)


def test_an_errand_whose_files_cannot_be_put_is_not_begun(transport: Transport, tmp_path: Path) -> None:
    open_to_all, trace = tmp_path / "open", tmp_path / "begun"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    errand = Errand(
        command=Command(argv=("touch", str(trace))),
        folders=(holding(str(open_to_all), data=b""),),
    )
    (answer,) = transport.run_all([errand], within=20)
    assert isinstance(answer, Undelivered)
    assert not trace.exists()


def test_an_errand_may_have_files_in_many_directories_and_needs_them_all(transport: Transport, tmp_path: Path) -> None:
    names = [f"job {number}" for number in range(3)]
    folders = [holding(str(tmp_path / name), **{"its data": name.encode()}) for name in names]
    command = Command(argv=("cat", *(f"{name}/its data" for name in names)))
    (answer,) = transport.run_all([Errand(command=command, cwd=str(tmp_path), folders=tuple(folders))], within=20)
    assert isinstance(answer, CommandResult) and answer.text == "job 0job 1job 2"
    (tmp_path / "file").write_text("")
    broken = Errand(command=command, cwd=str(tmp_path), folders=(folders[0], holding(str(tmp_path / "file"), x=b"")))
    (answer,) = transport.run_all([broken], within=20)
    assert isinstance(answer, Undelivered)


def test_many_errands_are_answered_in_their_order(transport: Transport) -> None:
    errands = [Errand(command=Command(argv=("echo", str(number)))) for number in range(100)]
    answers = transport.run_all(errands, within=60)
    assert [isinstance(answer, CommandResult) and int(answer.text) for answer in answers] == list(range(100))


def test_a_tree_is_put_where_only_i_can_enter(transport: Transport, tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "main.py").write_text("pass")
    transport.put_tree(str(tmp_path / "code"), str(tmp_path / "root" / "token" / "1" / "work"))
    made = tmp_path / "root" / "token" / "1"
    assert (made / "work" / "main.py").read_text() == "pass"
    assert [path.stat().st_mode & 0o777 for path in (made, made.parent, made.parent.parent)] == [0o700] * 3


def test_a_variable_that_is_hidden_is_not_seen(transport: Transport) -> None:
    program = "import os; print('HIDDEN_TOKEN' in os.environ)"
    command = Command(argv=(sys.executable, "-c", program), hidden=("HIDDEN_TOKEN",))
    assert transport.run(command, scrubbed=False).text == "False\n"


def test_a_flood_ends_in_time_and_is_not_kept(transport: Transport) -> None:
    began = time.monotonic()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        answer = transport.run(Command(argv=("yes", "x" * 1000), timeout=2))
    except TransportError:
        pass
    else:
        assert answer.truncated
    assert time.monotonic() - began < 20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 5 * MAX_OUTPUT // 1024


def test_what_is_no_file_is_not_waited_for(transport: Transport, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "log")
    began = time.monotonic()
    with pytest.raises(TransportError):
        transport.read(str(tmp_path / "log"))
    assert time.monotonic() - began < 10


def test_nobody_reads_the_environment_in_arguments(transport: Transport) -> None:
    for scrubbed in (True, False):
        ancestors = 'p=$PPID; for _ in 1 2; do tr "\\0" " " </proc/$p/cmdline; read -r _ _ _ p _ </proc/$p/stat; done'
        command = Command(argv=("sh", "-c", f"echo $HIDDEN_TOKEN; {ancestors}"))
        told = transport.run(command, scrubbed=scrubbed).text
        assert told.startswith("xyzzy\n")
        assert told.count("xyzzy") == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make what belongs to others")
@pytest.mark.parametrize("trap", ["theirs", "open", "link"])
def test_nothing_is_put_where_a_stranger_could_exchange_it(transport: Transport, tmp_path: Path, trap: str) -> None:
    shared, root = tmp_path / "shared", tmp_path / "shared" / "jobs"
    shared.mkdir()
    shared.chmod(0o777 if trap == "open" else 0o1777)
    if trap == "link":
        (tmp_path / "mine").mkdir()
        root.symlink_to(tmp_path / "mine")
    else:
        root.mkdir()
    if trap != "open":
        os.lchown(root, 61002, 61002)
    command = Command(argv=("touch", str(tmp_path / "ran")))
    files = (StagedFile(path="script", content=b"x"),)
    for attempt in ("1", "1", "2"):
        errand = Errand(command=command, folders=(Folder(path=str(root / "token" / attempt), files=files),))
        (answer,) = transport.run_all([errand], within=20)
        assert isinstance(answer, Undelivered), answer
    assert not (tmp_path / "ran").exists()
    assert not list(tmp_path.rglob("script"))

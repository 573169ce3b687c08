"""A job runs as its person wrote it, and its end is told as it was."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import time
from pathlib import Path

import pytest

from hybridhpc.here.request import MAX_ARRAY_SIZE
from tests.here.machine_of_two import UNTIL_GO, Here, alive, until

DUMP = """#!/usr/bin/env python3
import json, os, resource, signal, sys
ignored = [int(n) for n in signal.valid_signals() if n not in (13, 25) and signal.getsignal(n) is signal.SIG_IGN]
json.dump(
    {
        "environ": dict(os.environ), "args": sys.argv[1:], "cwd": os.getcwd(), "cpus": sorted(os.sched_getaffinity(0)),
        "stdin": sys.stdin.read(), "umask": os.umask(0), "files": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        "blocked": len(signal.pthread_sigmask(signal.SIG_BLOCK, ())), "open": os.listdir("/proc/self/fd"),
        "ignored": ignored, "leads": os.getsid(0) == os.getpid(),
    },
    open("dump", "w"),
)
"""


def dumped(here: Here, *options: str, args: tuple[str, ...] = ()) -> dict[str, object]:
    job = here.submit(DUMP, *options, args=args)
    assert here.ends(job) == ["COMPLETED"], here.path(f"{job}.log").read_text()
    found: dict[str, object] = json.loads(here.path("dump").read_text())
    return found


def test_a_job_finds_the_submitters_environment_and_slurms_variables(here: Here) -> None:
    here.env |= {"MY_OWN": "a b\n$(c)", "SLURM_ARRAY_TASK_ID": "7", "HPC_JOB_DIR": "/elsewhere"}
    found = dumped(here, "--name=a name", "--cpus=2", "--ntasks=2")["environ"]
    assert isinstance(found, dict)
    assert found["MY_OWN"] == "a b\n$(c)"
    assert found["HPC_JOB_DIR"] == str(here.root / "token-1" / "1")
    host = os.uname().nodename
    expected = {
        "JOB_ID": "1", "JOBID": "1", "JOB_NAME": "a name", "SUBMIT_DIR": str(here.work), "CPUS_ON_NODE": "2",
        "CPUS_PER_TASK": "1", "NTASKS": "2", "JOB_NUM_NODES": "1", "NNODES": "1", "NODEID": "0", "PROCID": "0",
        "LOCALID": "0", "JOB_NODELIST": host, "NODELIST": host,
    }  # fmt: skip
    assert {name: found.get(f"SLURM_{name}") for name in expected} == expected
    assert not {"SLURM_RESTART_COUNT", "SLURM_ARRAY_TASK_ID", "HPC_HERE_SUPERVISOR"} & set(found)


def test_a_job_finds_arguments_directory_and_limits_as_at_a_terminal(here: Here) -> None:
    hostile = ("a b", "", "$(touch never)", "-n", "--", "ü\n")
    here.umask = 0o027
    found = dumped(here, args=hostile)
    assert found["args"] == list(hostile)
    assert (found["cwd"], found["stdin"], found["blocked"], found["leads"]) == (str(here.work), "", 0, True)
    assert (found["umask"], found["ignored"]) == (0o027, [])
    assert stat.S_IMODE(here.path("1.log").stat().st_mode) == 0o640
    assert set(found["open"]) <= {"0", "1", "2", "3", "4"}  # type: ignore[call-overload]


def test_cpus_are_not_shared_between_jobs(here: Here) -> None:
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("this machine has one CPU")
    one = here.submit("taskset -cp $$ > one; while [ ! -e two ]; do sleep 0.05; done", "--cpus=1")
    two = here.submit("taskset -cp $$ > part; mv part two", "--cpus=1")
    assert here.ends(one, two) == ["COMPLETED", "COMPLETED"]
    assert here.words("one")[-1] != here.words("two")[-1]


def test_output_goes_where_the_pattern_says_and_both_streams_together(here: Here) -> None:
    job = here.submit("echo out; echo err >&2", "--name=x%y", "--output=%x-%A-%4j-%%-%u.txt")
    assert here.ends(job) == ["COMPLETED"]
    (log,) = here.work.glob("x%y-1-0001-%-*.txt")
    assert log.read_text() == "out\nerr\n"
    two = here.submit("echo out; echo err >&2", "--output=o", "--error=e")
    assert here.ends(two) == ["COMPLETED"]
    assert (here.path("o").read_text(), here.path("e").read_text()) == ("out\n", "err\n")


def test_the_answer_to_submit_names_the_log_with_the_ids_left_open(here: Here) -> None:
    words = here.submission("true", "--name=n%j", "--output=%x-%j-%A_%a-%%.txt", "--array=1-2")
    answer = here.ask("submit", *words)
    assert answer == {"job_id": "1", "log": f"{here.work}/n%%j-%j-%A_%a-%%.txt"}


@pytest.mark.parametrize(
    ("script", "end"),
    [
        ("exit 0", ("COMPLETED", 0, None)),
        ("exit 3", ("FAILED", 3, None)),
        ("kill -9 $$", ("FAILED", None, 9)),
        ("kill -SEGV $$", ("FAILED", None, 11)),
        ("bash -c 'kill -9 $$'; exit $?", ("FAILED", 137, None)),
        ("#!/no/such/interpreter\n", ("FAILED", None, None)),
    ],
)
def test_exit_codes_and_signals_are_told_as_they_were(
    here: Here, script: str, end: tuple[str, int | None, int | None]
) -> None:
    task = here.wait(here.submit(script))
    assert (task.state, task.exit_code, task.signal) == end


def test_a_job_that_could_not_be_started_says_why(here: Here) -> None:
    assert "No such file" in here.wait(here.submit("#!/no/such/interpreter\n")).reason
    gone = here.path("gone")
    gone.mkdir()
    blocker = here.submit(UNTIL_GO, "--cpus=2")
    job = here.submit("true", f"--output={gone}/log")
    gone.rmdir()
    here.go()
    here.wait(blocker)
    assert "gone" in here.wait(job).reason


def test_a_job_survives_the_process_that_submitted_it(here: Here) -> None:
    line = " ".join(f"'{word}'" for word in here.command("submit", *here.submission("sleep 0.4; echo done > done")))
    terminal = subprocess.run(["setsid", "bash", "-c", f"{line}; kill -9 0"], env=here.env, cwd=here.work, check=False)
    assert terminal.returncode == -9
    assert here.words("done") == ["done"]
    assert here.wait(1).state == "COMPLETED"


def test_submit_does_not_keep_its_callers_pipes_open(here: Here) -> None:
    began = time.monotonic()
    here.submit("sleep 3")
    assert time.monotonic() - began < 2


def test_a_script_from_elsewhere_is_copied_so_that_edits_do_not_matter(here: Here) -> None:
    blocker = here.submit(UNTIL_GO, "--cpus=2")
    script = here.path("mine.sh")
    script.write_text("#!/bin/bash\necho first > said\n")
    words = here.submission("true")
    words[words.index("--") + 1] = str(script)
    job = int(here.ask("submit", *words)["job_id"])
    script.write_text("#!/bin/bash\necho second > said\n")
    here.go()
    assert here.ends(blocker, job) == ["COMPLETED", "COMPLETED"]
    assert here.words("said") == ["first"]


def test_an_end_is_seen_within_a_fifth_of_a_second(here: Here) -> None:
    delays = []
    for number in range(3):
        task = here.wait(here.submit(f"date +%s.%N > ended.{number}"))
        delays.append((task.ended_at or 0) - float(here.words(f"ended.{number}")[0]))
    assert min(delays) < 0.2, "the least of three: others may use this machine too"


def test_everything_in_the_root_is_for_its_owner_alone(here: Here) -> None:
    here.ends(here.submit("true"))
    for path in (here.root, *here.root.glob("here.*")):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_a_root_that_others_can_write_to_is_refused(here: Here) -> None:
    here.root.chmod(0o770)
    answer = here.call("survey")
    assert answer.returncode == 3
    assert "chmod go-w" in answer.stderr
    here.root.chmod(0o700)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_a_root_of_someone_else_is_refused(here: Here) -> None:
    os.chown(here.root, 65534, 65534)
    assert "belongs to user 65534" in here.call("survey").stderr
    os.chown(here.root, 0, 0)


def test_a_job_may_submit_jobs_that_outlive_it_and_use_the_whole_machine(here: Here) -> None:
    inner = here.submission("sleep 0.5; nproc > inner", "--cpus=2")
    line = " ".join(f"'{word}'" for word in here.command("submit", *inner))
    outer = here.submit(f"{line} > answer", "--cpus=1")
    assert here.ends(outer) == ["COMPLETED"]
    assert json.loads(here.path("answer").read_text())["job_id"] == "2"
    assert here.ends(2) == ["COMPLETED"]
    assert here.words("inner") == [str(min(2, len(os.sched_getaffinity(0))))]


def test_a_held_job_waits_for_its_release(here: Here) -> None:
    job = here.submit("true", "--hold")
    assert here.ask("status", str(job))[str(job)][0]["reason"] == "JobHeldUser"
    here.ask("release", str(job))
    assert here.ends(job) == ["COMPLETED"]


def test_the_environment_of_a_job_is_forgotten_when_it_has_ended(here: Here) -> None:
    here.env["MY_SECRET"] = "xyzzy-plugh"
    here.ends(here.submit("true"))
    log = here.root / "here.sqlite-wal"
    until(lambda: bool(here.ask("survey")) and not log.exists(), lambda: f"{log} is still there")
    assert b"xyzzy-plugh" not in (here.root / "here.sqlite").read_bytes()


@pytest.mark.parametrize(
    ("option", "complaint"),
    [
        ("--cpus=3", "asks 3 CPUs, this machine lends 2"),
        ("--memory=1001", "asks 1001 MiB of memory, this machine lends 1000 MiB"),
        ("--gpus=1", "asks 1 GPUs, this machine has 0"),
        ("--dependency=afterok:99", "it depends on job 99, which is unknown here"),
        ("--dependency=singleton", "cannot be kept here"),
        ("--array=5-x", "no list of indices"),
        (f"--array=0-{MAX_ARRAY_SIZE}", "must lie below"),
        ("--output=/no/such/dir/x", "/no/such/dir does not exist"),
        ("--signal=B:FOO@9", "names no signal"),
        ("--walltime=0", "must be a whole number above 0"),
        ("--partition=x", "--partition is no option here"),
    ],
)
def test_what_can_never_run_is_refused_in_words(here: Here, option: str, complaint: str) -> None:
    answer = here.call("submit", *here.submission("true", option))
    assert (answer.returncode, complaint in answer.stderr) == (3, True), answer.stderr
    assert "Traceback" not in answer.stderr
    assert here.ask("find") == {"tokens": {}}


@pytest.mark.parametrize("content", [b"echo no shebang\n", b"#!/bin/bash\r\necho dos\r\n", b""])
def test_a_script_without_interpreter_is_refused(here: Here, content: bytes) -> None:
    words = here.submission("true")
    Path(words[words.index("--") + 1]).write_bytes(content)
    assert "is no script" in here.call("submit", *words).stderr


def test_a_leftover_process_ends_with_its_job(here: Here) -> None:
    daemon = "(setsid bash -c 'sleep 300 & echo $! > part; mv part daemon; wait' &)"
    job = here.submit(f"sleep 300 & echo $! > bg; {daemon}; while [ ! -e daemon ]; do sleep 0.02; done")
    pids = [int(here.words(name)[0]) for name in ("daemon", "bg")]
    assert here.ends(job) == ["COMPLETED"]
    until(lambda: not any(alive(pid) for pid in pids), lambda: str(pids))

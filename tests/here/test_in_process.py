"""`here` asked inside this process: the same answers as its command line, and nothing of the process is changed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from hybridhpc import registry
from hybridhpc.command import Command
from hybridhpc.errors import TransportError
from hybridhpc.here import commands
from hybridhpc.in_process import InProcess
from hybridhpc.schedulers.here import COMMAND
from hybridhpc.sites.site import Site
from tests.here.machine_of_two import UNTIL_GO, Here, until


@pytest.fixture
def transport(here: Here) -> InProcess:
    site = Site(name="here", file=None, scheduler="here", transport="local", job_root=str(here.root))
    found = registry.transport(site, here.env)
    assert isinstance(found, InProcess)
    return found


def command(here: Here, verb: str, *words: str, timeout: float = 20) -> Command:
    return Command(argv=(*COMMAND, verb, f"--root={here.root}", *words), timeout=timeout)


def test_it_answers_as_the_command_line_does(here: Here, transport: InProcess) -> None:
    job = here.submit(UNTIL_GO)
    until(lambda: here.tasks(job)[0].state == "RUNNING", lambda: "not started")
    for words in (("status", str(job)), ("find",), ("check",), ("survey",)):
        inside, outside = transport.run(command(here, *words)), here.call(*words)
        assert (inside.exit_code, json.loads(inside.stdout)) == (outside.returncode, json.loads(outside.stdout))
    inside, outside = transport.run(command(here, "cancel", "77")), here.call("cancel", "77")
    assert (inside.exit_code, inside.complaint) == (3, "here: no such job here: 77")
    assert (outside.returncode, outside.stderr) == (3, "here: no such job here: 77\n")
    here.go()


def test_a_job_gets_what_its_submitter_has_and_the_submitter_keeps_it(here: Here, transport: InProcess) -> None:
    transport._env["MINE"] = "yes"
    words = here.submission('echo "$MINE $(umask) $PWD" > told')
    before = os.umask(0o027)
    try:
        answer = transport.run(command(here, "submit", *words), scrubbed=False)
        assert json.loads(answer.stdout)["job_id"] == "1"
        assert here.words("told") == ["yes", "0027", str(here.work)]
        assert (os.umask(0o027), Path.cwd()) == (0o027, Path(os.environ["PWD"]))
    finally:
        os.umask(before)


def test_no_thread_is_left_behind(here: Here, transport: InProcess) -> None:
    before = set(threading.enumerate())
    transport.run(command(here, "survey"))
    until(lambda: set(threading.enumerate()) <= before, lambda: f"{threading.enumerate()}")


def test_a_command_that_takes_too_long_is_given_up(
    here: Here, transport: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    end = threading.Event()
    monkeypatch.setattr(commands, "open_place", lambda root: end.wait(20))
    with pytest.raises(TransportError, match=r"no answer within 0\.1 s"):
        transport.run(command(here, "survey", timeout=0.1))
    end.set()


def test_a_fault_is_an_answer(here: Here, transport: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "open_place", lambda root: 1 / 0)
    answer = transport.run(command(here, "survey"))
    assert (answer.exit_code, answer.complaint) == (1, "ZeroDivisionError: division by zero")


INTERRUPTED = """
import os, signal, sys, time
from hybridhpc.command import Command
from hybridhpc.here import slots
from hybridhpc.in_process import InProcess
from hybridhpc.schedulers.here import COMMAND
from hybridhpc.sites.site import Site

insert = slots.insert
def slowly(*given):
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.3)
    return insert(*given)
slots.insert = slowly
site = Site(name="here", file=None, scheduler="here", transport="local")
InProcess(site, dict(os.environ)).run(Command(argv=(*COMMAND, *sys.argv[1:])))
"""


def test_ctrl_c_does_not_cut_a_submission_in_two(here: Here) -> None:
    words = ["submit", f"--root={here.root}", *here.submission("touch done")]
    done = subprocess.run([sys.executable, "-c", INTERRUPTED, *words], env=here.env, capture_output=True, text=True)
    assert "KeyboardInterrupt" in done.stderr
    assert here.ends(1) == ["COMPLETED"]

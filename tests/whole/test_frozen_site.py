"""A site whose scheduler has frozen: what is known of jobs that have ended is shown all the same, and soon."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from hybridhpc.ledger.base import Intent, Record
from hybridhpc.ledger.sqlite import SqliteLedger
from hybridhpc.model import Array, JobSpec, JobState, JobStatus, Resources, Script
from hybridhpc.schedulers.base import Submitted
from hybridhpc.script.plan import Plan
from tests.people import Person

SOON = 20.0
"""Seconds on a busy machine; the scheduler below says nothing for longer, and its site may take 25."""


@pytest.fixture
def someone(tmp_path: Path) -> Person:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("squeue", "sacct", "sinfo", "scontrol"):
        (programs / name).write_text("#!/bin/sh\nexec sleep 25\n")
        (programs / name).chmod(0o755)
    person = Person(tmp_path / "person")
    person.env["PATH"] = f"{programs}:{person.env['PATH']}"
    sites = person.home / "config" / "sites"
    sites.mkdir(parents=True)
    text = f"name: dgx\nscheduler: slurm\ntransport: local\njob_root: {tmp_path}/jobs\nprobe_deadline: 25s\n"
    (sites / "dgx.yaml").write_text(text)
    return person


def ended(person: Person, state: JobState, *, tasks: int = 3) -> Record:
    """Write a job into the ledger that has ended so."""
    ledger = SqliteLedger(person.home / "state" / "ledger.sqlite")
    script = Script(path="/job.sh", content=b"#!/bin/sh\n", args=())
    spec = JobSpec(
        name="job", file="/job.sh", digest="0", payload=script, resources=Resources(nodes=1),
        array=Array(text="0-2", tasks=tasks),
    )  # fmt: skip
    plan = Plan(
        name="job", site="dgx", partition="p", resources=spec.resources, usd_per_hour=0, script=b"", options=(),
        tasks=tasks, spec=spec,
    )  # fmt: skip
    (made,) = ledger.intend([Intent(plan=plan, request="r", job_root=str(person.home / "jobs"))], now=1.0)
    (record,) = ledger.submitted({made.token: Submitted(job_id="7", log="/l/%A_%a", submitted_at=2.0)}, now=2.0)
    seen = JobStatus(job_id="7", state=state, native_state=state.value, started_at=3.0, ended_at=9.0, exit_code=0)
    ledger.seen([(record, seen)])
    Path(record.job_dir).mkdir(parents=True)
    return record


def soon(person: Person, *words: str) -> tuple[int, str, str]:
    began = time.monotonic()
    done = person.try_hpc(*words)
    assert time.monotonic() - began < SOON, words
    return done.returncode, done.stdout, done.stderr


def test_of_an_array_that_completed_nothing_is_asked(someone: Person) -> None:
    ended(someone, JobState.COMPLETED)
    assert soon(someone, "why", "dgx:7")[0] == 0
    assert soon(someone, "wait", "dgx:7")[0] == 0
    code, printed, _ = soon(someone, "why", "dgx:7_2", "--json")
    assert (code, json.loads(printed)["state"]) == (0, "COMPLETED")


def test_of_one_that_failed_the_markers_tell_and_the_silence_is_said(someone: Person) -> None:
    record = ended(someone, JobState.FAILED)
    code, printed, _ = soon(someone, "why", "dgx:7")
    assert (code, "which of its tasks failed is not known now" in printed) == (0, True), printed
    assert soon(someone, "why", "dgx:7_1")[0] == 6
    for task, exit_code in enumerate((0, 3, 0)):
        Path(record.job_dir, f"exit.{task}.0").write_text(f"{exit_code} 9\n")
    code, printed, _ = soon(someone, "why", "dgx:7")
    assert (code, "dgx:7_1 FAILED exit code 3" in printed) == (0, True), printed
    assert "what its tasks left as exit markers is all that is known now" in printed
    assert soon(someone, "wait", "dgx:7")[0] == 10

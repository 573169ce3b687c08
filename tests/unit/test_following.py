"""What became of jobs that the scheduler has forgotten: accounting, then exit markers, then an honest UNKNOWN."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from hybridhpc.following import apply, ask
from hybridhpc.ledger.base import Intent, Record
from hybridhpc.ledger.sqlite import SqliteLedger
from hybridhpc.model import JobState, JobStatus, Resources
from hybridhpc.schedulers.base import Submitted
from hybridhpc.script.plan import Plan
from hybridhpc.sites.site import Site
from hybridhpc.transports.local import LocalTransport
from hybridhpc.work_dirs import log_path

SACCT = "printf '%s' \"$REMEMBERED\""


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(name="lab", file=None, scheduler="slurm", transport="local", job_root=str(tmp_path / "jobs"))


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """A Slurm that has forgotten everything, and one whose accounting is a variable."""
    (tmp_path / "bin").mkdir()
    env = {"PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin", "HOME": str(tmp_path), "REMEMBERED": ""}
    program(env, "squeue", "exit 0")
    program(env, "sacct", SACCT)
    return env


def program(env: dict[str, str], name: str, text: str) -> None:
    made = Path(env["HOME"]) / "bin" / name
    made.write_text(f"#!/bin/sh\n{text}\n")
    made.chmod(0o755)


def record_of(tmp_path: Path, *, tasks: int = 1, job_id: str = "7") -> Record:
    ledger = SqliteLedger(tmp_path / "state" / "ledger.sqlite")
    resources = Resources(nodes=1)
    plan = Plan(
        name="job", site="lab", partition="p", resources=resources, usd_per_hour=0, script=b"", options=(), tasks=tasks
    )
    intent = Intent(plan=plan, request="r", job_root=str(tmp_path / "jobs"))
    (made,) = ledger.intend([intent], now=1.0)
    answer = Submitted(job_id=job_id, log="/logs/%x-%A_%a-%j.log", submitted_at=10.0)
    (record,) = ledger.submitted({made.token: answer}, now=2.0)
    Path(record.job_dir).mkdir(parents=True)
    return record


def told(record: Record, site: Site, env: dict[str, str]) -> JobStatus:
    return ask([record], [site], env)[record.token]


def test_a_forgotten_job_without_a_marker_is_unknown(tmp_path: Path, site: Site, env: dict[str, str]) -> None:
    status = told(record_of(tmp_path), site, env)
    assert status.state is JobState.UNKNOWN
    assert "no longer knows it" in status.reason


@pytest.mark.parametrize(("code", "state"), [("0", JobState.COMPLETED), ("3", JobState.FAILED)])
def test_its_exit_marker_tells_how_it_ended(
    tmp_path: Path, site: Site, env: dict[str, str], code: str, state: JobState
) -> None:
    record = record_of(tmp_path)
    Path(record.job_dir, "exit.-.0").write_text("9 100\n")
    Path(record.job_dir, "exit.-.1").write_text(f"{code} 200\n")
    status = told(record, site, env)
    assert (status.state, status.exit_code, status.ended_at) == (state, int(code), 200.0)


@pytest.mark.parametrize("text", ["", "0", "none at all", "\xff\xff 1"])
def test_a_marker_that_cannot_be_read_says_nothing(tmp_path: Path, site: Site, env: dict[str, str], text: str) -> None:
    record = record_of(tmp_path)
    Path(record.job_dir, "exit.-.0").write_text(text)
    assert told(record, site, env).state is JobState.UNKNOWN


def test_accounting_is_believed_before_markers(tmp_path: Path, site: Site, env: dict[str, str]) -> None:
    record = record_of(tmp_path)
    Path(record.job_dir, "exit.-.0").write_text("0 100\n")
    env["REMEMBERED"] = "\x1f".join(["7", "NODE_FAIL", "0:0", "10", "20", "30", "n1"]) + "\n"
    assert told(record, site, env).state is JobState.NODE_FAIL


def test_an_array_is_completed_only_if_every_task_is_known_to_be(
    tmp_path: Path, site: Site, env: dict[str, str]
) -> None:
    record = record_of(tmp_path, tasks=3)
    for task in (0, 1):
        Path(record.job_dir, f"exit.{task}.0").write_text("0 100\n")
    assert told(record, site, env).state is JobState.UNKNOWN
    Path(record.job_dir, "exit.2.0").write_text("0 100\n")
    assert told(record, site, env).state is JobState.COMPLETED


def test_a_failed_task_that_squeue_forgot_fails_the_array(tmp_path: Path, site: Site, env: dict[str, str]) -> None:
    record = record_of(tmp_path, tasks=2)
    Path(record.job_dir, "exit.0.0").write_text("5 100\n")
    Path(record.job_dir, "exit.1.0").write_text("0 100\n")
    assert told(record, site, env).state is JobState.FAILED


def test_a_site_that_cannot_be_asked_leaves_the_state_unknown(tmp_path: Path, site: Site, env: dict[str, str]) -> None:
    env["PATH"] = str(tmp_path)
    status = told(record_of(tmp_path), site, env)
    assert status.state is JobState.UNKNOWN
    assert "squeue" in status.reason


def test_the_log_of_a_task_is_found_by_its_pattern(tmp_path: Path) -> None:
    assert log_path(record_of(tmp_path, tasks=4), 3) == "/logs/job-7_3-7.log"
    assert log_path(record_of(tmp_path, tasks=4), None) == "/logs/job-7_*-7.log"


def test_the_markers_of_many_jobs_are_read_in_one_go(
    tmp_path: Path, site: Site, env: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    records = [record_of(tmp_path, job_id=str(number)) for number in range(1, 6)]
    for number, record in enumerate(records[:4]):
        Path(record.job_dir, "exit.-.0").write_text(f"{number} 100\n")
    Path(records[0].job_dir, "exit.-.1").write_text("7 200\n")
    Path(records[3].job_dir, "exit.-.0").write_text("0\x0b1 exit.-.0 0 100\n")
    asked: list[int] = []
    original = LocalTransport.run_all
    monkeypatch.setattr(
        LocalTransport,
        "run_all",
        lambda self, errands, *, within: (asked.append(len(errands)), original(self, errands, within=within))[1],
    )
    told = ask(records, [site], env)
    assert [told[record.token].exit_code for record in records] == [7, 1, 2, None, None]
    assert told[records[4].token].state is JobState.UNKNOWN
    assert asked == [1, 1, 1]


def squeue(tmp_path: Path, *, submitted: float, token: str, restarts: int = 0) -> None:
    """Let squeue know job 7, submitted then, with a script in the directory of that token."""
    status = "\x1f".join(["7", "COMPLETED", f"{submitted:.0f}", "20", "30", "0", str(restarts), "n1", "None"]) + "\x1f"
    found = "\x1f".join(["7", f"{tmp_path}/jobs/{token}/1/script"]) + "\x1f"
    text = f"#!/bin/sh\ncase $* in *Command*) echo '{found}' ;; *) echo '{status}' ;; esac\n"
    (tmp_path / "bin" / "squeue").write_text(text)


def test_another_job_of_the_same_id_is_not_taken_for_ours(tmp_path: Path, site: Site, env: dict[str, str]) -> None:
    """After a controller lost its state it counts anew."""
    record = record_of(tmp_path)
    squeue(tmp_path, submitted=5000, token="another")
    assert told(record, site, env).state is JobState.UNKNOWN
    squeue(tmp_path, submitted=5000, token=record.token)
    assert told(record, site, env).state is JobState.COMPLETED, "the clocks differ, and the token says that it is ours"
    squeue(tmp_path, submitted=5000, token=record.token, restarts=1)
    assert told(record, site, env).state is JobState.COMPLETED, "a requeue is a submission, too"
    squeue(tmp_path, submitted=5000, token="another", restarts=1)
    rendered = replace(record, log=f"{record.job_dir}/7.log")
    assert told(rendered, site, env).state is JobState.UNKNOWN, "another job was requeued"
    assert told(record, site, env).state is JobState.COMPLETED, "a script taken as it is carries no token"
    again = replace(rendered, token="another", submitted_at=5000.0)
    found = ask([rendered, again], [site], env)
    assert (found[record.token].state, found["another"].state) == (JobState.UNKNOWN, JobState.COMPLETED)
    squeue(tmp_path, submitted=3, token="another")
    assert told(record, site, env).state is JobState.COMPLETED


def test_how_long_a_job_runs_is_counted_by_the_clock_of_its_site(
    tmp_path: Path, site: Site, env: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It began 90 s ago, at a site whose clock is ten minutes ahead, or behind."""
    far = replace(site, transport="openssh")
    monkeypatch.setattr("hybridhpc.registry.transport", lambda *_: LocalTransport(site, env))
    record = replace(record_of(tmp_path), usd_per_hour=40.0)
    for off in (600, -600, 0):
        fields = ("7", "RUNNING", "10", f"{5000 + off - 90}", "0", "0", "0", "n1", "None")
        program(env, "squeue", f"printf '%s\\037' {' '.join(fields)}; echo")
        program(env, "date", f"echo {5000 + off}")
        status = ask([record], [far], env, lambda: 5003.0)[record.token]
        seen = apply(record, status)
        assert abs(seen.elapsed(5003.0) - (93.0 if off == 0 else 90.0)) < 0.01
        assert abs(seen.elapsed(5063.0) - seen.elapsed(5003.0) - 60.0) < 0.01
        assert abs(seen.cost(5003.0) - seen.elapsed(5003.0) / 90) < 0.01

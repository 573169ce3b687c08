"""What the markers in a job's directory tell of its runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from hybridhpc.evidence import gather, read_markers, run_seconds, still_to_run
from hybridhpc.ledger.base import Intent, Record
from hybridhpc.ledger.sqlite import SqliteLedger
from hybridhpc.model import Array, JobSpec, JobState, JobStatus, Resources, Seconds, Work
from hybridhpc.schedulers.base import Submitted
from hybridhpc.script.plan import Plan
from hybridhpc.sites.site import Site
from hybridhpc.transports.local import LocalTransport

SITE = Site(name="lab", file=None, scheduler="slurm", transport="local")
TRANSPORT = LocalTransport(SITE, {"PATH": "/usr/bin:/bin"})
ARRAY = Array(text="0-5%2", tasks=6, throttle=2)


@pytest.fixture
def record(tmp_path: Path) -> Record:
    """A submitted job of a spec with a walltime of a minute, and its directory."""
    resources = Resources(walltime=Seconds(60))
    spec = JobSpec(name="job", file="/f", digest="", resources=resources, payload=Work(run="x"), array=ARRAY)
    plan = Plan(
        name="job", site="lab", partition="p", resources=resources, usd_per_hour=1, script=b"", options=(), spec=spec
    )
    ledger = SqliteLedger(tmp_path / "state" / "ledger.sqlite")
    (made,) = ledger.intend([Intent(plan=plan, request="r", job_root=str(tmp_path / "jobs"))], now=1.0)
    (known,) = ledger.submitted({made.token: Submitted(job_id="7")}, now=2.0)
    Path(known.job_dir).mkdir(parents=True)
    return known


def mark(record: Record, **markers: str) -> None:
    for name, text in markers.items():
        word, task, restarts = name.rsplit("_", 2)
        Path(record.job_dir, f"{word}.{'-' if task == 'x' else task}.{restarts}").write_text(f"{text}\n")


def status(state: JobState, **more: float) -> JobStatus:
    return JobStatus(job_id="7", state=state, native_state=state.value, **more)  # type: ignore[arg-type]


def test_other_files_are_no_markers(record: Record) -> None:
    mark(record, start_x_0="100 n1", exit_3_1="0 200")
    for name in ("start", "start.-", "exit.-.x", "script", ".start.-.0.9"):
        Path(record.job_dir, name).touch()
    markers = read_markers(TRANSPORT, record.job_dir)
    assert markers.begun == {("-", 0)}
    assert markers.ended == {("3", 1)}


@pytest.mark.parametrize(
    ("markers", "state", "restarts", "done"),
    [
        ({"start_x_0": "100 n1", "exit_x_0": "0 160"}, JobState.NODE_FAIL, 0, True),
        ({"start_x_0": "100 n1", "exit_x_0": "3 160"}, JobState.NODE_FAIL, 0, False),
        ({"start_x_0": "100 n1"}, JobState.NODE_FAIL, 0, False),
        ({"start_x_0": "100 n1", "exit_x_0": "0 160"}, JobState.PENDING, 1, False),
        ({"start_x_0": "1 n1", "exit_x_0": "0 2", "start_x_1": "100 n1"}, JobState.UNKNOWN, 0, False),
        ({"start_x_0": "100 n1", "exit_x_0": "rubbish"}, JobState.NODE_FAIL, 0, False),
    ],
)
def test_a_job_is_done_if_its_last_run_says_so(
    record: Record, markers: dict[str, str], state: JobState, restarts: int, done: bool
) -> None:
    mark(record, **markers)
    found = gather(record, status(state, restarts=restarts), SITE, TRANSPORT, now=1000.0)
    assert (found.done, found.began) == (done, True)


@pytest.mark.parametrize(("now", "expired"), [(700.0, False), (761.0, True)])
def test_a_run_has_expired_once_its_walltime_and_more_have_passed(record: Record, now: float, expired: bool) -> None:
    mark(record, start_x_0="100 n1")
    assert gather(record, status(JobState.UNKNOWN), SITE, TRANSPORT, now=now, absent_for=1.0).expired is expired
    assert not gather(record, status(JobState.RUNNING), SITE, TRANSPORT, now=now).expired


def test_the_run_before_a_requeue_is_measured_by_its_markers(record: Record) -> None:
    mark(record, start_x_0="100 n1")
    assert run_seconds(record, status(JobState.PENDING, restarts=1, submitted_at=400.0), TRANSPORT) == 300.0
    mark(record, exit_x_0="143 250")
    assert run_seconds(record, status(JobState.PENDING, restarts=1, submitted_at=400.0), TRANSPORT) == 150.0
    assert run_seconds(record, status(JobState.PENDING, restarts=2, submitted_at=400.0), TRANSPORT) == 0.0


def test_of_an_array_only_what_did_not_end_well_is_still_to_run(record: Record) -> None:
    spec = record.plan.spec
    assert spec is not None
    assert still_to_run(record, spec, TRANSPORT).array == Array(text="0,1,2,3,4,5%2", tasks=6, throttle=2)
    mark(record, exit_0_0="0 1", exit_1_0="1 1", exit_2_0="9 1", exit_2_1="0 1", exit_10_0="0 1")
    assert still_to_run(record, spec, TRANSPORT).array == Array(text="1,3,4,5%2", tasks=4, throttle=2)


def test_who_was_asked_to_end_is_told_from_who_lost_its_node(record: Record) -> None:
    at_limit = status(JobState.TIMEOUT, ended_at=160.0)

    def found(now: float) -> tuple[bool, bool]:
        seen = gather(record, at_limit, SITE, TRANSPORT, now=now)
        return seen.unasked, seen.fresh

    mark(record, start_x_0="100 n1")
    assert (found(161.0), found(500.0)) == ((True, True), (True, False))
    mark(record, asked_x_0="160")
    assert found(161.0) == (False, True)

"""The ledger: one record per wish, whoever writes at the same time and whenever they are killed."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from hybridhpc.command import StagedFile
from hybridhpc.errors import LedgerError, NotFound
from hybridhpc.ledger.base import Intent, Phase, Record
from hybridhpc.ledger.file import SCHEMA
from hybridhpc.ledger.sqlite import SqliteLedger
from hybridhpc.model import Gpus, JobState, JobStatus, Resources, Seconds
from hybridhpc.schedulers.base import Submitted
from hybridhpc.script.plan import Plan
from hybridhpc.script.plan_text import parse_plan, render_plan

PLAN = Plan(
    name="train",
    site="here",
    partition="local",
    resources=Resources(nodes=1, gpus=(Gpus(kind="H100", count=2),), cpus=4, walltime=Seconds(600)),
    usd_per_hour=3.5,
    script=b"#!/bin/bash\necho \xff\n",
    options=("--cpus=4",),
    staged=(StagedFile(path="a/b", content=b"\x00\xff", executable=True),),
)
IN_ANOTHER_PROCESS = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from hybridhpc.ledger.sqlite import SqliteLedger
from unit.test_ledger import PLAN
ledger = SqliteLedger(Path(sys.argv[1]))
from hybridhpc.ledger.base import Intent
from hybridhpc.schedulers.base import Submitted
(record,) = ledger.intend([Intent(plan=PLAN, request=sys.argv[2], job_root="/root")], now=100.0)
"""


def another(path: Path, request: str, then: str) -> subprocess.Popen[bytes]:
    program = IN_ANOTHER_PROCESS.format(tests=str(Path(__file__).parents[1])) + textwrap.dedent(then)
    return subprocess.Popen([sys.executable, "-c", program, str(path), request], stdout=subprocess.PIPE)


def intend(ledger: SqliteLedger, request: str, *, now: float = 100.0) -> Record:
    (record,) = ledger.intend([Intent(plan=PLAN, request=request, job_root="/root")], now=now)
    return record


@pytest.fixture
def ledger(tmp_path: Path) -> SqliteLedger:
    return SqliteLedger(tmp_path / "state" / "ledger.sqlite")


def test_a_plan_comes_back_from_its_text_as_it_was() -> None:
    assert parse_plan(render_plan(PLAN)) == PLAN


def test_a_job_is_found_by_token_prefix_ref_id_and_name(ledger: SqliteLedger) -> None:
    record = intend(ledger, "r")
    ledger.submitted({record.token: Submitted(job_id="17", log="/log/%j")}, now=101.0)
    for word in (record.token, record.token[:8], "here:17", "17", "train"):
        assert ledger.find(word).token == record.token
    with pytest.raises(NotFound):
        ledger.find("nothing")


def test_the_latest_job_of_a_name_is_meant(ledger: SqliteLedger) -> None:
    intend(ledger, "r")
    later = intend(ledger, "r", now=200.0)
    assert ledger.find("train").token == later.token


def test_a_living_owner_keeps_its_record(tmp_path: Path) -> None:
    path = tmp_path / "state" / "ledger.sqlite"
    ledger = SqliteLedger(path)
    other = another(path, "wish", "print('ready', flush=True); sys.stdin.read()")
    with other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"ready\n"
        assert ledger.interrupted(["wish"], now=100.0) == {}
        other.kill()
    (record,) = ledger.interrupted(["wish"], now=100.0)["wish"]
    assert record.phase is Phase.INTENT
    assert ledger.interrupted(["another wish"], now=100.0) == {}


def test_a_submitted_job_nobody_was_told_of_is_given_to_who_repeats_within_a_day(tmp_path: Path) -> None:
    path = tmp_path / "state" / "ledger.sqlite"
    with another(path, "wish", "ledger.submitted({record.token: Submitted(job_id='5')}, now=100.0)") as other:
        assert other.wait() == 0
    ledger = SqliteLedger(path)
    assert ledger.interrupted(["wish"], now=100.0 + 90_000) == {}
    (record,) = ledger.interrupted(["wish"], now=200.0)["wish"]
    assert record.ref == "here:5"
    ledger.announced([record.token])
    assert ledger.interrupted(["wish"], now=200.0) == {}


def test_a_refused_submission_is_never_taken_up(ledger: SqliteLedger) -> None:
    record = intend(ledger, "wish")
    ledger.refused({record.token: "no such account"}, now=101.0)
    assert ledger.interrupted(["wish"], now=102.0) == {}
    assert ledger.find(record.token).reason == "no such account"


def test_an_interrupted_sweep_is_given_whole_to_one_who_repeats_it(tmp_path: Path) -> None:
    path = tmp_path / "state" / "ledger.sqlite"
    sweep = """
    intents = [Intent(plan=PLAN, request=f"point {n}", job_root="/root") for n in range(5)]
    records = ledger.intend(intents, sweep="train-1a2b3c", now=100.0)
    ledger.submitted({records[0].token: Submitted(job_id="5")}, now=100.0)
    ledger.refused({records[1].token: "no such account"}, now=100.0)
    """
    requests = [f"point {n}" for n in range(6)]
    with another(path, "r", sweep) as other:
        assert other.wait() == 0
    ledger = SqliteLedger(path)
    found = ledger.interrupted(requests, now=200.0)
    assert list(found) == ["point 0", "point 2", "point 3", "point 4"]
    assert SqliteLedger(path).interrupted(requests, now=200.0) == {}
    assert not SqliteLedger(path).own([record for group in found.values() for record in group])
    ledger.announced([record.token for group in found.values() for record in group])
    assert ledger.interrupted(requests, now=200.0) == {}
    assert not (path.parent / "owners" / "train-1a2b3c").exists()


def test_what_was_seen_is_kept_and_becomes_history(ledger: SqliteLedger) -> None:
    record = intend(ledger, "r")
    ledger.submitted({record.token: Submitted(job_id="1")}, now=100.0)
    status = JobStatus(
        job_id="1", state=JobState.COMPLETED, native_state="COMPLETED", started_at=110.0, ended_at=170.0, exit_code=0
    )
    ledger.seen([(record.token, status)])
    found = ledger.find(record.token)
    assert (found.state, found.elapsed(999.0), found.cost(999.0)) == (JobState.COMPLETED, 60.0, pytest.approx(3.5 / 60))
    (past,) = ledger.history()
    assert (past.name, past.completed, past.ended_at - past.started_at) == ("train", True, 60.0)
    assert past.resources == PLAN.resources


def test_fifty_first_users_at_once_make_fifty_records(tmp_path: Path) -> None:
    path = tmp_path / "state" / "ledger.sqlite"
    others = [another(path, f"wish-{number % 5}", "ledger.announced([record.token])") for number in range(50)]
    for other in others:
        with other:
            assert other.wait() == 0
    records = SqliteLedger(path).records()
    assert len({record.token for record in records}) == 50
    assert all(record.announced for record in records)
    assert [entry.name for entry in path.parent.iterdir() if entry.name.startswith(".")] == []


def test_a_kill_in_the_middle_leaves_each_record_whole(tmp_path: Path) -> None:
    path = tmp_path / "state" / "ledger.sqlite"
    endless = """
        number = 0
        while True:
            print(record.token, flush=True)
            ledger.submitted({record.token: Submitted(job_id=str(number))}, now=1.0)
            (record,) = ledger.intend([Intent(plan=PLAN, request="r", job_root="/")], now=1.0)
            number += 1
    """
    said: list[str] = []
    for lines in (1, 3, 7):
        with another(path, "r", endless) as other:
            assert other.stdout is not None
            said += [other.stdout.readline().decode().strip() for _ in range(lines)]
            other.send_signal(signal.SIGKILL)
    ledger = SqliteLedger(path)
    assert set(said) <= {record.token for record in ledger.records()}
    assert sqlite3.connect(path).execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_ledger_of_the_first_schema_is_brought_to_ours_and_a_copy_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "state" / "ledger.sqlite"
    token = intend(SqliteLedger(path), "r").token
    with sqlite3.connect(path) as database:
        for undo in ("TABLE forecasts", "INDEX jobs_by_sweep"):
            database.execute(f"DROP {undo}")
        database.execute("ALTER TABLE jobs DROP COLUMN sweep")
        for column in ("tasks", "usd_per_hour"):
            database.execute(f"ALTER TABLE attempts DROP COLUMN {column}")
        database.execute("PRAGMA user_version = 1")
    found = SqliteLedger(path).find(token)
    assert (found.plan, found.tasks, found.usd_per_hour) == (PLAN, 1, 3.5)
    assert sqlite3.connect(path).execute("PRAGMA user_version").fetchone() == (SCHEMA,)
    assert sqlite3.connect(path.with_suffix(".schema-1")).execute("SELECT token FROM jobs").fetchone() == (token,)


def test_a_newer_schema_is_refused_in_words(tmp_path: Path) -> None:
    path = tmp_path / "state" / "ledger.sqlite"
    SqliteLedger(path)
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version = 99")
    with pytest.raises(LedgerError, match="schema 99"):
        SqliteLedger(path)


def test_a_damaged_file_is_refused_in_words(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    path.write_bytes(b"this is no database, it is a letter" * 100)
    with pytest.raises(LedgerError, match="not a database"):
        SqliteLedger(path)


def test_a_state_directory_others_may_write_is_refused(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    state.chmod(0o777)
    with pytest.raises(LedgerError, match="can be changed by others"):
        SqliteLedger(state / "ledger.sqlite")


def test_only_its_owner_can_read_the_ledger(ledger: SqliteLedger, tmp_path: Path) -> None:
    intend(ledger, "r", now=1.0)
    for entry in (tmp_path / "state").rglob("*"):
        assert entry.stat().st_mode & 0o077 == 0, entry
    assert (tmp_path / "state").stat().st_mode & 0o077 == 0

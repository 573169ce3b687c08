"""The ledger: one record per wish, whoever writes at the same time and whenever they are killed."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from hybridhpc.command import StagedFile
from hybridhpc.decide.promise import Outcome, Promise
from hybridhpc.errors import LedgerError, NotFound
from hybridhpc.following import apply
from hybridhpc.ledger.base import Intent, Phase, Record
from hybridhpc.ledger.file import SCHEMA
from hybridhpc.ledger.owner import Owners
from hybridhpc.ledger.sqlite import SqliteLedger
from hybridhpc.model import Gpus, JobState, JobStatus, Quantiles, Resources, Seconds
from hybridhpc.schedulers.base import Submitted
from hybridhpc.script.plan import Plan
from hybridhpc.script.plan_text import parse_plan, render_plan
from tests.worlds.stage import spec

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


def intend(ledger: SqliteLedger, request: str, *, now: float = 100.0, plan: Plan = PLAN) -> Record:
    (record,) = ledger.intend([Intent(plan=plan, request=request, job_root="/root")], now=now)
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


def test_the_ref_of_an_earlier_attempt_still_means_the_job(ledger: SqliteLedger) -> None:
    first = made(ledger, "1")
    ledger.propose(first, PLAN, job_root="/root")
    ledger.begin(first, kind="moved", why="", now=3.0)
    assert ledger.find(f"{PLAN.site}:1").attempt == 2


def test_the_latest_job_of_a_name_is_meant(ledger: SqliteLedger) -> None:
    intend(ledger, "r")
    later = intend(ledger, "r", now=200.0)
    assert ledger.find("train").token == later.token
    ledger.refused({later.token: "the disk is full"}, now=201.0)
    assert ledger.find("train").token == later.token
    assert (ledger.bearers("train"), ledger.bearers("other")) == (2, 0)


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


def test_what_was_refused_counts_for_nothing_once_another_of_its_request_stands_for_it(ledger: SqliteLedger) -> None:
    intents = [Intent(plan=PLAN, request=f"point {n}", job_root="/root") for n in range(3)]
    taken, gone, stays = ledger.intend(intents, sweep="tune-1a2b3c", now=100.0)
    ledger.submitted({taken.token: Submitted(job_id="5")}, now=101.0)
    ledger.refused(dict.fromkeys((gone.token, stays.token), "no such account"), now=101.0)
    assert len(ledger.find_all("tune")) == 3
    (anew,) = ledger.intend(intents[1:2], sweep="tune-1a2b3c", now=102.0)
    assert {record.token for record in ledger.find_all("tune")} == {taken.token, stays.token, anew.token}
    assert {record.token for record in ledger.records()} == {taken.token, stays.token, anew.token}
    assert ledger.find(gone.token).phase is Phase.REFUSED
    alone = intend(ledger, "wish")
    ledger.refused({alone.token: "no such account"}, now=103.0)
    later = intend(ledger, "wish", now=104.0)
    assert alone.token not in {record.token for record in ledger.records()}
    assert ledger.find("train").token == later.token
    # A job that was announced, and whose new attempt is refused, still counts.
    ledger.submitted({later.token: Submitted(job_id="6")}, now=105.0)
    ledger.announced([later.token])
    ledger.propose(later, PLAN, job_root="/root")
    ledger.begin(later, kind="node_fail", why="", now=106.0)
    ledger.refused({later.token: "no such account"}, now=107.0)
    assert later.token in {record.token for record in ledger.records()}


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
    ledger.seen([(record, status)])
    found = ledger.find(record.token)
    assert (found.state, found.elapsed(999.0), found.cost(999.0)) == (JobState.COMPLETED, 60.0, pytest.approx(3.5 / 60))
    (past,) = ledger.history()
    assert (past.name, past.completed, past.ended_at - past.started_at) == ("train", True, 60.0)
    assert past.resources == PLAN.resources
    assert past.waited_else is False


@pytest.mark.parametrize(
    "waiting",
    [
        replace(PLAN, hold=True),
        replace(PLAN, options=("--dependency=afterok:1",)),
        replace(PLAN, spec=spec(script=True, asked=(("begin", "tomorrow"),))),
        replace(PLAN, spec=spec(script=True, asked=(("dependency", "afterok:1"),))),
    ],
)
def test_what_waited_for_more_than_its_turn_is_known_by_that(ledger: SqliteLedger, waiting: Plan) -> None:
    record = intend(ledger, "r", plan=waiting)
    ledger.submitted({record.token: Submitted(job_id="1")}, now=100.0)
    done = JobStatus(job_id="1", state=JobState.COMPLETED, native_state="COMPLETED", started_at=110.0, ended_at=170.0)
    ledger.seen([(record, done)])
    assert [past.waited_else for past in ledger.history()] == [True]


def made(ledger: SqliteLedger, job_id: str) -> Record:
    record = intend(ledger, "r")
    (known,) = ledger.submitted({record.token: Submitted(job_id=job_id)}, now=101.0)
    ledger.announced([record.token])
    return known


def seen_as(ledger: SqliteLedger, record: Record, state: JobState, **more: float) -> None:
    ledger.seen([(record, JobStatus(job_id="1", state=state, native_state=state.value, **more))])  # type: ignore[arg-type]


def test_a_new_attempt_replaces_the_one_before_it_once(ledger: SqliteLedger) -> None:
    first = made(ledger, "1")
    seen_as(ledger, first, JobState.NODE_FAIL, started_at=100.0, ended_at=3700.0)
    first = ledger.find(first.token)
    elsewhere = replace(PLAN, site="cloud", usd_per_hour=10.0)
    proposed = ledger.propose(first, elsewhere, job_root="/far")
    assert proposed is not None
    assert (proposed.phase, proposed.job_dir) == (Phase.PROPOSED, f"/far/{first.token}/2")
    assert ledger.propose(first, PLAN, job_root="/root") is None
    assert ledger.find(first.token).attempt == 1
    second = ledger.begin(first, kind="node_fail", why="a node failed", now=4000.0)
    assert second is not None
    assert (second.attempt, second.phase, second.site, second.spent) == (2, Phase.INTENT, "cloud", pytest.approx(3.5))
    assert ledger.begin(first, kind="node_fail", why="again", now=4001.0) is None
    assert ledger.propose(first, PLAN, job_root="/root") is None
    assert [(event.kind, event.attempt) for event in ledger.events(first.token)] == [("node_fail", 1)]
    assert [record.site for record in ledger.attempts(first.token)] == ["here", "cloud"]


def test_a_late_answer_about_an_earlier_attempt_does_not_touch_the_later_one(ledger: SqliteLedger) -> None:
    first = made(ledger, "1")
    ledger.propose(first, PLAN, job_root="/root")
    assert ledger.begin(first, kind="moved", why="", now=3.0) is not None
    seen_as(ledger, first, JobState.CANCELLED)
    assert ledger.find(first.token).state is JobState.UNKNOWN
    assert [record.state for record in ledger.attempts(first.token)] == [JobState.CANCELLED, JobState.UNKNOWN]


def test_a_final_state_is_not_overwritten_by_an_answer_that_comes_late(ledger: SqliteLedger) -> None:
    record = made(ledger, "1")
    seen_as(ledger, record, JobState.COMPLETED)
    seen_as(ledger, record, JobState.RUNNING)
    assert ledger.find(record.token).state is JobState.COMPLETED


def test_what_the_person_cancelled_gets_no_new_attempt(ledger: SqliteLedger) -> None:
    first = made(ledger, "1")
    ledger.propose(first, PLAN, job_root="/root")
    assert ledger.unwant([first.token])[0].unwanted
    assert ledger.begin(first, kind="moved", why="", now=3.0) is None
    ledger.drop_proposal(first)
    assert ledger.proposed(first) is None


def test_a_requeue_is_accounted_for_once(ledger: SqliteLedger) -> None:
    record = made(ledger, "1")
    assert ledger.requeued(record, restarts=1, spent=2.5, kind="preempted", why="x", now=5.0)
    assert not ledger.requeued(record, restarts=1, spent=2.5, kind="preempted", why="x", now=5.0)
    assert ledger.find(record.token).cost(9.0) == 2.5
    assert len(ledger.events(record.token)) == 1


def test_since_when_a_scheduler_does_not_know_a_job_is_kept_until_it_does(ledger: SqliteLedger) -> None:
    record = made(ledger, "1")
    ledger.absent(record, 50.0)
    missed = ledger.find(record.token)
    assert missed.absent_since == 50.0
    ledger.seen([(missed, status(JobState.PENDING))])
    assert ledger.find(record.token).absent_since is None


def test_one_holder_of_a_lease_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "state" / "ledger.sqlite"
    one, two = SqliteLedger(path), SqliteLedger(path)
    assert one.lease("agent", "a", until=100.0, now=0.0)
    assert not two.lease("agent", "b", until=150.0, now=50.0)
    assert one.lease("agent", "a", until=150.0, now=50.0)
    assert two.lease("agent", "b", until=300.0, now=150.0), "the first has gone silent"
    assert one.lease("agent", "a", until=0.0, now=151.0)
    assert two.lease("agent", "b", until=300.0, now=152.0)
    assert not one.lease("agent", "a", until=400.0, now=153.0)
    assert two.lease("agent", "b", until=0.0, now=154.0)
    assert one.lease("agent", "a", until=400.0, now=155.0)


def test_the_lease_of_a_holder_that_died_is_free_at_once(tmp_path: Path) -> None:
    path = tmp_path / "state" / "ledger.sqlite"
    then = "ledger.lease('agent', 'a', until=1e9, now=0.0); print('ready', flush=True); sys.stdin.read()"
    ledger = SqliteLedger(path)
    with another(path, "r", then) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"ready\n"
        assert not ledger.lease("agent", "b", until=2e9, now=1.0)
        assert ledger.leased("agent", now=1.0)
        other.kill()
    assert not ledger.leased("agent", now=1.0)
    assert ledger.lease("agent", "b", until=2e9, now=1.0)


def test_what_is_settled_is_not_looked_after(ledger: SqliteLedger) -> None:
    one, two = made(ledger, "1"), made(ledger, "2")
    assert {record.token for record in ledger.unsettled()} == {one.token, two.token}
    ledger.settle([one.token])
    assert [record.token for record in ledger.unsettled()] == [two.token]


def test_a_lock_file_that_was_removed_meanwhile_is_no_lock(tmp_path: Path) -> None:
    mine, theirs = Owners(tmp_path), Owners(tmp_path)
    assert mine.take("t")
    assert mine.take("t")
    assert not theirs.take("t")
    mine.drop("t", for_good=True)
    assert theirs.take("t")
    assert not mine.take("t")


PROMISE = Promise(
    site="here",
    partition="local",
    start=Quantiles(p50=10, p90=40),
    run=Quantiles(p50=60, p90=90),
    plain_start=Quantiles(p50=5, p90=20),
    plain_run=Quantiles(p50=50, p90=80),
    boot=3.0,
    queued=2,
    told=7.5,
    past_runs=4,
    version="24.11",
)


def outcome_of(ledger: SqliteLedger, *seen: JobStatus) -> Outcome:
    """Submit a job at 100 s, see it in these states and return what became of its forecast."""
    record = intend(ledger, "r", plan=replace(PLAN, promise=PROMISE))
    (record,) = ledger.submitted({record.token: Submitted(job_id="1", log="")}, now=101.0)
    for status in seen:
        ledger.seen([(record, status)])
    return next(outcome for outcome in ledger.outcomes() if outcome.token == record.token)


def status(state: JobState, started: float | None = None, ended: float | None = None, restarts: int = 0) -> JobStatus:
    return JobStatus(
        job_id="1",
        state=state,
        native_state="",
        submitted_at=102.0,
        started_at=started,
        ended_at=ended,
        restarts=restarts,
    )


def test_a_forecast_is_kept_and_meets_its_outcome(ledger: SqliteLedger) -> None:
    found = outcome_of(ledger, status(JobState.PENDING), status(JobState.COMPLETED, 132.0, 212.0))
    assert found.promise == PROMISE
    assert (found.made_at, found.waited, found.ran) == (100.0, 30.0, 80.0)
    assert outcome_of(ledger, status(JobState.RUNNING, 132.0)).ran is None
    assert outcome_of(ledger, status(JobState.TIMEOUT, 132.0, 200.0)).ran == 68.0


def test_a_job_that_was_cancelled_or_requeued_is_no_outcome(ledger: SqliteLedger) -> None:
    pending = outcome_of(ledger, status(JobState.PENDING))
    never = outcome_of(ledger, status(JobState.CANCELLED, None, 150.0))
    as_it_ended = outcome_of(ledger, status(JobState.CANCELLED, 150.0, 150.0))
    requeued = outcome_of(ledger, status(JobState.PENDING, restarts=1), status(JobState.COMPLETED, 132.0, 212.0))
    again = status(JobState.PENDING, restarts=1)
    waiting = outcome_of(ledger, again, again, again)
    for found in (pending, never, as_it_ended, requeued, waiting):
        assert (found.waited, found.ran) == (None, None)
    stopped = outcome_of(ledger, status(JobState.FAILED, 132.0, 160.0))
    assert (stopped.waited, stopped.ran) == (30.0, None)


def test_nodes_that_boot_or_never_did_are_no_start(ledger: SqliteLedger) -> None:
    booting = replace(status(JobState.RUNNING, 103.0), native_state="CONFIGURING")
    assert outcome_of(ledger, booting).waited is None
    assert outcome_of(ledger, booting, status(JobState.RUNNING, 132.0)).waited == 30.0
    for state in (JobState.CANCELLED, JobState.NODE_FAIL):
        assert outcome_of(ledger, booting, status(state, 103.0, 148.0)).waited is None


def test_what_nodes_cost_while_they_boot_is_not_forgotten_when_the_job_begins(ledger: SqliteLedger) -> None:
    record = intend(ledger, "r", plan=replace(PLAN, usd_per_hour=3600.0))
    (record,) = ledger.submitted({record.token: Submitted(job_id="1", log="")}, now=101.0)
    booting = replace(status(JobState.RUNNING, 103.0), native_state="CONFIGURING")
    ledger.seen([(record, booting)])
    (record,) = ledger.current([record.token])
    assert record.cost(133.0) == 30.0
    begun = replace(status(JobState.RUNNING, 133.0), native_state="RUNNING")
    for _ in range(2):  # two who ask at the same time
        ledger.seen([(record, begun)])
    (after,) = ledger.current([record.token])
    assert after.cost(143.0) == apply(record, begun).cost(143.0) == 40.0
    assert after.elapsed(143.0) == 10.0


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
        for undo in (
            "TABLE forecasts",
            "INDEX jobs_by_sweep",
            "TABLE events",
            "TABLE leases",
            "INDEX jobs_unsettled",
            "INDEX jobs_unconfirmed",
            "INDEX attempts_proposed",
        ):
            database.execute(f"DROP {undo}")
        for column in ("sweep", "settled", "unwanted"):
            database.execute(f"ALTER TABLE jobs DROP COLUMN {column}")
        for column in ("tasks", "usd_per_hour", "restarts", "spent", "restarted", "absent_since", "ahead"):
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


def test_who_repeats_a_command_that_an_agent_carries_on_waits_and_is_given_that_job(tmp_path: Path) -> None:
    path = tmp_path / "state" / "ledger.sqlite"
    with another(path, "wish", "") as other:
        assert other.wait() == 0
    agent = SqliteLedger(path)
    (record,) = agent.records()
    assert agent.own([record], as_agent=True)
    found: list[Record] = []

    def repeat() -> None:
        found.extend(SqliteLedger(path).interrupted(["wish"], now=200.0)["wish"])

    person = threading.Thread(target=repeat)
    person.start()
    person.join(0.4)
    assert person.is_alive()
    agent.submitted({record.token: Submitted(job_id="5")}, now=201.0)
    agent.disown([record])
    person.join(10)
    assert [(each.token, each.ref) for each in found] == [(record.token, "here:5")]

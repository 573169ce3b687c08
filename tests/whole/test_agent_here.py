"""The agent on sites of this machine, with real jobs: what is interrupted, lost, waiting or cancelled."""

from __future__ import annotations

import json
import sqlite3
import time
from dataclasses import replace
from pathlib import Path

import pytest

from hybridhpc.ledger.base import Phase
from hybridhpc.model import JobState, Move
from hybridhpc.schedulers.base import Taken
from tests.keeper import Keeper, forget_job, lose_node, with_two_sites
from tests.people import Person

SMALL = "resources: {cpus: 1, memory: 20MiB}\ntime: 5m\n"
WHOLE = "resources: {cpus: 4, memory: 20MiB}\ntime: 5h\n"


@pytest.fixture
def keeper(person: Person) -> Keeper:
    return with_two_sites(person)


def test_a_job_that_lost_its_node_goes_on_from_its_checkpoint_as_often_as_is_allowed(keeper: Keeper) -> None:
    text = (
        f"name: long\n{SMALL}checkpoint: {{dir: ckpt, grace: 1s}}\nretries: {{node_fail: 2}}\n"
        "run: |\n  mkdir -p ckpt; echo $HPC_RESTART_COUNT >> ckpt/runs\n"
        "  [ $(wc -l < ckpt/runs) = 3 ] || sleep 60\n  cat ckpt/runs\n"
    )
    token = keeper.submit(text)
    for attempt in (1, 2):
        record = keeper.running(token)
        runs = Path(record.job_dir, "ckpt", "runs")
        keeper.until(token, lambda now: runs.exists() and runs.read_text().count("\n") == now.attempt)  # noqa: B023
        lose_node(keeper, record)
        assert keeper.run_pass() == ["node_fail", "submitted"]
        assert keeper.record(token).attempt == attempt + 1
    last = keeper.ended(token)
    assert (last.state, last.attempt) == (JobState.COMPLETED, 3)
    assert keeper.person.hpc("logs", last.ref) == "0\n1\n2\n"
    assert keeper.run_pass() == ["completed"]
    assert keeper.record(token).settled
    kinds = [event["event"] for event in json.loads(keeper.person.hpc("events", token, "--json"))["events"]]
    assert kinds.count("node_fail") == 2


def test_its_checkpoint_goes_with_it_to_another_site(keeper: Keeper) -> None:
    text = (
        f"name: travels\n{WHOLE}workdir: code\nwhere: [one, two]\n"
        "checkpoint: {dir: ckpt, grace: 1s}\nretries: {node_fail: 2}\n"
        "run: |\n  mkdir -p ckpt/deep; echo $HPC_RESTART_COUNT >> ckpt/deep/runs\n"
        "  [ $(wc -l < ckpt/deep/runs) = 2 ] || sleep 60\n  cat ckpt/deep/runs\n"
    )
    (keeper.person.home / "code").mkdir()
    token = keeper.submit(text, where="one,two")
    record = keeper.running(token)
    assert record.site == "one"
    keeper.wait_for(lambda: Path(record.job_dir, "work", "ckpt", "deep", "runs").exists())
    lose_node(keeper, record)
    keeper.running(keeper.submit(f"name: blocker\n{WHOLE}run: sleep 60\n"))
    assert keeper.run_pass()[:3] == ["node_fail", "checkpoint", "submitted"]
    last = keeper.ended(token)
    assert (last.state, last.site) == (JobState.COMPLETED, "two")
    assert keeper.person.hpc("logs", last.ref) == "0\n1\n"
    assert not (keeper.person.home / "state" / "checkpoints" / token).exists(), "nothing is left by the way"


def test_only_the_point_that_failed_runs_again_and_goes_on_from_its_own_checkpoint(keeper: Keeper) -> None:
    text = (
        f"name: points\n{SMALL}matrix: {{LR: [a, b]}}\noutputs: [out]\n"
        "checkpoint: {dir: ckpt, grace: 1s}\nretries: {failed: 1}\n"
        "run: |\n  mkdir -p ckpt; echo $LR >> ckpt/runs; cat ckpt/runs > out\n"
        "  [ $LR = a ] || [ $(wc -l < ckpt/runs) = 2 ]\n"
    )
    answer = keeper.person.hpc("submit", keeper.person.spec(text), "--where", keeper.default, "--json")
    token = json.loads(answer)["jobs"][0]["token"]
    keeper.ended(token)
    assert keeper.run_pass() == ["waits"]
    keeper.later = 61.0
    assert keeper.run_pass() == ["failed", "submitted"]
    assert keeper.ended(token).state is JobState.COMPLETED
    brought = keeper.person.hpc("fetch", token, "--to", "got").split()
    assert [(keeper.person.home / path).read_text() for path in brought] == ["a\n", "b\nb\n"]


def test_what_is_lost_more_often_than_allowed_is_given_up_and_says_so(keeper: Keeper) -> None:
    token = keeper.submit(f"name: once\n{SMALL}run: sleep 60\n")
    lose_node(keeper, keeper.began(token))
    assert keeper.run_pass() == ["node_fail"]
    assert "retries.node_fail asks for no new attempt" in keeper.told[-1].text
    assert keeper.run_pass() == []


def test_a_job_that_fails_by_itself_is_tried_again_after_a_pause(keeper: Keeper) -> None:
    token = keeper.submit(f"name: flaky\n{SMALL}retries: {{failed: 1}}\nrun: exit 3\n")
    keeper.ended(token)
    assert keeper.run_pass() == ["waits"]
    assert keeper.told[-1].text == "it failed by itself; new attempt 1 of 1 (retries.failed), after 1m"
    keeper.later = 59.0
    assert keeper.run_pass() == []
    keeper.later = 62.0
    assert keeper.run_pass() == ["failed", "submitted"]
    keeper.ended(token)
    assert keeper.run_pass() == ["failed"]
    assert keeper.record(token).attempt == 2


def test_a_cancelled_job_is_not_tried_again(keeper: Keeper) -> None:
    token = keeper.submit(f"name: unwanted\n{SMALL}retries: {{failed: 9, node_fail: 9}}\nrun: exit 3\n")
    keeper.ended(token)
    keeper.person.hpc("cancel", token)
    keeper.later = 61.0
    assert keeper.run_pass() == ["failed"]
    assert keeper.told[-1].text == "you cancelled it"


def test_an_interrupted_submission_is_carried_on_and_the_person_who_repeats_it_gets_that_job(keeper: Keeper) -> None:
    spec = keeper.person.spec(f"name: cut\n{SMALL}run: echo ran >> {keeper.person.home}/ran\n")
    process = keeper.person.start("submit", spec, "--where", "one", "--quiet")
    ledger = keeper.client.ledger
    while not ledger.records():
        time.sleep(0.002)
    process.kill()
    process.communicate()
    if ledger.records()[0].phase is not Phase.INTENT:
        pytest.skip("it was submitted before it could be killed")
    assert keeper.run_pass() == []
    keeper.later = 31.0
    assert keeper.run_pass() == ["carried_on", "submitted"]
    ref = keeper.person.hpc("submit", spec, "--where", "one", "--quiet").strip()
    keeper.person.hpc("wait", ref)
    assert (keeper.person.home / "ran").read_text() == "ran\n"
    assert len(ledger.records()) == 1


def waiting_at_one(keeper: Keeper, **more: str) -> str:
    """Submit a job that waits at `one`, while `two` becomes free."""
    keeper.submit(f"name: blocker\n{WHOLE}run: sleep 60\n")
    busy = keeper.submit(f"name: busy\n{WHOLE.replace('5h', '20h')}run: sleep 60\n", where="two")
    keeper.running(busy)
    keys = "".join(f"{key}: {value}\n" for key, value in more.items())
    run = f"run: echo ran >> {keeper.person.home}/ran\n"
    token = keeper.submit(f"name: waits\n{WHOLE}{keys}{run}", where="one,two")
    assert keeper.record(token).site == "one"
    keeper.person.hpc("cancel", busy)
    keeper.ended(busy)
    return token


def test_what_a_job_works_on_is_not_shipped_again_once_it_was_sent(keeper: Keeper) -> None:
    """The client died after the job was accepted, before its id was written down: whoever carries that on must not
    lay the workdir over what the job has made of it."""
    (keeper.person.home / "code").mkdir()
    (keeper.person.home / "code" / "data").write_text("shipped")
    token = keeper.submit(f"name: worker\n{SMALL}workdir: code\nrun: echo changed > data; sleep 60\n")
    record = keeper.began(token)
    data = Path(record.job_dir, "work", "data")
    keeper.wait_for(lambda: data.read_text() == "changed\n")
    with sqlite3.connect(keeper.person.home / "state" / "ledger.sqlite") as database:
        database.execute("UPDATE attempts SET phase = 'INTENT', job_id = '', state = 'UNKNOWN'")
    keeper.later = 31.0
    assert keeper.run_pass() == ["carried_on", "submitted"]
    assert keeper.record(token).job_id == record.job_id
    assert data.read_text() == "changed\n"
    keeper.person.hpc("cancel", token)


def test_a_pending_job_moves_to_where_it_starts_sooner(keeper: Keeper) -> None:
    token = waiting_at_one(keeper)
    assert "moving" not in keeper.run_pass(Move.ON), "it has not waited for long"
    keeper.later = 400.0
    assert keeper.run_pass(Move.ON)[-3:] == ["moving", "moved", "submitted"]
    assert keeper.told[-3].text.startswith("to two/local: ")
    last = keeper.ended(token)
    assert (last.site, last.attempt, last.state) == ("two", 2, JobState.COMPLETED)
    assert (keeper.person.home / "ran").read_text() == "ran\n"
    assert [attempt.state for attempt in keeper.client.ledger.attempts(token)] == [JobState.PENDING, JobState.COMPLETED]


def test_by_default_it_is_only_said_once_and_off_says_nothing(keeper: Keeper) -> None:
    spoken, silent = waiting_at_one(keeper), waiting_at_one(keeper, move="off")
    keeper.later = 400.0
    assert keeper.run_pass().count("advice") == 1
    keeper.later = 800.0
    assert "advice" not in keeper.run_pass()
    assert [keeper.record(token).attempt for token in (spoken, silent)] == [1, 1]
    assert "two/local would be better: " in keeper.person.hpc("events", spoken)


def test_a_move_that_was_cut_anywhere_is_carried_on(keeper: Keeper) -> None:
    """An agent that dies between any two steps: the ledger and the site are put where it left them."""
    token = waiting_at_one(keeper)
    keeper.later = 400.0
    record = keeper.record(token)
    plan = replace(record.plan, site="two")
    ledger = keeper.client.ledger
    assert ledger.propose(record, plan, job_root=str(keeper.person.home / "two")) is not None
    site, scheduler, transport = keeper.client.reach(record)
    withdraw = scheduler.withdraw_command(site, record.job_id, record.job_dir, 0)
    assert scheduler.parse_withdraw(transport.run(withdraw)).taken is Taken.BACK
    keeper.person.hpc("status")
    assert keeper.record(token).state is JobState.CANCELLED
    assert keeper.run_pass(Move.ON)[-2:] == ["moved", "submitted"]
    assert keeper.ended(token).state is JobState.COMPLETED
    assert (keeper.person.home / "ran").read_text() == "ran\n"


def test_what_was_to_follow_a_refused_attempt_and_was_cut_is_carried_on(keeper: Keeper) -> None:
    """An attempt that was refused has no job to take back."""
    text = f"name: again\n{SMALL}retries: {{failed: 1}}\nrun: '[ $HPC_RESTART_COUNT = 2 ]'\n"
    token = keeper.submit(text, where="one,two")
    record, ledger, root = keeper.ended(token), keeper.client.ledger, str(keeper.person.home / "one")
    assert ledger.propose(record, record.plan, job_root=root) is not None
    second = ledger.begin(record, kind="failed", why="a test", now=keeper.client.clock())
    assert second is not None
    ledger.refused({token: "no such partition"}, now=keeper.client.clock())
    assert ledger.propose(keeper.record(token), record.plan, job_root=root) is not None
    assert keeper.run_pass() == []
    assert ledger.proposed(keeper.record(token)) is None
    assert keeper.run_pass() == ["refused", "submitted"]
    assert (keeper.ended(token).attempt, keeper.record(token).state) == (3, JobState.COMPLETED)


def test_what_began_while_it_was_to_be_moved_stays(keeper: Keeper) -> None:
    token = keeper.submit(f"name: quick\n{SMALL}run: sleep 1; echo ran >> {keeper.person.home}/ran\n")
    record = keeper.running(token)
    assert keeper.client.ledger.propose(record, replace(record.plan, site="two"), job_root="/nowhere") is not None
    assert keeper.run_pass(Move.ON) == ["stayed"]
    assert keeper.ended(token).attempt == 1
    assert (keeper.person.home / "ran").read_text() == "ran\n"


def test_only_one_agent_leads(keeper: Keeper) -> None:
    assert keeper.run_pass() == []
    answer = keeper.person.try_hpc("agent", "--once")
    assert "another agent" in answer.stderr


def test_of_an_array_only_the_tasks_that_failed_run_again(keeper: Keeper) -> None:
    trace = keeper.person.home / "tasks"
    token = keeper.submit(
        f"name: some\n{SMALL}array: 0-4%2\nretries: {{failed: 1}}\n"
        f"run: n=$SLURM_ARRAY_TASK_ID; echo $n >> {trace}; [ $HPC_RESTART_COUNT = 1 ] || [ $((n % 2)) = 0 ]\n"
    )
    assert keeper.ended(token).state is JobState.FAILED
    assert keeper.run_pass() == ["waits"]
    keeper.later = 61.0
    assert keeper.run_pass() == ["failed", "submitted"]
    assert keeper.ended(token).state is JobState.COMPLETED
    assert sorted(trace.read_text().split()) == ["0", "1", "1", "2", "3", "3", "4"]


def test_who_waits_for_a_job_waits_for_its_new_attempt_while_an_agent_looks_after_it(keeper: Keeper) -> None:
    token = keeper.submit(
        f"name: twice\n{SMALL}retries: {{node_fail: 1}}\nrun: '[ $HPC_RESTART_COUNT = 1 ] || sleep 60'\n"
    )
    keeper.run_pass()
    record = keeper.began(token)
    waiting = keeper.person.start("wait", record.ref, "--json")
    lose_node(keeper, record)
    time.sleep(0.6)
    assert waiting.poll() is None
    assert "submitted" in keeper.run_pass()
    (job,) = json.loads(waiting.communicate(timeout=30)[0])
    assert (waiting.returncode, job["state"], job["attempt"]) == (0, "COMPLETED", 2)


def test_an_agent_in_the_foreground_prints_what_it_does_and_ends_when_it_is_told_to(keeper: Keeper) -> None:
    token = keeper.submit(f"name: watched\n{SMALL}run: 'true'\n")
    agent = keeper.person.start("agent", "--json")
    assert agent.stdout is not None
    event = json.loads(agent.stdout.readline())
    assert (event["token"], event["attempt"], event["event"]) == (token, 1, "completed")
    assert keeper.client.ledger.leased("agent", now=time.time())
    agent.terminate()
    assert agent.wait(20) == 0
    assert not keeper.client.ledger.leased("agent", now=time.time())
    told = json.loads(keeper.person.hpc("events", token, "--json"))
    assert [each["event"] for each in told["events"]] == ["pending", "started", "ended", "completed"]
    assert [attempt["state"] for attempt in told["attempts"]] == ["COMPLETED"]


def test_an_agent_names_jobs_as_the_other_verbs_do(keeper: Keeper) -> None:
    person = keeper.person
    (ref,) = person.hpc("submit", person.spec("name: short\nrun: 'true'\n"), "--quiet").split()
    person.hpc("wait", ref)
    assert f"  {ref} short #1  completed: " in person.hpc("agent", "--once")


def test_why_tells_of_the_new_attempt_that_follows(keeper: Keeper) -> None:
    person = keeper.person
    (ref,) = person.hpc("submit", person.spec("name: again\nretries: {failed: 1}\nrun: exit 4\n"), "--quiet").split()
    person.try_hpc("wait", ref)
    assert "goes on with it" not in person.hpc("why", ref)
    person.hpc("agent", "--once")
    assert "an agent goes on with it: it failed by itself; new attempt 1 of 1" in person.hpc("why", ref)


def test_a_setting_of_the_agent_that_is_none_is_refused(keeper: Keeper) -> None:
    keeper.person.env["HPC_MOVE"] = "sometimes"
    answer = keeper.person.try_hpc("agent", "--once")
    assert answer.returncode == 2
    assert "off, advise, on" in answer.stderr


def test_what_never_began_and_its_scheduler_has_not_known_for_minutes_is_submitted_anew(keeper: Keeper) -> None:
    """Between two passes nothing is remembered but in the ledger, as where cron starts the agent."""
    blocker = keeper.submit(f"name: blocker\n{WHOLE}run: sleep 60\n")
    keeper.running(blocker)
    token = keeper.submit(f"name: forgotten\n{SMALL}run: echo ran >> {keeper.person.home}/ran\n")
    forget_job(keeper, keeper.record(token))
    keeper.person.hpc("cancel", blocker)
    keeper.ended(blocker)
    assert "unknown" in keeper.run_pass()
    keeper.later = 119.0
    assert keeper.run_pass() == []
    keeper.later = 121.0
    assert keeper.run_pass() == ["lost", "submitted"]
    assert keeper.ended(token).attempt == 2
    assert (keeper.person.home / "ran").read_text() == "ran\n"

"""The agent on a real Slurm: lost nodes, requeues, and what administrators do behind our back."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hybridhpc import agent
from hybridhpc.decide.recover import MARKED_WITHIN
from hybridhpc.evidence import read_markers
from hybridhpc.ledger.base import Intent, Record
from hybridhpc.model import JobState, Move
from hybridhpc.submitting import Submitter
from tests.fake_slurm import ordinary_programs
from tests.keeper import SITE, Keeper
from tests.lab.install import RefusedError
from tests.lab.lab import Lab
from tests.lab.place import Place
from tests.lab.test_lab import free_block
from tests.lab.up import down, up
from tests.people import Person

pytestmark = pytest.mark.lab

SMALL = "resources: {cpus: 1, memory: 20MiB}\ntime: 5m\n"


@contextmanager
def new_lab(*, accounting: bool) -> Iterator[Lab]:
    """A lab whose nodes and controller may be lost."""
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="hpc-") as parent:
        Path(parent).chmod(0o755)
        place = Place(directory=Path(parent, "lab"), port=free_block())
        try:
            (lab,) = up(place, ["onprem"], accounting=accounting)
        except RefusedError as refused:
            pytest.skip(f"no lab: {refused}")
        yield lab
        down(place)


@pytest.fixture(scope="module")
def own_lab() -> Iterator[Lab]:
    with new_lab(accounting=False) as lab:
        yield lab


def keeper_of(lab: Lab, home: Path) -> Keeper:
    person = Person(home / "person", SLURM_CONF=str(lab.cluster.slurm_conf))
    text = re.sub(r"(?m)^job_root:.*$", f"job_root: {person.home / 'jobs'}", lab.site_path.read_text())
    return Keeper(person, {"onprem": text + "poll_interval: 1s\n"})


@pytest.fixture
def keeper(own_lab: Lab, tmp_path: Path) -> Keeper:
    return keeper_of(own_lab, tmp_path)


def wipe(lab: Lab, last: str, *options: str) -> None:
    """Let the controller lose its state; then others submit jobs until one has an id that it gave before."""
    lab.stop_controller()
    state = lab.cluster.directory / "spool" / "ctld"
    shutil.rmtree(state)
    state.mkdir()
    lab.start_controller()
    Keeper.wait_for(lab.ready)
    given = ""
    while given != last:
        given = lab.run("sbatch", "--parsable", "--mem=1M", "-o", "/dev/null", *options).strip()
        assert int(given) <= int(last), "the ids did not begin anew"


def node_of(lab: Lab, job: str) -> str:
    return lab.run("squeue", "-h", "-j", job, "-o", "%N").strip()


def lose_node(lab: Lab, job: str) -> None:
    """Let a job's node vanish and come back at once; the controller is told."""
    node = node_of(lab, job)
    lab.kill_node(node)
    lab.report_lost(node)
    lab.start_node(node)


def test_slurm_requeues_what_lost_its_node_and_the_agent_counts_it_with_its_cost(keeper: Keeper, own_lab: Lab) -> None:
    token = keeper.submit(
        f"name: requeued\n{SMALL}retries: {{node_fail: 1}}\nrun: '[ $HPC_RESTART_COUNT = 1 ] || sleep 60'\n",
        where="onprem/cpu",
    )
    record = keeper.began(token)
    time.sleep(1.1)
    lose_node(own_lab, record.job_id)
    keeper.until(token, lambda now: now.state is JobState.PENDING)
    assert keeper.run_pass() == [], "its script might still be ending"
    keeper.later = MARKED_WITHIN
    assert keeper.run_pass() == ["node_fail"]
    assert keeper.run_pass() == []
    own_lab.run("scontrol", "update", f"jobid={record.job_id}", "StartTime=now")
    last = keeper.ended(token)
    assert (last.state, last.attempt, last.job_id) == (JobState.COMPLETED, 1, record.job_id)
    assert keeper.record(token).spent > 0
    assert keeper.run_pass() == ["completed"]


def test_what_slurm_does_not_requeue_gets_a_new_attempt(keeper: Keeper, own_lab: Lab) -> None:
    token = keeper.submit(
        f"name: again\n{SMALL}retries: {{node_fail: 1}}\nrun: '[ $HPC_RESTART_COUNT = 1 ] || sleep 60'\n"
    )
    record = keeper.began(token)
    own_lab.run("scontrol", "update", f"jobid={record.job_id}", "requeue=0")
    lose_node(own_lab, record.job_id)
    assert keeper.ended(token).state is JobState.NODE_FAIL
    assert keeper.run_pass() == ["node_fail", "submitted"]
    last = keeper.ended(token)
    assert (last.state, last.attempt) == (JobState.COMPLETED, 2)


def test_who_comes_after_a_job_comes_after_its_new_attempt(keeper: Keeper, own_lab: Lab) -> None:
    trace = keeper.person.home / "trace"
    run = f"run: '[ $HPC_RESTART_COUNT = 1 ] || sleep 60; echo first >> {trace}'\n"
    first = keeper.submit(f"name: first\n{SMALL}retries: {{node_fail: 1}}\n{run}")
    quick = keeper.submit(f"name: quick\n{SMALL}run: 'true'\n")
    after = keeper.submit(f"name: after\n{SMALL}after: {{ok: [first, quick]}}\nrun: echo after >> {trace}\n")
    keeper.ended(quick)
    record = keeper.began(first)
    own_lab.run("scontrol", "update", f"jobid={record.job_id}", "requeue=0")
    lose_node(own_lab, record.job_id)
    keeper.ended(first)
    keeper.until(after, lambda now: now.reason == "DependencyNeverSatisfied")
    assert [kind for kind in keeper.run_pass() if kind != "completed"] == [
        "node_fail", "submitted", "moving", "moved", "submitted",
    ]  # fmt: skip
    assert keeper.ended(after).attempt == 2
    assert trace.read_text() == "first\nafter\n"


def test_who_was_cancelled_for_what_it_comes_after_comes_after_that_s_new_attempt(keeper: Keeper) -> None:
    """As `kill_invalid_depend` has it at some sites."""
    kill = "slurm: {kill-on-invalid-dep: yes}\n"
    go = keeper.person.home / "go"
    await_go = f"until [ -e {go} ]; do sleep 0.1; done"
    keeper.submit(f"name: first\n{SMALL}retries: {{failed: 1}}\nrun: '{await_go}; [ $HPC_RESTART_COUNT = 1 ]'\n")
    after = keeper.submit(f"name: after\n{SMALL}{kill}after: {{ok: [first]}}\nrun: 'true'\n")
    keeper.submit(f"name: bad\n{SMALL}run: '{await_go}; false'\n")
    vain = keeper.submit(f"name: vain\n{SMALL}{kill}after: {{ok: [bad]}}\nrun: 'true'\n")
    go.touch()
    for token in (after, vain):
        assert keeper.ended(token).state is JobState.CANCELLED
    assert sorted(keeper.run_pass()) == ["cancelled", "failed", "waits"], (
        "`bad` and `vain` are given up; `first` is not"
    )
    keeper.later = 61.0
    assert sorted(keeper.run_pass()) == ["failed", "moved", "moving", "submitted", "submitted"]
    last = keeper.ended(after)
    assert (last.attempt, last.state) == (2, JobState.COMPLETED)
    assert keeper.record(vain).attempt == 1


def test_who_waits_in_vain_and_is_cancelled_there_by_hand_stays_cancelled(keeper: Keeper, own_lab: Lab) -> None:
    go = keeper.person.home / "go"
    run = f"run: 'until [ -e {go} ]; do sleep 0.1; done; [ $HPC_RESTART_COUNT = 1 ]'\n"
    first = keeper.submit(f"name: first\n{SMALL}retries: {{failed: 1}}\n{run}")
    after = keeper.submit(f"name: after\n{SMALL}after: {{ok: [first]}}\nrun: 'true'\n")
    go.touch()
    keeper.until(after, lambda now: now.reason == "DependencyNeverSatisfied")
    assert sorted(keeper.run_pass()) == ["stuck", "waits"]
    own_lab.run("scancel", keeper.record(after).job_id)
    assert keeper.ended(after).state is JobState.CANCELLED
    assert keeper.run_pass() == ["cancelled"]
    keeper.later = 61.0
    assert keeper.run_pass() == ["failed", "submitted"]
    assert (keeper.ended(first).attempt, keeper.record(after).attempt) == (2, 1)


def test_what_is_requeued_more_often_than_allowed_is_ended(keeper: Keeper, own_lab: Lab) -> None:
    token = keeper.submit(f"name: often\n{SMALL}retries: {{node_fail: 1}}\nrun: sleep 60\n")
    for restarts, told in enumerate((["preempted"], ["preempted", "ended"])):
        record = keeper.began(token)
        keeper.wait_for(Path(record.job_dir, f"start.-.{restarts}").exists)  # of this run, too
        own_lab.run("scontrol", "requeue", record.job_id)
        keeper.until(token, lambda now: now.state is JobState.PENDING)
        keeper.wait_for(Path(record.job_dir, f"exit.-.{restarts}").exists)
        assert keeper.run_pass() == told, "its script could leave an exit marker"
        own_lab.run("scontrol", "update", f"jobid={keeper.record(token).job_id}", "StartTime=now", check=False)
    assert keeper.ended(token).state is JobState.CANCELLED


def test_what_an_administrator_cancels_or_holds_is_left_alone(keeper: Keeper, own_lab: Lab) -> None:
    cancelled = keeper.submit(f"name: cancelled\n{SMALL}retries: {{failed: 5, preempted: 5}}\nrun: sleep 60\n")
    own_lab.run("scancel", keeper.began(cancelled).job_id)
    keeper.ended(cancelled)
    assert keeper.run_pass() == ["cancelled"]
    held = keeper.submit(f"name: held\n{SMALL}slurm: {{begin: now+1hour}}\nrun: 'true'\n")
    own_lab.run("scontrol", "uhold", keeper.record(held).job_id)
    keeper.later = 10_000.0
    assert keeper.run_pass(Move.ON) == ["held"]
    assert keeper.record(held).attempt == 1
    keeper.person.hpc("cancel", held)


def test_what_had_ended_and_is_requeued_behind_our_back_is_followed_again(keeper: Keeper, own_lab: Lab) -> None:
    trace = keeper.person.home / "trace"
    token = keeper.submit(
        f"name: back\n{SMALL}retries: {{failed: 1, node_fail: 1}}\nrun: 'test -e {trace} || exit 3'\n"
    )
    record = keeper.ended(token)
    assert record.state is JobState.FAILED
    assert keeper.run_pass() == ["waits"]
    trace.touch()
    own_lab.run("scontrol", "requeue", record.job_id)
    keeper.later = 61.0
    assert keeper.run_pass() == ["requeued"]
    own_lab.run("scontrol", "update", f"jobid={record.job_id}", "StartTime=now", check=False)
    last = keeper.ended(token)
    assert (last.state, last.attempt) == (JobState.COMPLETED, 1), keeper.person.hpc("logs", token)


def test_jobs_that_a_controller_lost_with_its_state_run_once_under_new_ids(keeper: Keeper, own_lab: Lab) -> None:
    """The state of the controller is wiped; its ids begin anew, so that another job gets the id of ours."""
    trace = keeper.person.home / "trace"
    run = f"run: echo ran >> {trace}\n"
    token = keeper.submit(f"name: lost\n{SMALL}slurm: {{begin: now+1hour}}\n{run}")
    record = keeper.record(token)
    moving = keeper.record(keeper.submit(f"name: moving\n{SMALL}slurm: {{begin: now+1hour}}\n{run}"))
    root = keeper.client.job_root("onprem")
    assert keeper.client.ledger.propose(moving, moving.plan, job_root=root) is not None
    wipe(own_lab, moving.job_id, "--hold", "--wrap", "true")
    assert keeper.run_pass() == ["unknown"]
    keeper.later = 121.0
    assert {"lost", "moved"} <= set(keeper.run_pass()), keeper.told
    assert queued(own_lab, moving) == "PENDING", "another has its id, and is left alone"
    keeper.person.hpc("cancel", moving.token)
    again = keeper.record(token)
    assert (again.attempt, again.site) == (2, "onprem")
    own_lab.run("scontrol", "update", f"jobid={again.job_id}", "StartTime=now")
    assert keeper.ended(token).state is JobState.COMPLETED
    assert trace.read_text() == "ran\n"
    assert own_lab.run("squeue", "-h", "-j", record.job_id, "-o", "%T").strip() == "PENDING", "the other job is left"


@pytest.mark.long
def test_accounting_s_words_about_other_jobs_of_the_same_id_are_not_taken_for_ours(tmp_path: Path) -> None:
    """The others fail; accounting names them first, and says of what the controller lost that it was cancelled."""
    with new_lab(accounting=True) as lab:
        keeper = keeper_of(lab, tmp_path)
        trace = tmp_path / "trace"
        done = keeper.submit(f"name: done\n{SMALL}run: 'true'\n")
        lost = keeper.submit(f"name: lost\n{SMALL}slurm: {{begin: now+1hour}}\nrun: echo ran >> {trace}\n")
        keeper.wait_for(lambda: "COMPLETED" in accounted(lab, keeper.record(done)))
        wipe(lab, keeper.record(lost).job_id, "--wrap", "exit 3")
        keeper.wait_for(lambda: "FAILED" in accounted(lab, keeper.record(lost)))
        assert sorted(keeper.run_pass()) == ["completed", "unknown"]
        assert keeper.record(done).state is JobState.COMPLETED
        keeper.later = 121.0
        assert keeper.run_pass()[:2] == ["lost", "submitted"]
        lab.run("scontrol", "update", f"jobid={keeper.record(lost).job_id}", "StartTime=now")
        last = keeper.ended(lost)
        assert (last.state, last.attempt, trace.read_text()) == (JobState.COMPLETED, 2, "ran\n")


def accounted(lab: Lab, record: Record) -> str:
    return lab.run("sacct", "-n", "-X", "-j", record.job_id, "-o", "State")


@contextmanager
def forgetting(lab: Lab) -> Iterator[None]:
    """What happens meanwhile the controller forgets, as one that is killed before it has saved its state."""
    state = lab.cluster.directory / "spool" / "ctld"
    before = state.with_name("ctld.before")
    lab.stop_controller()
    shutil.copytree(state, before)
    lab.start_controller()
    Keeper.wait_for(lab.ready)
    yield
    lab.kill_controller()
    shutil.rmtree(state)
    before.rename(state)
    lab.start_controller()
    Keeper.wait_for(lab.ready)


def held_as_sent(keeper: Keeper, trace: Path, count: int) -> tuple[Record, ...]:
    """Submit jobs whose ids are known and that were not released yet; the ledger believes that they were."""
    client = keeper.client
    keeper.submit(f"name: model\n{SMALL}run: echo ran >> {trace}\n")
    plan = keeper.ended(client.ledger.find("model").token).plan
    trace.unlink()
    intents = [Intent(plan=plan, request="held", job_root=str(keeper.person.home / "jobs"))] * count
    records = client.ledger.intend(intents, now=time.time())
    Submitter(client.sites, client.env, client.ledger, client.clock).carry_out(records, hold=True)
    client.ledger.announced([record.token for record in records])
    return client.ledger.current([record.token for record in records])


def queued(lab: Lab, record: Record) -> str:
    return lab.run("squeue", "-h", "-t", "all", "-j", record.job_id, "-o", "%T", check=False).strip()


def test_what_a_controller_forgot_to_have_released_is_released_again(keeper: Keeper, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    (record,) = held_as_sent(keeper, trace, 1)
    assert "released" in keeper.run_pass()
    assert keeper.ended(record.token).state is JobState.COMPLETED
    assert trace.read_text() == "ran\n"


def test_what_a_controller_forgot_to_be_over_is_ended(keeper: Keeper, own_lab: Lab, tmp_path: Path) -> None:
    """One had been seen to be over, and nothing was to follow; of the other nobody had asked."""
    trace = tmp_path / "trace"
    seen, unseen = held_as_sent(keeper, trace, 2)
    with forgetting(own_lab):
        own_lab.run("scontrol", "release", seen.job_id)
        keeper.ended(seen.token)
        keeper.client.ledger.settle([seen.token])
        own_lab.run("scontrol", "release", unseen.job_id)
        keeper.wait_for(Path(unseen.job_dir, "exit.-.0").exists)
    assert [queued(own_lab, record) for record in (seen, unseen)] == ["PENDING", "PENDING"]
    keeper.later = 61.0
    assert sorted(keeper.run_pass()) == ["completed", "completed", "remnant"], "the model is settled, too"
    assert [queued(own_lab, record) for record in (seen, unseen)] == ["CANCELLED", "CANCELLED"]
    assert trace.read_text() == "ran\nran\n"
    keeper.later = 130.0
    assert keeper.run_pass() == []
    assert keeper.client.ledger.unconfirmed(time.time() + 1000.0) == (), "nothing is asked about for ever"


@pytest.mark.long
def test_a_job_that_was_moved_does_not_run_where_it_was_though_the_controller_forgot_that(
    own_lab: Lab, tmp_path: Path
) -> None:
    keeper = keeper_of(own_lab, tmp_path)
    away = SITE.format(name="away", root=tmp_path / "away", price=0)
    (keeper.person.home / "config" / "sites" / "away.yaml").write_text(away)
    trace = tmp_path / "trace"
    run = f"run: echo $SLURM_CLUSTER_NAME >> {trace}\n"
    model = keeper.record(keeper.submit(f"name: model\n{SMALL}{run}", where="away"))
    keeper.ended(model.token)
    trace.unlink()
    token = keeper.submit(f"name: moved\n{SMALL}slurm: {{begin: now+1hour}}\n{run}")
    record = keeper.record(token)
    with forgetting(own_lab):
        assert keeper.client.ledger.propose(record, model.plan, job_root=str(tmp_path / "away")) is not None
        assert "submitted" in keeper.run_pass()
        assert (keeper.ended(token).state, keeper.record(token).site) == (JobState.COMPLETED, "away")
    assert queued(own_lab, record) == "PENDING"
    own_lab.run("scontrol", "update", f"jobid={record.job_id}", "StartTime=now")
    keeper.wait_for(lambda: queued(own_lab, record) == "FAILED")
    assert trace.read_text().count("\n") == 1
    assert "another attempt has followed this one" in Path(record.job_dir, f"{record.job_id}.log").read_text()


@pytest.mark.long
def test_a_script_taken_as_it_is_moves_only_when_its_controller_cannot_forget_that_it_was_cancelled(
    own_lab: Lab, tmp_path: Path
) -> None:
    """No sign keeps it from running where it was: its controller must remember."""
    keeper = keeper_of(own_lab, tmp_path)
    (keeper.person.home / "config" / "sites" / "away.yaml").write_text(
        SITE.format(name="away", root=tmp_path / "away", price=0)
    )
    trace, script = tmp_path / "trace", keeper.person.home / "job.sbatch"
    script.write_text(f"#!/bin/sh\n#SBATCH -t 5 --mem=1M\necho ran >> {trace}\n")
    ran = json.loads(keeper.person.hpc("submit", "--json", "--where=onprem", "--begin=now+1hour", str(script)))["token"]
    record = keeper.record(ran)
    away = keeper.record(keeper.submit(f"name: away\n{SMALL}run: echo ran >> {trace}\n", where="away"))
    keeper.ended(away.token)
    trace.unlink()
    with forgetting(own_lab):
        assert keeper.client.ledger.propose(record, away.plan, job_root=str(tmp_path / "away")) is not None
        assert "taken_back" in keeper.run_pass(), keeper.told
        assert keeper.run_pass() == [], "nothing new"
    assert queued(own_lab, record) == "PENDING"
    keeper.later = 61.0
    assert "taken_back" in keeper.run_pass(), "it had been forgotten: its minute begins anew"
    assert not trace.exists()
    keeper.later = 130.0
    assert "submitted" in keeper.run_pass()
    assert keeper.ended(ran).site == "away"
    assert trace.read_text() == "ran\n"
    assert queued(own_lab, record) == "CANCELLED"


def test_without_scontrol_a_job_that_is_to_move_stays_and_the_reason_is_said(keeper: Keeper, tmp_path: Path) -> None:
    programs = ordinary_programs(tmp_path / "programs")
    for name in ("sbatch", "squeue", "sinfo", "scancel"):
        (programs / name).symlink_to(shutil.which(name) or name)
    token = keeper.submit(f"name: stays\n{SMALL}slurm: {{begin: now+1hour}}\nrun: 'true'\n")
    record = keeper.record(token)
    assert keeper.client.ledger.propose(record, record.plan, job_root=str(tmp_path / "elsewhere")) is not None
    keeper.client.env = {**keeper.person.env, "PATH": str(programs)}
    assert keeper.run_pass(Move.ON) == ["unable"]
    assert "no scontrol" in keeper.told[-1].text
    keeper.later = 1000.0
    assert keeper.run_pass(Move.ON) == []
    assert (keeper.record(token).attempt, keeper.record(token).state) == (1, JobState.PENDING)
    keeper.person.hpc("cancel", token)


@contextmanager
def private(lab: Lab) -> Iterator[None]:
    """Nobody sees others' jobs and figures meanwhile (slurm.conf(5), PrivateData)."""
    conf = lab.cluster.slurm_conf
    before = conf.read_text()
    conf.write_text(f"{before}PrivateData=accounts,events,jobs,reservations,usage,users\n")
    lab.run("scontrol", "reconfigure")
    yield
    conf.write_text(before)
    lab.run("scontrol", "reconfigure")


def test_where_nobody_sees_others_jobs_all_is_done_for_one_s_own(own_lab: Lab, tmp_path: Path) -> None:
    """As an ordinary user, behind ssh: root sees everything."""
    alice = own_lab.cluster.user
    site = own_lab.ssh_site_path.read_text() + "poll_interval: 1s\n"
    keeper = Keeper(Person(tmp_path / "person"), {"onprem": site})
    with private(own_lab):
        other = own_lab.run("sbatch", "--parsable", "--mem=1M", "-o", "/dev/null", "--wrap", "sleep 60").strip()
        requeued = keeper.submit(
            f"name: requeued\n{SMALL}retries: {{preempted: 1}}\nrun: '[ $HPC_RESTART_COUNT = 1 ] || sleep 60'\n"
        )
        waits = keeper.submit(f"name: waits\n{SMALL}slurm: {{begin: now+1hour}}\nrun: 'true'\n")
        seen = own_lab.run("squeue", "-h", "-o", "%i", user=alice).split()
        assert seen and other not in seen
        record = keeper.record(waits)
        root = keeper.client.job_root("onprem")
        assert keeper.client.ledger.propose(record, record.plan, job_root=root) is not None
        assert keeper.run_pass() == ["moved", "submitted"]
        record = keeper.began(requeued)
        own_lab.run("scontrol", "requeue", record.job_id)
        transport = keeper.client.reach(record)[2]
        keeper.wait_for(lambda: bool(read_markers(transport, record.job_dir).ended))
        keeper.until(requeued, lambda now: now.state is JobState.PENDING)
        assert keeper.run_pass() == ["preempted"]
        own_lab.run("scontrol", "update", f"jobid={record.job_id}", "StartTime=now")
        assert keeper.ended(requeued).state is JobState.COMPLETED
        assert keeper.run_pass() == ["completed"]
        keeper.person.hpc("cancel", waits)
        own_lab.run("scancel", other)


def test_of_an_array_with_a_limit_only_the_tasks_that_failed_run_again(keeper: Keeper) -> None:
    trace = keeper.person.home / "tasks"
    token = keeper.submit(
        f"name: some\n{SMALL}array: 0-3%2\nretries: {{failed: 1}}\n"
        f"run: n=$SLURM_ARRAY_TASK_ID; echo $n >> {trace}; [ $HPC_RESTART_COUNT = 1 ] || [ $((n % 2)) = 0 ]\n"
    )
    assert keeper.ended(token).state is JobState.FAILED
    assert keeper.run_pass() == ["waits"]
    keeper.later = 61.0
    assert keeper.run_pass() == ["failed", "submitted"]
    assert keeper.record(token).plan.tasks == 2
    assert keeper.ended(token).state is JobState.COMPLETED
    assert sorted(trace.read_text().split()) == ["0", "1", "1", "2", "3", "3"]


def test_a_script_of_several_components_is_followed_and_never_tried_again(keeper: Keeper) -> None:
    keeper.person.spec(
        "#!/bin/sh\n#SBATCH -J het -p cpu -t 5 --mem=1M -o /dev/null\n"
        "#SBATCH hetjob\n#SBATCH -p cpu -t 5 --mem=1M\nexit 3\n",
        "het.sbatch",
    )
    ref = json.loads(keeper.person.hpc("submit", "--json", "het.sbatch", "--where", "onprem"))["token"]
    assert keeper.ended(ref).state is JobState.FAILED
    assert keeper.run_pass() == ["failed"]
    assert keeper.told[-1].text == "a script taken as it is is not tried again"


def test_two_agents_at_once_submit_an_interrupted_job_once(keeper: Keeper) -> None:
    """Even if both believe that they lead."""
    spec = keeper.person.spec(f"name: shared\n{SMALL}run: echo ran >> {keeper.person.home}/ran\n")
    process = keeper.person.start("submit", spec, "--where", "onprem", "--quiet")
    while not (records := keeper.client.ledger.records()):
        time.sleep(0.002)
    process.kill()
    process.communicate()
    keeper.later = agent.INTERRUPTED_FOR + 1
    plans = [keeper.run_pass(), keeper.run_pass()]
    keeper.ended(records[0].token)
    assert sum(kinds.count("submitted") for kinds in plans) <= 1
    assert (keeper.person.home / "ran").read_text() == "ran\n"

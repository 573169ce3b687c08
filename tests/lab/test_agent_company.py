"""The agent on Slurm 22.05, 24.11, 26.05, behind ssh. What needs no node is quick; `pytest -m long` runs the rest."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from hybridhpc.agent import INTERRUPTED_FOR
from hybridhpc.ledger.base import Intent, Phase, Record
from hybridhpc.model import JobState
from hybridhpc.submitting import Submitter
from tests.keeper import Keeper
from tests.lab.lab import Lab
from tests.people import Person

pytestmark = pytest.mark.lab
CLOUDS = ("aws", "azure", "gcp")
PARTITIONS = {"aws": "p5-spot", "azure": "htc", "gcp": "a3-spot"}
SMALL = "resources: {cpus: 1, memory: 20MiB}\ntime: 5m\n"
LATER = "slurm: {begin: now+1hour}\n"


def keeper_of(company: Mapping[str, Lab], home: Path) -> Keeper:
    """Somebody far away, for whom each cloud is asked as often as is wanted."""
    sites = {name: company[name].ssh_site_path.read_text() + "poll_interval: 1s\n" for name in CLOUDS}
    return Keeper(Person(home / "person", HPC_HERE_CPUS="4"), sites)


@pytest.fixture
def keeper(company: Mapping[str, Lab], tmp_path: Path) -> Iterator[Keeper]:
    keeper = keeper_of(company, tmp_path)
    yield keeper
    for record in keeper.client.ledger.records(live_only=True):
        keeper.person.try_hpc("cancel", record.token)


def submit(keeper: Keeper, cloud: str, text: str) -> str:
    return keeper.submit(f"{SMALL}{text}", where=f"{cloud}/{PARTITIONS[cloud]}")


def queued(lab: Lab, record: Record) -> str:
    return lab.run("squeue", "-h", "-t", "all", "-j", record.job_id, "-o", "%T %r").strip()


@pytest.mark.parametrize("cloud", CLOUDS)
def test_a_job_that_waits_is_taken_back_and_placed_anew(keeper: Keeper, company: Mapping[str, Lab], cloud: str) -> None:
    token = submit(keeper, cloud, f"name: waits\n{LATER}run: 'true'\n")
    record = keeper.record(token)
    other = next(name for name in CLOUDS if name != cloud)
    partition = f"--partition={PARTITIONS[other]}"
    options = tuple(partition if word.startswith("--partition=") else word for word in record.plan.options)
    plan = replace(record.plan, site=other, partition=PARTITIONS[other], options=options)
    root = keeper.client.job_root(other)
    assert keeper.client.ledger.propose(record, plan, job_root=root) is not None
    assert keeper.run_pass() == ["moved", "submitted"]
    moved = keeper.record(token)
    assert (moved.site, moved.attempt, moved.phase) == (other, 2, Phase.SUBMITTED)
    assert queued(company[cloud], record).startswith("CANCELLED")
    assert queued(company[other], moved).startswith("PENDING")


@pytest.mark.parametrize("cloud", CLOUDS)
def test_what_was_not_released_is_and_what_was_held_since_is_not(
    keeper: Keeper, company: Mapping[str, Lab], cloud: str
) -> None:
    token = submit(keeper, cloud, f"name: model\n{LATER}run: 'true'\n")
    model, client = keeper.record(token), keeper.client
    company[cloud].run("scontrol", "uhold", model.job_id)
    script = re.sub(rb"(?m)^#SBATCH --begin=.*\n", b"", model.plan.script)
    options = tuple(word for word in model.plan.options if not word.startswith("--begin="))
    plan = replace(model.plan, script=script, options=options)
    intent = Intent(plan=plan, request="held", job_root=client.job_root(cloud))
    (held,) = client.ledger.intend([intent], now=time.time())
    Submitter(client.sites, client.env, client.ledger, client.clock).carry_out([held], hold=True)
    client.ledger.announced([held.token])
    assert sorted(keeper.run_pass()) == ["held", "released"]
    assert "JobHeld" not in queued(company[cloud], keeper.record(held.token))
    assert "JobHeldUser" in queued(company[cloud], model)
    keeper.person.hpc("cancel", held.token, token)


@pytest.mark.parametrize("cloud", CLOUDS)
def test_two_agents_at_once_carry_on_an_interrupted_submission_once(
    keeper: Keeper, company: Mapping[str, Lab], cloud: str
) -> None:
    """Even if both believe that they lead."""
    spec = keeper.person.spec(f"name: cut-{cloud}\n{SMALL}{LATER}run: 'true'\n")
    process = keeper.person.start("submit", spec, "--where", f"{cloud}/{PARTITIONS[cloud]}", "--quiet")
    while not keeper.client.ledger.records():
        time.sleep(0.002)
    process.kill()
    process.communicate()
    told: list[str] = []

    def look_after(agent: Keeper) -> None:
        agent.later = INTERRUPTED_FOR + 1
        told.extend(agent.run_pass())

    # Made one after the other, since that writes the site files.
    keepers = [keeper_of(company, keeper.person.home.parent) for _ in range(2)]
    agents = [threading.Thread(target=look_after, args=(agent,)) for agent in keepers]
    for thread in agents:
        thread.start()
    for thread in agents:
        thread.join()
    (record,) = keeper.client.ledger.records()
    assert record.phase is Phase.SUBMITTED
    assert told.count("submitted") <= 1
    ids = company[cloud].run("squeue", "-h", "-t", "all", "-n", f"cut-{cloud}", "-o", "%i %T").split()
    assert ids[::2].count(record.job_id) == 1
    assert {state for job, state in zip(ids[::2], ids[1::2], strict=True) if job != record.job_id} <= {"CANCELLED"}


# ---- With nodes, which take their time to boot: everything is begun at once, at each cloud, and then looked at.

BOOTED, GIVEN_UP = 90.0, 150.0
FIRST = {"aws": "aws/c7i", "azure": "azure/htc", "gcp": "gcp/c2"}
THEN = {"aws": "azure/hpc", "azure": "gcp/a3-spot", "gcp": "aws/p5-spot"}
"""Where a job begins, since it is cheaper, and where it goes on."""
LOSING = {"aws": "aws/p5-spot", "azure": "azure/hpc", "gcp": "gcp/a3-spot"}


@pytest.fixture(scope="module")
def begun(company: Mapping[str, Lab], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keeper]:
    """Jobs of three kinds at each cloud, named CLOUD-KIND."""
    keeper = keeper_of(company, tmp_path_factory.mktemp("agent"))
    retries = f"{SMALL}retries: {{preempted: 2, node_fail: 2}}\n"
    for cloud, lab in ((cloud, company[cloud]) for cloud in CLOUDS):
        lab.fail_boot("1")
        keeper.submit(
            f"name: {cloud}-bootless\n{SMALL}slurm: {{exclusive: true}}\nrun: 'true'\n",
            where=f"{FIRST[cloud]},{LOSING[cloud]}",
        )
        keeper.wait_for(lambda: lab.control("fail-next").read_text().strip() == "0", 60)  # noqa: B023
    for cloud in CLOUDS:
        run = "run: '[ $HPC_RESTART_COUNT != 0 ] || sleep 600'\n"
        keeper.submit(f"name: {cloud}-requeued\n{retries}{run}", where=LOSING[cloud])
        run = (
            "run: |\n  mkdir -p ckpt; echo $HPC_RESTART_COUNT >> ckpt/runs\n"
            "  [ $(wc -l < ckpt/runs) = 2 ] || sleep 600\n  cat ckpt/runs\n"
        )
        checkpoint = "checkpoint: {dir: ckpt, grace: 1s}\n"
        keeper.submit(f"name: {cloud}-resumed\n{retries}{checkpoint}{run}", where=f"{FIRST[cloud]},{THEN[cloud]}")
    yield keeper
    for record in keeper.client.ledger.records(live_only=True):
        keeper.person.try_hpc("cancel", record.token)


def named(keeper: Keeper, name: str) -> str:
    return keeper.client.ledger.find(name).token


def kinds(keeper: Keeper, token: str) -> list[str]:
    return [event.kind for event in keeper.client.ledger.events(token)]


def node_of(lab: Lab, record: Record) -> str:
    return lab.run("squeue", "-h", "-j", record.job_id, "-o", "%N").strip()


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("cloud", CLOUDS)
def test_what_slurm_requeues_is_counted_and_ends_well(begun: Keeper, company: Mapping[str, Lab], cloud: str) -> None:
    token, lab = named(begun, f"{cloud}-requeued"), company[cloud]
    record = begun.began(token, BOOTED)
    lab.vanish(node_of(lab, record))
    begun.until(token, lambda now: now.state is JobState.PENDING, 30)
    begun.later = 61.0
    begun.run_pass()
    lost = "preempted" if "spot" in record.partition else "node_fail"
    assert kinds(begun, token) == [lost]
    begun.later = 0.0
    last = begun.ended(token, BOOTED)
    assert (last.state, last.attempt, last.job_id) == (JobState.COMPLETED, 1, record.job_id)
    begun.later = 61.0
    begun.run_pass()
    # 24.11 may send it to the lost node once more before it knows better.
    assert [kind for kind in kinds(begun, token) if kind != "boot_fail"] == [lost, "completed"]


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("cloud", CLOUDS)
def test_what_slurm_does_not_requeue_goes_on_from_its_checkpoint_in_another_cloud(
    begun: Keeper, company: Mapping[str, Lab], cloud: str
) -> None:
    token, lab = named(begun, f"{cloud}-resumed"), company[cloud]
    record = begun.began(token, BOOTED)
    assert f"{record.site}/{record.partition}" == FIRST[cloud]
    transport = begun.client.reach(record)[2]
    begun.wait_for(lambda: bool(transport.read(f"{record.job_dir}/ckpt/runs")))
    lab.run("scontrol", "update", f"jobid={record.job_id}", "requeue=0")
    lab.vanish(node_of(lab, record))
    assert begun.ended(token, 30).state is JobState.NODE_FAIL
    lab.run("scontrol", "update", f"partitionname={record.partition}", "state=down")
    try:
        begun.run_pass()
    finally:
        lab.run("scontrol", "update", f"partitionname={record.partition}", "state=up")
    assert kinds(begun, token)[-2:] == ["checkpoint", "submitted"]
    last = begun.ended(token, BOOTED)
    place = f"{last.site}/{last.partition}"
    assert (last.state, last.attempt, place) == (JobState.COMPLETED, 2, THEN[cloud])
    assert begun.person.hpc("logs", token) == "0\n1\n"


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("cloud", CLOUDS)
def test_what_never_got_its_node_is_placed_elsewhere_without_a_retry(begun: Keeper, cloud: str) -> None:
    token = named(begun, f"{cloud}-bootless")
    assert begun.until(token, lambda now: now.state.final or now.attempt == 2, GIVEN_UP).attempt == 2 or (
        "boot_fail" in begun.run_pass()
    )
    last = begun.ended(token, BOOTED)
    place = f"{last.site}/{last.partition}"
    assert (last.state, last.attempt, place) == (JobState.COMPLETED, 2, LOSING[cloud])
    assert kinds(begun, token)[:2] == ["boot_fail", "submitted"]

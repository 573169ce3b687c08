"""Who is refused, in which words, and what one change would admit it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hybridhpc.decide.fit import fits
from hybridhpc.decide.route import candidates_that_fit, decide
from hybridhpc.model import Array, Gpus, Mebibytes, Seconds
from hybridhpc.sites.site import Partition
from hybridhpc.sites.snapshot import QueuePartition, StartEstimate
from hybridhpc.spec.read import read_script
from tests.worlds.stage import DAY, NOW, TIB, native, nodes, price, site, snapshot, spec

LAB = site("lab")
FOUR = snapshot("lab", nodes(4))
LONG = "walltime 8-00:00:00 is over the partition's limit of 7-00:00:00"


def refused(job, place=LAB, world=FOUR):
    """Return the reason and the near miss of the only candidate; (None, None) if it is admitted."""
    (choice,) = decide(job, [(place, world)], now=NOW).choices
    return choice.refused, choice.would_admit


@pytest.mark.parametrize(
    ("job", "reason", "fix"),
    [
        (spec(time=8 * DAY), LONG, "time: 7d or less"),
        (spec(count=20), "needs 20 nodes; partition gpu has 4", "nodes: 4"),
        (spec(gpus=("H100:16",)), "needs 16 x H100 per node; the largest node has 8", "gpus: H100:8 or fewer"),
        (spec(gpus=("A100:8",)), "no node has GPUs of kind A100 (it has h100)", "gpus: h100:8"),
        (spec(cpus=128), "needs 128 CPUs per node; the largest node has 64", "cpus: 64 or fewer"),
        (spec(memory=Mebibytes(2 * TIB)), "needs 2TiB per node; the largest node has 1TiB", "memory: 1TiB or less"),
        (spec(count=20, time=8 * DAY), f"{LONG}; needs 20 nodes; partition gpu has 4", "time: 7d or less and nodes: 4"),
    ],
)  # fmt: skip
def test_every_limit_is_refused_with_its_numbers(job, reason, fix):
    assert refused(job) == (reason, fix)


def test_nodes_that_are_down_are_counted_out_and_said():
    world = snapshot("lab", (*nodes(3), *nodes(1, prefix="d", usable=False)))
    assert refused(spec(count=20), world=world)[0] == "needs 20 nodes; partition gpu has 4 (1 down)"
    assert refused(spec(count=4), world=world) == ("needs 4 nodes; partition gpu has 4 (1 down)", "nodes: 3")
    assert refused(spec(count=3), world=world) == (None, None)


def test_only_nodes_large_enough_count():
    world = snapshot("lab", (*nodes(2), *nodes(6, prefix="s", gpus=4)))
    assert refused(spec(count=4), world=world) == ("needs 4 nodes with 8 x H100; partition gpu has 2", "nodes: 2")


def test_a_shape_that_no_single_node_has_at_once():
    world = snapshot("lab", (*nodes(1, cpus=8), *nodes(1, prefix="c", gpus=0)))
    assert refused(spec(cpus=32), world=world) == ("no node has 8 x H100, 32 CPUs at once", "cpus: 8 or fewer")


def test_a_partition_that_is_down_or_without_nodes_or_gpus():
    assert refused(spec(), world=snapshot("lab", nodes(1), up=False)) == ("partition gpu is down", None)
    assert refused(spec(), world=snapshot("lab", ())) == ("partition gpu has no node that may be used", None)
    assert refused(spec(), world=snapshot("lab", nodes(1, gpus=0))) == ("no node has GPUs", None)


def test_a_limit_on_nodes_per_job():
    world = snapshot("lab", nodes(4), max_nodes=2)
    assert refused(spec(count=4), world=world) == ("needs 4 nodes; partition gpu gives a job at most 2", "nodes: 2")


def test_no_limit_is_over_every_limit_and_not_the_default_of_the_partition():
    """Slurm takes such a job, and it pends for ever: tests/lab/test_asks.py."""
    world = snapshot("lab", nodes(4), default_walltime=Seconds(3600))
    reason = "asks for no walltime limit, which is over the partition's limit of 7-00:00:00"
    assert refused(spec(script=True, time=None, unlimited=True), world=world) == (reason, "--time=7-00:00:00 or less")
    assert refused(spec(time=None), world=world) == (None, None)
    free = snapshot("lab", nodes(4), partitions=(QueuePartition(name="gpu", default_walltime=Seconds(3600)),))
    job = spec(script=True, time=None, unlimited=True)
    (choice,) = decide(job, [(LAB, free)], now=NOW).choices
    assert choice.refused is None
    assert "an assumed walltime (it has none), 1-00:00:00" in choice.forecast.basis
    (fit,) = fits(job, LAB, free)
    assert (fit.walltime, fits(spec(time=None), LAB, free)[0].walltime) == (None, 3600)


def test_a_job_without_any_limit_is_said_to_cost_no_one_knows_what():
    free = snapshot("lab", nodes(4), partitions=(QueuePartition(name="gpu"),))
    dear = site("lab", cost=price(per_gpu=1.0))
    (choice,) = decide(spec(time=None, unlimited=True), [(dear, free)], now=NOW).choices
    assert "it has no walltime: nothing bounds its price" in choice.reason
    (choice,) = decide(spec(time=None, unlimited=True, max_cost=100.0), [(dear, free)], now=NOW).choices
    assert choice.refused == "has no walltime, so that nothing bounds its price; the ceiling is $100"
    assert choice.would_admit == "time: 12h30m or less"


def test_a_range_of_nodes_needs_its_least_and_must_end_within_the_limit_of_the_partition():
    assert refused(spec(count=2, most_nodes=16)) == (None, None)
    assert refused(spec(count=5, most_nodes=16))[0] == "needs 5 nodes; partition gpu has 4"
    world = snapshot("lab", nodes(4), max_nodes=3)
    reason = "asks for up to 16 nodes, and partition gpu gives a job at most 3: it would never start"
    assert refused(spec(script=True, count=2, most_nodes=16), world=world) == (reason, "--nodes=2-3")
    assert refused(spec(script=True, count=2, most_nodes=3), world=world) == (None, None)
    (choice,) = decide(spec(count=2, most_nodes=16), [(LAB, FOUR)], now=NOW).choices
    assert "asks for 2 to 16 nodes: its start is that of 2, its price that of 4" in choice.reason


def test_what_would_admit_a_script_is_an_option_of_sbatch():
    assert refused(spec(script=True, count=20))[1] == "--nodes=4"
    assert refused(spec(script=True, time=8 * DAY))[1] == "--time=7-00:00:00 or less"
    assert refused(spec(script=True, gpus=("H100:16",)))[1] == "--gpus-per-node=H100:8 or fewer"
    assert refused(spec(script=True, memory=Mebibytes(2 * TIB)))[1] == "--mem=1T or less"


@pytest.mark.parametrize(("text", "last"), [("0-1001", 1001), ("1,5000%7", 5000), ("0-3000:1000", 3000)])
def test_an_array_index_over_the_largest(text, last):
    world = replace(FOUR, max_array_size=1001)
    job = spec(array=Array(text=text, tasks=10))
    assert refused(job, world=world) == (
        f"array index {last} is over the largest index 1000 (MaxArraySize 1001)",
        "array indices up to 1000",
    )
    assert refused(spec(array=Array(text="0-1000%5000", tasks=1001)), world=world) == (None, None)


def test_a_person_s_word_for_a_gpu_is_matched_through_the_site_file():
    long_name = "nvidia_h100_80gb_hbm3"
    world = snapshot("lab", nodes(4, kind=long_name))
    reason, fix = refused(spec(), world=world)
    assert reason == f"no node has GPUs of kind H100 (it has {long_name})"
    assert fix == f"`gres: {{H100: {long_name}}}` in the site file"
    assert refused(spec(), site("lab", gres=(("h100", long_name),)), world) == (None, None)
    assert refused(spec(gpus=(long_name + ":8",)), world=world) == (None, None)


def test_gpus_of_any_kind_and_gpus_without_a_type():
    anything = spec()
    anything = replace(anything, resources=replace(anything.resources, gpus=(Gpus(count=8),)))
    assert refused(anything) == (None, None)
    untyped = snapshot("lab", nodes(4, kind=None))
    assert refused(anything, world=untyped) == (None, None)
    assert refused(spec(), world=untyped)[0] == "no node has GPUs of kind H100 (it has GPUs without a type)"


def test_every_partition_with_every_gpu_alternative_is_a_choice():
    partitions = (QueuePartition(name="gpu"), QueuePartition(name="cpu"))
    world = snapshot("lab", (*nodes(2), *nodes(2, prefix="c", gpus=0, partitions=("cpu",))), partitions=partitions)
    ranking = decide(spec(gpus=("H100:8", "A100:8")), [(LAB, world)], now=NOW)
    assert sorted(choice.candidate.key for choice in ranking.choices) == [
        "lab/cpu A100:8", "lab/cpu H100:8", "lab/gpu A100:8", "lab/gpu H100:8",
    ]  # fmt: skip
    assert [choice.candidate.key for choice in ranking.choices if choice.refused is None] == ["lab/gpu H100:8"]


def test_a_partition_only_the_site_file_knows_is_refused():
    ghost = replace(LAB, partitions=(*LAB.partitions, Partition(name="ghost")))
    ranking = decide(spec(), [(ghost, FOUR)], now=NOW)
    assert ranking.choices[-1].refused == "lab has no partition ghost (it has gpu)"


def test_partitions_the_file_does_not_list_are_left_alone_if_it_says_so():
    other = snapshot("lab", nodes(1, partitions=("other",)), partitions=(QueuePartition(name="other"),))
    reasons = [choice.refused for choice in decide(spec(), [(replace(LAB, only_listed=True), other)], now=NOW).choices]
    assert "the site file of lab does not list this partition (only_listed)" in reasons


@pytest.mark.parametrize(
    ("where", "admitted"),
    [
        (("auto",), True),
        (("lab",), True),
        (("lab/gpu",), True),
        (("cloud", "lab"), True),
        (("!cloud",), True),
        (("cloud",), False),
        (("lab/cpu",), False),
        (("!lab",), False),
        (("auto", "!lab/gpu"), False),
        (("lab", "!lab/gpu"), False),
    ],
)
def test_where_names_and_excludes_places(where, admitted):
    choices = decide(spec(where=where), [(LAB, FOUR)], now=NOW).choices
    mine = next(choice for choice in choices if choice.candidate.partition == "gpu")
    assert (mine.refused is None) is admitted
    if not admitted:
        assert mine.would_admit


def test_gpus_whose_speed_is_not_named_count_as_usual_ones_everywhere():
    assert refused(spec(where=("gpu-speed>0.5",))) == (None, None)
    reason, way = refused(spec(where=("gpu-speed>1.5",)))
    assert reason == "gpu-speed>1.5: H100 counts as 1: no gpu_speed names it"
    assert way.startswith("`gpu_speed: {H100: 3}` in the site file")
    slow = site("lab", speed={"H100": 0.4})
    assert refused(spec(where=("gpu-speed>0.5",)), slow) == ("gpu-speed>0.5: H100 has 0.4", None)
    assert LAB.speed("h100") == 1.0


def two_partitions():
    both = nodes(4, partitions=("batch", "long"))
    return snapshot("lab", both, partitions=(QueuePartition(name="batch"), QueuePartition(name="long")))


def by_partition(job, place, world):
    return {choice.candidate.partition: choice for choice in decide(job, [(place, world)], now=NOW).choices}


BARE = replace(LAB, partitions=())


def test_a_named_partition_fits_only_itself_and_several_are_a_union():
    one = by_partition(spec(script=True, native=native(partition="long")), BARE, two_partitions())
    assert one["long"].refused is None
    assert (one["batch"].refused, one["batch"].would_admit) == ("the job names partition long", "--partition=batch")
    union = by_partition(spec(native=native(partition="long,batch")), BARE, two_partitions())
    assert all(choice.refused is None for choice in union.values())


def test_a_partition_of_another_site_is_refused_or_mapped():
    foreign = spec(native=native(partition="dgx"))
    refusal = by_partition(foreign, BARE, two_partitions())["long"]
    assert refusal.refused == "the job names partition dgx, which lab does not have (it has batch, long)"
    mapped = replace(BARE, names=(("partition", "dgx", "long"),))
    found = by_partition(foreign, mapped, two_partitions())
    assert found["long"].refused is None and found["batch"].refused is not None


def test_an_account_passes_where_it_cannot_be_checked_and_says_so():
    (choice,) = decide(spec(native=native(account="ml")), [(LAB, FOUR)], now=NOW).choices
    assert choice.refused is None
    assert "account ml could not be checked" in choice.reason


def test_an_account_or_qos_must_be_one_the_partition_admits():
    world = snapshot("lab", nodes(4), allowed_accounts=("vip", "ops"))
    reason, fix = refused(spec(native=native(account="ml")), world=world)
    assert reason == "account ml may not use partition gpu (it admits vip, ops)"
    assert fix == "slurm: {account: vip or ops}"
    assert refused(spec(native=native(account="VIP")), world=world) == (None, None)
    assert refused(spec(native=native(account="ml")), replace(LAB, names=(("account", "ml", "ops"),)), world)[0] is None
    assert refused(spec(), replace(LAB, account="ml"), world)[0] == reason
    assert refused(spec(), world=world) == (None, None)
    high = snapshot("lab", nodes(4), allowed_qos=("high",))
    assert (
        refused(spec(native=native(qos="low")), world=high)[0] == "QOS low may not use partition gpu (it admits high)"
    )


@pytest.mark.parametrize(
    ("constraint", "admitted"),
    [
        ("ib", True),
        ("ib&avx", True),
        ("ib&eth", False),
        ("eth|ib", True),
        ("[eth|ib]", True),
        ("eth", False),
        ("ib*2", True),
    ],
)
def test_a_constraint_needs_nodes_with_those_features(constraint, admitted):
    world = snapshot("lab", nodes(4, features=("ib", "avx")))
    reason, _ = refused(spec(native=native(constraint=constraint)), world=world)
    assert reason == (None if admitted else f"partition gpu has no node with constraint {constraint}")


def test_a_constraint_is_mapped_word_by_word():
    world = snapshot("lab", nodes(4, features=("infiniband", "avx")))
    job = spec(native=native(constraint="ib&avx"))
    assert refused(job, world=world)[0] is not None
    assert refused(job, replace(LAB, names=(("constraint", "ib", "infiniband"),)), world)[0] is None


def test_only_nodes_with_the_features_count():
    world = snapshot("lab", (*nodes(2, features=("ib",)), *nodes(2, prefix="m")))
    reason, _ = refused(spec(count=3, native=native(constraint="ib")), world=world)
    assert reason == "needs 3 nodes; partition gpu has 2"


def test_named_nodes_must_exist():
    assert refused(spec(native=native(nodelist="n[0-1]"))) == (None, None)
    assert refused(spec(native=native(nodelist="n[0-5]")))[0] == "partition gpu has no node n4, n5"


@pytest.mark.parametrize("name", ["reservation", "licenses", "cluster"])
def test_what_no_snapshot_shows_needs_a_voucher(name):
    job = spec(native=native(**{name: "x"}))
    reason, fix = refused(job)
    assert reason.startswith("nothing says that lab has ") and fix.startswith("--where=lab")
    assert refused(replace(job, where=("lab",)))[0] is None
    assert refused(job, replace(LAB, names=((name, "x", "x"),)))[0] is None
    assert [candidate.name for candidate in candidates_that_fit(job, [(LAB, FOUR)])] == ["lab/gpu"]
    accepted = decide(job, [(LAB, FOUR)], estimates={"lab/gpu H100:8": StartEstimate(start=NOW)}, now=NOW)
    assert accepted.winner is not None


def test_the_embedded_site_has_none_of_these_and_says_what_to_leave_out():
    here = site("here", scheduler="here")
    world = snapshot("here", nodes(1))
    for name, option in (("account", "--account"), ("constraint", "--constraint"), ("nodelist", "--nodelist")):
        reason, fix = refused(spec(script=True, native=native(**{name: "x"})), here, world)
        assert reason.endswith(f"; the job names {option}=x")
        assert fix == f"no {option}=x"
    assert refused(spec(native=native(partition="gpu")), here, world) == (None, None)


def test_the_scheduler_s_own_refusal_and_the_draft_s_are_reasons():
    told = {"lab/gpu H100:8": StartEstimate(start=None, refusal="Requested node configuration is not available")}
    (choice,) = decide(spec(), [(LAB, FOUR)], estimates=told, now=NOW).choices
    assert choice.refused == "the scheduler refuses it: Requested node configuration is not available"
    drafted = decide(spec(), [(LAB, FOUR)], refusals={"lab/gpu H100:8": "no container runtime"}, now=NOW)
    assert drafted.choices[0].refused == "no container runtime"


def test_only_candidates_within_limits_are_worth_asking_about():
    world = [(LAB, FOUR), (site("cloud"), snapshot("cloud", nodes(1)))]
    assert [candidate.key for candidate in candidates_that_fit(spec(count=2), world)] == ["lab/gpu H100:8"]


def test_memory_per_cpu_fills_in_for_memory():
    world = snapshot("lab", nodes(1, memory=1024), default_memory_per_cpu=Mebibytes(100))
    assert refused(spec(cpus=8), world=world)[0] is None
    assert refused(spec(cpus=16), world=world)[0] == "needs 1600MiB per node; the largest node has 1GiB"


def test_the_walltime_is_the_partition_s_default_if_the_job_has_none():
    (fit,) = fits(spec(time=None), LAB, snapshot("lab", nodes(1), default_walltime=Seconds(60)))
    assert fit.walltime == 60
    (bounded,) = fits(spec(time=None), LAB, FOUR)
    assert bounded.walltime == 7 * DAY


@pytest.mark.parametrize(
    ("job", "fix"),
    [
        (spec(count=4, gpus=("H100:16",)), "gpus: H100:4 or fewer"),
        (spec(count=2, gpus=("H100:16",)), "gpus: H100:8 or fewer"),
        (spec(count=9, gpus=("H100:8",)), "nodes: 2"),
        (spec(count=9, gpus=("H100:16",)), "gpus: H100:4 or fewer and nodes: 6"),
        (spec(count=4, gpus=("H100:4",), cpus=128), "cpus: 64 or fewer"),
    ],
)
def test_the_change_that_is_named_is_enough_and_the_smallest(job, fix):
    world = snapshot("lab", (*nodes(2), *nodes(4, prefix="s", gpus=4)))
    assert refused(job, world=world)[1] == fix


def test_a_key_is_named_as_the_person_spelled_it():
    job = replace(spec(count=20), aliases=(("nodes", "num_nodes"),))
    assert refused(job)[1] == "num_nodes: 4"


def test_a_script_whose_figures_hang_on_each_other_gets_no_wrong_advice():
    job = spec(script=True, count=20)
    tasks = replace(job.payload, asked=(("nodes", "20"), ("ntasks", "40")))
    assert refused(replace(job, payload=tasks))[1] is None
    by_cpu = replace(job.payload, asked=(("mem-per-cpu", "1G"),))
    assert refused(replace(spec(script=True, memory=Mebibytes(2 * TIB)), payload=by_cpu))[1] is None


def test_where_somebody_does_not_want_to_go_the_job_is_not_changed_for_it():
    assert refused(spec(where=("cloud",)))[1] == "--where=lab/gpu"
    assert refused(spec(where=("cloud",), count=20))[1] is None


def test_an_account_of_the_site_file_that_is_refused_is_named():
    told = {"lab/gpu H100:8": StartEstimate(start=None, refusal="Invalid account or account/partition combination")}
    place = replace(LAB, account="mll", file="/sites/lab.yaml")
    (choice,) = decide(spec(), [(place, FOUR)], estimates=told, now=NOW).choices
    assert choice.refused.endswith("combination (account mll, as /sites/lab.yaml says)")
    (own,) = decide(spec(native=native(account="mine")), [(place, FOUR)], estimates=told, now=NOW).choices
    assert "mll" not in own.refused


BOXED = replace(spec(), plugin_options=(("container-image", "a:1"), ("quick", None)))


def test_what_only_a_plugin_takes_is_refused_where_the_site_file_does_not_list_it():
    reason = "lab does not take --container-image, --quick: plugin_options in lab.yaml does not list them"
    fix = "`plugin_options: [container-image=, quick]` in the site file, if that is so"
    assert refused(BOXED) == (reason, fix)
    half = site("lab", plugin_options=(("container-image", "="), ("quick", "=")))
    assert refused(BOXED, half)[0] == "lab does not take --quick: plugin_options in lab.yaml does not list it"
    pyxis = replace(BOXED, plugin_options=BOXED.plugin_options[:1])
    assert refused(pyxis)[1] == "`plugin_options: [pyxis]` in the site file, if that is so"


def test_what_only_a_plugin_takes_is_admitted_where_the_site_file_lists_it_and_never_on_this_machine():
    assert refused(BOXED, site("lab", plugin_options=(("container-image", "="), ("quick", "=?")))) == (None, None)
    reason, fix = refused(BOXED, site("lab", scheduler="here"))
    assert reason == "lab has no plugins of Slurm; the job asks for --container-image, --quick"
    assert fix is None


def test_a_script_is_spread_over_nodes_that_are_up_and_each_has_the_gpus_it_asks_of_a_node() -> None:
    broken = nodes(1, prefix="big", cpus=2, gpus=2, usable=False)
    world = site("lab"), snapshot("lab", (*broken, *nodes(2, cpus=1, gpus=1)))
    told = []
    for gpus in ("h100:1", "h100:4"):
        script = f"#!/bin/sh\n#SBATCH --ntasks=2 --gpus-per-node={gpus} --time=30\n".encode()
        told.append(decide(read_script(script, "/home/a/job.sh", env={}), [world], now=NOW).choices[0].refused)
    assert told[0] is None
    assert told[1] and "4 x h100" in told[1]

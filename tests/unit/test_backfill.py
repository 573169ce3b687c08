"""Our own backfill: who starts when behind whom, node by node."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridhpc.decide.backfill import Pace, turns
from hybridhpc.decide.backfill import plan as planned
from hybridhpc.decide.profile import Need
from hybridhpc.sites.snapshot import QueuePartition
from tests.worlds.stage import HOUR, NOW, nodes, pending, running, snapshot

AT_LIMIT = Pace(
    remaining=lambda job: job.walltime - (NOW - job.started_at),
    lasting=lambda job: float(job.walltime),
    unseen=lambda partition: 5.0 * HOUR,
    boot=lambda partition: 300.0,
)


def plan(world, pace, depth):
    return planned(world, turns(world, depth), pace, depth)


ALL = frozenset(f"n{number}" for number in range(100))


def start(world, *, count=1, lasts=HOUR, gpus=8, cpus=64, names=ALL, depth=60, whole=False, kind=None):
    need = Need(nodes=count, cpus=cpus, memory=0, gpus=gpus, gpu_kind=kind, whole=whole, lasts=float(lasts))
    found = plan(world, AT_LIMIT, depth).earliest(need, names)
    return None if found is None else found[0]


def test_an_idle_cluster_starts_a_job_now():
    assert start(snapshot("lab", nodes(4)), count=4) == 0


def test_a_job_waits_until_enough_nodes_are_given_back():
    jobs = [running(str(n), (f"n{n}",), ends_in=(n + 1) * HOUR) for n in range(4)]
    world = snapshot("lab", nodes(4), jobs)
    assert [start(world, count=count) for count in (1, 2, 3, 4)] == [HOUR, 2 * HOUR, 3 * HOUR, 4 * HOUR]


def test_a_new_job_queues_behind_the_pending_ones():
    jobs = [running("1", ("n0",), ends_in=HOUR), pending("2", lasts=2 * HOUR), pending("3", lasts=4 * HOUR)]
    assert start(snapshot("lab", nodes(1), jobs)) == 7 * HOUR


def test_a_short_job_fills_a_hole_and_a_long_one_does_not():
    jobs = [running("1", ("n0",), ends_in=3 * HOUR), pending("2", count=2, lasts=10 * HOUR)]
    world = snapshot("lab", nodes(2), jobs)
    assert start(world, lasts=3 * HOUR) == 0
    assert start(world, lasts=3 * HOUR + 1) == 13 * HOUR


def test_small_jobs_share_a_node_and_fragments_do_not_make_a_whole_one():
    jobs = [running(str(n), (f"n{n}",), ends_in=5 * HOUR, gpus=6, cpus=8) for n in range(2)]
    world = snapshot("lab", nodes(2), jobs)
    assert start(world, gpus=2, cpus=8) == 0
    assert start(world, gpus=4, cpus=8) == 5 * HOUR


def test_cpus_and_memory_are_counted_too():
    job = running("1", ("n0",), ends_in=5 * HOUR, gpus=0, cpus=8, memory=1024 * 1024)
    world = snapshot("lab", nodes(1), [job])
    need = Need(nodes=1, cpus=1, memory=1, gpus=0, lasts=60.0)
    assert plan(world, AT_LIMIT, 60).earliest(need, ALL) == (5 * HOUR, 0)
    assert start(world, gpus=0, cpus=57) == 5 * HOUR
    assert start(world, gpus=8, cpus=56) == 0


def test_order_in_the_queue_is_priority_then_job_id():
    first = pending("30", lasts=HOUR, gpus=4, cpus=8, priority=9)
    same = pending("7", lasts=2 * HOUR, gpus=4, cpus=8)
    other = pending("10_[2-3]", lasts=4 * HOUR, gpus=4, cpus=8)
    wide = pending("20", lasts=8 * HOUR, gpus=8)
    world = snapshot("lab", nodes(1), [wide, other, same, first])
    # 30 and 7 run at once, 10 follows 30 (to 5 h), the wide one comes last (5 h to 13 h).
    assert start(world, gpus=8) == 13 * HOUR
    assert start(replace(world, jobs=tuple(reversed(world.jobs))), gpus=8) == 13 * HOUR
    assert start(world, gpus=4, cpus=8, lasts=3 * HOUR) == 2 * HOUR


def test_blocked_jobs_take_no_place():
    assert start(snapshot("lab", nodes(1), [pending("1", lasts=90 * HOUR, blocked=True)])) == 0


def test_a_job_that_can_never_start_takes_no_place():
    assert start(snapshot("lab", nodes(2), [pending("1", count=3, lasts=90 * HOUR)])) == 0


def test_only_nodes_that_can_be_used_count():
    world = snapshot("lab", (*nodes(1, usable=False), *nodes(1, prefix="m")))
    assert start(world, names=frozenset(("n0",))) is None
    assert start(world, names=frozenset(("n0", "m0"))) == 0
    assert start(world, count=2, names=frozenset(("n0", "m0"))) is None


def test_a_node_that_is_off_boots_first_and_one_that_is_up_is_preferred():
    world = snapshot("lab", (*nodes(1, powered_down=True), *nodes(1, prefix="m")))
    either = frozenset(("n0", "m0"))
    profile = plan(world, AT_LIMIT, 60)
    need = Need(nodes=1, cpus=1, memory=0, gpus=1, lasts=60.0)
    assert profile.earliest(need, either) == (0, 0)
    assert profile.earliest(replace(need, nodes=2), either) == (300, 300)
    later = replace(world, jobs=(running("1", ("m0",), ends_in=300),))
    assert plan(later, AT_LIMIT, 60).earliest(need, either) == (300, 0)


def test_an_exclusive_partition_gives_whole_nodes_to_all():
    partition = QueuePartition(name="gpu", exclusive=True)
    jobs = [running("1", ("n0",), ends_in=2 * HOUR, gpus=1, cpus=1), pending("2", gpus=1, cpus=1, lasts=HOUR)]
    world = snapshot("lab", nodes(1), jobs, partitions=(partition,))
    assert start(world, gpus=1, cpus=1, whole=True) == 3 * HOUR


def test_jobs_of_another_partition_on_the_same_nodes_are_seen():
    both = nodes(2, partitions=("gpu", "long"))
    jobs = [running("1", ("n0", "n1"), ends_in=HOUR, partition="long"), pending("2", count=2, partition="long,gpu")]
    assert start(snapshot("lab", both, jobs), count=2) == 2 * HOUR


def test_jobs_wait_for_their_own_kind_of_gpu_only():
    mixed = (*nodes(1, kind="h100"), *nodes(1, prefix="m", kind="a100"))
    jobs = [pending("1", lasts=5 * HOUR, gpu_kind="h100")]
    names = frozenset(("n0", "m0"))
    assert start(snapshot("lab", mixed, jobs), kind="a100", names=names) == 0
    assert start(snapshot("lab", mixed, jobs), kind="h100", names=names) == 5 * HOUR


def test_what_nobody_seen_holds_is_given_back_later():
    (node,) = nodes(1, gpus_alloc=8, cpus_alloc=64)
    assert start(snapshot("lab", (node,), unseen=("other people's jobs",))) == 5 * HOUR
    seen = [running("1", ("n0",), ends_in=HOUR, gpus=4, cpus=8)]
    assert start(snapshot("lab", (node,), seen)) == HOUR
    assert start(snapshot("lab", (node,), seen, unseen=("other people's jobs",))) == 5 * HOUR


def test_pending_array_tasks_each_take_a_place():
    world = snapshot("lab", nodes(2), [pending("1", lasts=HOUR, tasks=6)])
    assert start(world) == 3 * HOUR


@pytest.mark.parametrize("tasks", [1, 40])
def test_jobs_beyond_the_depth_are_folded_into_their_work(tasks):
    jobs = [pending(str(n), lasts=HOUR, tasks=tasks) for n in range(1, 41)]
    world = snapshot("lab", nodes(4), jobs)
    shallow = plan(world, AT_LIMIT, 10)
    need = Need(nodes=1, cpus=64, memory=0, gpus=8, lasts=float(HOUR))
    planned, _ = shallow.earliest(need, ALL)
    exact = 10 * tasks * HOUR
    assert planned + shallow.backlog("gpu") == pytest.approx(exact, abs=HOUR)


def test_small_jobs_of_an_exclusive_partition_fold_as_whole_nodes():
    jobs = [pending(str(n), lasts=HOUR, gpus=1, cpus=1) for n in range(1, 41)]
    exclusive = (QueuePartition(name="gpu", exclusive=True),)
    assert plan(snapshot("lab", nodes(4), jobs), AT_LIMIT, 0).backlog("gpu") == 40 * HOUR / 32
    assert plan(snapshot("lab", nodes(4), jobs, partitions=exclusive), AT_LIMIT, 0).backlog("gpu") == 10 * HOUR


def test_small_jobs_that_want_whole_nodes_take_them():
    jobs = [pending(str(n), lasts=HOUR, gpus=0, cpus=1, whole=True) for n in range(1, 5)]
    world = snapshot("lab", nodes(2), jobs)
    assert start(world, gpus=1, cpus=1) == 2 * HOUR
    assert plan(world, AT_LIMIT, 0).backlog("gpu") == 2 * HOUR


def test_a_backlog_elsewhere_does_not_matter():
    split = (*nodes(2), *nodes(2, prefix="m", partitions=("other",)))
    jobs = [pending(str(n), lasts=HOUR, partition="other") for n in range(1, 30)]
    partitions = (QueuePartition(name="gpu"), QueuePartition(name="other"))
    profile = plan(snapshot("lab", split, jobs, partitions=partitions), AT_LIMIT, 5)
    assert profile.backlog("gpu") == 0 < profile.backlog("other")


JOBS = st.lists(
    st.tuples(st.integers(1, 3), st.sampled_from([1, 2, 4, 8]), st.integers(1, 50), st.integers(0, 3)), max_size=12
)


def queue_of(drawn):
    return [
        pending(str(n), count=count, gpus=gpus, cpus=gpus, lasts=lasts, priority=priority)
        for n, (count, gpus, lasts, priority) in enumerate(drawn, 1)
    ]


def room(profile, need, at):
    """How many nodes have room from `at` on for as long as the job lasts: looked up segment by segment."""
    found = 0
    for block in profile.blocks:
        edges = [*(segment[0] for segment in block.segments[1:]), math.inf]
        able = all(
            segment[3] >= need.gpus and segment[1] >= need.cpus
            for segment, end in zip(block.segments, edges, strict=True)
            if segment[0] < at + need.lasts and end > at
        )
        found += len(block.names) * able
    return found


@settings(max_examples=150, deadline=None)
@given(JOBS, JOBS, st.integers(1, 4), st.sampled_from([1, 2, 8]), st.integers(1, 40))
def test_no_node_is_ever_overcommitted_and_no_earlier_start_is_missed(run, wait, count, gpus, lasts):
    jobs = [running(f"9{n}", (f"n{n % 4}",), ends_in=ends, gpus=1, cpus=1) for n, (*_, ends, _) in enumerate(run)]
    profile = plan(snapshot("lab", nodes(4), [*jobs, *queue_of(wait)]), AT_LIMIT, 60)
    for block in profile.blocks:
        assert all(free >= 0 for segment in block.segments for free in segment[1:])
    assert sorted(name for block in profile.blocks for name in block.names) == ["n0", "n1", "n2", "n3"]
    need = Need(nodes=count, cpus=gpus, memory=0, gpus=gpus, lasts=float(lasts))
    found, _ = profile.earliest(need, ALL)
    assert room(profile, need, found) >= count
    edges = {segment[0] for block in profile.blocks for segment in block.segments}
    assert not any(room(profile, need, at) >= count for at in edges if at < found)


@settings(max_examples=80, deadline=None)
@given(JOBS, st.tuples(st.integers(1, 3), st.sampled_from([1, 2, 4, 8]), st.integers(1, 50)))
def test_one_job_more_in_the_queue_never_makes_ours_start_earlier(wait, extra):
    base = snapshot("lab", nodes(4), queue_of(wait))
    count, gpus, lasts = extra
    last = pending("999", count=count, gpus=gpus, cpus=gpus, lasts=lasts, priority=-1)
    before, after = plan(base, AT_LIMIT, 60), plan(replace(base, jobs=(*base.jobs, last)), AT_LIMIT, 60)
    need = Need(nodes=1, cpus=1, memory=0, gpus=1, lasts=7.0)
    assert after.earliest(need, ALL) >= before.earliest(need, ALL)

"""Whether a job that waits is placed anew: its own turn in its queue against the best other place."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hybridhpc.decide.move import MOST_MOVES, Waiting, judge, stays_for, waits_where
from hybridhpc.decide.route import decide
from tests.worlds.stage import HOUR, NOW, nodes, pending, price, running, site, snapshot, spec


def waiting(**more):
    fields = {"spec": spec(), "site": "lab", "partition": "gpu", "job_id": "7", "reason": "Resources", "waited": 3600.0}
    return Waiting(**{**fields, **more})


def world(*, ends_in, ours_first=True):
    """One node, busy for so many hours, and two jobs in the queue: ours and another that takes ten hours."""
    other = pending("10" if ours_first else "6", lasts=10 * HOUR)
    own = pending("7", lasts=1 * HOUR)
    return site("lab"), snapshot("lab", nodes(1), [running("1", ("n0",), ends_in=ends_in * HOUR, ran=0), own, other])


CLOUD = site("cloud", cost=price(per_gpu=4.0)), snapshot("cloud", nodes(2))


def advice(it, lab, *others):
    staying = waits_where(it, *lab, (), NOW)
    return judge(it, staying, decide(it.spec, [lab, *others], now=NOW))


def test_who_is_behind_it_does_not_count_and_who_is_before_it_does():
    first = waits_where(waiting(), *world(ends_in=2), (), NOW)
    second = waits_where(waiting(), *world(ends_in=2, ours_first=False), (), NOW)
    assert first.forecast.start.p90 <= 2 * HOUR * 1.3
    assert second.forecast.start.p50 > first.forecast.start.p50 + 4 * HOUR


def test_it_moves_only_if_it_gains_more_than_the_margin():
    assert advice(waiting(), world(ends_in=1), CLOUD).to is None
    far = advice(waiting(), world(ends_in=90), CLOUD)
    assert far.to.candidate.site.name == "cloud"
    assert "against waiting at lab/gpu" in far.why


def test_without_another_place_it_stays():
    assert advice(waiting(), world(ends_in=90)).to is None


def test_what_never_starts_moves_at_once_and_what_is_unavailable_after_a_while():
    never = waiting(reason="PartitionTimeLimit", waited=1.0)
    assert stays_for(never) == ""
    assert advice(never, world(ends_in=0.1), CLOUD).to is not None
    down = waiting(reason="ReqNodeNotAvail, UnavailableNodes:n0", waited=600.0)
    assert advice(down, world(ends_in=90), CLOUD).to is None
    assert advice(replace(down, waited=901.0), world(ends_in=0.1), CLOUD).to is not None


@pytest.mark.parametrize(
    "it",
    [
        waiting(moves=MOST_MOVES),
        waiting(tied="lab:9 waits for it there"),
        waiting(reason="JobHeldUser"),
        waiting(reason="Dependency"),
        waiting(waited=10.0),
    ],
)
def test_some_are_not_even_thought_of(it):
    assert stays_for(it)


def test_the_scheduler_s_own_estimate_for_the_job_is_believed_as_an_upper_bound():
    lab, seen = world(ends_in=90)
    first, *others = sorted(seen.jobs, key=lambda job: job.job_id != "7")
    told = replace(first, line=replace(first.line, start_estimate=NOW + 600)), *others
    assert waits_where(waiting(), lab, replace(seen, jobs=told), (), NOW).forecast.start.p90 <= 720

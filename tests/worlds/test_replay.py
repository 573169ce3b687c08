"""Forecasts learn on a replayed, made-up queue: nine in ten outcomes come by p90, and p50 is no constant."""

from __future__ import annotations

from itertools import pairwise

from tests.worlds.replay import Cluster, coverage, error, made_up, replay


def test_backfill_starts_what_does_not_delay_the_first_in_the_queue():
    jobs = made_up(200, 4, 1.0, seed=3)
    cluster = Cluster(4)
    for job in jobs:
        list(cluster.advance(job.submit))
        cluster.submit(job)
        assert all(0 <= left <= 8 for left in cluster.free)
    assert {job.number for job in cluster.advance(1e18)} and not cluster.running and not cluster.pending
    assert all(job.start is not None and job.start >= job.submit for job in jobs)
    assert any(later.start < job.start for job, later in pairwise(jobs))


def test_corrected_forecasts_cover_nine_in_ten_and_are_not_worse_than_plain_ones():
    found = replay(made_up(900, 12, 0.95), 12, every=3)
    waits = [each for each in found if each.waited or each.promise.plain_start.p50 > 0]
    assert len(waits) > 150
    runs = [(each.promise.run.p90, each.ran) for each in found]
    assert 0.85 <= coverage(runs) <= 0.97
    assert coverage([(each.promise.start.p90, each.waited) for each in waits]) >= 0.85
    plain = error([(each.promise.plain_start.p50, each.waited) for each in waits])
    assert error([(each.promise.start.p50, each.waited) for each in waits]) <= 1.05 * plain
    assert len({each.promise.start.p50 for each in waits}) > 50
    assert all(each.promise.start.p50 < each.promise.start.p90 for each in found)

"""How forecasts are judged: coverage, errors, and what is neither."""

from __future__ import annotations

import pytest

from hybridhpc.decide.accuracy import by_partition, by_version, overall
from hybridhpc.decide.promise import Outcome, Promise
from hybridhpc.model import Quantiles


def made(waited, ran=None, *, place="lab/gpu", version="24.11", token="t", at=0.0):
    site, _, partition = place.partition("/")
    start, run = Quantiles(p50=10, p90=20), Quantiles(p50=100, p90=200)
    promise = Promise(
        site=site, partition=partition, version=version, start=start, run=run, plain_start=start, plain_run=run
    )
    return Outcome(token=token, made_at=at, promise=promise, waited=waited, ran=ran)


def test_coverage_and_median_error_of_starts_and_runs():
    found = overall([made(10, 100), made(20, 150), made(21, 300), made(40)], (), 1000.0)
    assert (found.forecasts, found.start.outcomes, found.run.outcomes) == (4, 4, 3)
    assert (found.start.within_p90, found.run.within_p90) == (0.5, pytest.approx(2 / 3))
    assert (found.start.median_error, found.run.median_error) == (10.5, 50.0)


def test_what_still_waits_after_its_p90_is_a_miss_and_what_is_merely_unknown_is_not():
    waiting = [made(5), made(None, token="late"), made(None, token="soon", at=95.0), made(None, token="lost")]
    found = overall(waiting, {"late", "soon"}, 100.0)
    assert (found.start.outcomes, found.start.overdue, found.start.within_p90) == (1, 1, 0.5)
    running = overall([made(5, token="long")], {"long"}, 300.0)
    assert (running.run.outcomes, running.run.overdue, running.run.within_p90) == (0, 1, 0.0)


def test_groups_by_partition_and_by_version():
    several = [made(5), made(50), made(5, place="aws/p5", version="26.05"), made(5, place="here/local", version="")]
    places = by_partition(several, (), 0.0)
    assert [(each.site, each.partition, each.version) for each in places] == [
        ("aws", "p5", "26.05"),
        ("here", "local", ""),
        ("lab", "gpu", "24.11"),
    ]
    assert [(each.version, each.start.within_p90) for each in by_version(several, (), 0.0)] == [
        ("24.11", 0.5),
        ("26.05", 1.0),
    ]
    assert overall([], (), 0.0).start.within_p90 is None

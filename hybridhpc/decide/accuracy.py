"""How good forecasts were: how many outcomes lay at or below p90, and how far p50 was off. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from hybridhpc.decide.policy import quantile
from hybridhpc.decide.promise import Outcome
from hybridhpc.model import Quantiles
from hybridhpc.values import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """Of starts, or of run times. None where there is nothing to judge by."""

    outcomes: int
    """Those that are known."""
    overdue: int
    """Forecasts whose p90 has passed while the job still waits, or runs: known to be missed, if not by how much."""
    within_p90: float | None
    """The share of both that lay at or below p90; 0.9 is right."""
    median_error: float | None
    """Seconds between p50 and outcome, early or late."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """The forecasts of one group: a partition of a site, a version of a scheduler, or all."""

    site: str = ""
    partition: str = ""
    version: str = ""
    forecasts: int
    start: Score
    run: Score


def by_partition(outcomes: Sequence[Outcome], still: Collection[str], now: float) -> tuple[Accuracy, ...]:
    """Judge the forecasts of each partition; `still` are the tokens of jobs that a site says are not final yet."""
    found = []
    for site, partition in sorted({(each.promise.site, each.promise.partition) for each in outcomes}):
        group = [each for each in outcomes if (each.promise.site, each.promise.partition) == (site, partition)]
        versions = {each.promise.version for each in group}
        version = versions.pop() if len(versions) == 1 else ""
        found.append(overall(group, still, now, site=site, partition=partition, version=version))
    return tuple(found)


def by_version(outcomes: Sequence[Outcome], still: Collection[str], now: float) -> tuple[Accuracy, ...]:
    """Judge the forecasts under each version of a scheduler that is known."""
    versions = sorted({each.promise.version for each in outcomes} - {""})
    groups = [(version, [each for each in outcomes if each.promise.version == version]) for version in versions]
    return tuple(overall(group, still, now, version=version) for version, group in groups)


def overall(outcomes: Sequence[Outcome], still: Collection[str], now: float, **group: str) -> Accuracy:
    """Judge forecasts together."""
    open_start = [each for each in outcomes if each.waited is None and each.token in still]
    open_run = [each for each in outcomes if each.waited is not None and each.ran is None and each.token in still]
    late = sum(now - each.made_at > each.promise.start.p90 for each in open_start)
    long = sum(now - each.made_at - (each.waited or 0.0) > each.promise.run.p90 for each in open_run)
    return Accuracy(
        **group,
        forecasts=len(outcomes),
        start=_score(outcomes, lambda each: each.promise.start, lambda each: each.waited, late),
        run=_score(outcomes, lambda each: each.promise.run, lambda each: each.ran, long),
    )


def _score(
    outcomes: Sequence[Outcome],
    said: Callable[[Outcome], Quantiles],
    seen: Callable[[Outcome], float | None],
    overdue: int,
) -> Score:
    pairs = [(said(each), value) for each in outcomes if (value := seen(each)) is not None]
    judged = len(pairs) + overdue
    within = sum(value <= forecast.p90 for forecast, value in pairs)
    errors = [abs(value - forecast.p50) for forecast, value in pairs]
    return Score(
        outcomes=len(pairs),
        overdue=overdue,
        within_p90=within / judged if judged else None,
        median_error=quantile(errors, 0.5) if errors else None,
    )

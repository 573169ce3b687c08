"""How candidates are weighed: one score in dollars from the person's goal. Every constant of a decision lies here."""

from __future__ import annotations

import math
from collections.abc import Sequence

from hybridhpc.model import Goal, Quantiles, Seconds, Usd, UsdPerHour
from hybridhpc.values import dataclass

HOUR = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The constants of a decision. The defaults are explained in docs/routing.md."""

    goal: Goal = Goal(value_of_time=UsdPerHour(30.0))
    """For a job that names none: balanced."""
    tail_weight: float = 0.3
    """An expected time is p50 plus this share of the way to p90: delays are skewed."""
    missed_deadline: Usd = Usd(10_000.0)
    """What surely missing the deadline costs; a chance of missing it costs its share."""
    run_fraction: float = 0.5
    """Jobs run about half of their limit where no history says otherwise (medians of real logs: 0.35 to 0.8)."""
    fraction_weight: int = 5
    """So many past jobs weigh as much as `run_fraction`."""
    recent: int = 20
    """Past runs looked at, latest first: recent ones predict better than many."""
    planning_depth: int = 60
    """Queued jobs planned one by one; the rest only adds its work."""
    boot_spread: float = 1.5
    """p90 of a boot against the site file's figure, which is its p50."""
    boot_weight: int = 3
    """So many boots seen weigh as much as the site file's figure."""
    assumed_boot: Seconds = Seconds(300)
    """For nodes that are powered down where no site file says how long they boot."""
    dispatch: float = 5.0
    """A scheduler may take so many seconds to begin a job whose place is free (slurm.conf(5): sched_min_interval 2 s,
    batch_sched_delay 3 s)."""
    recent_outcomes: int = 50
    """Outcomes of forecasts looked at in each partition, latest first."""
    run_spread: float = 1.05
    """p90 of a run time against its p50 at the least, whatever was learned: no two runs are alike."""
    softening: float = 10.0
    """Seconds added to forecast and outcome before they are compared: of a start now, 3 s late is not infinitely so."""
    assumed_walltime: Seconds = Seconds(86400)
    """For jobs and partitions without any limit."""
    unseen_margin: Seconds = Seconds(3600)
    """Added to the p90 of a start for each thing that could not be seen."""


def expected(quantiles: Quantiles, policy: Policy) -> float:
    """Return the expected time in seconds."""
    return quantiles.p50 + policy.tail_weight * (quantiles.p90 - quantiles.p50)


def chance_after(quantiles: Quantiles, moment: float) -> float:
    """Return the chance (0 to 1) that the outcome lies after `moment`: straight lines through the quantiles.

    It falls from 1 at zero to 0.5 at p50, to 0.1 at p90, and to none as far beyond p90 as p90 lies beyond p50.
    """
    p50, p90 = quantiles.p50, max(quantiles.p50, quantiles.p90)
    if moment <= 0:
        return 1.0
    if moment <= p50:
        return 1.0 if p50 == p90 and moment < p50 else 1.0 - 0.5 * moment / p50
    if moment <= p90:
        return 0.5 - 0.4 * (moment - p50) / (p90 - p50)
    end = 2 * p90 - p50
    return 0.1 * (end - moment) / (end - p90) if moment < end else 0.0


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value below which that share of the values lies, between neighbours in proportion; never of none."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def apart(p50: float, p90: float, policy: Policy) -> Quantiles:
    """Return the quantiles of a start, which is never certain: p90 lies beyond p50."""
    return Quantiles(p50=p50, p90=max(p90, p50 * 1.2, p50 + policy.dispatch))


def ran_apart(p50: float, p90: float, limit: float, policy: Policy) -> Quantiles:
    """Return the quantiles of a run time under its limit: p90 lies beyond p50, at the limit at the latest."""
    late = min(limit, max(p90, p50 * policy.run_spread))
    return Quantiles(p50=min(p50, late / policy.run_spread), p90=late)


def finish(start: Quantiles, run: Quantiles) -> Quantiles:
    """Return when the job ends, in seconds from now. Its p90 is an upper bound: both delays at once are rarer."""
    return Quantiles(p50=start.p50 + run.p50, p90=start.p90 + run.p90)


def weigh(
    goal: Goal, policy: Policy, start: Quantiles, run: Quantiles, usd: float, overrun: float, now: float
) -> tuple[float, float]:
    """Return the score in dollars (lower is better) and the chance of missing the deadline (0 without one).

    The score is price + value of time x expected hours until it is finished + what missing the deadline would cost.

    `overrun` is the chance that the job is killed at its walltime: then its price and its run count a second time.
    """
    hours = (expected(start, policy) + expected(run, policy) * (1.0 + overrun)) / HOUR
    late = 0.0 if goal.deadline is None else chance_after(finish(start, run), goal.deadline - now)
    worth = min(max(0.0, goal.value_of_time), 1e9) * hours
    return usd * (1.0 + overrun) + worth + late * policy.missed_deadline, late

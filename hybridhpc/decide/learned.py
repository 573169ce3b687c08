"""What outcomes teach: how long nodes of a partition boot, and by how much forecasts there are wrong. Pure.

Nothing here forecasts: it shifts what forecast.py says. Without outcomes it changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from hybridhpc.decide.policy import Policy, quantile
from hybridhpc.decide.promise import Outcome
from hybridhpc.model import Quantiles
from hybridhpc.sites.site import Site
from hybridhpc.sites.snapshot import PastJob
from hybridhpc.values import dataclass

_DOUBT = ((0.3, 0.5, 0.7, 0.85, 1.0, 1.2, 1.4, 1.7, 2.0, 3.0), (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.5))
"""Ten made-up outcomes over p50, and over p90, that agree with any forecast: they hold it while real ones are few."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """What p50 and p90 are multiplied by, `softening` seconds added before and taken off after; 1: nothing is changed.

    The addition lets a start that is forecast for now be late at all. A larger forecast never becomes the smaller one.
    """

    p50: float = 1.0
    p90: float = 1.0
    outcomes: int = 0

    def __str__(self) -> str:
        """Say what was learned from, to be put behind what is corrected; nothing if nothing was."""
        return f" (corrected by {self.outcomes} outcome{'s' * (self.outcomes != 1)})" if self.outcomes else ""

    def applied(self, forecast: Quantiles, softening: float) -> Quantiles:
        """Return the corrected forecast."""
        if self.p50 == self.p90 == 1.0:
            return forecast
        low, high = (
            max(0.0, (value + softening) * factor - softening)
            for value, factor in ((forecast.p50, self.p50), (forecast.p90, self.p90))
        )
        return Quantiles(p50=low, p90=max(low, high))


def correction(pairs: Sequence[tuple[Quantiles, float]], policy: Policy) -> Correction:
    """Return the correction under which half of these outcomes lie below p50 and nine in ten below p90.

    Each factor is the quantile of outcome over forecast, among the outcomes and _DOUBT: an outcome above the corrected
    p90 never makes it smaller, one below the corrected p50 never makes that larger. At most tenfold either way.
    """
    if not pairs:
        return Correction()
    soft, found = policy.softening, []
    shares = ((0.5, [forecast.p50 for forecast, _ in pairs]), (0.9, [forecast.p90 for forecast, _ in pairs]))
    for (share, forecasts), doubt in zip(shares, _DOUBT, strict=True):
        ratios = [(seen + soft) / (said + soft) for said, (_, seen) in zip(forecasts, pairs, strict=True)]
        ordered = sorted([*ratios, *doubt])
        found.append(min(10.0, max(0.1, ordered[math.ceil(round(share * len(ordered), 6)) - 1])))
    return Correction(p50=found[0], p90=found[1], outcomes=len(pairs))


@dataclass(frozen=True, slots=True, kw_only=True)
class Lessons:
    """The outcomes of a person's forecasts by site and partition, latest first, and how far they are trusted."""

    outcomes: Mapping[tuple[str, str], Sequence[Outcome]]
    latest: Sequence[Outcome]
    """The same, of all places together."""
    policy: Policy

    def start(self, site: str, partition: str, *, at_once: bool) -> Correction:
        """Return the correction of a start: of those forecast for now (`at_once`), or of waits in the queue.

        Starts that were boots teach `boot` instead. The two kinds are wrong for different reasons: judged together,
        many jobs that started at once hide that the waits were twice as long.
        """
        pairs = [
            (outcome.promise.plain_start, outcome.waited)
            for outcome in self._at(site, partition)
            if outcome.waited is not None
            and outcome.promise.boot <= 0
            and self.is_at_once(outcome.promise.plain_start) is at_once
        ]
        return correction(pairs[: self.policy.recent_outcomes], self.policy)

    def is_at_once(self, start: Quantiles) -> bool:
        """Whether a start is forecast for now."""
        return start.p50 < self.policy.softening

    def run(self, site: str, partition: str, *, known: bool) -> Correction:
        """Return the correction of a run time; `known`: of jobs that had run before, or of those that had not.

        How much of their limit a person's new jobs use is a habit, wherever they run: every partition teaches it, else
        the one that was used first would look quicker than the others. Its p50 is learned by `learned_fraction`, from
        the same jobs: corrected as well, it would be learned twice.
        """
        taught = self._at(site, partition) if known else self.latest
        pairs = [
            (outcome.promise.plain_run, outcome.ran)
            for outcome in taught
            if outcome.ran is not None and outcome.promise.tasks == 1 and (outcome.promise.past_runs > 0) is known
        ]
        found = correction(pairs[: self.policy.recent_outcomes], self.policy)
        return found if known else replace(found, p50=1.0)

    def boot(self, site: Site, partition: str) -> Quantiles:
        """Return how long powered-down nodes boot: the site file's figure, drawn towards what was seen.

        Seen is the wait of jobs for which nodes had to boot and nothing else was to be waited for. It holds what Slurm
        adds: a job leaves CONFIGURING only at a timer of 30 s (PERIODIC_TIMEOUT; seen on 22.05).
        """
        policy = self.policy
        listed = float(site.partition(partition).boot_delay)
        listed = listed if listed > 0 else float(policy.assumed_boot)
        seen = [
            outcome.waited
            for outcome in self._at(site.name, partition)
            if outcome.waited is not None and _only_booted(outcome)
        ][: policy.recent]
        if not seen:
            return Quantiles(p50=listed, p90=listed * policy.boot_spread)
        known, doubt = len(seen), policy.boot_weight
        p50 = (quantile(seen, 0.5) * known + listed * doubt) / (known + doubt)
        p90 = (quantile(seen, 0.9) * known + listed * policy.boot_spread * doubt) / (known + doubt)
        return Quantiles(p50=p50, p90=max(p50, p90))

    def _at(self, site: str, partition: str) -> Sequence[Outcome]:
        return self.outcomes.get((site, partition), ())


def lessons(outcomes: Iterable[Outcome], policy: Policy) -> Lessons:
    """Return what outcomes, latest first, teach."""
    latest = tuple(outcomes)
    found: dict[tuple[str, str], list[Outcome]] = {}
    for each in latest:
        found.setdefault((each.promise.site, each.promise.partition), []).append(each)
    return Lessons(outcomes=found, latest=latest, policy=policy)


def _only_booted(outcome: Outcome) -> bool:
    promise = outcome.promise
    return promise.boot > 0 and promise.queued == 0 and promise.plain_start.p50 - promise.boot < 1.0


def learned_fraction(history: Sequence[PastJob], policy: Policy) -> float:
    """Return the share of their walltime that jobs run: the person's own median, drawn towards the default."""
    shares = [
        min(1.0, (job.ended_at - job.started_at) / job.resources.walltime)
        for job in history
        if job.completed and job.array is None and job.resources.walltime and job.ended_at > job.started_at
    ]
    if not shares:
        return policy.run_fraction
    known, doubt = len(shares), policy.fraction_weight
    return (quantile(shares, 0.5) * known + policy.run_fraction * doubt) / (known + doubt)

"""A site's queue as it may become, planned twice: with jobs that last as long as usual, and to their limit."""

from __future__ import annotations

from collections.abc import Mapping

from hybridhpc.decide.backfill import Pace, Turns, plan, turns
from hybridhpc.decide.policy import Policy
from hybridhpc.decide.profile import Profile
from hybridhpc.model import AT_ONCE, JobState, Quantiles
from hybridhpc.sites.snapshot import QueuedJob, QueueLine, Snapshot
from hybridhpc.values import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """One site's future twice: `likely` with jobs that end when jobs usually do, `limits` with jobs at their limit."""

    snapshot: Snapshot
    turns: Turns
    likely: Profile
    limits: Profile
    jobs: int
    paces: tuple[Pace, Pace]
    """Of both, in that order."""

    def span_of(self, job: QueuedJob) -> tuple[Quantiles, Quantiles] | None:
        """Return when a job of the queue starts and ends, in seconds from now; None if no plan has it."""
        if job.line.state is not JobState.PENDING:
            soon, late = (pace.remaining(job.line) for pace in self.paces)
            return AT_ONCE, Quantiles(p50=soon, p90=max(soon, late))
        starts = [found.starts.get(job.job_id) for found in (self.likely, self.limits)]
        if starts[0] is None or starts[1] is None:
            return None
        ends = [start + pace.lasting(job.line) for start, pace in zip((starts[0], starts[1]), self.paces, strict=True)]
        return (
            Quantiles(p50=starts[0], p90=max(starts[0], starts[1])),
            Quantiles(p50=ends[0], p90=max(ends)),
        )


def outlook(snapshot: Snapshot, boots: Mapping[str, Quantiles], fraction: float, policy: Policy, now: float) -> Outlook:
    """Plan a site's queue twice. `fraction`: the share of their limit that jobs usually run; `boots`: by partition."""
    soon = {name: boot.p50 for name, boot in boots.items()}
    late = {name: boot.p90 for name, boot in boots.items()}
    paces = _pace(snapshot, soon, fraction, policy, now), _pace(snapshot, late, 1.0, policy, now)
    depth = policy.planning_depth
    seen = turns(snapshot, depth)
    likely, limits = (plan(snapshot, seen, pace, depth) for pace in paces)
    jobs = len(snapshot.jobs)
    return Outlook(snapshot=snapshot, turns=seen, likely=likely, limits=limits, jobs=jobs, paces=paces)


def _pace(snapshot: Snapshot, boots: Mapping[str, float], fraction: float, policy: Policy, now: float) -> Pace:
    limits = {partition.name: partition.max_walltime for partition in snapshot.partitions}

    def limit(job: QueueLine) -> float:
        return float(job.walltime or limits.get(job.partition) or policy.assumed_walltime)

    def lasting(job: QueueLine) -> float:
        return max(1.0, limit(job) * fraction)

    def remaining(job: QueueLine) -> float:
        started = now if job.started_at is None else min(now, job.started_at)
        return _remaining(limit(job), now - started, fraction)

    def unseen(partition: str) -> float:
        """Half of what a running job may use is still to come, on average."""
        whole = float(limits.get(partition) or policy.assumed_walltime)
        return whole * (1.0 if fraction >= 1.0 else fraction / 2)

    return Pace(remaining=remaining, lasting=lasting, unseen=unseen, boot=lambda name: boots.get(name, 0.0))


def _remaining(limit: float, elapsed: float, fraction: float) -> float:
    """Return how long a running job still runs. One that outlived its likely run time gets half as much again."""
    if fraction >= 1.0:
        return max(60.0, limit - elapsed)
    likely = limit * fraction
    if elapsed >= likely:
        likely = min(limit, max(1.5 * elapsed, elapsed + 600.0))
    return max(30.0, likely - elapsed)

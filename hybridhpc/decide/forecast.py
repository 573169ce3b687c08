"""When a job would start and how long it would run, as quantiles in seconds from now, and from what we think so.

Limits are hard facts, so they make the p90; likely run times make the p50. No prices and no preferences here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from hybridhpc.decide.backfill import Pace, plan
from hybridhpc.decide.fit import Fit
from hybridhpc.decide.policy import Policy, apart, chance_after, quantile
from hybridhpc.decide.profile import Profile
from hybridhpc.model import JobSpec, Quantiles
from hybridhpc.sites.site import Site
from hybridhpc.sites.snapshot import Node, PastJob, QueuedJob, Snapshot, StartEstimate
from hybridhpc.units import format_duration, format_walltime
from hybridhpc.values import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """How long one task runs once it has started, and how likely it is killed at its walltime (0 to 1)."""

    task: Quantiles
    overrun: float
    basis: str
    past_runs: int = 0
    """So many it was taken from; 0: from the walltime."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """When the first node works for the job; `boot` and `late_boot` of its p50 and p90 are spent on booting."""

    when: Quantiles
    boot: float
    late_boot: float
    basis: str
    at_once: bool = False
    """Our plan finds free nodes even if every job runs to its limit: a scheduler's opinion would change nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """One site's future twice: `likely` with jobs that end when jobs usually do, `limits` with jobs at their limit."""

    snapshot: Snapshot
    likely: Profile
    limits: Profile
    jobs: int


def outlook(snapshot: Snapshot, boots: Mapping[str, Quantiles], fraction: float, policy: Policy, now: float) -> Outlook:
    """Plan a site's queue twice. `fraction`: the share of their limit that jobs usually run; `boots`: by partition."""
    soon = {name: boot.p50 for name, boot in boots.items()}
    late = {name: boot.p90 for name, boot in boots.items()}
    likely = plan(snapshot, _pace(snapshot, soon, fraction, policy, now), policy.planning_depth)
    limits = plan(snapshot, _pace(snapshot, late, 1.0, policy, now), policy.planning_depth)
    return Outlook(snapshot=snapshot, likely=likely, limits=limits, jobs=len(snapshot.jobs))


def _pace(snapshot: Snapshot, boots: Mapping[str, float], fraction: float, policy: Policy, now: float) -> Pace:
    limits = {partition.name: partition.max_walltime for partition in snapshot.partitions}

    def limit(job: QueuedJob) -> float:
        return float(job.walltime or limits.get(job.partition) or policy.assumed_walltime)

    def lasting(job: QueuedJob) -> float:
        return max(1.0, limit(job) * fraction)

    def remaining(job: QueuedJob) -> float:
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


def forecast_start(
    fit: Fit, view: Outlook, estimate: StartEstimate | None, history: Sequence[PastJob], policy: Policy, now: float
) -> Start | None:
    """Return when a fitting job would start; None if our plan finds no place at all.

    Our own backfill sets both quantiles. The scheduler's estimate is an upper bound (`sbatch --test-only` queues behind
    everything and does not backfill; seen on 22.05 to 26.05) and ignores boots, so these are added. Where jobs cannot
    be seen our plan is only a lower bound: then the estimate and the person's own waits decide, and p90 is wider.
    """
    names = frozenset(node.name for node in fit.nodes)
    likely, limits = view.likely.earliest(fit.need, names), view.limits.earliest(fit.need, names)
    if likely is None or limits is None:
        return None
    boot, late_boot = likely[1], limits[1]
    latest = limits[0] + view.limits.backlog(fit.partition.name)
    soonest = min(likely[0] + view.likely.backlog(fit.partition.name), latest)
    told = _told(estimate, now)
    basis = f"our plan of its {view.jobs} job{'s' if view.jobs > 1 else ''}" if view.jobs else "its empty queue"
    basis += "" if told is None else " and the scheduler's estimate"
    basis += f", nodes boot for {format_duration(boot)}" if boot else ""
    if unseen := view.snapshot.unseen:
        told = None if told is None else told + boot
        when = _blind(fit, Quantiles(p50=soonest, p90=latest), told, len(unseen), history, policy)
        return Start(when=when, boot=boot, late_boot=late_boot, basis=f"{basis}; unseen: {', '.join(unseen)}")
    if told is not None and fit.partition.name in view.snapshot.limited:
        # Nobody shows the limits: our plan, which does not know them, is then only a lower bound.
        soonest = max(soonest, told + boot)
        latest = max(latest, told + late_boot, 1.5 * soonest)
        basis += "; your own jobs wait for a limit there"
    elif told is not None:
        soonest, latest = min(soonest, told + boot), min(latest, told + late_boot)
    at_once = latest <= late_boot and fit.partition.name not in view.snapshot.limited
    return Start(when=apart(soonest, latest, policy), boot=boot, late_boot=late_boot, basis=basis, at_once=at_once)


def _told(estimate: StartEstimate | None, now: float) -> float | None:
    """Return the scheduler's estimate in seconds from now."""
    if estimate is None or estimate.start is None or not math.isfinite(estimate.start):
        return None
    return max(0.0, estimate.start - now)


def _blind(
    fit: Fit, ours: Quantiles, told: float | None, hidden: int, history: Sequence[PastJob], policy: Policy
) -> Quantiles:
    """Forecast a start at a site of whose queue so many things are hidden."""
    place = (fit.candidate.site.name, fit.partition.name)
    waits = [job.started_at - job.submitted_at for job in history if (job.site, job.partition) == place] or [0.0]
    p50 = max(ours.p50, quantile(waits, 0.5), 0.0) if told is None else told
    p90 = max(ours.p90, quantile(waits, 0.9), p50 * (1.0 + 0.5 * hidden))
    return Quantiles(p50=p50, p90=p90 + hidden * policy.unseen_margin)


def forecast_run(
    spec: JobSpec, fit: Fit, history: Sequence[PastJob], fraction: float, sites: Mapping[str, Site], policy: Policy
) -> Run:
    """Return how long one task would run there, never over its walltime.

    From past runs of the same job, scaled by relative GPU speed; else from its walltime and `fraction`, the share of
    their limit that jobs usually run. Where past runs promise more than the walltime, `overrun` says how likely.
    """
    limit, speed = float(fit.walltime or math.inf), _speed(fit)
    past = _alike(spec, fit, history)[: policy.recent]
    work = [_elapsed(job) / _waves(job) * _past_speed(job, sites) for job in past]
    if not work:
        guessed = float(fit.walltime or policy.assumed_walltime)
        p50, p90 = guessed * fraction / speed, guessed / max(1.0, speed)
        what = "its walltime" if fit.walltime else "an assumed walltime (it has none),"
        overrun, basis = 0.0, f"{fraction:.0%} of {what} {format_walltime(round(guessed))}"
    else:
        p50 = quantile(work, 0.5) / speed
        p90 = max(p50, quantile(work, 0.9) / speed) * (1.0 + 0.5 / len(work))
        overrun = chance_after(Quantiles(p50=p50, p90=p90), limit)
        basis = f"{len(work)} past run{'s' if len(work) > 1 else ''}"
    if speed != 1.0:
        basis += f", GPUs at {speed:g} x the usual speed"
    if overrun > 0.5:
        basis += ", likely to be killed at its walltime"
    task = Quantiles(p50=min(p50, limit), p90=min(max(p50, p90), limit))
    return Run(task=task, overrun=overrun, basis=basis, past_runs=len(work))


def _elapsed(job: PastJob) -> float:
    return job.ended_at - job.started_at


def _alike(spec: JobSpec, fit: Fit, history: Sequence[PastJob]) -> list[PastJob]:
    """Return past runs of the same job at the same size, latest first: completed ones, and those cut at their limit."""
    found = [
        job
        for job in history
        if job.name == spec.name
        and job.resources.nodes == spec.resources.nodes
        and job.resources.gpus_per_node == fit.need.gpus
        and (job.array is None) == (spec.array is None)
        and _near(job.resources.walltime, fit.walltime)
        and _elapsed(job) > 0
        and (job.completed or _elapsed(job) >= 0.95 * (job.resources.walltime or math.inf))
    ]
    return sorted(found, key=lambda job: job.ended_at, reverse=True)


def _near(past: int | None, asked: int | None) -> bool:
    """A job that was given twice the time, or half, was another job: a trial, or a longer training."""
    return not past or not asked or 0.5 <= past / asked <= 2.0


def _waves(job: PastJob) -> int:
    """Return how many tasks of an array ran one after the other at least."""
    if job.array is None or not job.array.throttle:
        return 1
    return max(1, -(-job.array.tasks // job.array.throttle))


def _past_speed(job: PastJob, sites: Mapping[str, Site]) -> float:
    site = sites.get(job.site)
    kind = job.resources.gpus[0].kind if job.resources.gpus else None
    return _positive(site.speed(kind)) if site and kind else 1.0


def _speed(fit: Fit) -> float:
    """Return the relative speed of the GPUs it would get: of the slowest kind if any will do."""
    site, gpus = fit.candidate.site, fit.candidate.gpus
    if gpus is None:
        return 1.0
    if gpus.kind:
        return _positive(site.speed(gpus.kind))
    words = {native.lower(): word for word, native in site.gres}
    kinds = {(node.gpu_kind or "").lower() for node in fit.nodes}
    return min((_positive(site.speed(words.get(kind, kind))) for kind in kinds), default=1.0)


def _positive(speed: float) -> float:
    return speed if 0.0 < speed < math.inf else 1.0


def makespan(spec: JobSpec, fit: Fit, task: Quantiles) -> Quantiles:
    """Return how long the whole job runs: one task, or all of an array in waves of as many as run at once.

    Of what is busy now half (p90: a quarter) counts as free for the array. The last wave ends with the slowest of its
    tasks, so its middle outcome is that of the largest of many.
    """
    if spec.array is None or spec.array.tasks <= 1:
        return task
    most = min(spec.array.tasks, spec.array.throttle or spec.array.tasks)
    free, whole = _at_once(fit, idle=True), _at_once(fit, idle=False)
    wide = max(1, min(most, (free + whole) // 2))
    narrow = max(1, min(most, (3 * free + whole) // 4))
    waves, late_waves = -(-spec.array.tasks // wide), -(-spec.array.tasks // narrow)
    slowest = min(1.0, (0.5 ** (1.0 / wide) - 0.5) / 0.4)
    last = task.p50 + (task.p90 - task.p50) * slowest
    p50 = (waves - 1) * task.p50 + last
    return Quantiles(p50=p50, p90=max(p50, late_waves * task.p90))


def _at_once(fit: Fit, *, idle: bool) -> int:
    """Return how many such tasks its nodes hold at once, with what is idle now or with all they have."""
    return sum(_tasks_on(fit, node, idle) for node in fit.nodes) // fit.need.nodes


def _tasks_on(fit: Fit, node: Node, idle: bool) -> int:
    need = fit.need
    used = (node.cpus_alloc, node.memory_alloc, node.gpus_alloc) if idle else (0, 0, 0)
    if need.whole or need.nodes > 1:
        return int(not any(used))
    pairs = ((need.cpus, node.cpus), (need.memory, node.memory), (need.gpus, node.gpus))
    fit_in = [(have - taken) // share for (share, have), taken in zip(pairs, used, strict=True) if share > 0]
    return max(0, min(fit_in, default=1))

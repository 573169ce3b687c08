"""When a job would start and how long it would run, as quantiles in seconds from now, and from what we think so.

Limits are hard facts, so they make the p90; likely run times make the p50. No prices and no preferences here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from hybridhpc.decide.fit import Fit
from hybridhpc.decide.outlook import Outlook
from hybridhpc.decide.policy import Policy, apart, chance_after, quantile
from hybridhpc.decide.profile import split_names
from hybridhpc.model import AT_ONCE, JobSpec, Quantiles
from hybridhpc.sites.site import Site
from hybridhpc.sites.snapshot import Node, PastJob, StartEstimate
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
    after: Quantiles = AT_ONCE
    """It could not start before, whatever is free: no queue and no boot is in that."""
    at_once: bool = False
    """Our plan finds free nodes even if every job runs to its limit: a scheduler's opinion would change nothing."""


def forecast_start(
    fit: Fit,
    view: Outlook,
    estimate: StartEstimate | None,
    history: Sequence[PastJob],
    policy: Policy,
    now: float,
    after: Quantiles = AT_ONCE,
) -> Start | None:
    """Return when a fitting job would start, `after` a moment (in seconds from now) at the soonest; None if our plan
    finds no place at all. `now` is by the site's own clock.

    Our own backfill sets both quantiles. The scheduler's estimate is an upper bound (`sbatch --test-only` queues behind
    everything and does not backfill; seen on 22.05 to 26.05) and ignores boots, so these are added. It is none where
    arrays wait, of each of which it counts a single task (seen: 22.05). Where jobs cannot
    be seen our plan is only a lower bound: then the estimate and the person's own waits decide, and p90 is wider.
    """
    names = frozenset(node.name for node in fit.nodes)
    likely = view.likely.earliest(fit.need, names, after.p50)
    limits = view.limits.earliest(fit.need, names, after.p90)
    if likely is None or limits is None:
        return None
    boot, late_boot = likely[1], limits[1]
    latest = limits[0] + max(0.0, view.limits.backlog(fit.partition.name) - after.p90)
    soonest = min(likely[0] + max(0.0, view.likely.backlog(fit.partition.name) - after.p50), latest)
    told = _told(estimate, now)
    basis = f"our plan of its {view.jobs} job{'s' if view.jobs > 1 else ''}" if view.jobs else "its empty queue"
    if told is not None and not view.snapshot.unseen and _arrays_wait(fit, view):
        told = None
    basis += "" if told is None else " and the scheduler's estimate"
    basis += f", nodes boot for {format_duration(boot)}" if boot else ""
    if unseen := view.snapshot.unseen:
        told = None if told is None else told + boot
        when = _blind(fit, Quantiles(p50=soonest, p90=latest), told, len(unseen), history, policy)
        when = _not_before(after, boot, late_boot, when)
        basis = f"{basis}; unseen: {', '.join(unseen)}"
        return Start(when=when, boot=boot, late_boot=late_boot, basis=basis, after=after)
    if told is not None and fit.partition.name in view.snapshot.limited:
        # Nobody shows the limits: our plan, which does not know them, is then only a lower bound.
        soonest = max(soonest, told + boot)
        latest = max(latest, told + late_boot, 1.5 * soonest)
        basis += "; your own jobs wait for a limit there"
    elif told is not None:
        soonest, latest = min(soonest, told + boot), min(latest, told + late_boot)
    at_once = latest <= late_boot and fit.partition.name not in view.snapshot.limited
    sure = _not_before(after, boot, late_boot, Quantiles(p50=soonest, p90=latest))
    # What is waited for is no queue: its length says nothing about how far the rest may err.
    rest = apart(sure.p50 - after.p50, sure.p90 - after.p90, policy)
    when = Quantiles(p50=after.p50 + rest.p50, p90=after.p90 + rest.p90)
    return Start(when=when, boot=boot, late_boot=late_boot, basis=basis, after=after, at_once=at_once)


def _arrays_wait(fit: Fit, view: Outlook) -> bool:
    """Whether arrays wait for nodes that would do: a single task of each stands before a job that is tried."""
    partitions = {name for node in fit.nodes for name in node.partitions}
    lines = (*(job.line for job in view.turns.first), *(line for line, _ in view.turns.rest))
    return any(line.tasks > 1 and not partitions.isdisjoint(split_names(line.partition)) for line in lines)


def _not_before(after: Quantiles, boot: float, late_boot: float, when: Quantiles) -> Quantiles:
    """Nodes boot only once the job may start: the scheduler's estimate knows what is waited for, and no boot."""
    if after.p90 <= 0:
        return when
    return Quantiles(p50=max(when.p50, after.p50 + boot), p90=max(when.p90, after.p90 + late_boot))


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
    own = [job for job in history if (job.site, job.partition) == place and not job.waited_else]
    waits = [job.started_at - job.submitted_at for job in own] or [0.0]
    p50 = max(ours.p50, quantile(waits, 0.5), 0.0) if told is None else told
    p90 = max(ours.p90, quantile(waits, 0.9), p50 * (1.0 + 0.5 * hidden))
    return Quantiles(p50=p50, p90=p90 + hidden * policy.unseen_margin)


def forecast_run(
    spec: JobSpec, fit: Fit, history: Sequence[PastJob], fraction: float, sites: Mapping[str, Site], policy: Policy
) -> Run:
    """Return how long one task would run there, never over its walltime.

    From past runs of the same job, scaled by relative GPU speed; else from its walltime and `fraction`, the share of
    their limit that jobs usually run. Where past runs or slower GPUs promise more than the walltime, `overrun` says how
    likely.
    """
    limit, speed = float(fit.walltime or math.inf), _speed(fit)
    past = _alike(spec, fit, history)[: policy.recent]
    work = [_elapsed(job) / _waves(job) * _past_speed(job, sites) for job in past]
    if not work:
        guessed = float(fit.walltime or policy.assumed_walltime)
        p50, p90 = guessed * fraction / speed, guessed / max(1.0, speed)
        what = "its walltime" if fit.walltime else "an assumed walltime (it has none),"
        basis = f"{fraction:.0%} of {what} {format_walltime(round(guessed))}"
        # A walltime is taken to do on GPUs of the usual speed; slower ones may need more.
        overrun = chance_after(Quantiles(p50=p50, p90=guessed / speed), limit) if speed < 1.0 else 0.0
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

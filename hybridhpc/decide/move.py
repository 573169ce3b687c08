"""Whether a job that waits is placed anew: the place where it waits against the best other one, by one score. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hybridhpc.decide.candidate import Choice, Ranking
from hybridhpc.decide.explain import why_it_won
from hybridhpc.decide.route import candidates_that_fit, decide
from hybridhpc.model import JobSpec, JobState
from hybridhpc.schedulers.words import explain_reason, is_unavailable, never_starts, others_decide
from hybridhpc.sites.site import Site
from hybridhpc.sites.snapshot import PastJob, QueuedJob, Snapshot, StartEstimate
from hybridhpc.units import format_duration
from hybridhpc.values import dataclass

PATIENCE = 300.0
"""Seconds that a job waits before anything else is thought of: most queues move within minutes."""
UNAVAILABLE_FOR = 900.0
"""Seconds that a job waits for nodes that are down, a quota, a closed partition, before that place is given up."""
MARGIN = 0.2
"""Another place must be better by this share of the score of staying: forecasts err, and moving loses the place."""
LEAST = 1.0
"""Dollars by which it must be better at least."""
MOST_MOVES = 5
"""A job that was placed anew so often stays where it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A pending job and where it waits."""

    spec: JobSpec
    site: str
    partition: str
    job_id: str
    reason: str
    waited: float
    """Seconds since it was submitted there."""
    moves: int = 0
    """How often it was placed anew already."""
    tied: str = ""
    """What binds it to its place, in words; empty: nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """Where a job would do better, and why; `to` is None if it stays. `why` is empty if there is nothing to say."""

    to: Choice | None
    why: str = ""


STAY = Advice(to=None)


def stays_for(waiting: Waiting) -> str:
    """Say why a job is not even thought of; empty if it may be."""
    if waiting.moves >= MOST_MOVES:
        return f"it was placed anew {waiting.moves} times already"
    if waiting.tied:
        return waiting.tied
    if others_decide(waiting.reason):
        return explain_reason(waiting.reason) or waiting.reason
    if waiting.waited < PATIENCE and not never_starts(waiting.reason):
        return f"it has waited for less than {format_duration(PATIENCE)}"
    return ""


def waits_where(
    waiting: Waiting, site: Site, snapshot: Snapshot, history: Sequence[PastJob], now: float
) -> Choice | None:
    """Judge the place where a job waits, from its own turn in that queue; None if it has no prospect there.

    The scheduler's own estimate for the very job counts, too: it is an upper bound.
    """
    own = _own(waiting, snapshot)
    goal = replace(waiting.spec.goal, max_cost=None) if waiting.spec.goal else None  # what stays was accepted once
    spec = replace(waiting.spec, where=(f"{waiting.site}/{waiting.partition}",), goal=goal)
    seen = [(site, _ahead_of(own, snapshot))]
    estimates = {}
    if own is not None and own.line.start_estimate is not None:
        told = StartEstimate(start=own.line.start_estimate)
        estimates = {candidate.key: told for candidate in candidates_that_fit(spec, seen)}
    return decide(spec, seen, estimates=estimates, history=history, now=now).winner


def judge(waiting: Waiting, staying: Choice | None, ranking: Ranking) -> Advice:
    """Weigh staying against the best other place of a ranking."""
    others = [choice for choice in ranking.choices if choice.refused is None and not _is_there(waiting, choice)]
    best = others[0] if others else None
    if best is None or best.score is None:
        return STAY
    if never_starts(waiting.reason):
        return Advice(to=best, why=f"it never starts where it is ({waiting.reason})")
    if is_unavailable(waiting.reason):
        if waiting.waited < UNAVAILABLE_FOR:
            return STAY
        lasting = format_duration(waiting.waited)
        return Advice(to=best, why=f"{waiting.reason} for {lasting} where it is")
    if staying is None or staying.score is None:
        return STAY
    gain = staying.score - best.score
    if gain < max(LEAST, MARGIN * abs(staying.score)):
        return STAY
    value = waiting.spec.goal.value_of_time if waiting.spec.goal else None
    words = why_it_won(best, [staying], value) if value is not None else "better by its score"
    return Advice(to=best, why=f"{words}; against waiting at {staying.candidate.name}")


def _is_there(waiting: Waiting, choice: Choice) -> bool:
    return (choice.candidate.site.name, choice.candidate.partition) == (waiting.site, waiting.partition)


def _own(waiting: Waiting, snapshot: Snapshot) -> QueuedJob | None:
    return next((job for job in snapshot.jobs if job.job_id.partition("_")[0] == waiting.job_id), None)


def _ahead_of(own: QueuedJob | None, snapshot: Snapshot) -> Snapshot:
    """Return the site as a pending job has it before it: what runs, and what waits in front of it."""
    if own is None:
        return snapshot
    ahead = tuple(
        job
        for job in snapshot.jobs
        if job is not own and (job.line.state is not JobState.PENDING or job.turn < own.turn)
    )
    return replace(snapshot, jobs=ahead)

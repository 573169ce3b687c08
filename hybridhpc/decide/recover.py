"""What became of an attempt, from evidence, and what is done next under the person's `retries`. Pure.

A cause is only named if the evidence allows no other; None means that nothing is known, and then nothing is done.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import Enum

from hybridhpc.model import JobSpec, JobState, JobStatus, Seconds, Stuck, Work
from hybridhpc.schedulers.words import CLOSED
from hybridhpc.values import dataclass

CERTAIN_AFTER = 120.0
"""Seconds for which a scheduler must not know a job before that is believed; longer than NFS hides new files (60 s)."""
EXPIRED_AFTER = 600.0
"""Seconds after its walltime in which a run surely has ended; more than clocks differ."""
MARKED_WITHIN = 60.0
"""Seconds in which the exit marker of a run that was requeued appears: the script ends, and NFS shows the file."""
MOST_UNBEGUN = 3
"""New attempts for jobs that never began: they cost nothing, and yet must not go on for ever."""
MOST_UNREACHED = 30
"""New attempts for jobs whose scheduler answered questions, but no submission: with their pauses more than a day."""
FIRST_PAUSE = 60.0
LONGEST_PAUSE = 3600.0
"""Seconds before a job that failed, or whose scheduler was not reached, is tried again: doubled each time."""
_SLACK = 60.0
_TERM, _BY_SIGNAL = 15, 128


class Cause(Enum):
    """Why an attempt, or one run of it, is over. The first four are keys of `retries`."""

    PREEMPTED = "preempted"
    NODE_FAIL = "node_fail"
    TIMEOUT = "timeout"
    FAILED = "failed"
    OUT_OF_MEMORY = "out_of_memory"
    BOOT_FAIL = "boot_fail"
    CANCELLED = "cancelled"
    REFUSED = "refused"
    UNREACHED = "unreached"
    LOST = "lost"


class Next(Enum):
    """What is done with a job."""

    NOTHING = "nothing"
    """It is left as it is."""
    AGAIN = "again"
    ELSEWHERE = "elsewhere"
    """As AGAIN, but not in the place where it was."""
    GIVE_UP = "give up"


class Look(Enum):
    """What a job is looked at for, by what its scheduler says."""

    NOTHING = "nothing"
    """It goes its way."""
    DONE = "done"
    OVER = "over"
    """It ended in another way, or is not known: why?"""
    UNWANTED = "unwanted"
    """The person cancelled it, and it lives."""
    REQUEUED = "requeued"
    """Its scheduler has put it back into its queue since that was accounted for last."""
    HELD = "held"
    IN_VAIN = "in vain"
    """What it waits for can never be met, or it was cancelled for that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """All that is known of an attempt. Times in seconds."""

    status: JobStatus
    walltime: Seconds | None = None
    grace: Seconds = Seconds(0)
    """How long before its walltime it is asked for a checkpoint; 0: it is not."""
    spot: bool = False
    """Its nodes may be taken away: their loss is a preemption."""
    marks: bool = True
    """Its script leaves markers, as rendered ones do."""
    began: bool = False
    """A start marker of it was seen."""
    done: bool = False
    """Its last run left an exit marker that says 0: whatever becomes of it at its scheduler, its work is done."""
    unasked: bool = False
    """Its last run left no sign that it was asked to end, nor that it ended."""
    fresh: bool = False
    """It ended so recently that such a sign may not be seen yet."""
    expired: bool = False
    """Its last run began so long ago that nothing of it can be left: its walltime and more have passed."""
    absent_for: float = 0.0
    """The scheduler has not known it, or has closed it without it, for so long."""
    began_before: bool = False
    """The run before the last requeue left a start marker."""
    ended_before: bool = False
    """It left an exit marker: it was asked to end, its node did not vanish."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What is done, why, and not before so many seconds after the end of the attempt."""

    next: Next
    why: str
    pause: float = 0.0


def look_at(status: JobStatus, *, unwanted: bool, accounted: int) -> Look:
    """Return what a job is looked at for. `accounted`: how often it was requeued, as far as that is written down."""
    if status.state is JobState.COMPLETED:
        return Look.DONE
    if status.state is JobState.CANCELLED and status.stuck is Stuck.IN_VAIN and not unwanted:
        return Look.IN_VAIN
    if status.state.final or status.state is JobState.UNKNOWN:
        return Look.OVER
    if unwanted:
        return Look.UNWANTED
    if status.restarts > accounted:
        return Look.REQUEUED
    return _LOOKS[status.stuck] if status.state is JobState.PENDING else Look.NOTHING


_LOOKS = {None: Look.NOTHING, Stuck.HELD: Look.HELD, Stuck.IN_VAIN: Look.IN_VAIN}


def find_cause(seen: Evidence) -> Cause | None:
    """Return why an attempt is over; None if it is not, if it completed, and if that cannot be known."""
    status = seen.status
    if seen.done:
        return None
    if status.state is JobState.UNKNOWN or status.reason == CLOSED:
        return _disappearance(seen)
    if status.state is JobState.NODE_FAIL:
        return _loss(seen)
    if status.state is JobState.FAILED:
        return _failure(seen)
    if status.state is JobState.TIMEOUT and seen.marks and seen.began and seen.unasked:
        # Slurm asks what reaches its walltime to end. That had lost its node before, and its controller forgot it.
        return None if seen.fresh else _nodes_lost(seen)
    return _CAUSES.get(status.state)


def _disappearance(seen: Evidence) -> Cause | None:
    """Judge a job that its scheduler does not know any more: only what surely does not run is anything but unknown."""
    if not seen.marks or seen.absent_for < CERTAIN_AFTER:
        return None
    if seen.began:
        return _loss(seen) if seen.expired else None
    return Cause.LOST


_CAUSES = {
    JobState.PREEMPTED: Cause.PREEMPTED,
    JobState.TIMEOUT: Cause.TIMEOUT,
    JobState.OUT_OF_MEMORY: Cause.OUT_OF_MEMORY,
    JobState.CANCELLED: Cause.CANCELLED,
}


def find_requeue(seen: Evidence, now: float) -> Cause | None:
    """Return why a scheduler has put a job back into its queue; None if that cannot be known yet.

    Whose script could still leave an exit marker was asked to end: it was preempted, or requeued by an administrator
    (Slurm does not say which). Whose could not has lost its node. Slurm calls a job pending before its script has
    ended (seen on 22.05): a marker that is missing says nothing until MARKED_WITHIN has passed.
    """
    if not seen.marks or seen.ended_before:
        return Cause.PREEMPTED
    requeued_at = seen.status.submitted_at
    # By the site's clock; where that differs by more than a minute, nothing is waited for.
    if requeued_at is not None and abs(now - requeued_at) < MARKED_WITHIN:
        return None
    return _nodes_lost(seen) if seen.began_before else Cause.BOOT_FAIL


def _loss(seen: Evidence) -> Cause:
    return Cause.BOOT_FAIL if seen.marks and not seen.began else _nodes_lost(seen)


def _nodes_lost(seen: Evidence) -> Cause:
    return Cause.PREEMPTED if seen.spot else Cause.NODE_FAIL


def _failure(seen: Evidence) -> Cause:
    """Tell a job that failed by itself from one that was asked to end: for its walltime, or since its node goes."""
    status = seen.status
    if seen.grace and seen.walltime and status.started_at is not None and status.ended_at is not None:
        warned_at = status.started_at + seen.walltime - seen.grace - _SLACK
        if status.ended_at >= max(warned_at, status.started_at + seen.walltime / 2):
            return Cause.TIMEOUT
    asked_to_end = status.signal == _TERM or status.exit_code == _BY_SIGNAL + _TERM
    return Cause.PREEMPTED if seen.spot and asked_to_end else Cause.FAILED


def is_remnant(status: JobStatus, accounted: int, begun: Collection[int]) -> bool:
    """Whether a job that is over waits again only since its controller forgot how it ended: a requeue would count.

    `accounted`: how often it was requeued, as far as is known; `begun`: the restarts of those runs that began.
    """
    if status.state is not JobState.PENDING:
        return False
    return status.restarts <= accounted or any(run >= status.restarts for run in begun)


def next_step(
    cause: Cause | None, spec: JobSpec | None, past: Mapping[Cause, int], spent: float, *, wanted: bool
) -> Step:
    """Return what is done after an attempt that is over.

    `past`: how often each cause was met before, runs that the scheduler requeued included; `spent`: dollars so far;
    `wanted`: the person has not cancelled it.
    """
    if cause is None:
        return Step(next=Next.NOTHING, why="")
    if not wanted:
        return Step(next=Next.GIVE_UP, why="you cancelled it")
    if spec is None or not isinstance(spec.payload, Work):
        return Step(next=Next.GIVE_UP, why="a script taken as it is is not tried again")
    ceiling = spec.goal.max_cost if spec.goal else None
    if ceiling is not None and spent >= ceiling:
        return Step(next=Next.GIVE_UP, why=f"it has cost ${spent:.2f} of at most ${ceiling:.2f}")
    if cause is Cause.UNREACHED and past.get(cause, 0) < MOST_UNREACHED:
        return Step(next=Next.ELSEWHERE, why=_NO_USE[cause], pause=_pause(past.get(cause, 0)))
    if cause in _UNBEGUN:
        return _unbegun(cause, past)
    if cause in _NO_USE:
        return Step(next=Next.GIVE_UP, why=_NO_USE[cause])
    return _retry(cause, spec.payload, past)


_UNBEGUN = {
    Cause.BOOT_FAIL: "its nodes did not boot",
    Cause.REFUSED: "it was refused there",
    Cause.LOST: "the scheduler no longer knows it, and it never began",
}
_NO_USE = {
    Cause.UNREACHED: "its scheduler was not reached there",
    Cause.CANCELLED: "it was cancelled at the site: by you, by an administrator, or for what it comes after",
    Cause.OUT_OF_MEMORY: "with the same memory it would end the same way: raise `memory`",
}


def _unbegun(cause: Cause, past: Mapping[Cause, int]) -> Step:
    tried = sum(past.get(each, 0) for each in _UNBEGUN)
    why = _UNBEGUN[cause]
    if tried >= MOST_UNBEGUN:
        return Step(next=Next.GIVE_UP, why=f"{why}, for the {tried + 1}th time without ever beginning")
    place = Next.AGAIN if cause is Cause.LOST else Next.ELSEWHERE
    return Step(next=place, why=why, pause=FIRST_PAUSE if tried else 0.0)


def _retry(cause: Cause, work: Work, past: Mapping[Cause, int]) -> Step:
    allowed, used = int(getattr(work.retries, cause.value)), past.get(cause, 0)
    key = f"retries.{cause.value}"
    if cause is Cause.TIMEOUT and work.checkpoint is None:
        return Step(next=Next.GIVE_UP, why="it has no checkpoint: it would reach its walltime again")
    if used >= allowed:
        why = (
            f"{key} allows {allowed} new attempt{'s' * (allowed > 1)}" if allowed else f"{key} asks for no new attempt"
        )
        return Step(next=Next.GIVE_UP, why=f"{_WORDS[cause]}; {why}")
    pause = _pause(used) if cause is Cause.FAILED else 0.0
    return Step(next=Next.AGAIN, why=f"{_WORDS[cause]}; new attempt {used + 1} of {allowed} ({key})", pause=pause)


def _pause(times: int) -> float:
    return min(LONGEST_PAUSE, FIRST_PAUSE * 2.0**times)


_WORDS = {
    Cause.PREEMPTED: "its nodes were taken away",
    Cause.NODE_FAIL: "a node of it failed",
    Cause.TIMEOUT: "it used up its walltime",
    Cause.FAILED: "it failed by itself",
}


def over_allowance(cause: Cause, spec: JobSpec | None, past: Mapping[Cause, int]) -> bool:
    """Whether a scheduler has requeued a job more often than `retries` allows: it knows no such limit itself.

    `past` counts this time, too.
    """
    if spec is None or not isinstance(spec.payload, Work) or cause not in (Cause.PREEMPTED, Cause.NODE_FAIL):
        return False
    retries = spec.payload.retries
    together = past.get(Cause.PREEMPTED, 0) + past.get(Cause.NODE_FAIL, 0)
    return together > retries.preempted + retries.node_fail

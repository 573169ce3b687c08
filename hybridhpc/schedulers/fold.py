"""The status of an array, or of a heterogeneous job, from those of its tasks. Pure; the same for every scheduler."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from hybridhpc.model import JobState, JobStatus

_BASE = re.compile(r"[_+].*")
"""What follows the number of the whole in the id of a task: `_3`, `+1`."""

ORDER = (
    JobState.RUNNING, JobState.SUSPENDED, JobState.PENDING, JobState.UNKNOWN, JobState.FAILED, JobState.OUT_OF_MEMORY,
    JobState.TIMEOUT, JobState.NODE_FAIL, JobState.PREEMPTED, JobState.CANCELLED, JobState.COMPLETED,
)  # fmt: skip
"""What an array is in if one of its tasks is, in this order: the live ones first, then the worst."""


def fold(tasks: Iterable[JobStatus], expected: int | None = None) -> JobStatus | None:
    """Return the status of an array, or of a heterogeneous job, as a whole; None without tasks.

    Live if one task is; else the worst end among them. `expected` is how many tasks there are: if fewer are known and
    all of those are COMPLETED, the whole is UNKNOWN: squeue forgets a task that failed before the last one ends.
    """
    known = sorted(tasks, key=lambda task: ORDER.index(task.state))
    if not known:
        return None
    first = known[0]
    state = first.state
    if expected is not None and len(known) < expected and state is JobState.COMPLETED:
        state = JobState.UNKNOWN
    final = all(task.state.final for task in known)
    return replace(
        first,
        job_id=_BASE.sub("", first.job_id),
        state=state,
        reason=_summary(known, first.reason),
        submitted_at=_least(task.submitted_at for task in known),
        started_at=_least(task.started_at for task in known),
        ended_at=max((task.ended_at or 0.0 for task in known), default=0.0) or None if final else None,
        restarts=max(task.restarts for task in known),
    )


def _summary(known: Sequence[JobStatus], reason: str) -> str:
    """Say the reason of the task that decides, and how many are seen in which state: the others are forgotten."""
    counts: dict[str, int] = {}
    for task in known:
        counts[task.state.value] = counts.get(task.state.value, 0) + 1
    words = ", ".join(f"{count} {state}" for state, count in counts.items())
    return f"{reason} ({words})" if reason else words


def _least(times: Iterable[float | None]) -> float | None:
    return min((time for time in times if time is not None), default=None)

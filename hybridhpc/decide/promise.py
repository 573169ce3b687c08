"""What was forecast for a job when it was submitted, and what then happened: forecasts are judged by it. Values."""

from __future__ import annotations

from hybridhpc.model import Quantiles
from hybridhpc.values import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """The forecast a person was given, with what it rests on. Quantiles are seconds from the submission."""

    site: str
    partition: str
    start: Quantiles
    run: Quantiles
    plain_start: Quantiles
    """Before it was corrected by what earlier forecasts taught; so is `plain_run`."""
    plain_run: Quantiles
    boot: float = 0.0
    """Of the start's p50, the seconds in which powered-down nodes boot; 0: none had to."""
    queued: int = 0
    """Jobs that were waiting in the partition and could start."""
    told: float | None = None
    """The scheduler's own estimate of the start; None if it gave none."""
    past_runs: int = 0
    """Past runs of the job that its run time was taken from; 0: it was taken from the walltime."""
    tasks: int = 1
    """Of its array: then `run` is that of the whole."""
    version: str = ""
    """Of the scheduler, if it said so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A promise and what became of it. None: not known (yet), or not comparable: the job was cancelled or requeued."""

    token: str
    made_at: float
    """Seconds since the epoch."""
    promise: Promise
    waited: float | None = None
    """Seconds from submission to start, of a job that has surely begun: not of one whose nodes boot, or failed."""
    ran: float | None = None
    """Seconds from start to end, of a job that ran to its own end or its walltime."""

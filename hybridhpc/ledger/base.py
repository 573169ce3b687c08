"""What a ledger keeps: one Record per job, with its attempts. The agreement every ledger implements.

A job goes INTENT -> SUBMITTED, or INTENT -> REFUSED; `announced` is set once its ref was printed. A record whose owner
died before that is interrupted: whoever asks for the same thing again is given it instead of a second job.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from hybridhpc.model import JobState, JobStatus
from hybridhpc.script.plan import Plan
from hybridhpc.sites.snapshot import PastJob


class Phase(Enum):
    """How far a submission came."""

    INTENT = "INTENT"
    SUBMITTED = "SUBMITTED"
    REFUSED = "REFUSED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A job as the ledger knows it: what was promised and what was last seen. Times: seconds since the epoch."""

    token: str
    attempt: int
    name: str
    phase: Phase
    announced: bool
    plan: Plan
    job_dir: str
    job_id: str
    """Empty until it is known."""
    log: str
    """Path pattern of its output at the site; empty until it is known."""
    created_at: float
    state: JobState
    native_state: str
    reason: str
    submitted_at: float | None
    started_at: float | None
    ended_at: float | None
    exit_code: int | None
    signal: int | None

    @property
    def ref(self) -> str:
        """`site:jobid`, empty before submission."""
        return f"{self.plan.site}:{self.job_id}" if self.job_id else ""

    def elapsed(self, now: float) -> float:
        """Seconds it has run."""
        return max(0.0, (self.ended_at or now) - self.started_at) if self.started_at else 0.0

    def cost(self, now: float) -> float:
        """Dollars it has cost."""
        return self.elapsed(now) / 3600 * self.plan.usd_per_hour


class Ledger(Protocol):
    """Safe under many processes at once and a kill at any moment. Every method raises LedgerError if it cannot work."""

    def intend(self, plan: Plan, *, request: str, job_root: str, now: float) -> Record:
        """Write down what is about to be submitted, and own it until this process ends or `release`."""
        ...

    def interrupted(self, request: str, *, now: float) -> Record | None:
        """Return, and own, a record of the same request whose owner died before it was announced."""
        ...

    def own(self, token: str) -> bool:
        """Own a record; False if a living process is submitting it."""
        ...

    def submitted(self, token: str, *, job_id: str, log: str, now: float) -> Record:
        """Write down the scheduler's id."""
        ...

    def refused(self, token: str, reason: str, *, now: float) -> None:
        """Write down that the scheduler refused: there is no job."""
        ...

    def announced(self, token: str) -> None:
        """Write down that the person was told the ref; ownership ends."""
        ...

    def seen(self, statuses: Sequence[tuple[str, JobStatus]]) -> None:
        """Write down what schedulers said, by token."""
        ...

    def find(self, word: str) -> Record:
        """Return the job a person means: token, a prefix of one, ref, job id or name.

        Of several with one name a living one, then the latest. Raises NotFound.
        """
        ...

    def records(self, *, live_only: bool = False, limit: int = 1000) -> tuple[Record, ...]:
        """Return the latest jobs, newest first."""
        ...

    def history(self, *, limit: int = 500) -> tuple[PastJob, ...]:
        """Return finished jobs that ran, newest first: what forecasts learn from."""
        ...

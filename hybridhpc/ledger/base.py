"""What a ledger keeps: one Record per job, with its attempts. The agreement every ledger implements.

A job goes INTENT -> SUBMITTED, or INTENT -> REFUSED; `announced` is set once its ref was printed. A record whose owner
died before that is interrupted: whoever asks for the same thing again is given it instead of a second job.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from enum import Enum
from typing import Protocol

from hybridhpc.decide.promise import Outcome
from hybridhpc.model import JobState, JobStatus
from hybridhpc.schedulers.base import Submitted
from hybridhpc.schedulers.words import has_begun
from hybridhpc.script.plan import Plan
from hybridhpc.sites.snapshot import PastJob
from hybridhpc.values import dataclass

SWEEP_BYTES = 3
"""Bytes of what is put behind the name of a sweep to make its id; in hexadecimal, after a dash."""


AGENT = "agent"
"""The lease of whoever looks after jobs."""


class Phase(Enum):
    """How far a submission came."""

    INTENT = "INTENT"
    PROPOSED = "PROPOSED"
    """A next attempt that begins once the one before it has been taken back; it may be dropped before that."""
    SUBMITTED = "SUBMITTED"
    REFUSED = "REFUSED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """What is about to be submitted."""

    plan: Plan
    request: str
    """The same if the same is asked for again."""
    job_root: str
    """Absolute path at the site."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that was done with a job, or found out about it, and why."""

    token: str
    attempt: int
    at: float
    kind: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A job as the ledger knows it: what was promised and what was last seen. Times: seconds since the epoch."""

    token: str
    attempt: int
    name: str
    sweep: str
    """The id of the sweep it belongs to; empty: to none."""
    phase: Phase
    announced: bool
    site: str
    partition: str
    tasks: int
    """How many tasks its array has."""
    usd_per_hour: float
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
    """By its site's clock, if that has told it."""
    started_at: float | None
    """See JobStatus: nodes that boot count."""
    ended_at: float | None
    exit_code: int | None
    signal: int | None
    ahead: float
    """So many seconds its site's clock is ahead of this machine's, by which `started_at` and its like are told."""
    absent_since: float | None
    """Since when, by this machine's clock, its scheduler has answered that it does not know it; None: it does."""
    restarts: int
    """How often its scheduler had requeued this attempt when that was last accounted for."""
    restarted: int
    """1 if its scheduler was ever seen to have requeued it: then its start says nothing about the forecast; else 0."""
    spent: float
    """Dollars that went into it before: earlier attempts, and runs that the scheduler requeued."""
    settled: bool
    """Nothing will follow: it ended well, or no new attempt will be made."""
    unwanted: bool
    """The person cancelled it."""
    read_plan: Callable[[], Plan] = field(repr=False, compare=False)

    @property
    def plan(self) -> Plan:
        """What was submitted. It is read when it is first wanted: it holds the script."""
        return self.read_plan()

    @property
    def owner(self) -> str:
        """The lock of who is submitting it: a sweep has one for all of its jobs."""
        return self.sweep or self.token

    @property
    def ref(self) -> str:
        """`site:jobid`, empty before submission."""
        return f"{self.site}:{self.job_id}" if self.job_id else ""

    def elapsed(self, now: float) -> float:
        """Seconds it has had its nodes, `now` by this machine's clock."""
        return max(0.0, (self.ended_at or now + self.ahead) - self.started_at) if self.started_at else 0.0

    def cost(self, now: float) -> float:
        """Dollars it has cost, all attempts together."""
        return self.spent + self.run_cost(now)

    def boot_cost(self, status: JobStatus) -> float:
        """Dollars that its nodes cost while they booted, if a status says that it has begun since, with a new start."""
        booted = has_begun(self.state, self.native_state) is False and has_begun(status.state, status.native_state)
        if not booted or self.started_at is None or status.started_at is None:
            return 0.0
        return max(0.0, status.started_at - self.started_at) / 3600 * self.usd_per_hour

    def run_cost(self, now: float) -> float:
        """Dollars that the present run of the present attempt has cost."""
        return self.elapsed(now) / 3600 * self.usd_per_hour


class Ledger(Protocol):
    """Safe under many processes at once and a kill at any moment. Every method raises LedgerError if it cannot work."""

    def intend(self, intents: Sequence[Intent], *, sweep: str = "", now: float) -> tuple[Record, ...]:
        """Write down what is about to be submitted, all of it or nothing, and own it until this process ends.

        It stands for what was refused of the same requests before: that is found by its token alone from then on.
        """
        ...

    def interrupted(self, requests: Sequence[str], *, now: float) -> Mapping[str, tuple[Record, ...]]:
        """Return, and own, the records of the same requests whose owner died before they were announced.

        A sweep is one submission: of a request, all records of one sweep, or the oldest that belongs to none.
        """
        ...

    def own(self, records: Sequence[Record], *, as_agent: bool = False) -> frozenset[str]:
        """Own records; return the tokens of those that no other living process is submitting.

        `as_agent`: a person who repeats the command meanwhile waits, and is given this very job.
        """
        ...

    def submitted(self, answers: Mapping[str, Submitted], *, now: float) -> tuple[Record, ...]:
        """Write down the scheduler's ids, by token."""
        ...

    def refused(self, reasons: Mapping[str, str], *, now: float) -> None:
        """Write down, by token, what the scheduler refused: there is no such job."""
        ...

    def announced(self, tokens: Sequence[str]) -> None:
        """Write down that the person was told the refs; ownership ends."""
        ...

    def disown(self, records: Sequence[Record]) -> None:
        """Give up what `own` took."""
        ...

    def seen(self, statuses: Sequence[tuple[Record, JobStatus]]) -> None:
        """Write down what schedulers said of attempts that are not final; a later attempt is left alone."""
        ...

    def find(self, word: str) -> Record:
        """Return the job a person means: token, a prefix of one, ref (an earlier attempt's, too), job id or name.

        Of several with one name the newest, whatever became of it. Raises NotFound.
        """
        ...

    def find_all(self, word: str) -> tuple[Record, ...]:
        """Return the jobs a person means: all of a sweep, by its id or name, in their order; else the one of `find`."""
        ...

    def bearers(self, name: str) -> int:
        """Return how many jobs have a name; a sweep of this name, or with such jobs, counts as one."""
        ...

    def records(self, *, live_only: bool = False, limit: int = 1000) -> tuple[Record, ...]:
        """Return the latest jobs, newest first."""
        ...

    def absent(self, record: Record, since: float | None) -> None:
        """Write down since when its scheduler has not known an attempt; None: that is not so, or cannot be asked."""
        ...

    def current(self, tokens: Sequence[str]) -> tuple[Record, ...]:
        """Return jobs as they are now, in this order."""
        ...

    def correct(self, record: Record, status: JobStatus) -> None:
        """Write down what an attempt is in truth, though another end was written down: it lives again, or was done."""
        ...

    def dependents(self, record: Record) -> tuple[Record, ...]:
        """Return the living jobs at the same site that were submitted to come after this one."""
        ...

    def unsettled(self) -> tuple[Record, ...]:
        """Return all jobs that something may follow, oldest first."""
        ...

    def settle(self, tokens: Sequence[str]) -> None:
        """Write down that nothing will follow."""
        ...

    def unconfirmed(self, before: float) -> tuple[Record, ...]:
        """Return settled jobs of which nothing was said since `before`, and that are not confirmed."""
        ...

    def confirm(self, tokens: Sequence[str]) -> None:
        """Write down that nothing is left of settled jobs: they are never asked about again."""
        ...

    def unwant(self, tokens: Sequence[str]) -> tuple[Record, ...]:
        """Write down that the person does not want jobs any more: none gets a new attempt. Return them as they are."""
        ...

    def propose(self, record: Record, plan: Plan, *, job_root: str) -> Record | None:
        """Write down the attempt that would follow; None if one is proposed already, or this is not the last one."""
        ...

    def proposed(self, record: Record) -> Record | None:
        """Return what is proposed to follow an attempt."""
        ...

    def proposals(self) -> frozenset[str]:
        """Return the tokens of all jobs for which an attempt is proposed."""
        ...

    def drop_proposal(self, record: Record) -> None:
        """Forget what was proposed to follow an attempt: nothing of it was begun."""
        ...

    def begin(self, record: Record, *, kind: str, why: str, now: float) -> Record | None:
        """Make the proposed attempt the job's own, as an intent; None if there is none or the person cancelled it."""
        ...

    def requeued(self, record: Record, *, restarts: int, spent: float, kind: str, why: str, now: float) -> bool:
        """Write down, once, that a scheduler has requeued an attempt so often, and what the run before it cost."""
        ...

    def attempts(self, token: str) -> tuple[Record, ...]:
        """Return every attempt of a job, first one first, with its own state and cost."""
        ...

    def tell(self, record: Record, kind: str, text: str, *, now: float) -> None:
        """Write down an event."""
        ...

    def events(self, token: str) -> tuple[Event, ...]:
        """Return what was done with a job, in order."""
        ...

    def lease(self, name: str, owner: str, *, until: float, now: float) -> bool:
        """Take or renew a lease; False if another holds it. `until` not after `now` gives it back."""
        ...

    def leased(self, name: str, *, now: float) -> bool:
        """Whether somebody holds a lease."""
        ...

    def history(self, *, limit: int = 500) -> tuple[PastJob, ...]:
        """Return finished jobs that ran, newest first: what forecasts learn from."""
        ...

    def outcomes(self, *, limit: int = 250) -> tuple[Outcome, ...]:
        """Return the latest forecasts with what became of them, newest first."""
        ...

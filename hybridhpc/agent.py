"""What happens to jobs while nobody is typing: one pass over all that something may follow, and again when it is due.

The state lies in the ledger and at the sites alone: an agent may be killed at any moment, and the next one goes on. A
lease keeps a second one idle; that two at once do no harm is owed to the locks and to the ledger's checks, not to it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from hybridhpc import evidence, following
from hybridhpc.attempts import Attempts
from hybridhpc.client import Client
from hybridhpc.decide import recover
from hybridhpc.decide.recover import Cause, Evidence, Look, Next, Step
from hybridhpc.errors import HpcError
from hybridhpc.journal import Journal
from hybridhpc.ledger.base import AGENT, Event, Phase, Record
from hybridhpc.model import JobState, JobStatus, Move
from hybridhpc.moving import Mover, longest_first
from hybridhpc.planning import Planner
from hybridhpc.remnants import Remnants
from hybridhpc.schedulers.words import CLOSED
from hybridhpc.units import format_duration

LEASE_LASTS = 300.0
"""Seconds until another agent may take over from one that went silent; longer than a slow submission takes."""
INTERRUPTED_FOR = 30.0
"""Seconds that an interrupted submission is left to the person, who may be about to repeat their command."""
LOOK_EVERY = 300.0
"""Seconds between two thoughts about placing a pending job anew, and between two looks behind a hold."""
NO_SITE_FOR = 86400.0
"""Seconds for which a new attempt that no site takes is thought of again and again, before it is given up."""


@dataclass(slots=True, kw_only=True)
class Memory:
    """What an agent remembers between passes. Losing it costs some questions and some patience, never a job."""

    owner: str
    """Tells this agent from others."""
    led_at: float = 0.0
    """When the lease was taken or renewed last."""
    asked: dict[str, float] = field(default_factory=dict)
    """By site: when its jobs were asked about last."""
    looked: dict[str, float] = field(default_factory=dict)
    """By token: when placing it anew was thought of last."""
    held: dict[str, float] = field(default_factory=dict)
    """By token: when it was looked at last why it is held."""


class Agent:
    """One pass over a person's jobs."""

    def __init__(self, client: Client, memory: Memory, report: Callable[[Event], None], moving: Move) -> None:
        self._client = client
        self._clock = client.clock
        self._ledger = client.ledger
        self._memory = memory
        self._moving = moving
        self._journal = Journal(ledger=client.ledger, clock=client.clock, report=report)
        self._attempts = Attempts(client=client, journal=self._journal)
        self._remnants = Remnants(client=client, journal=self._journal)

    @cached_property
    def _planner(self) -> Planner:
        """Every site, asked once in a pass and only if it is wanted."""
        return self._client.planner()

    def run_pass(self) -> bool:
        """Do what is due. False, and nothing is done, if another agent leads."""
        if not self._lead():
            return False
        resting = self._resting_sites()
        if len(resting) == len(self._client.usable_sites):
            return True
        due = [record for record in self._ledger.unsettled() if record.site not in resting]
        self._carry_on([record for record in due if record.phase is Phase.INTENT])
        submitted = [record for record in due if record.phase is not Phase.INTENT]
        statuses = self._client.look(submitted)
        moving = self._ledger.proposals()
        for record in submitted:
            self._lead()
            act = self._go_on_moving if record.token in moving else self._see_to
            self._guarded(act, record, statuses.get(record.token) or following.as_known(record))
        self._consider_moves([record for record in submitted if _waits(statuses.get(record.token))])
        for record, status in self._remnants.look_back(resting):
            self._guarded(self._remnants.confirm, record, status)
        return True

    def resign(self) -> None:
        """Give the lease back, so that another may lead at once."""
        now = self._clock()
        self._ledger.lease(AGENT, self._memory.owner, until=now, now=now)
        self._memory.led_at = 0.0

    def _lead(self) -> bool:
        """Take the lease, or renew it in good time."""
        now, memory = self._clock(), self._memory
        if now - memory.led_at < LEASE_LASTS / 4:
            return True
        leads = self._ledger.lease(AGENT, memory.owner, until=now + LEASE_LASTS, now=now)
        memory.led_at = now if leads else 0.0
        return leads

    def _resting_sites(self) -> set[str]:
        """Return the sites whose interval is not over; the others are asked now."""
        now, asked = self._clock(), self._memory.asked
        intervals = {site.name: site.poll_interval for site in self._client.usable_sites}
        resting = {name for name, interval in intervals.items() if now - asked.get(name, 0.0) < interval}
        asked.update(dict.fromkeys(set(intervals) - resting, now))
        return resting

    def _guarded(self, act: Callable[..., None], record: Record, *more: Any) -> None:  # noqa: ANN401
        """Do something about a job; what goes wrong with it is written down, and the others go on."""
        try:
            act(record, *more)
        except HpcError as error:
            self._journal.tell_once(record, "trouble", error.message)

    def _carry_on(self, intents: Sequence[Record]) -> None:
        """Bring intents whose owner died to their end. A person who repeats their command gets that very job."""
        first: dict[str, list[Record]] = {}
        for record in intents:
            if record.attempt > 1:
                self._guarded(self._carry_on_new, record)
            elif self._clock() - record.created_at >= INTERRUPTED_FOR:
                first.setdefault(record.owner, []).append(record)
        for records in first.values():
            self._attempts.take_up(records)

    def _carry_on_new(self, record: Record) -> None:
        with self._attempts.owned(record) as current:
            if current is not None and current.phase is Phase.INTENT and current.attempt == record.attempt:
                self._attempts.carry_on(current)

    def _see_to(self, record: Record, status: JobStatus) -> None:
        record = following.apply(record, status)
        absent_for = self._absent_for(record, status)
        match recover.look_at(status, unwanted=record.unwanted, accounted=record.restarts):
            case Look.DONE:
                self._settle(record, "completed", f"it cost ${record.cost(self._clock()):.2f}")
            case Look.OVER:
                self._judge(record, status, absent_for)
            case Look.UNWANTED:
                self._client.cancel([record])
            case Look.REQUEUED:
                self._account_for_requeue(record, status)
            case Look.HELD if self._clock() - self._memory.held.get(record.token, 0.0) >= LOOK_EVERY:
                self._look_behind_hold(record, status)
            case Look.IN_VAIN if not self._mover.follow_dependencies(record, over=status.state.final):
                self._judge(record, status, absent_for)

    def _absent_for(self, record: Record, status: JobStatus) -> float:
        """Return for how long its scheduler has not known a job; not to be reached is another thing."""
        now = self._clock()
        since = (record.absent_since or now) if _is_gone(status) else None
        if since != record.absent_since:
            self._ledger.absent(record, since)
        return now - since if since is not None else 0.0

    def _go_on_moving(self, record: Record, status: JobStatus) -> None:
        """Carry on where a move was cut."""
        absent_for = self._absent_for(record, status)
        with self._attempts.owned(record) as current:
            if current is not None and current.attempt == record.attempt:
                self._attempts.take_back(current, absent_for=absent_for if _is_gone(status) else None)

    def _evidence(self, record: Record, status: JobStatus, absent_for: float = 0.0) -> Evidence:
        site, _, transport = self._client.reach(record)
        return evidence.gather(record, status, site, transport, now=self._clock(), absent_for=absent_for)

    def _judge(self, record: Record, status: JobStatus, absent_for: float) -> None:
        """Find out why an attempt is over, and do what follows."""
        if record.phase is Phase.REFUSED and record.attempt == 1:
            self._client.forget_secrets([record])
            self._ledger.settle([record.token])
            return
        seen = None if record.phase is Phase.REFUSED else self._evidence(record, status, absent_for)
        cause = recover.find_cause(seen) if seen else self._attempts.why_refused(record)
        if seen and seen.done:
            self._was_done(record, status)
        elif cause is None:
            self._journal.tell_once(record, "unknown", f"{status.reason}; it is asked about again, nothing is guessed")
        else:
            self._follow_up(record, status, cause)

    def _follow_up(self, record: Record, status: JobStatus, cause: Cause) -> None:
        spent, past = record.cost(self._clock()), self._journal.past(record)
        step = recover.next_step(cause, self._attempts.spec(record), past, spent, wanted=not record.unwanted)
        if step.next is Next.GIVE_UP:
            self._settle(record, cause.value, step.why)
        elif self._has_rested(record, step):
            self._try_again(record, cause, step)

    def _has_rested(self, record: Record, step: Step) -> bool:
        """Whether the pause before a new attempt is over, by this machine's clock: a site's may differ by minutes."""
        if not step.pause:
            return True
        since = self._journal.tell_once(record, "waits", f"{step.why}, after {format_duration(step.pause)}")
        return self._clock() - since >= step.pause

    def _was_done(self, record: Record, status: JobStatus) -> None:
        """Settle a job whose work was done when its node, its controller or its walltime came in between."""
        word = status.native_state or status.state.value
        done = replace(status, state=JobState.COMPLETED, exit_code=0, signal=None)
        self._ledger.correct(record, replace(done, ended_at=status.ended_at or self._clock()))
        self._settle(record, "completed", f"its exit marker says so, though its scheduler says {word}")

    def _look_behind_hold(self, record: Record, status: JobStatus) -> None:
        """Find out why a job is held that was released: a controller that is killed forgets that, and that it ran."""
        if record.plan.hold:
            pass  # it was never released
        elif self._evidence(record, status).done:
            self._remnants.end(record)
            self._was_done(record, status)
        elif self._remnants.remind(record):
            self._journal.tell(record, "released", "once more: its controller had forgotten that it was")
        else:
            self._journal.tell_once(record, "held", "it was released, and is held: by you or an administrator")
        self._memory.held[record.token] = self._clock()

    def _settle(self, record: Record, kind: str, why: str) -> None:
        self._client.forget_secrets([record])
        self._journal.tell(record, kind, why)
        self._ledger.settle([record.token])

    def _try_again(self, record: Record, cause: Cause, step: Step) -> None:
        with self._attempts.owned(record) as current:
            if current is None or current.attempt != record.attempt or self._lives_again(current):
                return
            avoid = f"{record.site}/{record.partition}" if step.next is Next.ELSEWHERE else ""
            wish = self._attempts.wish(current, spent=current.cost(self._clock()), avoid=avoid)
            plan = self._attempts.plan(wish, self._planner) if wish else None
            if plan is None:
                self._no_site(current, cause, step)
            else:
                self._attempts.make(current, plan, cause.value, step.why)

    def _lives_again(self, record: Record) -> bool:
        """Ask once more before anything follows: an administrator may have requeued what had ended."""
        if record.phase is Phase.REFUSED or not record.state.final:
            return False
        status = self._client.ask_again([record])[record.token]
        if status.state.final or status.state is JobState.UNKNOWN:
            return False
        self._ledger.correct(record, status)
        self._journal.tell(record, "requeued", "it had ended, and was put back into its queue at the site")
        return True

    def _no_site(self, record: Record, cause: Cause, step: Step) -> None:
        since = self._journal.tell_once(record, "no_site", f"{step.why}; no site takes it now")
        if self._clock() - since > NO_SITE_FOR:
            self._settle(record, cause.value, "given up: no site took it for a day")

    def _account_for_requeue(self, record: Record, status: JobStatus) -> None:
        """Write down that a scheduler has requeued a job itself; end what it requeues more often than is allowed."""
        cause = recover.find_requeue(self._evidence(record, status), self._clock())
        if cause is None:
            return
        cost = evidence.run_seconds(record, status, self._client.reach(record)[2]) / 3600 * record.usd_per_hour
        why = f"requeued by its scheduler, restart {status.restarts}"
        now, kind = self._clock(), cause.value
        if self._ledger.requeued(record, restarts=status.restarts, spent=cost, kind=kind, why=why, now=now):
            self._journal.last(record)
        if recover.over_allowance(cause, self._attempts.spec(record), self._journal.past(record)) and _waits(status):
            self._journal.tell(record, "ended", "its scheduler requeued it more often than `retries` allows")
            self._client.cancel([record])

    @cached_property
    def _mover(self) -> Mover:
        return Mover(
            client=self._client,
            attempts=self._attempts,
            journal=self._journal,
            planner=self._planner,
            moving=self._moving,
        )

    def _consider_moves(self, records: Sequence[Record]) -> None:
        now, looked = self._clock(), self._memory.looked
        for record in longest_first([each for each in records if now - looked.get(each.token, 0.0) >= LOOK_EVERY]):
            looked[record.token] = now
            self._guarded(self._mover.consider, record)


def _is_gone(status: JobStatus) -> bool:
    return status.reason in (following.GONE, CLOSED)


def _waits(status: JobStatus | None) -> bool:
    return status is not None and status.state is JobState.PENDING

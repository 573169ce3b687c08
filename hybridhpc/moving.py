"""Pending jobs that would do better elsewhere: thought of now and then, and moved, or only spoken of."""

from __future__ import annotations

from collections.abc import Sequence

from hybridhpc.attempts import Attempts
from hybridhpc.client import Client
from hybridhpc.decide import move
from hybridhpc.decide.candidate import Choice
from hybridhpc.decide.move import Advice, Waiting
from hybridhpc.decide.recover import Cause
from hybridhpc.journal import Journal
from hybridhpc.ledger.base import Event, Record
from hybridhpc.model import JobSpec, JobState, Move, Work
from hybridhpc.planning import Planner, Wish
from hybridhpc.sites.site import Site
from hybridhpc.sites.snapshot import Snapshot
from hybridhpc.values import dataclass

MOST_LOOKED_AT = 50
"""Pending jobs thought of in one pass, those that wait longest first."""

QUEUED = {"submitted", Cause.PREEMPTED.value, Cause.NODE_FAIL.value, Cause.BOOT_FAIL.value}
"""Events after which a job waits anew: it was placed, or its scheduler requeued it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mover:
    """Thinks about one person's pending jobs; `moving` holds for those whose spec says nothing about it."""

    client: Client
    attempts: Attempts
    journal: Journal
    planner: Planner
    moving: Move

    def consider(self, record: Record) -> None:
        """Move a job, or say where it would do better, if its policy wants that. Raises HpcError."""
        (record,) = self.client.ledger.current([record.token])
        spec = record.plan.spec
        moving = (spec.move if spec else None) or self.moving
        if spec is None or moving is Move.OFF or record.state is not JobState.PENDING or record.unwanted:
            return
        events = self.client.ledger.events(record.token)
        waiting = self._waiting(record, spec, events)
        advice = move.STAY if move.stays_for(waiting) else self._advice(record, waiting)
        if advice.to is None:
            return
        if moving is Move.ON:
            self._move(record, advice)
        elif not _is_said(events, advice.to):
            self.journal.tell(record, "advice", f"{advice.to.candidate.name} would be better: {advice.why}")

    def follow_dependencies(self, record: Record, *, over: bool) -> bool:
        """Submit anew what comes after a job that failed, once that has a new attempt; False if nothing will follow.

        `over`: it is cancelled, as some sites do at once. One that was seen to wait in vain before, a person cancelled.
        """
        if over and (self.journal.has_told(record, "stuck") or not self.attempts.may_follow(record)):
            return False
        if self.attempts.waits_in_vain(record):
            wish = self.attempts.wish(record, spent=record.spent)
            self._place(record, wish, "what it comes after has a new attempt")
        elif not over:
            self.journal.tell_once(record, "stuck", "what it comes after failed: it waits for a new attempt of that")
        return True

    def _move(self, record: Record, advice: Advice) -> None:
        wish = self.attempts.wish(record, spent=record.spent, avoid=f"{record.site}/{record.partition}")
        self._place(record, wish, advice.why)

    def _place(self, record: Record, wish: Wish | None, why: str) -> None:
        plan = self.attempts.plan(wish, self.planner) if wish else None
        if plan is None:
            return
        with self.attempts.owned(record) as current:
            if current is not None and (current.attempt, current.state) == (record.attempt, record.state):
                self.attempts.move(current, plan, why)

    def _waiting(self, record: Record, spec: JobSpec, events: Sequence[Event]) -> Waiting:
        # By this machine's clock alone: a site's may differ by minutes.
        since = max([record.created_at, *(event.at for event in events if event.kind in QUEUED)])
        return Waiting(
            spec=spec,
            site=record.site,
            partition=record.partition,
            job_id=record.job_id,
            reason=record.reason,
            waited=self.client.clock() - since,
            moves=sum(event.kind == "moved" for event in events),
            tied=self._tied(record, spec, events),
        )

    def _tied(self, record: Record, spec: JobSpec, events: Sequence[Event]) -> str:
        """Say what binds a job to its place."""
        for event in events:
            if event.kind == "unable" and event.attempt == record.attempt:
                return event.text
        if record.restarts and not (isinstance(spec.payload, Work) and spec.payload.checkpoint):
            return "it has run there, and has no checkpoint to go on from elsewhere"
        dependents = self.client.ledger.dependents(record)
        return f"{dependents[0].ref} waits for it there" if dependents else ""

    def _advice(self, record: Record, waiting: Waiting) -> Advice:
        found = {
            site.name: (site, answer)
            for site, answer in self.planner.look(waiting.spec)
            if isinstance(site, Site) and isinstance(answer, Snapshot)
        }
        wish = self.attempts.wish(record, spent=record.spent)
        if record.site not in found or wish is None:
            return move.STAY
        history = self.client.ledger.history()
        staying = move.waits_where(waiting, *found[record.site], history, self.client.clock())
        return move.judge(waiting, staying, self.planner.rank(wish.spec, history))


def _is_said(events: Sequence[Event], to: Choice) -> bool:
    """Whether that place was the last one advised: figures change with every look."""
    said = [event for event in events if event.kind == "advice"]
    return bool(said) and said[-1].text.startswith(f"{to.candidate.name} ")


def longest_first(records: Sequence[Record]) -> list[Record]:
    """Return the pending jobs to think of in one pass."""
    return sorted(records, key=lambda record: record.submitted_at or record.created_at)[:MOST_LOOKED_AT]

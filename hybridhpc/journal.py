"""What an agent did and why: written into the ledger, and reported as it happens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

from hybridhpc.clock import Clock
from hybridhpc.decide.recover import Cause
from hybridhpc.ledger.base import Event, Ledger, Record
from hybridhpc.values import dataclass

_CAUSES = {cause.value: cause for cause in Cause}


@dataclass(frozen=True, slots=True, kw_only=True)
class Journal:
    """The events of jobs. `report` is told each as it is written."""

    ledger: Ledger
    clock: Clock
    report: Callable[[Event], None]

    def tell(self, record: Record, kind: str, text: str) -> float:
        """Write down an event, one word for it and why; return when that was."""
        now = self.clock()
        self.ledger.tell(record, kind, text, now=now)
        self.report(Event(token=record.token, attempt=record.attempt, at=now, kind=kind, text=text))
        return now

    def tell_once(self, record: Record, kind: str, text: str) -> float:
        """Write an event down unless it is the last of its kind about this attempt; return when it was told."""
        said = [event for event in self.ledger.events(record.token) if event.kind == kind]
        if said and (said[-1].text, said[-1].attempt) == (text, record.attempt):
            return said[-1].at
        return self.tell(record, kind, text)

    def has_told(self, record: Record, kind: str) -> bool:
        """Whether such an event was written down about this attempt."""
        told = self.ledger.events(record.token)
        return any((event.kind, event.attempt) == (kind, record.attempt) for event in told)

    def last(self, record: Record) -> None:
        """Report what the ledger itself wrote down last about a job."""
        self.report(self.ledger.events(record.token)[-1])

    def past(self, record: Record) -> Mapping[Cause, int]:
        """Return how often each cause of an end was met."""
        return Counter(_CAUSES[event.kind] for event in self.ledger.events(record.token) if event.kind in _CAUSES)

"""What a controller that was killed has forgotten: that a job was released, that it ran, that it is over.

slurmctld saves its state every 5 seconds; killed, it goes on from there. What it then has of a job may be older than
what it has said of it before.
"""

from __future__ import annotations

from collections.abc import Sequence

from hybridhpc import evidence, following
from hybridhpc.client import Client
from hybridhpc.decide import recover
from hybridhpc.journal import Journal
from hybridhpc.ledger.base import Record
from hybridhpc.model import JobState, JobStatus
from hybridhpc.values import dataclass

FORGETS = 60.0
"""Seconds after which a controller remembers what it said, even if it is killed then."""
MOST_REMINDERS = 3
"""How often an attempt is released again: a person may be holding it in a way that looks like forgetting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Remnants:
    """Finds out about them, for one person, and ends them."""

    client: Client
    journal: Journal

    def remind(self, record: Record) -> bool:
        """Release a job again if its controller has forgotten that it was; return whether that was so."""
        site, scheduler, transport = self.client.reach(record)
        command = scheduler.remind_command(site, record.job_id)
        reminders = [event for event in self.client.ledger.events(record.token) if event.kind == "released"]
        told = sum(event.attempt == record.attempt for event in reminders)
        return command is not None and told < MOST_REMINDERS and scheduler.parse_remind(transport.run(command))

    def end(self, record: Record) -> None:
        """Cancel what a controller holds, or is about to run, of a job that is over."""
        site, scheduler, transport = self.client.reach(record)
        scheduler.parse_cancel(transport.run(scheduler.cancel_command(site, [record.job_id])))

    def look_back(self, resting: set[str]) -> list[tuple[Record, JobStatus | None]]:
        """Ask once more, but for sites that rest now, about jobs of which nothing was to follow."""
        over = self.client.ledger.unconfirmed(self.client.clock() - FORGETS)
        asked = [record for record in over if record.site not in resting]
        statuses = self.client.ask_again(asked) if asked else {}
        return [(record, statuses.get(record.token)) for record in asked]

    def confirm(self, record: Record, status: JobStatus | None) -> None:
        """Write down that nothing is left of a job that is over, or end what is; one that was requeued is let run."""
        if status is None or status.state.final or status.reason == following.GONE:
            self.client.ledger.confirm([record.token])
        elif status.state is JobState.PENDING and recover.is_remnant(status, record.restarts, self._begun(record)):
            self.journal.tell(record, "remnant", "it is over, and its controller had forgotten that: cancelled")
            self.end(record)

    def _begun(self, record: Record) -> Sequence[int]:
        markers = evidence.read_markers(self.client.reach(record)[2], record.job_dir)
        return [restarts for _, restarts in markers.begun]

"""What follows a first attempt, in the SQLite ledger: proposals, new attempts, events, and who looks after them."""

from __future__ import annotations

import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from hybridhpc.ledger.base import Event, Phase, Record
from hybridhpc.ledger.file import as_ledger_error
from hybridhpc.ledger.owner import Owners
from hybridhpc.model import JobStatus
from hybridhpc.script.plan import Plan
from hybridhpc.script.plan_text import render_plan

_PROPOSE = """
INSERT OR IGNORE INTO attempts (token, attempt, phase, site, partition, tasks, usd_per_hour, plan, job_dir)
SELECT ?, ?, ?, ?, ?, ?, ?, ?, ? FROM jobs WHERE token = ? AND attempt = ?"""


class Attempts(ABC):
    """The part of SqliteLedger that an agent needs. Each change is one transaction that checks what it builds on."""

    _db: sqlite3.Connection
    _path: Path
    _owners: Owners

    @abstractmethod
    def _transaction(self) -> AbstractContextManager[None]: ...

    @abstractmethod
    def _select(self, which: str, values: Sequence[object] = (), *, latest: bool = True) -> tuple[Record, ...]: ...

    def current(self, tokens: Sequence[str]) -> tuple[Record, ...]:
        """See Ledger.current."""
        return tuple(record for token in tokens for record in self._select("j.token = ?", (token,)))

    def absent(self, record: Record, since: float | None) -> None:
        """See Ledger.absent."""
        with self._transaction():
            self._db.execute(
                "UPDATE attempts SET absent_since = ? WHERE token = ? AND attempt = ?",
                (since, record.token, record.attempt),
            )

    def correct(self, record: Record, status: JobStatus) -> None:
        """See Ledger.correct."""
        known = (status.state.value, status.native_state, status.ended_at, status.exit_code, status.signal)
        with self._transaction():
            self._db.execute(
                "UPDATE attempts SET state = ?, native_state = ?, ended_at = ?, exit_code = ?, signal = ?"
                " WHERE token = ? AND attempt = ?",
                (*known, record.token, record.attempt),
            )

    def dependents(self, record: Record) -> tuple[Record, ...]:
        """See Ledger.dependents."""
        comes_after = "EXISTS (SELECT 1 FROM json_each(a.plan, '$.options') WHERE value || ',' GLOB ?)"
        which = f"a.site = ? AND a.state IN ('PENDING', 'UNKNOWN') AND j.settled = 0 AND {comes_after}"
        return self._select(which, (record.site, f"--dependency=*after*:{record.job_id},*"))

    def unsettled(self) -> tuple[Record, ...]:
        """See Ledger.unsettled."""
        return self._select("j.settled = 0 ORDER BY j.created_at")

    def settle(self, tokens: Sequence[str]) -> None:
        """See Ledger.settle."""
        with self._transaction():
            self._db.executemany("UPDATE jobs SET settled = 1 WHERE token = ?", [(token,) for token in tokens])

    def unconfirmed(self, before: float) -> tuple[Record, ...]:
        """See Ledger.unconfirmed."""
        recent = "EXISTS (SELECT 1 FROM events e WHERE e.token = j.token AND e.at > ?)"
        return self._select(f"j.settled = 1 AND NOT {recent} ORDER BY j.created_at", (before,))

    def confirm(self, tokens: Sequence[str]) -> None:
        """See Ledger.confirm."""
        with self._transaction():
            self._db.executemany(
                "UPDATE jobs SET settled = 2 WHERE token = ? AND settled = 1", [(token,) for token in tokens]
            )

    def unwant(self, tokens: Sequence[str]) -> tuple[Record, ...]:
        """See Ledger.unwant."""
        with self._transaction():
            self._db.executemany("UPDATE jobs SET unwanted = 1 WHERE token = ?", [(token,) for token in tokens])
        return tuple(record for token in tokens for record in self._select("j.token = ?", (token,)))

    def propose(self, record: Record, plan: Plan, *, job_root: str) -> Record | None:
        """See Ledger.propose."""
        number = record.attempt + 1
        place = (plan.site, plan.partition, plan.tasks, plan.usd_per_hour)
        row = (record.token, number, Phase.PROPOSED.value, *place, render_plan(plan))
        with self._transaction():
            made = self._db.execute(
                _PROPOSE,
                (*row, f"{job_root}/{record.token}/{number}", record.token, record.attempt),
            ).rowcount
        return self.proposed(record) if made else None

    def proposed(self, record: Record) -> Record | None:
        """See Ledger.proposed."""
        which = "j.token = ? AND a.attempt = ? AND a.phase = ?"
        found = self._select(which, (record.token, record.attempt + 1, Phase.PROPOSED.value), latest=False)
        return found[0] if found else None

    def proposals(self) -> frozenset[str]:
        """See Ledger.proposals."""
        with as_ledger_error(self._path):
            sql = "SELECT token FROM attempts WHERE phase = ?"
            return frozenset(token for (token,) in self._db.execute(sql, (Phase.PROPOSED.value,)))

    def drop_proposal(self, record: Record) -> None:
        """See Ledger.drop_proposal."""
        with self._transaction():
            self._db.execute(
                "DELETE FROM attempts WHERE token = ? AND attempt = ? AND phase = ?",
                (record.token, record.attempt + 1, Phase.PROPOSED.value),
            )

    def begin(self, record: Record, *, kind: str, why: str, now: float) -> Record | None:
        """See Ledger.begin."""
        follower = self.proposed(record)
        number = record.attempt + 1
        with self._transaction():
            made = (
                follower is not None
                and self._db.execute(
                    "UPDATE jobs SET attempt = ?, settled = 0 WHERE token = ? AND attempt = ? AND unwanted = 0",
                    (number, record.token, record.attempt),
                ).rowcount
            )
            if made:
                self._db.execute(
                    "UPDATE attempts SET phase = ?, spent = ? WHERE token = ? AND attempt = ?",
                    (Phase.INTENT.value, record.cost(now), record.token, number),
                )
                self._insert_event(record.token, record.attempt, kind, why, now)
        return self._select("j.token = ?", (record.token,))[0] if made else None

    def requeued(self, record: Record, *, restarts: int, spent: float, kind: str, why: str, now: float) -> bool:
        """See Ledger.requeued."""
        with self._transaction():
            changed = self._db.execute(
                "UPDATE attempts SET spent = spent + ?, restarts = ? WHERE token = ? AND attempt = ? AND restarts < ?",
                (spent, restarts, record.token, record.attempt, restarts),
            ).rowcount
            if changed:
                self._insert_event(record.token, record.attempt, kind, why, now)
        return bool(changed)

    def attempts(self, token: str) -> tuple[Record, ...]:
        """See Ledger.attempts."""
        return self._select("j.token = ? ORDER BY a.attempt", (token,), latest=False)

    def tell(self, record: Record, kind: str, text: str, *, now: float) -> None:
        """See Ledger.tell."""
        with self._transaction():
            self._insert_event(record.token, record.attempt, kind, text, now)

    def events(self, token: str) -> tuple[Event, ...]:
        """See Ledger.events."""
        with as_ledger_error(self._path):
            rows = self._db.execute(
                "SELECT token, attempt, at, kind, text FROM events WHERE token = ? ORDER BY id", (token,)
            ).fetchall()
        return tuple(
            Event(token=token, attempt=attempt, at=at, kind=kind, text=text) for _, attempt, at, kind, text in rows
        )

    def lease(self, name: str, owner: str, *, until: float, now: float) -> bool:
        """See Ledger.lease. The lock of a holder that died is free at once; one that only went silent is waited out."""
        free = self._owners.take(f"lease-{name}")
        with self._transaction():
            taken = self._db.execute(
                "INSERT INTO leases (name, owner, until) VALUES (?, ?, ?)"
                " ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, until = excluded.until"
                " WHERE ? OR owner = excluded.owner OR until <= ?",
                (name, owner, until, free, now),
            ).rowcount
        if until <= now:
            self._owners.drop(f"lease-{name}", for_good=True)
        return bool(taken)

    def leased(self, name: str, *, now: float) -> bool:
        """See Ledger.leased."""
        with as_ledger_error(self._path):
            sql = "SELECT 1 FROM leases WHERE name = ? AND until > ?"
            recent = self._db.execute(sql, (name, now)).fetchone() is not None
        return recent and self._owners.is_taken(f"lease-{name}")

    def _insert_event(self, token: str, attempt: int, kind: str, text: str, now: float) -> None:
        self._db.execute(
            "INSERT INTO events (token, attempt, at, kind, text) VALUES (?, ?, ?, ?, ?)",
            (token, attempt, now, kind, text),
        )

"""What follows a first attempt, in the SQLite ledger: proposals, new attempts, events, and who looks after them."""

from __future__ import annotations

import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from hybridhpc.ledger.base import Event, Phase, Record
from hybridhpc.ledger.file import as_ledger_error
from hybridhpc.script.plan import Plan
from hybridhpc.script.plan_text import render_plan

_PROPOSE = """
INSERT OR IGNORE INTO attempts (token, attempt, phase, site, partition, tasks, usd_per_hour, plan, job_dir)
SELECT ?, ?, ?, ?, ?, ?, ?, ?, ? FROM jobs WHERE token = ? AND attempt = ?"""


class Attempts(ABC):
    """The part of SqliteLedger that an agent needs. Each change is one transaction that checks what it builds on."""

    _db: sqlite3.Connection
    _path: Path

    @abstractmethod
    def _transaction(self) -> AbstractContextManager[None]: ...

    @abstractmethod
    def _select(self, which: str, values: Sequence[object] = (), *, latest: bool = True) -> tuple[Record, ...]: ...

    def unsettled(self) -> tuple[Record, ...]:
        """See Ledger.unsettled."""
        return self._select("j.settled = 0 ORDER BY j.created_at")

    def settle(self, tokens: Sequence[str]) -> None:
        """See Ledger.settle."""
        with self._transaction():
            self._db.executemany("UPDATE jobs SET settled = 1 WHERE token = ?", [(token,) for token in tokens])

    def unwant(self, token: str) -> Record:
        """See Ledger.unwant."""
        with self._transaction():
            self._db.execute("UPDATE jobs SET unwanted = 1 WHERE token = ?", (token,))
        return self._select("j.token = ?", (token,))[0]

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
        """See Ledger.lease."""
        with self._transaction():
            return bool(
                self._db.execute(
                    "INSERT INTO leases (name, owner, until) VALUES (?, ?, ?) ON CONFLICT (name) DO UPDATE"
                    " SET owner = excluded.owner, until = excluded.until WHERE owner = excluded.owner OR until <= ?",
                    (name, owner, until, now),
                ).rowcount
            )

    def _insert_event(self, token: str, attempt: int, kind: str, text: str, now: float) -> None:
        self._db.execute(
            "INSERT INTO events (token, attempt, at, kind, text) VALUES (?, ?, ?, ?, ?)",
            (token, attempt, now, kind, text),
        )

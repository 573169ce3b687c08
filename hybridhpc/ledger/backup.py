"""Copies of the ledger that make themselves: after a change, now and then, in a folder beside it; the latest stay.

They are made when a job is known and its ref printed, never before: no submission waits for one. A copy that cannot be
made costs nobody a command, and one that is damaged takes no good one's place.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

KEPT = 3
AFTER_JOBS = 100
AFTER_SECONDS = 86400.0
"""A copy is due after so many jobs, or at the first change after so long."""
_NAME = re.compile(r"ledger\.([0-9]{1,12})\.sqlite")


@dataclass(frozen=True, slots=True, kw_only=True)
class Backup:
    """One copy, and how many jobs it has."""

    path: Path
    jobs: int
    made_at: float
    """Seconds since the epoch."""


def backups(ledger: Path) -> tuple[Backup, ...]:
    """Return the copies of a ledger, newest first. Raises OSError."""
    found = []
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        for path in _folder(ledger).iterdir():
            if match := _NAME.fullmatch(path.name):
                found.append(Backup(path=path, jobs=int(match[1]), made_at=path.stat().st_mtime))
    return tuple(sorted(found, key=lambda backup: -backup.made_at))


def backup_if_due(database: sqlite3.Connection, ledger: Path) -> None:
    """Make a copy if the last one is old, and drop the oldest beyond those kept. Raises nothing."""
    with contextlib.suppress(OSError, sqlite3.Error):
        if _is_due(database, ledger):
            _folder(ledger).mkdir(mode=0o700, exist_ok=True)
            with _alone(_folder(ledger)) as alone:
                if alone and _is_due(database, ledger):
                    _make(database, ledger)


def damage(database: sqlite3.Connection) -> str:
    """Say what SQLite finds wrong with a file; empty if nothing. Raises sqlite3.Error."""
    (found,) = database.execute("PRAGMA quick_check(1)").fetchone()
    return "" if found == "ok" else str(found).replace("\n", " ")


def _is_due(database: sqlite3.Connection, ledger: Path) -> bool:
    made = backups(ledger)
    if not made:
        return True
    changed = [path.stat().st_mtime for path in (ledger, ledger.with_name(f"{ledger.name}-wal")) if path.exists()]
    return abs(_jobs(database) - made[0].jobs) >= AFTER_JOBS or max(changed) - made[0].made_at >= AFTER_SECONDS


def _jobs(database: sqlite3.Connection) -> int:
    """Count jobs without reading them: rows are numbered, and none is ever removed."""
    (number,) = database.execute("SELECT IFNULL(MAX(rowid), 0) FROM jobs").fetchone()
    return int(number)


def _make(database: sqlite3.Connection, ledger: Path) -> None:
    """Copy the ledger as it is at one moment; the copy has its name once it is whole and on the disk."""
    folder = _folder(ledger)
    for left_over in folder.glob(".draft.*"):
        left_over.unlink()
    draft = folder / f".draft.{os.urandom(6).hex()}"
    os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    try:
        with contextlib.closing(sqlite3.connect(draft)) as copy:
            database.backup(copy)
            if damage(copy):
                return
            jobs = _jobs(copy)
        draft.replace(folder / f"ledger.{jobs}.sqlite")
        for old in backups(ledger)[KEPT:]:
            old.path.unlink()
    finally:
        for left_over in folder.glob(f"{draft.name}*"):
            left_over.unlink()


def _folder(ledger: Path) -> Path:
    return ledger.with_name("backups")


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[bool]:
    """Tell whether nobody else makes a copy now; the kernel forgets whoever dies of it."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield True
    except BlockingIOError:
        yield False
    finally:
        os.close(descriptor)

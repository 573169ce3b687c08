"""The ledger in one SQLite file, for many processes at once (sqlite.org/wal.html), private to its owner."""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from hybridhpc.errors import LedgerError, NotFound
from hybridhpc.ledger.base import Phase, Record
from hybridhpc.ledger.owner import Owners
from hybridhpc.model import JobState, JobStatus
from hybridhpc.script.plan import Plan
from hybridhpc.script.plan_text import parse_plan, render_plan
from hybridhpc.sites.snapshot import PastJob

_TABLES = """
CREATE TABLE jobs (
    token TEXT PRIMARY KEY, name TEXT NOT NULL, request TEXT NOT NULL, created_at REAL NOT NULL,
    announced INTEGER NOT NULL DEFAULT 0, attempt INTEGER NOT NULL DEFAULT 1
) STRICT;
CREATE TABLE attempts (
    token TEXT NOT NULL REFERENCES jobs, attempt INTEGER NOT NULL, phase TEXT NOT NULL,
    site TEXT NOT NULL, partition TEXT NOT NULL, plan TEXT NOT NULL, job_dir TEXT NOT NULL,
    job_id TEXT NOT NULL DEFAULT '', log TEXT NOT NULL DEFAULT '',
    state TEXT NOT NULL DEFAULT 'UNKNOWN', native_state TEXT NOT NULL DEFAULT '', reason TEXT NOT NULL DEFAULT '',
    submitted_at REAL, started_at REAL, ended_at REAL, exit_code INTEGER, signal INTEGER,
    PRIMARY KEY (token, attempt)
) STRICT;
CREATE INDEX jobs_by_request ON jobs (request) WHERE announced = 0;
CREATE INDEX jobs_by_name ON jobs (name, created_at);
CREATE INDEX jobs_by_age ON jobs (created_at);
CREATE INDEX attempts_by_ref ON attempts (job_id, site);
"""
_UPGRADES = (
    """
ALTER TABLE jobs ADD COLUMN sweep TEXT NOT NULL DEFAULT '';
CREATE INDEX jobs_by_sweep ON jobs (sweep) WHERE sweep != '';
CREATE TABLE forecasts (
    token TEXT NOT NULL, attempt INTEGER NOT NULL, made_at REAL NOT NULL,
    start_p50 REAL NOT NULL, start_p90 REAL NOT NULL, run_p50 REAL NOT NULL, run_p90 REAL NOT NULL,
    PRIMARY KEY (token, attempt), FOREIGN KEY (token, attempt) REFERENCES attempts
) STRICT;
""",
)
"""What makes each schema the next one, beginning with schema 1: a new ledger passes through all of them."""
SCHEMA = 1 + len(_UPGRADES)
_COLUMNS = """
    j.token, j.attempt, j.name, a.phase, j.announced, a.plan, a.job_dir, a.job_id, a.log, j.created_at, a.state,
    a.native_state, a.reason, a.submitted_at, a.started_at, a.ended_at, a.exit_code, a.signal"""
_JOBS = f"SELECT {_COLUMNS} FROM jobs j JOIN attempts a ON a.token = j.token AND a.attempt = j.attempt"  # noqa: S608
_LIVE = tuple(state.value for state in JobState if not state.final)
ANNOUNCE_WITHIN = 86400.0
"""Seconds for which a submitted job whose ref was never printed is given to whoever repeats the command."""


class SqliteLedger:
    """See Ledger. The guarantee of one job per wish holds per file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with _as_ledger_error(path):
            _private(path.parent)
            _create(path)
            self._db = sqlite3.connect(path, timeout=60, isolation_level=None)
            self._db.execute("PRAGMA synchronous = FULL")
            if _schema(self._db, path) < SCHEMA:
                self._upgrade()
            locks = path.with_name("owners")
            locks.mkdir(mode=0o700, exist_ok=True)
        self._owners = Owners(locks)

    def intend(self, plan: Plan, *, request: str, job_root: str, now: float) -> Record:
        """See Ledger.intend."""
        token = secrets.token_hex(10)
        self._owners.take(token)
        with self._transaction():
            self._db.execute(
                "INSERT INTO jobs (token, name, request, created_at) VALUES (?, ?, ?, ?)",
                (token, plan.name, request, now),
            )
            self._db.execute(
                "INSERT INTO attempts (token, attempt, phase, site, partition, plan, job_dir)"
                " VALUES (?, 1, ?, ?, ?, ?, ?)",
                (token, Phase.INTENT.value, plan.site, plan.partition, render_plan(plan), f"{job_root}/{token}/1"),
            )
        return self._record(token)

    def interrupted(self, request: str, *, now: float) -> Record | None:
        """See Ledger.interrupted."""
        sql = f"{_JOBS} WHERE j.request = ? AND j.announced = 0 AND a.phase != 'REFUSED' ORDER BY j.created_at"
        for record in self._records(sql, (request,)):
            too_old = record.phase is Phase.SUBMITTED and record.created_at < now - ANNOUNCE_WITHIN
            if too_old or not self._owners.take(record.token):
                continue
            current = self._record(record.token)
            if not current.announced and current.phase is not Phase.REFUSED:
                return current
            self._owners.drop(record.token, for_good=True)
        return None

    def own(self, token: str) -> bool:
        """See Ledger.own."""
        return self._owners.take(token)

    def submitted(self, token: str, *, job_id: str, log: str, now: float) -> Record:
        """See Ledger.submitted."""
        self._update(token, phase=Phase.SUBMITTED.value, job_id=job_id, log=log, state="PENDING", submitted_at=now)
        return self._record(token)

    def refused(self, token: str, reason: str, *, now: float) -> None:
        """See Ledger.refused."""
        self._update(
            token, phase=Phase.REFUSED.value, state="FAILED", native_state="REFUSED", reason=reason, ended_at=now
        )
        self._owners.drop(token, for_good=True)

    def announced(self, token: str) -> None:
        """See Ledger.announced."""
        with self._transaction():
            self._db.execute("UPDATE jobs SET announced = 1 WHERE token = ?", (token,))
        self._owners.drop(token, for_good=True)

    def seen(self, statuses: Sequence[tuple[str, JobStatus]]) -> None:
        """See Ledger.seen."""
        with self._transaction():
            for token, status in statuses:
                self._set(token, _status_columns(status))

    def find(self, word: str) -> Record:
        """See Ledger.find."""
        site, colon, job_id = word.partition(":")
        queries = (
            ("a.site = ? AND a.job_id = ?", (site, job_id)) if colon else ("j.token = ?", (word,)),
            ("j.token GLOB ?", (f"{word}*",)) if len(word) >= 4 and word.isalnum() else ("0", ()),
            ("a.job_id = ?", (word,)),
            ("j.name = ?", (word,)),
        )
        for where, values in queries:
            living = f"a.state IN ({', '.join('?' * len(_LIVE))})"
            sql = f"{_JOBS} WHERE {where} ORDER BY {living} DESC, j.created_at DESC LIMIT 1"
            found = self._records(sql, (*values, *_LIVE))
            if found:
                return found[0]
        raise NotFound(
            f"no job {word!r} in the ledger", hint="`hpc status` lists them; give a ref (site:jobid), a token or a name"
        )

    def records(self, *, live_only: bool = False, limit: int = 1000) -> tuple[Record, ...]:
        """See Ledger.records."""
        live = f"WHERE a.state IN ({', '.join('?' * len(_LIVE))})" if live_only else ""
        return self._records(
            f"{_JOBS} {live} ORDER BY j.created_at DESC LIMIT ?", (*(_LIVE if live_only else ()), limit)
        )

    def history(self, *, limit: int = 500) -> tuple[PastJob, ...]:
        """See Ledger.history."""
        sql = f"{_JOBS} WHERE a.started_at IS NOT NULL AND a.ended_at IS NOT NULL ORDER BY j.created_at DESC LIMIT ?"
        return tuple(_past(record) for record in self._records(sql, (limit,)))

    def _record(self, token: str) -> Record:
        return self._records(f"{_JOBS} WHERE j.token = ?", (token,))[0]

    def _records(self, sql: str, values: Sequence[object]) -> tuple[Record, ...]:
        with _as_ledger_error(self._path):
            return tuple(_parse_row(row) for row in self._db.execute(sql, tuple(values)))

    def _update(self, token: str, **columns: object) -> None:
        with self._transaction():
            self._set(token, columns)

    def _set(self, token: str, columns: dict[str, object]) -> None:
        assignments = ", ".join(f"{column} = ?" for column in columns)
        latest = "attempt = (SELECT attempt FROM jobs WHERE token = ?)"
        self._db.execute(
            f"UPDATE attempts SET {assignments} WHERE token = ? AND {latest}",  # noqa: S608
            (*columns.values(), token, token),
        )

    def _upgrade(self) -> None:
        """Bring a ledger of an older schema to ours, in one transaction; a copy of it is kept beside it."""
        copy = self._path.with_suffix(f".schema-{_schema(self._db, self._path)}")
        draft = copy.with_name(f".{copy.name}.{secrets.token_hex(6)}")
        _private_file(draft)
        with contextlib.closing(sqlite3.connect(draft)) as database:
            self._db.backup(database)
        draft.replace(copy)
        with self._transaction():
            for upgrade in _UPGRADES[_schema(self._db, self._path) - 1 :]:
                for statement in filter(str.strip, upgrade.split(";")):
                    self._db.execute(statement)
            self._db.execute(f"PRAGMA user_version = {SCHEMA}")

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        with _as_ledger_error(self._path):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")


def _create(path: Path) -> None:
    """Make the file complete under another name, then link it into place: fifty first users see one or none."""
    if path.exists():
        return
    draft = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    _private_file(draft)
    with contextlib.closing(sqlite3.connect(draft, isolation_level=None)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.executescript(f"BEGIN; {_TABLES} {' '.join(_UPGRADES)} PRAGMA user_version = {SCHEMA}; COMMIT;")
    with contextlib.suppress(FileExistsError):
        os.link(draft, path)
    for leftover in path.parent.glob(f"{draft.name}*"):
        leftover.unlink()


def _private_file(path: Path) -> None:
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))


def _schema(database: sqlite3.Connection, path: Path) -> int:
    """Return the schema of a ledger. Raises LedgerError if it is none, or newer than this program."""
    version: int = database.execute("PRAGMA user_version").fetchone()[0]
    if version == 0:
        raise LedgerError(f"{path} is empty or was not written by hybridhpc", hint="move it away, or restore it")
    if version > SCHEMA:
        raise LedgerError(
            f"{path} has schema {version}; this hybridhpc reads {SCHEMA}", hint="use the hybridhpc that wrote it"
        )
    return version


def _private(directory: Path) -> None:
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = directory.stat()
    if found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o022:
        raise LedgerError(
            f"{directory} belongs to another user or can be changed by others", hint="chmod 700, or set HPC_STATE_DIR"
        )


@contextlib.contextmanager
def _as_ledger_error(path: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise LedgerError(
            f"{path}: {error}", hint="is the disk full, or the file damaged or on a file system without locks?"
        ) from error


def _status_columns(status: JobStatus) -> dict[str, object]:
    columns: dict[str, object] = {
        "state": status.state.value,
        "native_state": status.native_state,
        "reason": status.reason,
        "exit_code": status.exit_code,
        "signal": status.signal,
        "started_at": status.started_at,
        "ended_at": status.ended_at,
    }
    return columns | ({"submitted_at": status.submitted_at} if status.submitted_at else {})


def _parse_row(row: tuple[object, ...]) -> Record:
    values = dict(zip(_FIELDS, row, strict=True))
    values["phase"] = Phase(values["phase"])
    values["announced"] = bool(values["announced"])
    values["plan"] = parse_plan(str(values["plan"]))
    values["state"] = JobState(values["state"])
    return Record(**values)  # type: ignore[arg-type]


_FIELDS = tuple(name.strip().split(".")[1] for name in _COLUMNS.split(","))


def _past(record: Record) -> PastJob:
    return PastJob(
        name=record.name,
        site=record.plan.site,
        partition=record.plan.partition,
        resources=record.plan.resources,
        array=None,
        submitted_at=record.submitted_at or record.created_at,
        started_at=record.started_at or 0.0,
        ended_at=record.ended_at or 0.0,
        completed=record.state is JobState.COMPLETED,
    )

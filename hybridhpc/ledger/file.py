"""The file of a SQLite ledger: made whole, opened by its owner alone, brought from older schemas to ours."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path

from hybridhpc.errors import LedgerError
from hybridhpc.ledger.backup import backups
from hybridhpc.ownership import exchangeable

PATIENCE = 60
"""Seconds that a command waits for another one to have written."""
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
    # What a list of jobs shows, so that it need not read ten thousand plans, each with its script.
    """
ALTER TABLE attempts ADD COLUMN tasks INTEGER NOT NULL DEFAULT 1;
ALTER TABLE attempts ADD COLUMN usd_per_hour REAL NOT NULL DEFAULT 0;
UPDATE attempts SET tasks = COALESCE(json_extract(plan, '$.tasks'), 1),
    usd_per_hour = json_extract(plan, '$.usd_per_hour');
""",
    # Several attempts: what became of each, what was done and why, who looks after them.
    """
ALTER TABLE jobs ADD COLUMN settled INTEGER NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN unwanted INTEGER NOT NULL DEFAULT 0;
ALTER TABLE attempts ADD COLUMN restarts INTEGER NOT NULL DEFAULT 0;
ALTER TABLE attempts ADD COLUMN spent REAL NOT NULL DEFAULT 0;
UPDATE jobs SET settled = 1 WHERE token IN
    (SELECT token FROM attempts WHERE state NOT IN ('PENDING', 'RUNNING', 'SUSPENDED', 'UNKNOWN'));
CREATE INDEX jobs_unsettled ON jobs (created_at) WHERE settled = 0;
CREATE INDEX attempts_proposed ON attempts (token) WHERE phase = 'PROPOSED';
CREATE TABLE events (
    id INTEGER PRIMARY KEY, token TEXT NOT NULL REFERENCES jobs, attempt INTEGER NOT NULL, at REAL NOT NULL,
    kind TEXT NOT NULL, text TEXT NOT NULL
) STRICT;
CREATE INDEX events_by_token ON events (token, id);
CREATE TABLE leases (name TEXT PRIMARY KEY, owner TEXT NOT NULL, until REAL NOT NULL) STRICT;
""",
    # Nothing wrote a forecast before, so their table is made anew, with what each rests on.
    """
DROP TABLE forecasts;
CREATE TABLE forecasts (
    token TEXT NOT NULL, attempt INTEGER NOT NULL, made_at REAL NOT NULL, version TEXT NOT NULL,
    start_p50 REAL NOT NULL, start_p90 REAL NOT NULL, run_p50 REAL NOT NULL, run_p90 REAL NOT NULL,
    plain_start_p50 REAL NOT NULL, plain_start_p90 REAL NOT NULL,
    plain_run_p50 REAL NOT NULL, plain_run_p90 REAL NOT NULL,
    boot REAL NOT NULL, queued INTEGER NOT NULL, told REAL, past_runs INTEGER NOT NULL, tasks INTEGER NOT NULL,
    PRIMARY KEY (token, attempt), FOREIGN KEY (token, attempt) REFERENCES attempts
) STRICT;
CREATE INDEX forecasts_by_age ON forecasts (made_at);
ALTER TABLE attempts ADD COLUMN restarted INTEGER NOT NULL DEFAULT 0;
""",
    # An agent that cron starts remembers nothing from one time to the next.
    "ALTER TABLE attempts ADD COLUMN absent_since REAL;",
    # 2: settled, and its site has said since that nothing of it is left.
    """
UPDATE jobs SET settled = 2 WHERE settled = 1;
CREATE INDEX jobs_unconfirmed ON jobs (created_at) WHERE settled = 1;
""",
    "ALTER TABLE attempts ADD COLUMN ahead REAL NOT NULL DEFAULT 0;",
)
"""What makes each schema the next one, beginning with schema 1: a new ledger passes through all of them."""
SCHEMA = 1 + len(_UPGRADES)
RESTORE = "`hpc check` names the command that restores it from its backup"
_HINT = "is the disk full, or the file on a file system without locks?"
_HINTS = {
    sqlite3.SQLITE_BUSY: f"another program has held it for {PATIENCE} s: is an hpc stopped, or copying it?",
    sqlite3.SQLITE_FULL: "make room; what is written there is whole",
    sqlite3.SQLITE_CORRUPT: RESTORE,
    sqlite3.SQLITE_NOTADB: RESTORE,
}


def open_file(path: Path) -> sqlite3.Connection:
    """Open a ledger, made if there is none, in our schema. Raises LedgerError, OSError or sqlite3.Error."""
    _private(path.parent)
    _create(path)
    _own(path)
    database = sqlite3.connect(path, timeout=PATIENCE, isolation_level=None)
    database.execute("PRAGMA synchronous = FULL")
    if _schema(database, path) < SCHEMA:
        _upgrade(database, path)
    return database


@contextlib.contextmanager
def transaction(database: sqlite3.Connection) -> Iterator[None]:
    """Do all of it or nothing."""
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
        database.execute("COMMIT")
    except BaseException:
        if database.in_transaction:  # a full disk ends it by itself
            database.execute("ROLLBACK")
        raise


@contextlib.contextmanager
def as_ledger_error(path: Path) -> Iterator[None]:
    """Turn what SQLite and the file system say into a LedgerError."""
    try:
        yield
    except sqlite3.Error as error:
        raise LedgerError(f"{path}: {error}", hint=_HINTS.get(_code(error), _HINT)) from error
    except OSError as error:
        raise LedgerError(f"{path}: {error.strerror or error}", hint=_HINT) from error


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn content that makes no sense into a LedgerError, too: a damaged file need not look damaged to SQLite."""
    try:
        with as_ledger_error(path):
            yield
    except (ValueError, KeyError, TypeError) as error:
        raise LedgerError(f"{path} holds a job that cannot be read: {error}", hint=RESTORE) from error


def _code(error: sqlite3.Error) -> int:
    """Return SQLite's primary result code (sqlite.org/rescode.html); 0 if there is none."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _upgrade(database: sqlite3.Connection, path: Path) -> None:
    """Bring a ledger of an older schema to ours, in one transaction; a copy of it is kept beside it."""
    copy = path.with_suffix(f".schema-{_schema(database, path)}")
    draft = copy.with_name(f".{copy.name}.{os.urandom(6).hex()}")
    _private_file(draft)
    with contextlib.closing(sqlite3.connect(draft)) as target:
        database.backup(target)
    draft.replace(copy)
    with transaction(database):
        for upgrade in _UPGRADES[_schema(database, path) - 1 :]:
            for statement in filter(str.strip, upgrade.split(";")):
                database.execute(statement)
        database.execute(f"PRAGMA user_version = {SCHEMA}")


def _create(path: Path) -> None:
    """Make the file complete under another name, then link it into place: fifty first users see one or none.

    Raises LedgerError where one has been: an empty one in its place would have forgotten every job.
    """
    if path.exists():
        return
    if path.with_name("backups").is_dir() and backups(path) and not path.exists():
        begin = f"to begin anew without those jobs, move {path.with_name('backups')} away"
        raise LedgerError(f"{path} is gone, and there are backups of it", hint=f"{RESTORE}; {begin}")
    draft = path.with_name(f".{path.name}.{os.urandom(6).hex()}")
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


def _own(path: Path) -> None:
    """Take a ledger that is mine for me alone: a copy that was put back may be open to all. Raises LedgerError."""
    found = path.lstat()
    if not stat.S_ISREG(found.st_mode) or found.st_uid != os.getuid():
        raise LedgerError(f"{path} is no file of yours", hint="move it away, and look at who put it there")
    if found.st_mode & 0o077:
        path.chmod(0o600)


def _schema(database: sqlite3.Connection, path: Path) -> int:
    """Return the schema of a ledger. Raises LedgerError if it is none, or newer than this program."""
    version: int = database.execute("PRAGMA user_version").fetchone()[0]
    if version == 0:
        raise LedgerError(f"{path} is empty or was not written by hybridhpc", hint=RESTORE)
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
    if words := exchangeable(directory):
        raise LedgerError(words, hint="set HPC_STATE_DIR to a directory of your own")

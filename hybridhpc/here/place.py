"""The directory where `here` keeps its jobs: whose it is, its database, and one lock per running task.

A supervisor holds its task's lock for as long as it lives, so the kernel itself tells who is dead: across containers
that share the directory, and in spite of process numbers that are used again.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from hybridhpc.here.cgroup import PROC
from hybridhpc.here.request import Refusal
from hybridhpc.ownership import exchangeable

_VERSION = 1
_NETWORK = frozenset(
    {
        "afs",
        "beegfs",
        "ceph",
        "cifs",
        "fuse.ceph",
        "fuse.glusterfs",
        "fuse.sshfs",
        "gpfs",
        "lustre",
        "nfs",
        "nfs4",
        "orangefs",
        "panfs",
        "smb3",
        "wekafs",
    }
)
_SCHEMA = """
CREATE TABLE machine (one INTEGER PRIMARY KEY CHECK (one = 1), content TEXT NOT NULL);
CREATE TABLE jobs (
    id INTEGER PRIMARY KEY, token TEXT NOT NULL, attempt TEXT NOT NULL, name TEXT NOT NULL,
    cpus INTEGER NOT NULL, memory INTEGER NOT NULL, gpus INTEGER NOT NULL, gpu_kind TEXT, walltime INTEGER,
    throttle INTEGER, held INTEGER NOT NULL, after TEXT NOT NULL, request TEXT NOT NULL, surroundings TEXT,
    submitted_at REAL NOT NULL, UNIQUE (token, attempt));
CREATE TABLE tasks (
    id INTEGER PRIMARY KEY, job INTEGER NOT NULL REFERENCES jobs, array_index INTEGER, state TEXT NOT NULL,
    reason TEXT NOT NULL DEFAULT '', started_at REAL, ended_at REAL, exit_code INTEGER, signal INTEGER,
    cpus TEXT NOT NULL DEFAULT '[]', gpus TEXT NOT NULL DEFAULT '[]', supervisor INTEGER, boot TEXT,
    control_group TEXT, cancelled INTEGER NOT NULL DEFAULT 0);
CREATE INDEX tasks_of_job ON tasks (job, array_index);
CREATE INDEX live_tasks ON tasks (state) WHERE state IN ('PENDING', 'RUNNING', 'UNKNOWN');
"""


class Place(NamedTuple):
    """A directory that was checked, with its database open."""

    root: Path
    db: sqlite3.Connection

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the database for one transaction; nothing of it stays if it raises."""
        self.db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self.db.execute("ROLLBACK")
            raise
        self.db.execute("COMMIT")

    def lock(self, task: int) -> int | None:
        """Take a task's lock; a descriptor that holds it until closed, or None if someone alive has it."""
        return _try_lock(self._lock_file(task))

    def lock_turn(self) -> int | None:
        """Take the lock of the supervisor that is on its way to claim a task; None if there is one."""
        return _try_lock(self.root / "here.turn")

    def unlock(self, task: int, descriptor: int) -> None:
        """Give a task's lock back for good: the task is final."""
        self._lock_file(task).unlink(missing_ok=True)
        os.close(descriptor)

    def _lock_file(self, task: int) -> Path:
        return self.root / "here.running" / str(task)


def open_place(root: str) -> Place:
    """Open the directory, made if missing. Raises Refusal if it is not safe or not of this version."""
    path = Path(root)
    if not path.is_absolute():
        raise Refusal(f"--root={root} must be an absolute path")
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        check_owner(path)
        database = path / "here.sqlite"
        if not database.exists() or not (path / "here.running").is_dir():
            _create(path, database)
        return Place(path, _connect(database))
    except OSError as error:
        raise Refusal(f"{error.filename or root}: {error.strerror}") from error


def check_owner(path: Path) -> None:
    """Raise Refusal unless a directory is mine and nobody else may write to it."""
    facts = path.stat()
    if not stat.S_ISDIR(facts.st_mode):
        raise Refusal(f"{path} is no directory")
    if facts.st_uid != os.geteuid():
        raise Refusal(f"{path} belongs to user {facts.st_uid}, not to you; choose another job_root")
    if facts.st_mode & 0o022:
        raise Refusal(f"others may write to {path}; run: chmod go-w {path}")
    if words := exchangeable(path):
        raise Refusal(f"{words}; choose another job_root")


def file_system(path: Path, proc: Path = PROC) -> str:
    """Return the type of the file system a path lies on; empty if it cannot be told."""
    device = path.stat().st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in (proc / "self/mountinfo").read_text(errors="replace").splitlines():
        before, _, after = line.partition(" - ")
        if before.split()[2:3] == [wanted]:
            return after.partition(" ")[0]
    return ""


def _private_file(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _try_lock(path: Path) -> int | None:
    descriptor = _private_file(path)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _create(root: Path, database: Path) -> None:
    """Build the database aside under a lock and rename it into place: nobody ever meets a half-made one."""
    kind = file_system(root)
    if kind in _NETWORK:
        raise Refusal(f"{root} is on {kind}, shared with other machines; give `here` a job_root on a local disk")
    with os.fdopen(_private_file(root / "here.lock")) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        (root / "here.running").mkdir(mode=0o700, exist_ok=True)
        if database.exists():
            return
        fresh = root / "here.sqlite.new"
        for left_over in root.glob("here.sqlite.new*"):
            left_over.unlink()
        os.close(_private_file(fresh))
        db = sqlite3.connect(fresh, isolation_level=None)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {_VERSION}; COMMIT;")
        db.close()
        fresh.rename(database)
        _sync(root)


def _connect(database: Path) -> sqlite3.Connection:
    if database.lstat().st_uid != os.geteuid():
        raise Refusal(f"{database} belongs to another user")
    db = sqlite3.connect(database, timeout=30, isolation_level=None)
    db.execute("PRAGMA synchronous = FULL")
    db.execute("PRAGMA secure_delete = ON")
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version != _VERSION:
        raise Refusal(f"{database} is of version {version}; this hybridhpc knows version {_VERSION}")
    return db


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

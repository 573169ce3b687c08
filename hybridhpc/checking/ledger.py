"""The ledger: whether it can be read, and submissions that were cut short. It is looked at, never made or changed."""

from __future__ import annotations

import os
import shlex
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

from hybridhpc.checking.finding import Findings, fault, fine, warning
from hybridhpc.client import Client
from hybridhpc.errors import LedgerError
from hybridhpc.ledger.backup import backups, damage
from hybridhpc.ledger.base import Phase, Record
from hybridhpc.ledger.file import RESTORE

LOCKS = Path("/proc/locks")


def look_at_ledger(client: Client) -> Findings:
    """Read all of it, if there is one."""
    path = client.paths.ledger
    if not path.exists():
        if backups(path):
            yield fault(path, "is gone, and there are backups of it", _restore(path))
            return
        yield fine("ledger", f"{path} is made by the first job")
        return
    broken = _damage(path)
    if broken:
        yield fault(path, f"is damaged: {broken}", _restore(path))
        return
    if not os.access(path, os.W_OK):
        yield fault(path, "you cannot write to it", f"chmod u+rw {shlex.quote(str(path))}, {_elsewhere()}")
        return
    try:
        records = client.ledger.records(live_only=True)
        for record in records:
            record.read_plan()
    except LedgerError as error:
        mend = _restore(path) if error.hint == RESTORE else f"{error.hint}; {_elsewhere()}"
        yield fault("ledger", error.message, mend)
        return
    yield from _interrupted(client, records)
    yield fine("ledger", str(path))


def _damage(path: Path) -> str:
    """Say what SQLite finds wrong with the file; empty if nothing. It is opened for reading only."""
    if path.stat().st_size == 0:
        return "it is empty"
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=10)) as database:
            return damage(database)
    except sqlite3.OperationalError:
        return ""  # not damage: a lock, a right or a disk is missing, and opening it properly says which
    except sqlite3.DatabaseError as error:
        return str(error)


def _restore(path: Path) -> str:
    """Name the commands that put the latest sound copy in its place; without one, those that set the ledger aside."""
    state = shlex.quote(str(path.parent))
    aside = next(name for name in _names("damaged") if not (path.parent / name).exists())
    away = f"mkdir {state}/{aside} && mv {state}/{path.name}* {state}/{aside}/"
    copy = next((backup for backup in backups(path) if not _damage(backup.path)), None)
    if copy is None:
        return (
            f"there is no backup of it; keep it aside: `{away}`. "
            "The next job begins a new one; running jobs go on, but hpc forgets them (`squeue --me` lists Slurm's)"
        )
    away = f"{away} && " if any(path.parent.glob(f"{path.name}*")) else ""
    made = datetime.fromtimestamp(copy.made_at, UTC).astimezone().isoformat(" ", "minutes")
    return (
        f"while no hpc runs: `{away}cp -p {shlex.quote(str(copy.path))} {state}/{path.name}`. "
        f"That is the backup of {made}, with {copy.jobs} jobs; later ones go on, but hpc forgets them "
        "(`squeue --me` lists Slurm's), and repeating the command of one submits it again"
    )


def _names(first: str) -> Iterator[str]:
    yield first
    for number in count(2):
        yield f"{first}-{number}"


def _elsewhere() -> str:
    return "or set HPC_STATE_DIR to another directory, where hpc begins a new ledger"


def _interrupted(client: Client, records: tuple[Record, ...]) -> Findings:
    owned = _locked_files()
    for record in records:
        if record.phase is not Phase.INTENT or _inode(client.paths.state / "owners" / record.owner) in owned:
            continue
        what = f"the submission of {record.name} to {record.site} was interrupted (token {record.token[:8]})"
        fix = "repeat its command, from the same directory: it finds out, and never makes a second job"
        yield warning("ledger", what, fix)


def _inode(path: Path) -> str:
    try:
        return str(path.stat().st_ino)
    except OSError:
        return ""


def _locked_files() -> frozenset[str]:
    """Return the inodes that are locked now, as the kernel lists them: trying a lock could disturb its owner."""
    try:
        lines = LOCKS.read_text().splitlines()
    except OSError:
        return frozenset()
    return frozenset(word.rpartition(":")[2] for line in lines for word in line.split() if word.count(":") == 2)

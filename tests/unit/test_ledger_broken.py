"""What breaks a ledger: kills inside transactions, a full disk, locks, other schemas, damage; and its backups."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from hybridhpc.errors import LedgerError
from hybridhpc.ledger import backup, file
from hybridhpc.ledger.backup import backups
from hybridhpc.ledger.base import Intent
from hybridhpc.ledger.sqlite import SqliteLedger
from hybridhpc.model import Resources
from hybridhpc.script.plan import Plan

PLAN = Plan(
    name="x", site="here", partition="local", resources=Resources(), usd_per_hour=0, script=b"#!/bin/sh\n", options=()
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "ledger.sqlite"


def add(ledger: SqliteLedger, number: int = 1, plan: Plan = PLAN) -> list[str]:
    intents = [Intent(plan=plan, request=f"r{index}", job_root="/root") for index in range(number)]
    tokens = [record.token for record in ledger.intend(intents, now=100.0)]
    ledger.announced(tokens)
    return tokens


def sound(path: Path) -> bool:
    with closing(sqlite3.connect(path)) as database:
        return backup.damage(database) == ""


def forked(work: str, path: Path, say: int) -> None:
    """Add jobs one by one and say each token once it is written, until killed."""
    ledger = SqliteLedger(path)
    while True:
        for token in add(ledger, 3 if work == "sweep" else 1):
            os.write(say, f"{token}\n".encode())


@pytest.mark.parametrize("work", ["single", "sweep"])
def test_what_was_written_is_there_after_kills_at_any_moment(path: Path, work: str) -> None:
    add(SqliteLedger(path))
    chance = random.Random(work)
    told: set[str] = set()
    for _ in range(12):
        hear, say = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                forked(work, path, say)
            finally:
                os._exit(1)
        os.close(say)
        time.sleep(chance.uniform(0.01, 0.12))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        with os.fdopen(hear) as heard:
            told |= set(heard.read().split())
    assert sound(path)
    tokens = [record.token for record in SqliteLedger(path).records(limit=100_000)]
    assert told
    assert told <= set(tokens)
    assert work == "single" or (len(tokens) - 1) % 3 == 0, "a sweep is written whole or not at all"
    assert all(sound(made.path) for made in backups(path))


@contextmanager
def small_disk(directory: Path, size: str) -> Iterator[None]:
    directory.mkdir(mode=0o700)
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "tmpfs", directory], check=False)
    if made.returncode:
        pytest.skip("no right to mount a small disk")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", directory], check=True)


def test_a_full_disk_is_said_and_what_was_written_stays(path: Path) -> None:
    with small_disk(path.parent, "700k"):
        ledger = SqliteLedger(path)
        ballast = path.with_name("ballast")
        ballast.write_bytes(bytes(200_000))
        tokens: list[str] = []
        big = replace(PLAN, script=b"#!/bin/sh\n" + b"x" * 20_000)
        with pytest.raises(LedgerError) as full:
            for _ in range(100):
                tokens += add(ledger, plan=big)
        assert str(path) in full.value.message
        assert "make room" in full.value.hint or "disk full" in full.value.hint
        assert tokens
        assert {record.token for record in ledger.records()} >= set(tokens)
        ballast.unlink()
        tokens += add(ledger)  # over the very same connection
        assert {record.token for record in SqliteLedger(path).records()} >= set(tokens)
        assert sound(path)


def test_a_locked_ledger_is_waited_for_and_then_said_to_be_locked(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add(SqliteLedger(path))
    monkeypatch.setattr(file, "PATIENCE", 0.2)
    ledger = SqliteLedger(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerError, match="database is locked") as locked:
            add(ledger)
        assert "another program" in locked.value.hint
        assert len(ledger.records()) == 1, "reading goes on"
        other.execute("ROLLBACK")
    add(ledger)


def test_a_newer_schema_is_refused_and_not_touched(path: Path) -> None:
    SqliteLedger(path)
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA user_version = 99")
    before = path.read_bytes()
    with pytest.raises(LedgerError, match=r"schema 99; this hybridhpc reads \d+") as newer:
        SqliteLedger(path)
    assert "hybridhpc that wrote it" in newer.value.hint
    assert path.read_bytes() == before


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def garble(path: Path) -> None:
    with path.open("r+b") as content:
        content.seek(100)
        content.write(os.urandom(path.stat().st_size - 100))


def replaced(path: Path) -> None:
    path.write_bytes(b"what is this " * 1000)


def emptied(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("spoil", [cut, garble, replaced, emptied])
def test_a_spoilt_ledger_is_refused_with_the_way_to_its_backup(path: Path, spoil) -> None:
    add(SqliteLedger(path), 150)
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for more in ("-wal", "-shm"):
        path.with_name(path.name + more).unlink(missing_ok=True)
    spoil(path)
    with pytest.raises(LedgerError) as refused:
        SqliteLedger(path).records(limit=1000)
    assert "hpc check" in refused.value.hint
    assert str(path) in refused.value.message


def test_content_that_makes_no_sense_is_said_so(path: Path) -> None:
    ledger = SqliteLedger(path)
    add(ledger)
    for column, value in (("state", "'DANCING'"), ("phase", "'x'")):
        with sqlite3.connect(path) as database:
            (before,) = database.execute(f"SELECT {column} FROM attempts").fetchone()
            database.execute(f"UPDATE attempts SET {column} = {value}")
        with pytest.raises(LedgerError, match="cannot be read"):
            ledger.records()
        with sqlite3.connect(path) as database:
            database.execute(f"UPDATE attempts SET {column} = ?", (before,))
    (record,) = ledger.records()
    for text in ("{", "[]", "{}", "null", '{"name": 1}'):
        with sqlite3.connect(path) as database:
            database.execute("UPDATE attempts SET plan = ?", (text,))
        with pytest.raises(LedgerError, match="cannot be read"):
            ledger.find(record.token).read_plan()


def test_backups_are_made_now_and_then_private_whole_and_few(path: Path) -> None:
    ledger = SqliteLedger(path)
    add(ledger)
    (first,) = backups(path)
    assert first.jobs == 1
    assert (first.path.stat().st_mode & 0o777, first.path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    add(ledger)
    assert len(backups(path)) == 1, "one a day is enough"
    os.utime(first.path, (time.time() - 90_000,) * 2)
    add(ledger)
    assert [made.jobs for made in backups(path)] == [3, 1]
    for _ in range(4):
        add(ledger, backup.AFTER_JOBS)
    assert [made.jobs for made in backups(path)] == [403, 303, 203]
    assert [entry.name for entry in first.path.parent.iterdir() if not entry.name.endswith(".sqlite")] == []
    copied = SqliteLedger(Path(str(path).replace("state", "other"))).records()
    assert copied == ()
    assert len(SqliteLedger(backups(path)[0].path).records()) == 403


def test_a_backup_that_cannot_be_made_costs_nothing(path: Path) -> None:
    ledger = SqliteLedger(path)
    path.with_name("backups").write_text("in the way")
    assert add(ledger)


def test_a_ledger_that_is_gone_is_not_begun_anew_where_backups_say_that_there_was_one(path: Path) -> None:
    add(SqliteLedger(path))
    (backup,) = backups(path)
    for each in path.parent.glob(f"{path.name}*"):
        each.unlink()
    with pytest.raises(LedgerError, match="is gone, and there are backups") as caught:
        SqliteLedger(path).records()
    assert "hpc check" in caught.value.hint and "anew" in caught.value.hint
    backup.path.parent.rename(path.with_name("aside"))
    assert SqliteLedger(path).records() == ()


def test_a_damaged_ledger_takes_no_backups_place(path: Path) -> None:
    ledger = SqliteLedger(path)
    add(ledger, 120)
    (good,) = backups(path)
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (page,) = database.execute("SELECT rootpage FROM sqlite_master WHERE name = 'jobs_by_age'").fetchone()
    with path.open("r+b") as content:
        content.seek((page - 1) * 4096)
        content.write(b"\xff" * 4096)
    os.utime(good.path, (0, 0))
    with closing(sqlite3.connect(path)) as database:
        backup.backup_if_due(database, path)
    assert backups(path)[0].path == good.path
    assert sound(good.path)


def test_looking_whether_a_backup_is_due_takes_less_than_writing(path: Path) -> None:
    ledger = SqliteLedger(path)
    add(ledger)
    looks, writes = [], []
    with closing(sqlite3.connect(path)) as database:
        for _ in range(20):
            began = time.perf_counter()
            backup.backup_if_due(database, path)
            between = time.perf_counter()
            add(ledger)
            looks.append(between - began)
            writes.append(time.perf_counter() - between)
    assert sorted(looks)[10] < sorted(writes)[10]

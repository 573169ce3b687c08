"""The ledger in one SQLite file, for many processes at once (sqlite.org/wal.html), private to its owner."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from hybridhpc.clock import pause
from hybridhpc.decide.promise import Outcome
from hybridhpc.errors import NotFound
from hybridhpc.ledger.attempts import Attempts
from hybridhpc.ledger.backup import backup_if_due
from hybridhpc.ledger.base import SWEEP_BYTES, Intent, Phase, Record
from hybridhpc.ledger.file import as_ledger_error, open_file, reading, transaction
from hybridhpc.ledger.forecasts import read_outcomes, write_promises
from hybridhpc.ledger.owner import Owners
from hybridhpc.ledger.rows import attempt_row, is_news, past_job, status_columns
from hybridhpc.model import JobState, JobStatus
from hybridhpc.schedulers.base import Submitted
from hybridhpc.script.plan import Plan
from hybridhpc.script.plan_text import parse_plan
from hybridhpc.sites.snapshot import PastJob

_COLUMNS = """
    j.token, a.attempt, j.name, j.sweep, a.phase, j.announced, a.site, a.partition, a.tasks, a.usd_per_hour, a.job_dir,
    a.job_id, a.log, j.created_at, a.state, a.native_state, a.reason, a.submitted_at, a.started_at, a.ended_at,
    a.exit_code, a.signal, a.ahead, a.absent_since, a.restarts, a.restarted, a.spent, j.settled, j.unwanted"""
_BOTH = "FROM jobs j JOIN attempts a ON a.token = j.token AND a.attempt = j.attempt"
_JOBS = f"SELECT {_COLUMNS} {_BOTH}"
_ATTEMPTS = f"SELECT {_COLUMNS} FROM jobs j JOIN attempts a ON a.token = j.token"  # noqa: S608
_STANDS = "NOT (a.phase = 'REFUSED' AND a.attempt = 1 AND j.announced = 1)"
"""A job counts for something: it is none that was refused and that another one of the same request stands for."""
_STAND_FOR = """
UPDATE jobs SET announced = 1 WHERE request = ? AND announced = 0
    AND EXISTS (SELECT 1 FROM attempts a WHERE a.token = jobs.token AND jobs.attempt = 1 AND a.phase = 'REFUSED')"""
_OPTIONS = ('["begin",', '["dependency",', '"--begin=', '"--dependency=')
"""By what a plan is known that has its job wait for more than its turn: options of a script, and of ours."""
_WAITED_ELSE = " OR ".join([f"instr(a.plan, '{text}')" for text in _OPTIONS] + ["json_extract(a.plan, '$.hold')"])
_PAST = f"""
SELECT j.name, a.site, a.partition, json_extract(a.plan, '$.resources'), COALESCE(a.submitted_at, j.created_at),
    a.started_at, a.ended_at, a.state, {_WAITED_ELSE} {_BOTH}
WHERE a.started_at IS NOT NULL AND a.ended_at IS NOT NULL AND a.state != 'NODE_FAIL'
ORDER BY j.created_at DESC LIMIT ?"""
_EARLIER = "j.token IN (SELECT token FROM attempts WHERE site = ? AND job_id = ?)"
_LIVE = tuple(state.value for state in JobState if not state.final)
_LIVE_LIST = f"({', '.join(repr(state) for state in _LIVE)})"
ANNOUNCE_WITHIN = 86400.0
"""Seconds for which a submitted job whose ref was never printed is given to whoever repeats the command."""


class SqliteLedger(Attempts):
    """See Ledger. The guarantee of one job per wish holds per file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with as_ledger_error(path):
            self._db = open_file(path)
            locks = path.with_name("owners")
            locks.mkdir(mode=0o700, exist_ok=True)
        self._owners = Owners(locks)
        self._last_plan: tuple[tuple[object, object], Plan] | None = None

    def intend(self, intents: Sequence[Intent], *, sweep: str = "", now: float) -> tuple[Record, ...]:
        """See Ledger.intend."""
        tokens = [os.urandom(10).hex() for _ in intents]
        for owner in {sweep} if sweep else tokens:
            self._owners.take(owner)
        jobs = [
            (token, intent.plan.name, intent.request, now, sweep) for token, intent in zip(tokens, intents, strict=True)
        ]
        attempts = [attempt_row(token, intent) for token, intent in zip(tokens, intents, strict=True)]
        with self._transaction():
            requests = dict.fromkeys(intent.request for intent in intents)
            self._db.executemany(_STAND_FOR, [(request,) for request in requests])
            self._db.executemany(
                "INSERT INTO jobs (token, name, request, created_at, sweep) VALUES (?, ?, ?, ?, ?)", jobs
            )
            self._db.executemany(
                "INSERT INTO attempts (token, attempt, phase, site, partition, tasks, usd_per_hour, plan, job_dir)"
                " VALUES (?, 1, ?, ?, ?, ?, ?, ?, ?)",
                attempts,
            )
            promises = [(token, intent.plan.promise) for token, intent in zip(tokens, intents, strict=True)]
            write_promises(self._db, promises, now)
        made = zip(self.current(tokens), intents, strict=True)
        return tuple(replace(record, read_plan=partial(getattr, intent, "plan")) for record, intent in made)

    def interrupted(self, requests: Sequence[str], *, now: float) -> dict[str, tuple[Record, ...]]:
        """See Ledger.interrupted."""
        taken: dict[str, bool] = {}
        found: dict[str, tuple[Record, ...]] = {}
        for request in dict.fromkeys(requests):
            for owner, records in self._unannounced(request, now).items():
                if owner not in taken:
                    taken[owner] = self._take_after_agent(owner)
                # Only what is still so now that it is ours counts: another may have finished it meanwhile.
                current = self._unannounced(request, now).get(owner) if taken[owner] else None
                if current:
                    found[request] = current if records[0].sweep else current[:1]
                    break
        self._release(owner for owner, ours in taken.items() if ours)
        return found

    def _unannounced(self, request: str, now: float) -> dict[str, tuple[Record, ...]]:
        """Return, by owner, the jobs of a request that nobody was told of, oldest first."""
        sql = f"{_JOBS} WHERE j.request = ? AND j.announced = 0 AND a.phase != 'REFUSED' ORDER BY j.created_at"
        found: dict[str, tuple[Record, ...]] = {}
        for record in self._records(sql, (request,)):
            if record.phase is not Phase.SUBMITTED or record.created_at >= now - ANNOUNCE_WITHIN:
                found[record.owner] = (*found.get(record.owner, ()), record)
        return found

    def own(self, records: Sequence[Record], *, as_agent: bool = False) -> frozenset[str]:
        """See Ledger.own."""
        ours = set()
        for owner in dict.fromkeys(record.owner for record in records):
            if as_agent and not self._owners.take(f"agent-{owner}"):
                continue
            if self._owners.take(owner):
                ours.add(owner)
            elif as_agent:
                self._owners.drop(f"agent-{owner}", for_good=True)
        return frozenset(record.token for record in records if record.owner in ours)

    def _take_after_agent(self, owner: str) -> bool:
        """Own what was interrupted; if an agent carries it on right now, wait for that: it is the very job."""
        for _ in range(2000):
            if self._owners.take(owner):
                return True
            if not self._owners.is_taken(f"agent-{owner}"):
                break
            pause(0.1)
        return self._owners.take(owner)

    def disown(self, records: Sequence[Record]) -> None:
        """See Ledger.disown."""
        for owner in {record.owner for record in records}:
            self._owners.drop(owner, for_good=True)
            self._owners.drop(f"agent-{owner}", for_good=True)

    def submitted(self, answers: Mapping[str, Submitted], *, now: float) -> tuple[Record, ...]:
        """See Ledger.submitted."""
        state = {"phase": Phase.SUBMITTED.value, "state": "PENDING"}
        with self._transaction():
            for token, answer in answers.items():
                known = {"job_id": answer.job_id, "log": answer.log, "submitted_at": answer.submitted_at}
                self._set(token, {**state, **known})
        return self.current(tuple(answers))

    def refused(self, reasons: Mapping[str, str], *, now: float) -> None:
        """See Ledger.refused."""
        state = {"phase": Phase.REFUSED.value, "state": "FAILED", "native_state": "REFUSED", "ended_at": now}
        with self._transaction():
            for token, reason in reasons.items():
                self._set(token, {**state, "reason": reason})
        self._release(record.owner for record in self.current(tuple(reasons)))

    def announced(self, tokens: Sequence[str]) -> None:
        """See Ledger.announced."""
        with self._transaction():
            self._db.executemany("UPDATE jobs SET announced = 1 WHERE token = ?", [(token,) for token in tokens])
        self._release(record.owner for record in self.current(tokens))
        backup_if_due(self._db, self._path)

    def _release(self, owners: Iterable[str]) -> None:
        """Give up the locks behind which nothing is left to take up."""
        open_still = f"SELECT 1 {_BOTH} WHERE (j.token = ? OR (j.sweep != '' AND j.sweep = ?))"
        open_still += " AND j.announced = 0 AND a.phase != 'REFUSED'"
        for owner in set(owners):
            with as_ledger_error(self._path):
                if self._db.execute(f"{open_still} LIMIT 1", (owner, owner)).fetchone() is None:
                    self._owners.drop(owner, for_good=True)

    def seen(self, statuses: Sequence[tuple[Record, JobStatus]]) -> None:
        """See Ledger.seen."""
        news = [(record, columns) for record, status in statuses if is_news(record, columns := status_columns(status))]
        if not news:
            return
        with self._transaction():
            # Once each, whoever sees it: the start that is left behind is gone then.
            self._db.executemany(
                "UPDATE attempts SET spent = spent + ? WHERE token = ? AND attempt = ? AND started_at = ?",
                [
                    (cost, record.token, record.attempt, record.started_at)
                    for record, status in statuses
                    if (cost := record.boot_cost(status))
                ],
            )
            for record, columns in news:
                assignments = ", ".join(f"{column} = ?" for column in columns)
                self._db.execute(
                    f"UPDATE attempts SET {assignments} WHERE token = ? AND attempt = ? AND state IN {_LIVE_LIST}",  # noqa: S608
                    (*columns.values(), record.token, record.attempt),
                )
        backup_if_due(self._db, self._path)

    def find(self, word: str) -> Record:
        """See Ledger.find."""
        site, colon, job_id = word.partition(":")
        queries = (
            ("a.site = ? AND a.job_id = ?", (site, job_id)) if colon else ("j.token = ?", (word,)),
            (_EARLIER, (site, job_id)) if colon else ("0", ()),
            ("j.token GLOB ?", (f"{word}*",)) if len(word) >= 4 and word.isalnum() else ("0", ()),
            ("a.job_id = ?", (word,)),
            ("j.name = ?", (word,)),
        )
        for where, values in queries:
            sql = f"{_JOBS} WHERE {where} ORDER BY j.created_at DESC, j.rowid DESC LIMIT 1"
            found = self._records(sql, values)
            if found:
                return found[0]
        hint = "`hpc status` lists them; give a ref (site:jobid), a token or a name"
        if re.fullmatch(r".*\w_\d+", word):
            hint += f"; a task of an array is site:jobid_{word.rpartition('_')[2]}"
        raise NotFound(f"no job {word!r} in the ledger", hint=hint)

    def find_all(self, word: str) -> tuple[Record, ...]:
        """See Ledger.find_all."""
        whole = f"{_JOBS} WHERE j.sweep != '' AND j.sweep = ? AND {_STANDS} ORDER BY j.rowid"
        if sweep := self._records(whole, (word,)):
            return sweep
        named = f"{_JOBS} WHERE j.sweep != '' AND substr(j.sweep, 1, length(j.sweep) - ?) = ? AND {_STANDS}"
        latest = self._records(f"{named} ORDER BY j.created_at DESC LIMIT 1", (1 + 2 * SWEEP_BYTES, word))
        try:
            one = self.find(word)
        except NotFound:
            if not latest:
                raise
            return self._records(whole, (latest[0].sweep,))
        of_sweep = latest and one.name == word and one.sweep == latest[0].sweep
        return self._records(whole, (one.sweep,)) if of_sweep else (one,)

    def bearers(self, name: str) -> int:
        """See Ledger.bearers."""
        sql = f"SELECT COUNT(DISTINCT CASE WHEN j.sweep = '' THEN j.token ELSE j.sweep END) {_BOTH} WHERE {_STANDS}"
        sql += " AND (j.name = ? OR (j.sweep != '' AND substr(j.sweep, 1, length(j.sweep) - ?) = ?))"
        with reading(self._path):
            (count,) = self._db.execute(sql, (name, 1 + 2 * SWEEP_BYTES, name)).fetchone()
        return int(count)

    def records(self, *, live_only: bool = False, limit: int = 1000) -> tuple[Record, ...]:
        """See Ledger.records."""
        which = f"a.state IN {_LIVE_LIST}" if live_only else _STANDS
        return self._records(f"{_JOBS} WHERE {which} ORDER BY j.created_at DESC LIMIT ?", (limit,))

    def history(self, *, limit: int = 500) -> tuple[PastJob, ...]:
        """See Ledger.history."""
        with reading(self._path):
            return tuple(past_job(row) for row in self._db.execute(_PAST, (limit,)))

    def _select(self, which: str, values: Sequence[object] = (), *, latest: bool = True) -> tuple[Record, ...]:
        return self._records(f"{_JOBS if latest else _ATTEMPTS} WHERE {which}", values)

    def outcomes(self, *, limit: int = 250) -> tuple[Outcome, ...]:
        """See Ledger.outcomes."""
        with as_ledger_error(self._path):
            return read_outcomes(self._db, limit)

    def _records(self, sql: str, values: Sequence[object]) -> tuple[Record, ...]:
        with reading(self._path):
            return tuple(self._record(row) for row in self._db.execute(sql, tuple(values)))

    def _record(self, row: tuple[object, ...]) -> Record:
        values = dict(zip(_FIELDS, row, strict=True))
        values["phase"] = Phase(values["phase"])
        for flag in ("announced", "settled", "unwanted"):
            values[flag] = bool(values[flag])
        values["state"] = JobState(values["state"])
        read_plan = partial(self._plan, values["token"], values["attempt"])
        return Record(**values, read_plan=read_plan)  # type: ignore[arg-type]

    def _plan(self, token: object, attempt: object) -> Plan:
        if self._last_plan is None or self._last_plan[0] != (token, attempt):
            sql = "SELECT plan FROM attempts WHERE token = ? AND attempt = ?"
            with reading(self._path):
                (text,) = self._db.execute(sql, (token, attempt)).fetchone()
                self._last_plan = ((token, attempt), parse_plan(text))
        return self._last_plan[1]

    def _set(self, token: str, columns: dict[str, object]) -> None:
        assignments = ", ".join(f"{column} = ?" for column in columns)
        latest = "attempt = (SELECT attempt FROM jobs WHERE token = ?)"
        self._db.execute(
            f"UPDATE attempts SET {assignments} WHERE token = ? AND {latest}",  # noqa: S608
            (*columns.values(), token, token),
        )

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        with as_ledger_error(self._path), transaction(self._db):
            yield


_FIELDS = tuple(name.strip().split(".")[1] for name in _COLUMNS.split(","))

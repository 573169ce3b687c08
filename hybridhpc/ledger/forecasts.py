"""What the ledger keeps of forecasts: each as it was made, beside the attempt that it was made for."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from hybridhpc.decide.promise import Outcome, Promise
from hybridhpc.model import JobState, Quantiles
from hybridhpc.schedulers.words import has_begun

_COLUMNS = (
    "token", "attempt", "made_at", "version", "start_p50", "start_p90", "run_p50", "run_p90", "plain_start_p50",
    "plain_start_p90", "plain_run_p50", "plain_run_p90", "boot", "queued", "told", "past_runs", "tasks",
)  # fmt: skip
_INSERT = f"INSERT INTO forecasts ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"  # noqa: S608
_SELECT = f"""
    SELECT {", ".join(f"f.{name}" for name in _COLUMNS)}, a.site, a.partition, a.state, a.native_state, a.restarted,
    a.submitted_at, a.started_at, a.ended_at
    FROM forecasts f JOIN attempts a ON a.token = f.token AND a.attempt = f.attempt
    WHERE a.phase = 'SUBMITTED' ORDER BY f.made_at DESC LIMIT ?"""  # noqa: S608
_RAN = (JobState.COMPLETED, JobState.TIMEOUT)


def write_promises(database: sqlite3.Connection, promises: Sequence[tuple[str, Promise | None]], now: float) -> None:
    """Write down what was forecast for the first attempts of jobs, by token."""
    database.executemany(_INSERT, [_row(token, promise, now) for token, promise in promises if promise is not None])


def _row(token: str, promise: Promise, now: float) -> tuple[object, ...]:
    spans = (promise.start, promise.run, promise.plain_start, promise.plain_run)
    quantiles = [value for span in spans for value in (span.p50, span.p90)]
    rest = (promise.boot, promise.queued, promise.told, promise.past_runs, promise.tasks)
    return (token, 1, now, promise.version, *quantiles, *rest)


def read_outcomes(database: sqlite3.Connection, limit: int) -> tuple[Outcome, ...]:
    """Return the latest forecasts with what became of them, newest first."""
    return tuple(_parse_row(row) for row in database.execute(_SELECT, (limit,)))


def _parse_row(row: Sequence[Any]) -> Outcome:
    token, _, made_at, version, *values = row[: len(_COLUMNS)]
    site, partition, state, native, restarted, submitted, started, ended = row[len(_COLUMNS) :]
    spans = [Quantiles(p50=low, p90=high) for low, high in zip(values[0:8:2], values[1:8:2], strict=True)]
    boot, queued, told, past_runs, tasks = values[8:]
    promise = Promise(
        site=site, partition=partition, version=version, start=spans[0], run=spans[1], plain_start=spans[2],
        plain_run=spans[3], boot=boot, queued=queued, told=told, past_runs=past_runs, tasks=tasks,
    )  # fmt: skip
    times = (submitted, started, ended)
    waited, ran = _durations(JobState(state), native, times) if not restarted else (None, None)
    return Outcome(token=str(token), made_at=made_at, promise=promise, waited=waited, ran=ran)


def _durations(
    state: JobState, native: str, times: tuple[float | None, float | None, float | None]
) -> tuple[float | None, float | None]:
    """Return how long a job waited and ran. Nodes that it was given are no start: they may never have booted."""
    submitted, started, ended = times
    if started is None or submitted is None or not has_begun(state, native):
        return None, None
    ran = max(0.0, ended - started) if ended is not None and state in _RAN else None
    return max(0.0, started - submitted), ran

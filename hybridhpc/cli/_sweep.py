"""A sweep as one thing: its points, how many are in which state, and those that failed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from hybridhpc.cli._output import CONFIGURING, REFUSED, called, live_word, money, state_word, table, tell
from hybridhpc.cli._progress import bar
from hybridhpc.cli._terminal import clean
from hybridhpc.client import Client
from hybridhpc.ledger.base import SWEEP_BYTES, Record
from hybridhpc.model import JobState, JobStatus
from hybridhpc.schedulers.fold import ORDER
from hybridhpc.schedulers.lists import parse_indices
from hybridhpc.schedulers.words import reason_words
from hybridhpc.script.points import POINTS, parse_points
from hybridhpc.units import format_duration

MOST_SHOWN = 20
"""Failed points that are listed one by one."""
_ORDER = (
    ORDER[0].value,
    CONFIGURING,
    *(state.value for state in ORDER[1:] if not state.final),
    REFUSED,
    *(state.value for state in ORDER if state.final),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One job of a sweep, or one task of its arrays, as it is now."""

    ref: str
    name: str
    state: JobState
    word: str
    """The state as a person reads it."""
    exit_code: int | None
    signal: int | None
    reason: str
    parameters: Mapping[str, str]


def is_sweep(word: str, records: Sequence[Record]) -> bool:
    """Whether a word that these jobs were found by means a sweep as a whole: its id or its name."""
    sweep = records[0].sweep
    return bool(sweep) and word in (sweep, sweep[: -1 - 2 * SWEEP_BYTES])


def points_of(client: Client, records: Sequence[Record]) -> list[Point]:
    """Return every point of a sweep. Sites are asked about the tasks of its arrays; who does not answer is told."""
    found = known_points(client, records)
    for site, why in found.silent.items():
        tell(clean(f"note: {site}: {why}; its tasks are shown as far as their exit markers tell"))
    return found.points


@dataclass(frozen=True, slots=True, kw_only=True)
class Points:
    """Points as far as they are known, and by site, why its scheduler did not tell."""

    points: list[Point]
    silent: Mapping[str, str]


def known_points(client: Client, records: Sequence[Record]) -> Points:
    """Return every point of a sweep. Of an array that COMPLETED all is known: no site is asked."""
    arrays = [record for record in records if record.tasks > 1 and record.job_id]
    asked = client.tasks([record for record in arrays if not all_known(record)])
    found: list[Point] = []
    for record in records:
        found += _tasks(record, asked.known.get(record.token, {})) if record in arrays else _as_the_whole(record)
    return Points(points=found, silent=asked.silent)


def all_known(record: Record) -> bool:
    """Whether nothing need be asked about the tasks of an array: each of them COMPLETED."""
    return record.state is JobState.COMPLETED and bool(indices(record))


def indices(record: Record) -> Sequence[int]:
    """Return the indices of an array's tasks; none if they are not known."""
    spec = record.plan.spec
    return parse_indices(spec.array.text, record.tasks) if spec is not None and spec.array is not None else ()


def _as_the_whole(record: Record) -> list[Point]:
    """Return a single job, or the points of an array that is no job, or not yet: each is as the whole is."""
    names, rows, filled = _parameters(record)
    whole = Point(
        ref=called(record),
        name=record.name,
        state=record.state,
        word=state_word(record),
        exit_code=record.exit_code,
        signal=record.signal,
        reason=record.reason,
        parameters={},
    )
    if not rows:
        return [whole] * record.tasks
    parameters = [dict(zip(names, row, strict=False)) for row in rows]
    titles = filled or [record.name] * len(rows)
    return [replace(whole, name=name, parameters=own) for name, own in zip(titles, parameters, strict=True)]


def _tasks(record: Record, statuses: Mapping[int, JobStatus]) -> list[Point]:
    """Return the points of an array. Of a task that nothing is known of its state is unknown, or that of the whole."""
    names, rows, called = _parameters(record)
    alone = record.state if record.state in (JobState.COMPLETED, JobState.PENDING) else JobState.UNKNOWN
    found = []
    for index in range(record.tasks) if rows else indices(record) or sorted(statuses):
        status = statuses.get(index)
        row = rows[index] if rows else ()
        state = status.state if status else alone
        found.append(
            Point(
                ref=f"{record.ref}_{index}",
                name=called[index] if called else record.name,
                state=state,
                word=live_word(state, status.native_state if status else ""),
                exit_code=status.exit_code if status else 0 if state is JobState.COMPLETED else None,
                signal=status.signal if status else None,
                reason=status.reason if status else "",
                parameters=dict(zip(names, row, strict=False)),
            )
        )
    return found


def _parameters(record: Record) -> tuple[Sequence[str], Sequence[Sequence[str]], Sequence[str]]:
    """Return names and values of an array's points, and what each is called; nothing if it has none."""
    for file in record.plan.staged:
        if file.path == POINTS:
            points = parse_points(file.content)
            filled = [points.fill(points.name, dict(zip(points.names, row, strict=True))) for row in points.rows]
            return points.names, points.rows, filled if points.name else ()
    return (), (), ()


def counts(words: Iterable[str]) -> dict[str, int]:
    """Return how many are in which state, the live ones first, then the worst."""
    found = Counter(words)
    return {word: found[word] for word in _ORDER if found[word]}


def spelled(words: Iterable[str]) -> str:
    """Spell how many are in which state."""
    return ", ".join(f"{count:,} {word}" for word, count in counts(words).items())


def sweep_row(records: Sequence[Record], now: float) -> list[str]:
    """Return the line of a sweep of several jobs in `hpc status`."""
    words = [state_word(record) for record in records]
    began = min((record.started_at - record.ahead for record in records if record.started_at), default=None)
    ended = max((record.ended_at - record.ahead if record.ended_at else now for record in records), default=now)
    return [
        records[0].sweep,
        f"{len(records):,} jobs",
        next(iter(counts(words))),
        format_duration(ended - began) if began else "-",
        money(sum(record.cost(now) for record in records)),
        spelled(words),
    ]


def show_sweep(records: Sequence[Record], points: Sequence[Point], now: float) -> str:
    """Return a sweep as a person reads it."""
    ended = sum(point.state.final for point in points)
    sites = ", ".join(dict.fromkeys(record.site for record in records))
    cost = money(sum(record.cost(now) for record in records))
    lines = [
        f"{records[0].sweep}: {len(points):,} points at {sites}, {cost} so far",
        f"{bar(ended, len(points))} {ended:,} of {len(points):,} ended",
        spelled(point.word for point in points),
    ]
    failed = _one_each(point for point in points if point.state.final and point.state is not JobState.COMPLETED)
    if failed:
        names = tuple(dict.fromkeys(name for point in failed for name in point.parameters))
        header = ("FAILED", "STATE", "EXIT", *names, "REASON")
        lines.append(table(header, [_row(point, names) for point in failed[:MOST_SHOWN]], right=frozenset({2})))
    if len(failed) > MOST_SHOWN:
        lines.append(f"... and {len(failed) - MOST_SHOWN:,} more (--json lists all)")
    return "\n".join(lines)


def _one_each(points: Iterable[Point]) -> list[Point]:
    """Return points with those of an array that is no job as one: they have one name and one reason."""
    found: dict[str, Point] = {}
    for point in points:
        found[point.ref] = replace(point, parameters={}) if point.ref in found else point
    return list(found.values())


def _row(point: Point, names: Sequence[str]) -> tuple[str, ...]:
    # Slurm has an exit code, mostly 0, for what its script did not end, too.
    own = point.state is JobState.FAILED
    code = f"signal {point.signal}" if point.signal else "-" if point.exit_code is None else str(point.exit_code)
    values = (point.parameters.get(name, "") for name in names)
    return (point.ref, point.word, code if own else "-", *values, reason_words(point.reason))


def sweep_json(records: Sequence[Record], points: Sequence[Point], now: float) -> dict[str, object]:
    """Return the stable keys of a sweep in `hpc status --json`."""
    return {
        "sweep": records[0].sweep,
        "refs": [record.ref for record in records],
        "cost_usd": round(sum(record.cost(now) for record in records), 4),
        "states": counts(point.state.value for point in points),
        "points": [
            {
                "ref": point.ref,
                "name": point.name,
                "state": point.state.value,
                "exit_code": point.exit_code,
                "signal": point.signal,
                "reason": point.reason,
                "parameters": dict(point.parameters),
            }
            for point in points
        ],
    }

"""hpc status: your jobs, asked once per site."""

from __future__ import annotations

from collections.abc import Sequence

import click

from hybridhpc.cli._context import json_option, meant_by, new_client, split_task
from hybridhpc.cli._output import record_json, record_row, say, show_json, table
from hybridhpc.cli._sweep import is_sweep, points_of, show_sweep, sweep_json, sweep_row
from hybridhpc.client import Client
from hybridhpc.errors import UsageError
from hybridhpc.ledger.base import Record
from hybridhpc.model import JobState
from hybridhpc.schedulers.words import state_called

Jobs = tuple[Record, ...]


@click.command()
@click.argument("jobs", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Also jobs that ended more than a day ago.")
@click.option("-t", "--state", "words", metavar="STATES", help="Only jobs in these states, such as RUNNING,PD.")
@json_option
def command(jobs: tuple[str, ...], everything: bool, words: str | None, as_json: bool) -> None:
    """Show JOBS (refs, tokens, names or sweeps), or all that are alive or ended within a day.

    Example: hpc status here:12 --json
    """
    states = _states(words) if words is not None else None
    client = new_client()
    now = client.clock()
    sweeps, others = _named(client, jobs) if jobs else ([], _recent(client, now, everything=everything))
    current = client.refresh([record for sweep in (*sweeps, others) for record in sweep])
    parts = iter(current)
    seen = [tuple(next(parts) for _ in sweep) for sweep in (*sweeps, others)]
    if states is not None:
        seen = [tuple(record for part in seen for record in part if record.state in states)]
    *swept, single = seen
    if as_json:
        _show_json(client, swept, single, now)
    else:
        _show(client, swept, single, now)
        if not (single or swept):
            hint = "no jobs; `hpc submit SPEC --where auto` makes one"
            say("no jobs in these states" if states is not None else hint)


def _show_json(client: Client, sweeps: Sequence[Jobs], others: Jobs, now: float) -> None:
    answers = [sweep_json(sweep, points_of(client, sweep), now) for sweep in sweeps]
    if len(answers) == 1 and not others:
        show_json(answers[0])
    else:
        show_json([*answers, *(record_json(record, now) for record in others)])


def _show(client: Client, sweeps: Sequence[Jobs], others: Jobs, now: float) -> None:
    for sweep in sweeps:
        say(show_sweep(sweep, points_of(client, sweep), now))
    if others:
        header = ("REF", "NAME", "STATE", "ELAPSED", "COST", "REASON")
        rows = [record_row(group[0], now) if len(group) == 1 else sweep_row(group, now) for group in _groups(others)]
        say(table(header, rows, right=frozenset({3, 4})))


def _states(words: str) -> set[JobState]:
    """Read states by our words, or by any of Slurm's. Raises click.BadParameter for what is none."""
    found = {word: state_called(word) for word in words.replace(",", " ").split()}
    unknown = [word for word, state in found.items() if state is JobState.UNKNOWN and word.upper() != "UNKNOWN"]
    if unknown or not found:
        known = f"known are {', '.join(state.value for state in JobState)}"
        raise click.BadParameter(f"{', '.join(unknown) or 'nothing'} is no state; {known}", param_hint="--state")
    return set(found.values())


def _named(client: Client, words: tuple[str, ...]) -> tuple[list[tuple[Record, ...]], tuple[Record, ...]]:
    """Return the sweeps that are named, and the jobs. Raises NotFound, and UsageError for a task of an array."""
    for word in words:
        whole, task = split_task(word)
        if task is not None:
            raise UsageError(f"{word} is a task", hint=f"`hpc why {word}` tells of it, `hpc status {whole}` of all")
    found = {word: meant_by(client, word) for word in words}
    sweeps = {records[0].sweep: records for word, records in found.items() if is_sweep(word, records)}
    others = (records for word, records in found.items() if not is_sweep(word, records))
    return list(sweeps.values()), tuple({record.token: record for records in others for record in records}.values())


def _recent(client: Client, now: float, *, everything: bool) -> tuple[Record, ...]:
    known = client.ledger.records(limit=100_000 if everything else 10_000)
    return tuple(r for r in known if everything or not r.state.final or (r.ended_at or now) > now - 86400)


def _groups(records: Sequence[Record]) -> list[list[Record]]:
    """Return the jobs of each sweep together, where its first one stands; each other job alone."""
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(record.owner, []).append(record)
    return list(groups.values())

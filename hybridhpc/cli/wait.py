"""hpc wait: until jobs are final."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress

import click

from hybridhpc.array_tasks import LIVING
from hybridhpc.cli._context import chosen, json_option, new_client
from hybridhpc.cli._follow import Heard, judge, wait_for
from hybridhpc.cli._output import called, record_json, say, show_json, state_word
from hybridhpc.cli._progress import Progress
from hybridhpc.cli._sweep import spelled
from hybridhpc.client import Client
from hybridhpc.errors import Undecided
from hybridhpc.ledger.base import Record
from hybridhpc.model import JobState
from hybridhpc.units import parse_walltime

ASK_TASKS_EVERY = 3.0
"""Seconds between questions about the tasks of arrays, which only the progress needs."""
MOST_NAMED = 3
"""Jobs that are named one by one."""
MOST_SHOWN = 20
"""Jobs that get a line each; more are summed up."""


@click.command()
@click.argument("jobs", nargs=-1, required=True)
@click.option("--any", "any_one", is_flag=True, help="Until one of them is final.")
@click.option("--timeout", metavar="TIME", help="Give up after this time (90s, 10m); exit code 11.")
@json_option
def command(jobs: tuple[str, ...], any_one: bool, timeout: str | None, as_json: bool) -> None:
    """Wait until JOBS (refs, tokens, names or sweeps) are final. Exit code 10 if one did not complete.

    Example: hpc wait here:12 here:13
    """
    client = new_client()
    until = client.clock() + _seconds(timeout) if timeout else None
    records = chosen(client, jobs)
    with Progress("ended") as progress:
        after = wait_for(client, records, any_one=any_one, until=until, told=_by_task(client, progress))
    if as_json:
        show_json([record_json(record, client.clock()) for record in after])
    else:
        _show(after)
    over = client.over(after)
    failed = [record for record in compress(after, over) if record.state is not JobState.COMPLETED]
    if failed:
        judge(failed[0], f"; {len(failed) - 1:,} more did not complete" if len(failed) > 1 else "")
    if not (any(over) if any_one else all(over)):
        raise _undecided([record for record, ended in zip(after, over, strict=True) if not ended], timeout or "")


def _show(records: tuple[Record, ...]) -> None:
    if len(records) > MOST_SHOWN:
        say(f"{len(records):,} jobs: {spelled(map(state_word, records))}")
        return
    for record in records:
        say(f"{called(record)} {state_word(record)}")


def _undecided(records: list[Record], timeout: str) -> Undecided:
    """Say which jobs are not final. One that has ended is, unless an agent may make a new attempt of it."""
    named = ", ".join(f"{called(record)} is {record.state.value}" for record in records[:MOST_NAMED])
    more = f" and {len(records) - MOST_NAMED:,} more" if len(records) > MOST_NAMED else ""
    hint = "`hpc why` says what it waits for; `hpc wait` may be repeated"
    if records[0].state.final:
        hint = f"an agent looks after it and may make a new attempt: `hpc events {called(records[0])}`"
    return Undecided(f"not final within {timeout}: {named}{more}", hint=hint)


def _by_task(client: Client, progress: Progress) -> Heard:
    """Return what shows how many tasks have ended, asked now and then: a sweep of values is one array.

    Only of arrays that live, and whose site answers, is there anything to ask.
    """
    asked_at = -ASK_TASKS_EVERY

    def heard(records: Sequence[Record], over: Sequence[bool]) -> None:
        nonlocal asked_at
        living = [record for record in records if record.tasks > 1 and record.state in LIVING]
        if living and client.clock() < asked_at + ASK_TASKS_EVERY:
            return
        asked_at = client.clock()
        known = client.tasks(living).known if living else {}
        ended = sum(status.state.final for tasks in known.values() for status in tasks.values())
        progress(ended + sum(compress((record.tasks for record in records), over)), sum(r.tasks for r in records))

    return heard


def _seconds(text: str) -> int:
    try:
        return parse_walltime(text)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--timeout") from error

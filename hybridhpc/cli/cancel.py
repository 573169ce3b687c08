"""hpc cancel: end jobs."""

from __future__ import annotations

from collections.abc import Container, Sequence

import click

from hybridhpc.cli._context import check_task, chosen, dry_run_option, json_option, new_client, split_task
from hybridhpc.cli._output import called, record_json, say, show_json, state_word
from hybridhpc.cli._sweep import spelled
from hybridhpc.client import Client
from hybridhpc.errors import UsageError
from hybridhpc.ledger.base import Record
from hybridhpc.model import JobState

MOST_SHOWN = 20
"""Jobs that get a line each; more are summed up."""

Part = tuple[Record, int]
"""A task of an array, by its index."""


@click.command()
@click.argument("jobs", nargs=-1, required=True)
@dry_run_option
@json_option
def command(jobs: tuple[str, ...], dry_run: bool, as_json: bool) -> None:
    """Cancel JOBS (refs, tasks such as onprem:12_3, tokens, names or sweeps), pending or running.

    Example: hpc cancel onprem:1234
    """
    client = new_client()
    whole, parts = _meant(client, jobs)
    after = _look_at(client, whole, parts) if dry_run else _cancel(client, whole, parts)
    if as_json:
        show_json([record_json(record, client.clock()) for record in after])
        return
    over = frozenset(record.token for record in (*whole, *(record for record, _ in parts)) if record.state.final)
    if len(after) > MOST_SHOWN:
        _sum_up(after, over | _ended_otherwise(after), "would be cancelled" if dry_run else "are being cancelled")
        return
    part_of = ["" for _ in whole] + [f"_{task}" for _, task in parts]
    for part, record in zip(part_of, after, strict=True):
        say(f"{called(record)}{part} {_fate(record, over, dry_run=dry_run)}{state_word(record)}")


def _meant(client: Client, words: tuple[str, ...]) -> tuple[tuple[Record, ...], list[Part]]:
    """Return the jobs that words mean, and the tasks. Raises NotFound, and UsageError for what is not clear."""
    tasks = {word: split_task(word) for word in words}
    whole = chosen(client, [word for word, (_, task) in tasks.items() if task is None])
    for record in {record.name: record for record in whole}.values():
        _only_one(client, record, words, whole)
    parts = [(chosen(client, [job])[0], task) for job, task in tasks.values() if task is not None]
    for record, task in parts:
        check_task(record, task)
    return whole, parts


def _look_at(client: Client, whole: Sequence[Record], parts: Sequence[Part]) -> tuple[Record, ...]:
    return client.refresh([*whole, *(record for record, _ in parts)])


def _cancel(client: Client, whole: Sequence[Record], parts: Sequence[Part]) -> tuple[Record, ...]:
    return (*client.cancel(whole), *(client.cancel_task(record, task) for record, task in parts))


def _ended_otherwise(records: Sequence[Record]) -> frozenset[str]:
    return frozenset(r.token for r in records if r.state.final and r.state is not JobState.CANCELLED)


def _fate(record: Record, over: Container[str], *, dry_run: bool) -> str:
    """Say what happens to a job, in front of its state; nothing if it is cancelled already."""
    if record.token in over:
        return "had ended: "
    if record.state.final:
        return ""
    return "would be cancelled: " if dry_run else "is being cancelled: "


def _sum_up(after: tuple[Record, ...], over: Container[str], words: str) -> None:
    """Say how many are cancelled, and how many had ended before."""
    for what, jobs in (
        (words, [record for record in after if record.token not in over]),
        ("had ended", [record for record in after if record.token in over]),
    ):
        if jobs:
            say(f"{len(jobs):,} job{'s' * (len(jobs) > 1)} {what}: {spelled(map(state_word, jobs))}")


def _only_one(client: Client, record: Record, words: tuple[str, ...], meant: tuple[Record, ...]) -> None:
    """Refuse a name that living jobs bear besides the newest. Raises UsageError with their refs."""
    if record.name not in words:
        return
    living = [other for other in client.ledger.records(live_only=True) if other.name == record.name]
    if {other.token for other in living} <= {other.token for other in meant}:
        return
    # Some may have ended since they were asked about last.
    namesakes = [other for other in client.refresh(living) if not other.state.final]
    if not {other.token for other in namesakes} <= {other.token for other in meant}:
        # Jobs of one sweep are one thing.
        names = list(dict.fromkeys(other.sweep or called(other) for other in namesakes))
        are = "living jobs or sweeps are" if len(names) > 1 else "living job is"
        said = f"{len(names)} {are} called {record.name}: {', '.join(names[:MOST_SHOWN])}"
        raise UsageError(said + ", ..." * (len(names) > MOST_SHOWN), hint="name the one you mean so")

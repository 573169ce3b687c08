"""hpc cancel: end jobs."""

from __future__ import annotations

from collections.abc import Container

import click

from hybridhpc.cli._context import chosen, dry_run_option, json_option, new_client, split_task
from hybridhpc.cli._output import called, record_json, say, show_json, state_word
from hybridhpc.cli._sweep import spelled
from hybridhpc.client import Client
from hybridhpc.errors import UsageError
from hybridhpc.ledger.base import Record
from hybridhpc.model import JobState

MOST_SHOWN = 20
"""Jobs that get a line each; more are summed up."""


@click.command()
@click.argument("jobs", nargs=-1, required=True)
@dry_run_option
@json_option
def command(jobs: tuple[str, ...], dry_run: bool, as_json: bool) -> None:
    """Cancel JOBS (refs, tasks such as onprem:12_3, tokens, names or sweeps), pending or running.

    Example: hpc cancel onprem:1234
    """
    client = new_client()
    tasks = {word: split_task(word) for word in jobs}
    whole = chosen(client, [word for word, (_, task) in tasks.items() if task is None])
    for record in {record.name: record for record in whole}.values():
        _only_one(client, record, jobs, whole)
    parts = [(chosen(client, [job])[0], task) for job, task in tasks.values() if task is not None]
    if dry_run:
        after = client.refresh([*whole, *(record for record, _ in parts)])
    else:
        after = (*client.cancel(whole), *(client.cancel_task(record, task) for record, task in parts))
    if as_json:
        show_json([record_json(record, client.clock()) for record in after])
        return
    over = {record.token for record in whole if record.state.final}
    if len(after) > MOST_SHOWN:
        over |= {record.token for record in after if record.state.final and record.state is not JobState.CANCELLED}
        _sum_up(after, over, "would be cancelled" if dry_run else "are being cancelled")
        return
    part_of = ["" for _ in whole] + [f"_{task}" for _, task in parts]
    for part, record in zip(part_of, after, strict=True):
        words = "" if record.state.final else "would be cancelled: " if dry_run else "is being cancelled: "
        words = "had ended: " if record.token in over else words
        say(f"{called(record)}{part} {words}{state_word(record)}")


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
        refs = ", ".join(map(called, namesakes[:MOST_SHOWN])) + ", ..." * (len(namesakes) > MOST_SHOWN)
        are = "living jobs are" if len(namesakes) > 1 else "living job is"
        raise UsageError(f"{len(namesakes)} {are} called {record.name}: {refs}", hint="name them by their refs")

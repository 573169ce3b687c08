"""hpc cancel: end jobs."""

from __future__ import annotations

import click

from hybridhpc.cli._context import chosen, dry_run_option, json_option, new_client
from hybridhpc.cli._output import record_json, say, show_json
from hybridhpc.client import Client
from hybridhpc.errors import UsageError
from hybridhpc.ledger.base import Record


@click.command()
@click.argument("jobs", nargs=-1, required=True)
@dry_run_option
@json_option
def command(jobs: tuple[str, ...], dry_run: bool, as_json: bool) -> None:
    """Cancel JOBS (refs, tokens or names), pending or running.

    Example: hpc cancel onprem:1234
    """
    client = new_client()
    records = chosen(client, jobs)
    for record in records:
        _only_one(client, record, jobs)
    after = client.refresh(records) if dry_run else tuple(client.cancel(record) for record in records)
    if as_json:
        show_json([record_json(record, client.clock()) for record in after])
        return
    for record in after:
        words = "" if record.state.final else "would be cancelled: " if dry_run else "is being cancelled: "
        say(f"{record.ref or record.token} {words}{record.state.value}")


def _only_one(client: Client, record: Record, words: tuple[str, ...]) -> None:
    """Refuse a name that several living jobs bear. Raises UsageError with their refs."""
    namesakes = [other for other in client.ledger.records(live_only=True) if other.name == record.name]
    if record.name in words and len(namesakes) > 1:
        refs = ", ".join(other.ref or other.token for other in namesakes)
        raise UsageError(
            f"{len(namesakes)} living jobs are called {record.name}: {refs}", hint="name them by their refs"
        )

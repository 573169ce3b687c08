"""hpc cancel: end jobs."""

from __future__ import annotations

import click

from hybridhpc.cli._context import chosen, dry_run_option, json_option, new_client
from hybridhpc.cli._output import record_json, say, show_json


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
    after = client.refresh(records) if dry_run else tuple(client.cancel(record) for record in records)
    if as_json:
        show_json([record_json(record, client.clock()) for record in after])
        return
    for record in after:
        would = "would be cancelled: " if dry_run and not record.state.final else ""
        say(f"{record.ref or record.token} {would}{record.state.value}")

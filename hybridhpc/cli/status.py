"""hpc status: your jobs, asked once per site."""

from __future__ import annotations

import click

from hybridhpc.cli._context import chosen, json_option, new_client
from hybridhpc.cli._output import record_json, record_row, say, show_json, table


@click.command()
@click.argument("jobs", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Also jobs that ended more than a day ago.")
@json_option
def command(jobs: tuple[str, ...], everything: bool, as_json: bool) -> None:
    """Show JOBS (refs, tokens or names), or all that are alive or ended within a day.

    Example: hpc status here:12 --json
    """
    client = new_client()
    now = client.clock()
    if jobs:
        records = chosen(client, jobs)
    else:
        known = client.ledger.records(limit=100_000 if everything else 10_000)
        records = tuple(r for r in known if everything or not r.state.final or (r.ended_at or now) > now - 86400)
    current = client.refresh(records)
    if as_json:
        show_json([record_json(record, now) for record in current])
    elif current:
        header = ("REF", "NAME", "STATE", "ELAPSED", "COST", "REASON")
        say(table(header, [record_row(record, now) for record in current], right=frozenset({3, 4})))
    else:
        say("no jobs; `hpc submit SPEC --where auto` makes one")

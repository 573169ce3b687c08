"""hpc wait: until jobs are final."""

from __future__ import annotations

import click

from hybridhpc.cli._context import chosen, json_option, new_client
from hybridhpc.cli._follow import judge, wait_for
from hybridhpc.cli._output import record_json, say, show_json
from hybridhpc.cli._progress import Progress
from hybridhpc.errors import Undecided
from hybridhpc.units import parse_walltime


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
    with Progress("ended") as progress:
        after = wait_for(client, chosen(client, jobs), any_one=any_one, until=until, told=progress)
    if as_json:
        show_json([record_json(record, client.clock()) for record in after])
    else:
        for record in after:
            say(f"{record.ref} {record.state.value}")
    final = [record for record in after if record.state.final]
    for record in final:
        judge(record)
    if not final or (len(final) < len(after) and not any_one):
        raise Undecided(f"not final within {timeout}", hint="`hpc why` says what they wait for")


def _seconds(text: str) -> int:
    try:
        return parse_walltime(text)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--timeout") from error

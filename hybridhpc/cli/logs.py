"""hpc logs: what a job wrote."""

from __future__ import annotations

import click

from hybridhpc.cli._context import chosen, json_option, new_client
from hybridhpc.cli._follow import follow, write
from hybridhpc.cli._output import show_json
from hybridhpc.errors import NotFound


@click.command()
@click.argument("job")
@click.option("-f", "--follow", "following", is_flag=True, help="Go on until the job is final.")
@click.option("--task", type=click.IntRange(min=0), help="The task of an array.")
@json_option
def command(job: str, following: bool, task: int | None, as_json: bool) -> None:
    """Print the output of JOB (a ref, a token or a name).

    Example: hpc logs -f here:12
    """
    client = new_client()
    (record,) = chosen(client, [job])
    if following and not as_json:
        follow(client, record, task=task)
        return
    content = client.read_log(record, task=task)
    if content is None:
        raise NotFound(f"{record.ref or job} has no output yet", hint="`hpc why` says what it waits for")
    if as_json:
        show_json({"ref": record.ref, "task": task, "log": content.decode("utf-8", "replace")})
    else:
        write(content)

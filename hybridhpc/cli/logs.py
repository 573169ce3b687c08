"""hpc logs: what a job wrote."""

from __future__ import annotations

import click

from hybridhpc.cli._context import check_task, chosen, json_option, new_client, split_task, the_one
from hybridhpc.cli._follow import follow, pass_on
from hybridhpc.cli._output import called, say, show_json
from hybridhpc.client import Client
from hybridhpc.errors import NotFound, UsageError
from hybridhpc.ledger.base import Record
from hybridhpc.transports.base import MAX_OUTPUT

MOST_TASKS = 4_000_001
"""Slurm's own ceiling for MaxArraySize."""


@click.command()
@click.argument("job")
@click.option("-f", "--follow", "following", is_flag=True, help="Go on until the job is final.")
@click.option("--task", type=click.IntRange(min=0), help="The task of an array.")
@json_option
def command(job: str, following: bool, task: int | None, as_json: bool) -> None:
    """Print the output of JOB (a ref, the ref of a task such as here:12_3, a token, a name or a sweep).

    Example: hpc logs -f here:12
    """
    client = new_client()
    job, own = split_task(job)
    task = own if task is None else task
    records = chosen(client, [job])
    if not (following or as_json) and len(records) > 1:
        _print_all(client, records)
        return
    record = the_one(job, records)
    check_task(record, task)
    if following and not as_json:
        follow(client, record, task=task)
        return
    if task is not None and task not in range(MOST_TASKS):
        raise UsageError(f"--task {task} is no index of an array")
    contents = _contents(client, record, client.log_files(record, task), MAX_OUTPUT if as_json else 1)
    if all(content is None for content in contents.values()):
        state = "left none" if record.state.final else "has none yet"
        hint = f"looked for {', '.join(contents) or record.log or 'nothing'}; `hpc why` says what became of the job"
        raise NotFound(f"no output: {called(record)} {state}", hint=hint)
    if as_json:
        logs = {path: (content or b"").decode("utf-8", "replace") for path, content in contents.items()}
        show_json({"ref": record.ref, "task": task, "log": "".join(logs.values()), "logs": logs})
    else:
        pass_on(client, record, {}, task)


def _print_all(client: Client, records: tuple[Record, ...]) -> None:
    """Print the outputs of all jobs of a sweep, each behind its ref."""
    for record in records:
        say(f"==> {called(record)} {record.name} <==")
        pass_on(client, record, {}, None)


def _contents(client: Client, record: Record, paths: tuple[str, ...], room: int) -> dict[str, bytes | None]:
    """Return the beginnings of outputs, as many bytes in all as there is room for."""
    found: dict[str, bytes | None] = {}
    for path in paths:
        content = client.read_log(record, path, limit=max(room, 1))
        room -= len(content or b"")
        found[path] = content
    return found

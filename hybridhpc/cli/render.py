"""hpc render: the job script, exactly as it would be submitted."""

from __future__ import annotations

import shlex

import click

from hybridhpc.cli._arguments import PassThrough
from hybridhpc.cli._batch import Batch
from hybridhpc.cli._context import json_option, new_client
from hybridhpc.cli._follow import write
from hybridhpc.cli._output import show_json, tell
from hybridhpc.cli._wish import csv_option, goal_option, read_wishes, where_option


@click.command(cls=PassThrough)
@where_option
@goal_option
@csv_option
@json_option
@click.pass_context
def command(ctx: click.Context, where: str | None, goal: str | None, table: str | None, as_json: bool) -> None:
    """Print the script for FILE at the place where it would run, and submit nothing.

    Example: hpc render train.yaml --where onprem/batch
    """
    client = new_client()
    planner = client.planner(where)
    wishes = read_wishes(client, ctx.meta["rest"], where, goal, table)
    _, planned = Batch(client, planner, wishes).plan(careful=True)
    for plan in (plan for answer in planned for plan in answer.chosen()):
        if as_json:
            script = plan.script.decode("utf-8", "replace")
            show_json({"site": plan.site, "partition": plan.partition, "options": plan.options, "script": script})
            continue
        tell(f"# {plan.site}/{plan.partition}: {shlex.join(plan.options)}")
        write(plan.script)

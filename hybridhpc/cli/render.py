"""hpc render: the job script, exactly as it would be submitted."""

from __future__ import annotations

import shlex

import click

from hybridhpc.cli._arguments import PassThrough
from hybridhpc.cli._batch import Batch
from hybridhpc.cli._context import json_option, new_client
from hybridhpc.cli._follow import write
from hybridhpc.cli._output import one_or_all, show_json, tell
from hybridhpc.cli._unplaced import check_placed
from hybridhpc.cli._wish import csv_option, goal_option, read_wishes, where_option
from hybridhpc.script.plan import Plan


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
    wishes, planned = Batch(client, planner, wishes).plan(careful=True)
    check_placed(wishes, planned)
    plans = [plan for answer in planned for plan in answer.plans]
    if as_json:
        show_json(one_or_all([_json(plan) for plan in plans]))
        return
    for plan in plans:
        tell(f"# {plan.site}/{plan.partition}: {shlex.join(plan.options)}")
        write(plan.script)


def _json(plan: Plan) -> dict[str, object]:
    script = plan.script.decode("utf-8", "replace")
    return {"site": plan.site, "partition": plan.partition, "options": plan.options, "script": script}

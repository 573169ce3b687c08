"""hpc plan: where a job would run, when, for how much, and why."""

from __future__ import annotations

import sys

import click

from hybridhpc.cli._arguments import PassThrough
from hybridhpc.cli._batch import Batch
from hybridhpc.cli._chart import chart
from hybridhpc.cli._context import json_option, new_client
from hybridhpc.cli._output import one_or_all, say, show_json
from hybridhpc.cli._plan import plan_json
from hybridhpc.cli._plans import decisions, show_plans
from hybridhpc.cli._remarks import remark_scripts
from hybridhpc.cli._screen import width_of
from hybridhpc.cli._unplaced import check_placed
from hybridhpc.cli._wish import csv_option, goal_option, read_wishes, where_option

WITHOUT_A_SCREEN = 100
"""Columns of a chart that is asked for where there is no terminal."""


@click.command(cls=PassThrough)
@where_option
@goal_option
@csv_option
@click.option(
    "--chart/--no-chart",
    "drawn",
    default=None,
    help="Draw the candidates of a single plan on a time axis; default: on a terminal.",
)
@json_option
@click.pass_context
def command(
    ctx: click.Context, where: str | None, goal: str | None, table: str | None, drawn: bool | None, as_json: bool
) -> None:
    """Show every candidate for FILE with its start, run time and price, and why it wins or is refused.

    Of several files that ask for different things, one table shows where their jobs go.

    Example: hpc plan train.yaml --where auto --json
    """
    width = width_of(sys.stdout)
    drawn = width is not None if drawn is None else drawn
    client = new_client()
    planner = client.planner(where)
    wishes = read_wishes(client, ctx.meta["rest"], where, goal, table)
    remark_scripts(wishes)
    wishes, planned = Batch(client, planner, wishes).plan(careful=True)
    if as_json:
        show_json(one_or_all([plan_json(answer) for answer in planned]))
    else:
        made = decisions(wishes, planned)
        say(show_plans(made))
        drawing = chart(made[0].planned.ranking, width or WITHOUT_A_SCREEN) if drawn and len(made) == 1 else ""
        if drawing:
            say(f"\n{drawing}\n")
    check_placed(wishes, planned, shown=not as_json)

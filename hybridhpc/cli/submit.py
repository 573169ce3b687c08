"""hpc submit: from files to jobs, exactly once."""

from __future__ import annotations

from collections import Counter

import click

from hybridhpc.cli._arguments import PassThrough
from hybridhpc.cli._batch import Batch
from hybridhpc.cli._begun import Ended
from hybridhpc.cli._context import dry_run_option, json_option, new_client
from hybridhpc.cli._follow import follow, judge, wait_for
from hybridhpc.cli._output import one_or_all, say, show_json, submit_json, tell
from hybridhpc.cli._plan import plan_json
from hybridhpc.cli._plans import decisions, show_plans
from hybridhpc.cli._remarks import remark_scripts
from hybridhpc.cli._streams import check_printed
from hybridhpc.cli._summary import summary
from hybridhpc.cli._terminal import clean
from hybridhpc.cli._unplaced import check_placed
from hybridhpc.cli._wish import csv_option, goal_option, read_wishes, where_option
from hybridhpc.client import Client
from hybridhpc.errors import HpcError
from hybridhpc.ledger.base import Record
from hybridhpc.planning import Wish
from hybridhpc.submitting import Outcome

MOST_SHOWN = 10
"""Refusals and notes that are shown one by one."""


@click.command(cls=PassThrough)
@where_option
@goal_option
@csv_option
@click.option(
    "-f", "--follow", "following", is_flag=True, help="Follow the output to the end; exit code 10 if it fails."
)
@click.option("--again", is_flag=True, help="Submit another one, even if an interrupted submission could be taken up.")
@click.option("--quiet", is_flag=True, help="Do not print the plan.")
@dry_run_option
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    where: str | None,
    goal: str | None,
    table: str | None,
    following: bool,
    again: bool,
    quiet: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Submit FILE: a YAML spec, or an sbatch script taken as it is. Prints the ref and detaches.

    For an sbatch script, options of sbatch may stand before FILE and arguments of the script behind it. Several YAML
    specs may be named; they are submitted in the order of their dependencies. With `matrix:` in the spec, or with
    --csv, it is a sweep: the id that is printed stands for all of its jobs.

    Example: hpc submit train.yaml --where auto
    """
    client = new_client()
    planner = client.planner(where)
    wishes = read_wishes(client, ctx.meta["rest"], where, goal, table)
    remark_scripts(wishes)
    batch = Batch(client, planner, wishes)
    if not (again or dry_run):
        batch.take_up()
    waiting, planned = batch.plan(careful=dry_run)
    shown = not (quiet or as_json)
    if waiting and shown:
        tell(show_plans(decisions(waiting, planned), to_stderr=True))
    if not batch.is_begun:
        check_placed(waiting, planned, shown=shown)
    if dry_run:
        if as_json:
            show_json(one_or_all([plan_json(answer) for answer in planned]))
        return
    ended = batch.submit()
    _announce(client, wishes, ended, as_json=as_json)
    records = [each.record for group in ended for each in group if isinstance(each, Outcome)]
    _see_to_the_end(client, records, following=following, as_json=as_json)


def _announce(client: Client, wishes: list[Wish], ended: tuple[Ended, ...], *, as_json: bool) -> None:
    """Print what was submitted, and only then write down that it was printed. Raises the first error.

    Of several jobs, if one was not submitted, none counts as printed: the command may be repeated for what is missing.
    """
    outcomes = [each for group in ended for each in group if isinstance(each, Outcome)]
    errors = [each for group in ended for each in group if isinstance(each, HpcError)]
    _remark(outcomes)
    if as_json and outcomes:
        show_json(one_or_all([_json(wish, group) for wish, group in zip(wishes, ended, strict=True)]))
    elif outcomes:
        for wish, group in zip(wishes, ended, strict=True):
            for line in _lines(wish, group):
                say(line)
    if len(outcomes) + len(errors) > 1:
        tell(_summary(outcomes, len(errors)))
    # What became of several jobs in one way is one error.
    for error in list(dict.fromkeys(errors))[1 : MOST_SHOWN + 1]:
        tell("\n".join(error.lines()))
    if errors:
        raise errors[0]
    check_printed()
    client.announce([outcome.record for outcome in outcomes])


def _lines(wish: Wish, group: Ended) -> list[str]:
    """Return what stands for the jobs of a wish: the id of a sweep, or a ref."""
    records = [each.record for each in group if isinstance(each, Outcome)]
    return list(dict.fromkeys(record.sweep if wish.spec.points else record.ref for record in records))


def _json(wish: Wish, group: Ended) -> dict[str, object] | None:
    records = [each.record for each in group if isinstance(each, Outcome)]
    if not records:
        return None
    if wish.spec.points is None:
        return submit_json(records[0])
    jobs = [submit_json(record) for record in records]
    return {"sweep": records[0].sweep, "name": wish.spec.name, "points": len(wish.spec.points.rows), "jobs": jobs}


def _summary(outcomes: list[Outcome], failed: int) -> str:
    """Say in one line what became of many jobs."""
    places = Counter(outcome.record.site for outcome in outcomes)
    tasks = sum(outcome.record.tasks for outcome in outcomes)
    where = ", ".join(f"{count:,} to {site}" for site, count in places.items())
    sweep = next((f" as {outcome.record.sweep}" for outcome in outcomes), "")
    what = f"{tasks:,} tasks in {len(outcomes):,} jobs" if tasks > len(outcomes) else f"{len(outcomes):,} jobs"
    line = f"{what} submitted{sweep}: {where}" if outcomes else "no job submitted"
    if failed:
        line += f"; {failed:,} not: repeat the command for those (--again makes all anew)"
    return line


def _remark(outcomes: list[Outcome]) -> None:
    taken_up = sum(outcome.taken_up for outcome in outcomes)
    if taken_up == 1 == len(outcomes):
        tell("an earlier submission of the same was interrupted: this is its job (--again makes another)")
    elif taken_up:
        tell(f"an earlier submission was interrupted: {taken_up:,} of these jobs are its (--again makes others)")
    notes = Counter(note for outcome in outcomes for note in outcome.notes)
    for note, count in notes.most_common(MOST_SHOWN):
        tell(clean(f"note: {note}") + (f" ({count:,} jobs)" if count > 1 else ""))


def _see_to_the_end(client: Client, records: list[Record], *, following: bool, as_json: bool) -> None:
    """Follow the jobs if that was asked for; wait for those whose script asks sbatch to (--wait)."""
    if following and len(records) == 1 and not as_json:
        record = follow(client, records[0])
        tell(summary(client, record))
        judge(record)
        return
    waited = tuple(record for record in records if following or record.plan.waits)
    for record in wait_for(client, waited, any_one=False, until=None) if waited else ():
        judge(record)

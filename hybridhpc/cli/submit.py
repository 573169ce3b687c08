"""hpc submit: from a file to a job, exactly once."""

from __future__ import annotations

import click

from hybridhpc.cli._arguments import PassThrough
from hybridhpc.cli._context import dry_run_option, json_option, new_client
from hybridhpc.cli._follow import follow, judge, wait_for
from hybridhpc.cli._output import say, show_json, submit_json, tell
from hybridhpc.cli._plan import plan_json, show_plan
from hybridhpc.cli._summary import summary
from hybridhpc.cli._wish import goal_option, read_wishes, where_option, with_dependencies
from hybridhpc.client import Client
from hybridhpc.errors import HpcError
from hybridhpc.ledger.base import Record
from hybridhpc.model import JobSpec
from hybridhpc.planning import Planner, Wish
from hybridhpc.submitting import Outcome


@click.command(cls=PassThrough)
@where_option
@goal_option
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
    following: bool,
    again: bool,
    quiet: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Submit FILE: a YAML spec, or an sbatch script taken as it is. Prints the ref and detaches.

    For an sbatch script, options of sbatch may stand before FILE and arguments of the script behind it. Several YAML
    specs may be named; they are submitted in the order of their dependencies.

    Example: hpc submit train.yaml --where auto
    """
    client = new_client()
    planner = client.planner(where)
    outcomes: list[Outcome] = []
    try:
        wishes = read_wishes(client, ctx.meta["rest"], where, goal)
        batch: list[tuple[JobSpec, Record | None]] = [(wish.spec, None) for wish in wishes]
        for wish in wishes if len(wishes) > 1 else ():
            # Nothing of a batch is submitted unless all of it can be.
            planner.plan(with_dependencies(client, wish, batch), client.ledger.history()).chosen()
        for number, wish in enumerate(wishes):
            outcome = None if again or dry_run else _take_up(client, wish)
            if outcome is None:
                ready = with_dependencies(client, wish, batch)
                outcome = _submit(client, planner, ready, quiet=quiet or as_json, dry_run=dry_run, as_json=as_json)
            if outcome is not None:
                outcomes.append(outcome)
                batch[number] = (wish.spec, outcome.record)
                _remark(outcome)
                if not as_json:
                    _announce(client, [outcome], as_json=False)
    finally:
        if as_json and outcomes:
            _announce(client, outcomes, as_json=True)
    _see_to_the_end(client, outcomes, following=following, as_json=as_json)


def _submit(
    client: Client, planner: Planner, wish: Wish, *, quiet: bool, dry_run: bool, as_json: bool
) -> Outcome | None:
    planned = planner.plan(wish, client.ledger.history())
    if not quiet:
        tell(show_plan(wish.spec, planned, to_stderr=True))
    plan = planned.chosen()
    if not dry_run:
        return _submitted(client.submit([(plan, wish.request)])[0])
    if as_json:
        show_json(plan_json(planned))
    return None


def _take_up(client: Client, wish: Wish) -> Outcome | None:
    found = client.take_up([wish.request])
    return _submitted(found[wish.request][0]) if found else None


def _submitted(ended: Outcome | HpcError) -> Outcome:
    if isinstance(ended, HpcError):
        raise ended
    return ended


def _remark(outcome: Outcome) -> None:
    if outcome.taken_up:
        tell("an earlier submission of the same was interrupted: this is its job (--again makes another)")
    for note in outcome.notes:
        tell(f"note: {note}")


def _announce(client: Client, outcomes: list[Outcome], *, as_json: bool) -> None:
    """Print the refs, and only then write down that they were printed."""
    if as_json:
        answers = [submit_json(outcome.record) for outcome in outcomes]
        show_json(answers[0] if len(answers) == 1 else answers)
    for outcome in outcomes:
        if not as_json:
            say(outcome.record.ref)
        client.announce([outcome.record])


def _see_to_the_end(client: Client, outcomes: list[Outcome], *, following: bool, as_json: bool) -> None:
    """Follow the jobs if that was asked for; wait for those whose script asks sbatch to (--wait)."""
    for outcome in outcomes:
        record = outcome.record
        if following and not as_json:
            record = follow(client, record)
            tell(summary(client, record))
        elif following or record.plan.waits:
            (record,) = wait_for(client, (record,), any_one=False, until=None)
        else:
            continue
        judge(record)

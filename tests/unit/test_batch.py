"""A job that its scheduler refuses at submission goes to the next best place, and is given up when there is none."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from hybridhpc.cli._batch import Batch
from hybridhpc.cli._unplaced import check_placed
from hybridhpc.decide.route import decide
from hybridhpc.errors import NoCandidate, SchedulerError, Undelivered
from hybridhpc.model import After
from hybridhpc.planning import Planned, Wish
from hybridhpc.planning import Planner as RealPlanner
from hybridhpc.script.plan import Plan
from tests.worlds.stage import NOW, nodes, price, site, snapshot, spec

WORLD = [(site(name, cost=price(cost)), snapshot(name, nodes(1))) for name, cost in (("cheap", 1.0), ("dear", 9.0))]


class Planner:
    """Plans for real over a staged world; what it plans is never sent anywhere."""

    def plan_all(self, wishes, history, *, quick=False):
        return tuple(self.plan(wish, history, quick=quick) for wish in wishes)

    def plan(self, wish, history, *, refused=None, quick=False):
        ranking = decide(wish.spec, WORLD, refusals=refused, now=NOW)
        winner = ranking.winner
        if winner is None:
            return Planned(ranking=ranking, plans=())
        plan = Plan(
            name="train",
            site=winner.candidate.site.name,
            partition="gpu",
            resources=wish.spec.resources,
            usd_per_hour=1.0,
            script=b"",
            options=(),
        )
        return Planned(ranking=ranking, plans=(plan,))


class Sites:
    """A client whose sites refuse jobs, but for those that are named."""

    def __init__(self, *willing, error=None):
        self.willing = willing
        self.error = error or SchedulerError("sbatch: Invalid account")
        self.asked = []
        self.ledger = SimpleNamespace(history=tuple)

    def submit(self, jobs, *, sweep, told):
        ((plan, _),) = jobs
        self.asked.append(plan.site)
        return (plan.site,) if plan.site in self.willing else (self.error,)


def batch(client):
    made = Batch(client, Planner(), [Wish(spec=spec(), request="r", cwd="/")])
    made.plan(careful=False)
    return made


def test_the_next_best_place_is_taken(capsys):
    client = Sites("dear")
    assert batch(client).submit() == (("dear",),)
    assert client.asked == ["cheap", "dear"]
    assert "cheap/gpu does not take it: sbatch: Invalid account; it goes to dear/gpu" in capsys.readouterr().err


def test_every_place_is_tried_once_and_then_named():
    client = Sites()
    with pytest.raises(NoCandidate, match="cheap/gpu: the scheduler refuses it: sbatch: Invalid account"):
        batch(client).submit()
    assert client.asked == ["cheap", "dear"]


def test_where_a_site_took_nothing_none_of_its_places_is_tried_again_and_its_words_stay(capsys):
    client = Sites("dear", error=Undelivered("cheap: mkdir: Permission denied"))
    assert batch(client).submit() == (("dear",),)
    assert "cheap/gpu does not take it: cheap: mkdir: Permission denied; it goes to dear/gpu" in capsys.readouterr().err
    client = Sites(error=Undelivered("no room"))
    ((error,),) = batch(client).submit()
    assert isinstance(error, Undelivered) and client.asked == ["cheap", "dear"]


def test_a_site_that_cannot_be_spoken_to_at_all_took_nothing():
    client = Sites()
    client.submit = lambda jobs, **_: (_ for _ in ()).throw(Undelivered("no way there"))
    ((error,),) = batch(client).submit()
    assert isinstance(error, Undelivered)


def test_a_job_that_was_taken_up_and_refused_stays_refused():
    client = Sites()
    client.take_up = lambda requests, told: {"r": (SchedulerError("sbatch: Invalid account"),)}
    made = Batch(client, Planner(), [Wish(spec=spec(), request="r", cwd="/")])
    made.take_up()
    made.plan(careful=False)
    ((error,),) = made.submit()
    assert isinstance(error, SchedulerError)
    assert client.asked == []


def chain(planner, client, **second):
    first = replace(spec(name="prep"), file="/home/a/prep.yaml")
    then = replace(spec(name="then", **second), file="/home/a/then.yaml", after=(After(kind="ok", jobs=("prep",)),))
    made = Batch(client, planner, [Wish(spec=each, request=each.name, cwd="/") for each in (first, then)])
    return made, *made.plan(careful=False)


def real_planner():
    planner = RealPlanner([replace(site, scheduler="here") for site, _ in WORLD], {}, lambda: NOW)
    planner.__dict__["_answers"] = {site.name: seen for site, seen in WORLD}
    return planner


def test_what_comes_after_a_job_of_the_same_command_is_planned_at_its_site_before_anything_is_sent():
    _, _, (first, then) = chain(real_planner(), Sites())
    assert [each.chosen()[0].site for each in (first, then)] == ["cheap", "cheap"]
    _, wishes, planned = chain(real_planner(), Sites(), where=("dear",))
    with pytest.raises(NoCandidate) as told:
        check_placed(wishes, planned)
    assert "/home/a/then.yaml: no site can run this job" in told.value.message
    assert "it comes after prep, which goes to cheap, and dear knows nothing of that job" in told.value.message
    assert "--where=cheap" in told.value.message and "--where=dear" not in told.value.message


def test_what_cannot_be_placed_after_others_were_submitted_does_not_lose_them():
    client = Sites("cheap")
    made, _, _ = chain(Planner(), client)
    made._client.new_sweep = lambda name: name
    made._ready = lambda number: (_ for _ in ()).throw(NoCandidate("it would never start"))
    ((sent,), (error,)) = made.submit()
    assert sent == "cheap"
    assert error.message == "/home/a/then.yaml: it would never start" and error.exit_code == 5
    made, _, _ = chain(Planner(), client)
    made._client.refresh = lambda records: records
    made._planner = SimpleNamespace(plan_all=lambda *_: (_ for _ in ()).throw(NoCandidate("no draft")))
    ((sent,), (error,)) = made.submit()
    assert sent == "cheap" and error.message == "/home/a/then.yaml: no draft"

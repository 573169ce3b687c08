"""Many jobs of one command that ask for different things: sites looked at once, few questions, one behind the other."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import pytest

from hybridhpc import estimates, registry
from hybridhpc.command import CommandResult
from hybridhpc.decide import moment
from hybridhpc.errors import TransportError
from hybridhpc.model import Mebibytes
from hybridhpc.planning import Planner, Wish
from tests.worlds.stage import HOUR, NOW, array, nodes, price, running, site, snapshot, spec


def wishes(count, **more):
    """So many jobs of which no two ask for the same."""
    return [
        Wish(spec=spec(name=f"job-{n}", memory=Mebibytes(1024 + n), **more), request=str(n), cwd="/")
        for n in range(count)
    ]


def planner(*names, scheduler="here", free=1, dear="", **snapshots):
    sites = [site(name, scheduler=scheduler, cost=price(9.0 if name == dear else 1.0)) for name in names]
    made = Planner(sites, {}, lambda: NOW)
    made.__dict__["_answers"] = {name: snapshots.get(name) or snapshot(name, nodes(free)) for name in names}
    return made


def starts(planned):
    return [each.ranking.winner.forecast.start.p50 for each in planned]


def places(planned):
    return [each.ranking.winner.candidate.site.name for each in planned]


def test_jobs_of_one_command_are_not_all_forecast_for_the_same_free_node():
    found = planner("a").plan_all(wishes(3), ())
    assert starts(found) == [pytest.approx(n * 5 * HOUR, abs=10) for n in range(3)]
    assert [each.plans[0].promise.queued for each in found] == [0, 1, 2]


def test_what_finds_no_room_where_it_is_cheap_goes_where_there_is_some():
    found = planner("cheap", "dear", dear="dear", free=2).plan_all(wishes(3, value=900.0), ())
    assert places(found) == ["cheap", "cheap", "dear"]


def test_jobs_that_are_placed_alike_and_arrays_stand_before_others_with_all_they_are():
    one, other = wishes(2)
    alike = [replace(one, spec=replace(one.spec, name=f"job-{n}")) for n in range(4)]
    *first, last = planner("a", free=2).plan_all([*alike, other], ())
    assert starts([*first, last]) == [pytest.approx(at, abs=10) for at in (0, 0, 0, 0, 10 * HOUR)]
    many = replace(one, spec=replace(one.spec, array=array(200)))
    _, last = planner("a", free=2).plan_all([many, other], ())
    assert last.ranking.winner.forecast.start.p50 == pytest.approx(200 / 2 * 5 * HOUR, rel=0.05)


def test_a_job_that_is_spread_over_as_many_nodes_as_it_takes_takes_those_nodes():
    """Its candidate is judged with other figures than it asks for."""
    wide, other = wishes(2)
    asked = replace(wide.spec.resources, cpus=128, gpus=(), spread=True)
    first = replace(wide, spec=replace(wide.spec, resources=asked))
    assert starts(planner("a", free=2).plan_all([first, other], ())) == [0, pytest.approx(5 * HOUR, abs=10)]


def test_each_queue_is_planned_once_and_the_clock_is_read_once(monkeypatch):
    looked = Counter()
    plan = moment.outlook
    monkeypatch.setattr(moment, "outlook", lambda seen, *more: looked.update([seen.site]) or plan(seen, *more))
    ticks = iter([NOW])
    made = planner("a", "b")
    made._clock = lambda: next(ticks)
    made.plan_all(wishes(50), ())
    assert looked == {"a": 1, "b": 1}


def test_a_decision_beside_others_is_that_for_one_alone_where_they_take_nothing_from_it():
    alone = planner("a", "b", free=40).plan(wishes(20)[19], ())
    assert planner("a", "b", free=40).plan_all(wishes(20), ())[19].ranking.winner.score == alone.ranking.winner.score


class Schedulers:
    """Sites that answer each `sbatch --test-only` with a start at `start`, and how many of them each got at once."""

    def __init__(self, monkeypatch, start=NOW):
        self.asked = {}
        self.start = b"sbatch: Job 7 to start at %d using 1 processors on nodes n0" % start
        monkeypatch.setattr(registry, "transport", lambda site, env: SimpleNamespace(run_all=self.answering(site)))

    def answering(self, site):
        def run_all(errands, *, within):
            if "--test-only" in errands[0].command.argv:
                self.asked.setdefault(site.name, []).append(len(errands))
            return tuple(self.answer(site) for _ in errands)

        return run_all

    def answer(self, site):
        if site.name == "mute":
            return TransportError("no answer")
        return CommandResult(argv=("sbatch",), exit_code=0, stdout=b"", stderr=self.start)


def busy(name):
    return snapshot(name, nodes(1), [running("1", ["n0"], ends_in=HOUR)])


def test_all_questions_of_a_command_go_to_a_site_together_and_are_bounded(monkeypatch):
    told = Schedulers(monkeypatch)
    names = ("a", "b", "mute")
    few = planner(*names, scheduler="slurm").plan_all(wishes(5), ())
    assert told.asked == {name: [5] for name in names}
    assert not any(each.unasked for each in few)
    told.asked.clear()
    many = planner(*names, scheduler="slurm", **{name: busy(name) for name in names}).plan_all(wishes(100), ())
    assert told.asked == {name: [estimates.MOST_OF_ALL] for name in names}
    assert [each.unasked for each in many] == [n >= estimates.MOST_OF_ALL for n in range(100)]


def test_where_a_job_starts_at_once_for_certain_no_question_is_spent_if_there_are_too_many(monkeypatch):
    told = Schedulers(monkeypatch)
    made = planner("free", "busy", scheduler="slurm", free=200, busy=busy("busy"))
    found = made.plan_all(wishes(100), ())
    assert told.asked == {"busy": [estimates.MOST_OF_ALL]}
    assert sum(each.unasked for each in found) == 100 - estimates.MOST_OF_ALL
    told.asked.clear()
    sure = planner("free", scheduler="slurm", free=200).plan_all(wishes(100), ())
    assert told.asked == {}
    assert not any(each.unasked for each in sure)


def test_an_estimate_holds_for_the_first_job_that_is_placed_and_for_no_other(monkeypatch):
    Schedulers(monkeypatch, start=NOW + 60)
    first, second = planner("a", scheduler="slurm", a=busy("a")).plan_all(wishes(2), ())
    assert "scheduler's estimate" in first.ranking.winner.forecast.basis
    assert first.ranking.winner.forecast.start.p50 == pytest.approx(60, abs=10)
    assert "scheduler's estimate" not in second.ranking.winner.forecast.basis
    assert second.ranking.winner.forecast.start.p50 > HOUR

"""Jobs that a place turns away go to the next best one, once each; what comes after each other stays together."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import pytest

from hybridhpc.cli._batch import MOST_PLACES, Batch
from hybridhpc.cli._unplaced import check_placed
from hybridhpc.errors import NoCandidate, NotFound, SchedulerError, Undecided, Undelivered, Unreached, UsageError
from hybridhpc.model import After, JobState
from hybridhpc.planning import Planner, Wish
from hybridhpc.schedulers.base import Room
from hybridhpc.script.points import parse_points, points_file
from hybridhpc.spec.sweep import matrix_points, with_points
from hybridhpc.submitting import Outcome
from tests.worlds.stage import NOW, nodes, price, site, snapshot, spec

COSTS = {"cheap": 1.0, "dear": 9.0, "dearest": 30.0}
INVALID = SchedulerError("sbatch: Invalid account")


class Sites:
    """A client whose sites take jobs but for those that `fault` has a word about, by site and name of the job."""

    def __init__(self, fault=lambda site, name: None):
        self.fault = fault
        self.asked = []
        self.rooms = {}
        self.ledger = SimpleNamespace(history=tuple)
        self.usable_sites = [site(name) for name in COSTS]

    def submit(self, jobs, *, sweep, told):
        self.asked += [(plan.name, plan.site) for plan, _ in jobs]
        return tuple(self.fault(plan.site, plan.name) or taken(plan) for plan, _ in jobs)

    def refresh(self, records):
        return records

    def room(self, plan):
        return self.rooms.get(plan.site)

    def new_sweep(self, name):
        return name


def taken(plan, tasks=1):
    array = plan.spec.array if hasattr(plan, "spec") and plan.spec else None
    record = SimpleNamespace(
        token=plan.name, site=plan.site, job_id="7", state=JobState.PENDING, sweep="", name=plan.name, ref="",
        tasks=array.tasks if array else tasks,
    )  # fmt: skip
    return Outcome(record=record)


def refusing(*sites, error=INVALID):
    return Sites(lambda site, name: error if site in sites else None)


def wish(name, *after, **more):
    own = replace(spec(name=name, **more), file=f"/home/a/{name}.yaml")
    return Wish(spec=replace(own, after=tuple(After(kind="ok", jobs=(job,)) for job in after)), request=name, cwd="/")


def planner(most=None, **costs):
    sites = [site(name, cost=price(cost), scheduler="here") for name, cost in (costs or COSTS).items()]
    made = Planner(sites, {}, lambda: NOW)
    made.__dict__["_answers"] = {
        each.name: replace(snapshot(each.name, nodes(1)), max_array_size=most) for each in sites
    }
    return made


def batch(client, *wishes, **world):
    made = Batch(client, planner(**world), wishes or [wish("train")])
    made.plan(careful=False)
    return made


def taken_up(client, begun, *wishes, **world):
    """Return what becomes of wishes of which a command before began something, and what is planned of them."""
    client.take_up = lambda requests, told: begun
    made = Batch(client, planner(**world), wishes)
    made.take_up()
    _, planned = made.plan(careful=False)
    return made.submit(), planned


def places(ended):
    """Return where each wish went, or what hindered it."""
    return [each.record.site if isinstance(each, Outcome) else type(each) for (each,) in ended]


def test_the_next_best_place_is_taken(capsys):
    client = refusing("cheap")
    assert places(batch(client).submit()) == ["dear"]
    assert client.asked == [("train", "cheap"), ("train", "dear")]
    assert "cheap/gpu does not take it: sbatch: Invalid account; it goes to dear/gpu" in capsys.readouterr().err


def test_every_place_is_tried_once_and_then_named():
    client = refusing(*COSTS)
    ((error,),) = batch(client).submit()
    assert isinstance(error, NoCandidate)
    assert "cheap/gpu: the scheduler refuses it: sbatch: Invalid account" in error.message
    assert "mend what its scheduler names" in error.hint
    assert [place for _, place in client.asked] == list(COSTS)


def test_where_a_site_took_nothing_none_of_its_places_is_tried_again_and_its_words_stay(capsys):
    client = refusing("cheap", error=Undelivered("cheap: mkdir: Permission denied"))
    assert places(batch(client).submit()) == ["dear"]
    assert "cheap/gpu does not take it: cheap: mkdir: Permission denied; it goes to dear/gpu" in capsys.readouterr().err
    for error in (Undelivered("no room"), Unreached("sbatch: Unable to contact slurm controller")):
        client = refusing(*COSTS, error=error)
        assert places(batch(client).submit()) == [type(error)]
        assert [place for _, place in client.asked] == list(COSTS)


@pytest.mark.parametrize("error", [Undelivered("no way there"), Undecided("no answer")])
def test_what_is_taken_up_and_may_be_a_job_stays_where_it_was_sent(error):
    assert places(taken_up(refusing(), {"train": (error,)}, wish("train"))[0]) == [type(error)]


def test_what_is_taken_up_and_refused_is_certainly_no_job_and_is_planned_anew():
    client = refusing("cheap")
    ended, planned = taken_up(client, {"train": (INVALID,)}, wish("train"))
    assert places(ended) == ["dear"]
    assert len(planned) == 1 and client.asked == [("train", "cheap"), ("train", "dear")]


def test_many_go_elsewhere_by_one_decision_and_one_sentence(capsys):
    def fault(place, name):
        token = f"{int(name[3:]):020x}"
        return SchedulerError(f"sbatch: Invalid account for {token}") if place == "cheap" and name != "job7" else None

    client = Sites(fault)
    made = batch(client, *(wish(f"job{n}") for n in range(80)))
    assert Counter(places(made.submit())) == {"dear": 79, "cheap": 1}
    assert len(client.asked) == 80 + 79
    (said,) = [line for line in capsys.readouterr().err.splitlines() if "cheap/gpu" in line]
    assert said.startswith("79 jobs: cheap/gpu does not take them: sbatch: Invalid account for 0000")
    assert said.endswith("; they go to dear/gpu")


def test_of_a_site_that_takes_nothing_the_first_word_is_said_for_all(capsys):
    """Jobs that were not even tried say so, which is no reason."""
    client = Sites(
        lambda place, name: Undelivered("no room" if name == "a" else "not tried") if place == "cheap" else None
    )
    ended = batch(client, wish("a"), wish("b"), wish("c", where=("cheap", "dearest"))).submit()
    assert places(ended) == ["dear", "dear", "dearest"]
    said = capsys.readouterr().err
    assert "2 jobs: cheap/gpu does not take them: no room; they go to dear/gpu" in said
    assert "c: cheap/gpu does not take it: no room; it goes to dearest/gpu" in said


def test_a_sweep_goes_elsewhere_whole_and_not_at_all_if_one_of_its_arrays_was_taken():
    client = refusing("cheap")
    ((*arrays,),) = batch(client, sweep(), most=2).submit()
    assert [each.record.site for each in arrays] == ["dear", "dear"]
    assert [place for _, place in client.asked] == ["cheap", "cheap", "dear", "dear"]
    answers = iter([None, INVALID])
    client = Sites(lambda place, name: next(answers))
    ((first, second),) = batch(client, sweep(), most=2).submit()
    assert isinstance(first, Outcome) and isinstance(second, SchedulerError)
    assert second.message.endswith(
        "2 of 4 points are submitted, and stay; the other 2 were turned away: " + INVALID.message
    )
    assert second.hint.startswith("repeat the command: it submits those 2")
    assert len(client.asked) == 2


def test_after_many_places_each_of_them_is_named():
    costs = {f"site{n}": float(n + 1) for n in range(MOST_PLACES + 3)}
    client = Sites(lambda place, name: SchedulerError(f"sbatch: {place} is full"))
    ((error,),) = batch(client, **costs).submit()
    assert isinstance(error, SchedulerError)
    assert len(client.asked) == MOST_PLACES + 1
    for _, place in client.asked:
        assert f"{place}/gpu H100:8: the scheduler refuses it: sbatch: {place} is full" in error.message


@pytest.mark.parametrize("error", [Undecided("no answer"), NotFound("the script was changed")])
def test_what_may_be_a_job_or_is_no_fault_of_the_place_stays(error):
    client = refusing("cheap", error=error)
    assert places(batch(client).submit()) == [type(error)]
    assert len(client.asked) == 1


def test_those_that_nothing_takes_are_one_error_that_names_them():
    client = refusing(*COSTS)
    ended = batch(client, *(wish(f"job{n}") for n in range(9))).submit()
    (error,) = {each for (each,) in ended}
    assert isinstance(error, NoCandidate)
    assert error.message.startswith("/home/a/job0.yaml, /home/a/job1.yaml")
    assert "job4.yaml and 4 more: no site can run this job" in error.message


# ---- Jobs that come after each other


def chain(client, *wishes, **world):
    made = Batch(client, planner(**world), wishes)
    return made, *made.plan(careful=False)


def test_a_chain_is_planned_at_one_site_where_all_of_it_fits_and_says_why():
    _, _, planned = chain(Sites(), wish("prep"), wish("then", "prep"))
    assert [each.chosen()[0].site for each in planned] == ["cheap", "cheap"]
    assert [each.because for each in planned] == ["", ""]
    _, _, planned = chain(Sites(), wish("prep"), wish("then", "prep", where=("dear",)))
    assert [each.chosen()[0].site for each in planned] == ["dear", "dear"]
    assert [each.because for each in planned] == ["then, which comes after it, can only run there", ""]
    (cheap,) = [each for each in planned[0].ranking.choices if each.candidate.site.name == "cheap"]
    assert cheap.refused == "then, which comes after it, cannot run there"


def test_the_first_of_a_chain_names_what_goes_with_it_though_others_stand_between():
    _, _, planned = chain(Sites(), wish("prep"), wish("then", "prep"), wish("last", "then", where=("dear",)))
    assert [each.because for each in planned[:2]] == [
        "last, which goes with it, can only run there",
        "last, which comes after it, can only run there",
    ]


def test_a_chain_that_fits_at_no_one_site_is_refused_with_the_reasons():
    _, wishes, planned = chain(Sites(), wish("prep", where=("cheap",)), wish("then", "prep", where=("dear",)))
    with pytest.raises(NoCandidate) as told:
        check_placed(wishes, planned)
    assert "/home/a/then.yaml: no site can run this job" in told.value.message
    assert "dear/gpu: prep, which it comes after, cannot run there" in told.value.message
    assert "cheap/gpu: then, which comes after it, cannot run there" in told.value.message
    assert "--where=cheap" in told.value.message


def test_of_a_chain_one_that_fits_nowhere_is_named_alone():
    _, wishes, planned = chain(Sites(), wish("prep"), wish("then", "prep", count=50))
    with pytest.raises(NoCandidate) as told:
        check_placed(wishes, planned)
    assert "then.yaml" in told.value.message and "prep.yaml" not in told.value.message


def test_a_chain_goes_where_all_of_its_jobs_may_be_submitted():
    client = Sites()
    client.rooms = {"cheap": Room(jobs=2, why="MaxSubmitJobs 3 of you in account ml, of which 1 are submitted")}
    made, _, planned = chain(client, wish("prep"), wish("then", "prep"), wish("last", "then"))
    assert [each.chosen()[0].site for each in planned] == ["dear"] * 3
    (cheap,) = [each for each in planned[0].ranking.choices if each.candidate.site.name == "cheap"]
    assert cheap.refused.startswith("3 jobs come after each other, and it takes 2 more (MaxSubmitJobs 3 of you")
    assert places(made.submit()) == ["dear"] * 3
    _, _, planned = chain(client, wish("prep"), wish("then", "prep"))
    assert planned[0].chosen()[0].site == "cheap"


def test_a_chain_that_no_site_takes_whole_is_not_begun():
    client = Sites()
    client.rooms = dict.fromkeys(COSTS, Room(jobs=1, why="MaxSubmitJobs 1"))
    _, wishes, planned = chain(client, wish("prep"), wish("then", "prep"))
    with pytest.raises(NoCandidate) as told:
        check_placed(wishes, planned)
    why = "2 jobs come after each other, and it takes 1 more (MaxSubmitJobs 1)"
    assert told.value.message.count(why) == len(COSTS)


def test_a_chain_of_which_nothing_is_submitted_goes_elsewhere_together(capsys):
    client = refusing("cheap")
    made, _, _ = chain(client, wish("prep"), wish("then", "prep"))
    assert places(made.submit()) == ["dear", "dear"]
    assert client.asked == [("prep", "cheap"), ("prep", "dear"), ("then", "dear")]
    said = "prep: cheap/gpu does not take it: sbatch: Invalid account; it goes to dear/gpu\nthen goes to dear, too\n"
    assert said in capsys.readouterr().err


def test_a_chain_goes_only_where_all_of_it_fits():
    client = refusing("cheap")
    made, _, _ = chain(client, wish("prep"), wish("then", "prep", where=("cheap", "dearest")))
    assert places(made.submit()) == ["dearest", "dearest"]
    client = refusing("cheap")
    made, _, _ = chain(client, wish("prep"), wish("then", "prep", where=("cheap",)))
    (lost,), (orphan,) = made.submit()
    assert isinstance(lost, NoCandidate) and "then, which comes after it, cannot run there" in lost.message
    assert isinstance(orphan, UsageError)
    assert client.asked == [("prep", "cheap")]


@pytest.mark.parametrize("other", [None, Undecided("no answer")])
def test_a_chain_stays_at_its_site_once_one_of_it_may_be_there(other):
    client = Sites(lambda place, name: INVALID if name == "second" else other)
    made, _, _ = chain(client, wish("first"), wish("second"), wish("last", "first", "second"))
    (_, (second,), (last,)) = made.submit()
    assert isinstance(second, NoCandidate) and "first, which goes with it, was sent to cheap" in second.message
    assert isinstance(last, UsageError)
    assert client.asked == [("first", "cheap"), ("second", "cheap")]


def test_what_comes_after_a_job_that_is_submitted_stays_at_its_site():
    client = Sites(lambda place, name: INVALID if name == "then" else None)
    made, _, _ = chain(client, wish("prep"), wish("then", "prep"))
    (_, (then,)) = made.submit()
    assert isinstance(then, NoCandidate) and "it comes after cheap:7" in then.message
    assert client.asked == [("prep", "cheap"), ("then", "cheap")]


def test_what_is_planned_again_stands_behind_what_was_submitted_before(monkeypatch):
    """The one node is taken by `other` for its walltime, though no queue that was looked at shows that."""
    at_once = {"cheap": 1.0}
    prep, other, then = wish("prep", time=60), wish("other", time=36000), wish("then", "prep", time=60)
    made = Batch(Sites(), planner(**at_once), [prep, other, then])
    made.plan(careful=False)
    shown = made._placing.planned[2].ranking.winner.forecast.start.p50
    made.submit()
    assert shown > 3600
    assert made._placing.planned[2].ranking.winner.forecast.start.p50 == pytest.approx(shown, rel=0.01)


def test_what_cannot_be_placed_after_others_were_submitted_does_not_lose_them(monkeypatch):
    made, _, _ = chain(Sites(), wish("prep"), wish("then", "prep"))
    monkeypatch.setattr(made._placing, "ready", lambda *_: (_ for _ in ()).throw(NoCandidate("it would never start")))
    (sent,), (error,) = made.submit()
    assert sent.record.site == "cheap"
    assert error.message == "/home/a/then.yaml: it would never start" and error.exit_code == 5
    made, _, _ = chain(Sites(), wish("prep"), wish("then", "prep"))
    made._placing._planner = SimpleNamespace(plan_all=lambda *_, **__: (_ for _ in ()).throw(NoCandidate("no draft")))
    (sent,), (error,) = made.submit()
    assert sent.record.site == "cheap" and error.message == "/home/a/then.yaml: no draft"


def test_of_a_file_that_is_named_twice_what_is_missing_is_submitted_when_it_is_repeated():
    begun = {"same": (taken(SimpleNamespace(name="same", site="dear")),)}
    assert places(taken_up(Sites(), begun, wish("same"), wish("same"))[0]) == ["dear", "cheap"]


def sweep(*after):
    one = wish("tune", *after)
    return replace(one, spec=with_points(one.spec, matrix_points({"N": ("1", "2", "3", "4")})))


def begun_of(spec, *rows, site="cheap"):
    """Return an array of a sweep that was taken, with these of its points."""
    array = taken(SimpleNamespace(name="tune", site=site), tasks=len(rows))
    array.record.plan = SimpleNamespace(staged=(points_file(replace(spec.points, rows=rows)),))
    return array


def test_of_a_sweep_the_points_that_are_missing_are_submitted_when_it_is_repeated():
    wanted = sweep()
    begun = begun_of(wanted.spec, ("1",), ("3",))
    client = refusing("cheap")
    ((first, rest),), (planned,) = taken_up(client, {"tune": (begun, INVALID)}, wanted)
    assert first is begun and rest.record.site == "dear"
    (points,) = [parse_points(file.content) for file in planned.plans[0].staged if file.path == "points"]
    assert points.rows == (("2",), ("4",))
    ((*whole,),), planned = taken_up(Sites(), {"tune": (begun, begun_of(wanted.spec, ("2",), ("4",)))}, wanted)
    assert len(whole) == 2 and not planned
    ((first, error),), planned = taken_up(Sites(), {"tune": (begun, Undecided("no answer"))}, wanted)
    assert isinstance(error, Undecided) and not planned


def test_what_is_left_of_a_sweep_stays_with_the_rest_if_something_comes_after_it():
    wanted = sweep()
    client = Sites(lambda place, name: INVALID if name == "tune" else None)
    begun = begun_of(wanted.spec, ("1",), site="dear")
    ((_, error), (orphan,)), _ = taken_up(client, {"tune": (begun,)}, wanted, wish("then", "tune"))
    assert "cheap/gpu: the rest of it is at dear" in error.message and isinstance(orphan, UsageError)
    assert client.asked == [("tune", "dear")]


def test_of_a_command_that_is_taken_up_those_that_find_no_place_for_one_reason_are_one_error():
    begun = {"a": (taken(SimpleNamespace(name="a", site="dear")),)}
    (_, (first,), (second,)), _ = taken_up(Sites(), begun, *(wish(name, where=("nosuch",)) for name in "abc"))
    assert first is second and first.message.startswith("/home/a/b.yaml, /home/a/c.yaml: no site can run this job")


def test_of_what_is_turned_away_no_hint_speaks_for_those_that_are_submitted():
    lost = SchedulerError("sbatch: AssocMaxSubmitJobLimit", hint="nothing was submitted")
    client = Sites(lambda place, name: lost if name != "a" else None)
    (_, (error,)) = batch(client, wish("a"), wish("b")).submit()
    assert "nothing" not in error.hint and "mend what its scheduler names" in error.hint
    ((alone,),) = batch(client, wish("b")).submit()
    assert alone.hint == "nothing was submitted"


def test_of_a_command_that_is_taken_up_what_finds_no_place_does_not_hinder_the_others():
    begun = {"prep": (taken(SimpleNamespace(name="prep", site="dear")),)}
    wishes = (wish("prep"), wish("then", "prep", where=("cheap",)), wish("last", "then"), wish("other"))
    ended, _ = taken_up(Sites(), begun, *wishes)
    assert places(ended) == ["dear", NoCandidate, UsageError, "cheap"]
    assert ended[1][0].message.startswith("/home/a/then.yaml: no site can run this job")
    begun["prep"][0].record.state = JobState.FAILED
    ended, _ = taken_up(Sites(), begun, *wishes)
    assert places(ended) == ["dear", UsageError, UsageError, "cheap"]
    assert "which ended FAILED: it would never start" in ended[1][0].message

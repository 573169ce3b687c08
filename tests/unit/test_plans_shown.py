"""What a person reads of many jobs that ask for different things: one table, however many there are."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hybridhpc.cli._plans import MOST_ROWS, OF_THE_FIRST, decisions, show_plans
from hybridhpc.cli._unplaced import MOST_REASONS, check_placed
from hybridhpc.errors import NoCandidate
from hybridhpc.model import Mebibytes
from hybridhpc.planning import Planner, Wish
from tests.worlds.stage import HOUR, NOW, TIB, nodes, price, site, snapshot, spec


def wish(name, memory=1024, **more):
    own = replace(spec(name=name, memory=Mebibytes(memory), **more), file=f"/home/a/{name}.yaml")
    return Wish(spec=own, request=name, cwd="/")


def shown(wishes, *, free=1):
    """Plan at a site for $1 per GPU and hour and one for $9, with so many free nodes each; return table and errors."""
    sites = [site(name, scheduler="here", cost=price(per_gpu=usd)) for name, usd in (("cheap", 1.0), ("dear", 9.0))]
    planner = Planner(sites, {}, lambda: NOW)
    planner.__dict__["_answers"] = {each.name: snapshot(each.name, nodes(free)) for each in sites}
    planned = planner.plan_all(wishes, ())
    return show_plans(decisions(wishes, planned)), planned


def test_few_different_jobs_have_a_row_each_with_its_own_reason():
    text, _ = shown([wish("a"), wish("b", 2048), wish("b", 2048)])
    head, _, first, second, *rest = text.splitlines()
    assert head.startswith("plan for 3 jobs that ask for 2 different things; $120.00 in all, $240.00 at most; ")
    assert "the first starts now, the last in 5h; all are finished in" in head
    assert first.split()[:3] == ["a", "cheap/gpu", "now"]
    assert second.startswith("b and 1 like it  cheap/gpu")
    assert "$80" in second
    assert "cheapest; dear/gpu" in second
    assert rest == [OF_THE_FIRST]


def test_many_different_jobs_share_rows_by_place_and_what_is_unusual_is_named():
    wishes = [wish(f"job-{n}", 1024 + n, value=900.0, deadline=(1 if n == 7 else 9999) * HOUR) for n in range(150)]
    text, planned = shown(wishes, free=20)
    head, _, *rest = text.splitlines()
    rows, notes = rest[:2], rest[2:]
    assert "150 jobs that ask for 150 different things" in head
    assert [row.split()[1] for row in rows] == ["cheap/gpu", "dear/gpu"]
    assert sum(int(row.split()[0]) for row in rows) == 150
    assert "job-0: " in rows[0]
    (note,) = notes
    assert note.startswith("/home/a/job-7.yaml: likely to miss the deadline by ")
    assert len({id(each.ranking) for each in planned}) == 150


def test_more_places_than_rows_are_counted():
    sites = [site(f"s{n:02}", scheduler="here") for n in range(MOST_ROWS + 3)]
    planner = Planner(sites, {}, lambda: NOW)
    planner.__dict__["_answers"] = {each.name: snapshot(each.name, nodes(1)) for each in sites}
    wishes = [wish(f"job-{n}", 1024 + n) for n in range(MOST_ROWS + 3)]
    text = show_plans(decisions(wishes, planner.plan_all(wishes, ())))
    assert len(text.splitlines()) == 2 + MOST_ROWS + 1
    assert "3 more jobs go to 3 other places" in text


def test_jobs_that_fit_nowhere_are_counted_and_their_reasons_are_bounded():
    wishes = [wish("small"), *(wish(f"big-{n}", TIB + 1024 * (n + 1)) for n in range(40))]
    text, planned = shown(wishes)
    assert "no place for 40 of them" in text
    assert "refused, for the reasons below" in text
    with pytest.raises(NoCandidate) as told:
        check_placed(wishes, planned)
    assert told.value.message.count("no site can run this job") == MOST_REASONS
    assert "/home/a/big-10.yaml, " in told.value.message
    assert "and 25 more: no place either" in told.value.message


def test_places_that_the_person_does_not_want_share_a_line():
    one = wish("a")
    text, _ = shown([replace(one, spec=replace(one.spec, where=("dear",)))])
    assert [line.split()[0] for line in text.splitlines()[2:]] == ["dear/gpu", "not", "placement:", "forecast:"]
    assert "\nnot wanted by `where`: cheap/gpu" in text
    lost, _ = shown([replace(one, spec=replace(one.spec, where=("!dear", "!cheap")))])
    assert lost.count("left out by where") == len(lost.splitlines()) - 2


def test_one_decision_keeps_its_table_of_candidates():
    text, _ = shown([wish("a"), wish("a")])
    assert text.startswith("plan for a and 1 more job like it")
    assert "dear/gpu" in text

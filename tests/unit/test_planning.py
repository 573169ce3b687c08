"""What a Planner makes of what sites answered before anything is decided."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from hybridhpc.decide.candidate import Candidate
from hybridhpc.decide.seen import with_limits
from hybridhpc.errors import NoCandidate
from hybridhpc.model import JobSpec, Resources, Script, Work
from hybridhpc.planning import Planner, Wish
from hybridhpc.script.make import Draft, make_plan
from hybridhpc.sites.snapshot import Silence
from tests.worlds.stage import HOUR, NOW, nodes, pending, running, site, snapshot, spec


def test_own_jobs_that_wait_for_a_limit_stand_before_a_new_one_and_strangers_do_not():
    jobs = [
        pending("7", blocked=True, reason="QOSMaxGRESPerUser"),
        pending("8", blocked=True, reason="AssocGrpGRES"),
        pending("9", blocked=True, reason="JobHeldUser"),
    ]
    own = frozenset({"lab:7", "lab:9", "elsewhere:8"})
    found = with_limits(snapshot("lab", nodes(1), jobs), lambda: own)
    assert found.limited == ("gpu",)
    assert [job.line.blocked for job in found.jobs] == [False, True, True]
    mute = Silence(site="lab", why="no answer")
    assert with_limits(mute, lambda: own) is mute


@pytest.mark.parametrize(
    ("chdir", "transport", "cwd"),
    [
        ("/scratch/a", "openssh", "/scratch/a"),
        ("deep", "openssh", "/home/a"),
        (None, "openssh", "/home/a"),
        ("/scratch/a", "local", "/home/a"),
    ],
)
def test_a_script_is_submitted_from_a_directory_that_its_site_may_have(chdir, transport, cwd):
    """The person's own directory need not exist elsewhere."""
    script = Script(content=b"#!/bin/sh\n", path="/home/a/job.sh", chdir=chdir)
    spec = JobSpec(name="job", file=script.path, digest="", resources=Resources(), payload=script)
    there = Candidate(site=replace(site("lab"), transport=transport), partition="gpu", purchase="owned", gpus=None)
    assert make_plan(spec, there, Draft(script=b"", options=()), 0.0, "/home/a").cwd == cwd


def test_jobs_that_look_alike_are_not_placed_alike_if_one_names_data_that_may_not_leave():
    keeper, cloud = site("keeper", resident_data=("/patients",), scheduler="here"), site("cloud", scheduler="here")
    planner = Planner([keeper, cloud], {}, lambda: NOW)
    planner.__dict__["_answers"] = {
        "keeper": snapshot("keeper", nodes(1), [running("1", ["n0"], ends_in=99 * HOUR)]),
        "cloud": snapshot("cloud", nodes(1)),
    }
    wishes = [
        Wish(spec=replace(spec(), payload=Work(run=run)), request="", cwd="/") for run in ("true", "cat /patients/1")
    ]
    free, kept = planner.plan_all(wishes, ())
    assert free.ranking.winner.candidate.site.name == "cloud"
    assert kept.ranking.winner.candidate.site.name == "keeper"


def planner(**snapshots):
    """A Planner of sites that answered so; none of their schedulers has an opinion."""
    made = Planner([site(name, scheduler="here") for name in snapshots], {}, lambda: NOW)
    made.__dict__["_answers"] = snapshots
    return made


def test_of_places_that_a_job_misses_by_one_figure_the_nearest_is_proposed():
    small, large = snapshot("a", nodes(1, gpus=1)), snapshot("z", nodes(1, gpus=6))
    for world in ({"a": small, "z": large}, {"a": replace(large, site="a"), "z": replace(small, site="z")}):
        (refused,) = planner(**world).plan_all([Wish(spec=spec(), request="", cwd="/")], ())
        with pytest.raises(NoCandidate) as told:
            refused.chosen()
        nearest = "z" if world["z"].nodes[0].gpus == 6 else "a"
        assert told.value.hint == f"it would fit at {nearest}/gpu with gpus: H100:6 or fewer"


def test_the_clock_is_read_once_the_sites_have_answered():
    """Their answers may take seconds, in which running jobs run on."""
    made, read = planner(a=snapshot("a", nodes(1))), []
    answers = made.__dict__.pop("_answers")
    made._survey = SimpleNamespace(answers=lambda: read.append("sites") or answers)
    made._clock = lambda: read.append("clock") or NOW
    made.plan(Wish(spec=spec(), request="", cwd="/"), ())
    assert read == ["sites", "clock"]

"""What a Planner makes of what sites answered before anything is decided."""

from __future__ import annotations

from hybridhpc.planning import Planner
from hybridhpc.sites.snapshot import Silence
from tests.worlds.stage import NOW, nodes, pending, snapshot


def test_own_jobs_that_wait_for_a_limit_stand_before_a_new_one_and_strangers_do_not():
    jobs = [
        pending("7", blocked=True, reason="QOSMaxGRESPerUser"),
        pending("8", blocked=True, reason="AssocGrpGRES"),
        pending("9", blocked=True, reason="JobHeldUser"),
    ]
    planner = Planner([], {}, lambda: NOW, own_jobs=lambda: frozenset({"lab:7", "lab:9", "elsewhere:8"}))
    found = planner._with_limits(snapshot("lab", nodes(1), jobs))
    assert found.limited == ("gpu",)
    assert [job.blocked for job in found.jobs] == [False, True, True]
    mute = Silence(site="lab", why="no answer")
    assert planner._with_limits(mute) is mute

"""Start and run quantiles: from limits, from history, from the scheduler, and wider where less is seen."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hybridhpc.decide.fit import fits
from hybridhpc.decide.forecast import forecast_run, forecast_start, makespan
from hybridhpc.decide.learned import learned_fraction, lessons
from hybridhpc.decide.outlook import outlook
from hybridhpc.decide.policy import Policy, chance_after, expected, finish, quantile, weigh
from hybridhpc.model import Array, Goal, Quantiles, Seconds, UsdPerHour
from hybridhpc.sites.snapshot import StartEstimate
from tests.worlds.stage import DAY, HOUR, NOW, array, nodes, past, pending, running, site, snapshot, spec

POLICY = Policy()
LESSONS = lessons((), POLICY)


def start_of(job, place, world, *, estimate=None, history=(), fraction=0.5):
    (fit,) = fits(job, place, world)
    boots = {listed.name: LESSONS.boot(place, listed.name) for listed in world.partitions}
    view = outlook(world, boots, fraction, POLICY, NOW)
    told = None if estimate is None else StartEstimate(start=NOW + estimate)
    return forecast_start(fit, view, told, history, POLICY, NOW)


def run_of(job, history=(), *, place=None, fraction=0.5, sites=(), kind="h100"):
    where = place or site("lab")
    (fit,) = fits(job, where, snapshot(where.name, nodes(4, kind=kind)))
    known = {found.name: found for found in (where, *sites)}
    return forecast_run(job, fit, history, fraction, known, POLICY)


def full(ends_in, **more):
    return snapshot("lab", nodes(1), [running("1", ("n0",), ends_in=ends_in, ran=0)], **more)


def test_an_idle_node_means_now_but_for_what_the_scheduler_itself_takes():
    found = start_of(spec(), site("lab"), snapshot("lab", nodes(1)))
    assert found.when == Quantiles(p50=0, p90=POLICY.dispatch)


def test_running_jobs_end_at_their_limit_for_p90_and_at_the_usual_share_for_p50():
    assert start_of(spec(), site("lab"), full(10 * HOUR)).when == Quantiles(p50=5 * HOUR, p90=10 * HOUR)
    learned = start_of(spec(), site("lab"), full(10 * HOUR), fraction=0.8)
    assert learned.when == Quantiles(p50=8 * HOUR, p90=10 * HOUR)


def test_a_job_that_outlived_its_usual_share_gets_half_as_much_again():
    world = snapshot("lab", nodes(1), [running("1", ("n0",), ends_in=4 * HOUR, ran=6 * HOUR)])
    assert start_of(spec(), site("lab"), world).when == Quantiles(p50=3 * HOUR, p90=4 * HOUR)


def test_a_job_over_its_limit_still_needs_a_minute():
    world = snapshot("lab", nodes(1), [running("1", ("n0",), ends_in=-HOUR, ran=6 * HOUR)])
    found = start_of(spec(), site("lab"), world).when
    assert (found.p50, found.p90) == (30, 60)


def test_the_scheduler_s_estimate_is_an_upper_bound_and_p90_stays_apart():
    world = full(10 * HOUR)
    assert start_of(spec(), site("lab"), world, estimate=7 * HOUR).when == Quantiles(p50=5 * HOUR, p90=7 * HOUR)
    soon = start_of(spec(), site("lab"), world, estimate=HOUR).when
    assert soon.p50 == HOUR < soon.p90
    assert start_of(spec(), site("lab"), world, estimate=90 * HOUR).when.p90 == 10 * HOUR
    assert start_of(spec(), site("lab"), world, estimate=-HOUR).when == Quantiles(p50=0, p90=5)


def test_the_scheduler_s_estimate_counts_one_task_of_each_waiting_array_and_bounds_nothing_then():
    queue = [running("1", ("n0",), ends_in=HOUR, ran=0), pending("2")]
    assert start_of(spec(), site("lab"), snapshot("lab", nodes(1), queue), estimate=HOUR).when.p50 == HOUR
    line = replace(queue[1].line, tasks=4)
    waits = snapshot("lab", nodes(1), [queue[0], replace(queue[1], line=line)])
    found = start_of(spec(), site("lab"), waits, estimate=HOUR)
    assert found.when == Quantiles(p50=2.5 * HOUR, p90=5 * HOUR)
    assert "scheduler" not in found.basis
    elsewhere = replace(line, partition="other")
    apart = snapshot("lab", nodes(1), [queue[0], replace(queue[1], line=elsewhere)])
    assert "scheduler" in start_of(spec(), site("lab"), apart, estimate=HOUR).basis


def test_boot_time_is_added_to_the_scheduler_s_estimate():
    place, world = site("lab", boot=300), snapshot("lab", nodes(1, powered_down=True))
    found = start_of(spec(), place, world, estimate=0)
    assert (found.when, found.boot) == (Quantiles(p50=300, p90=450), 300)


def test_the_more_is_unseen_the_wider_is_the_start():
    widths = []
    for unseen in ((), ("jobs",), ("jobs", "nodes")):
        when = start_of(spec(), site("lab"), snapshot("lab", nodes(1), unseen=unseen), estimate=HOUR).when
        widths.append(when.p90 - when.p50)
    assert widths == sorted(set(widths))
    blind = start_of(spec(), site("lab"), snapshot("lab", nodes(1), unseen=("jobs", "nodes")), estimate=0).when
    assert blind == Quantiles(p50=0, p90=2 * HOUR)


def test_what_hidden_jobs_hold_is_expected_back_within_the_partition_s_limit():
    world = snapshot("lab", nodes(1, gpus_alloc=8), unseen=("jobs",), max_walltime=40 * HOUR)
    found = start_of(spec(), site("lab"), world).when
    assert found == Quantiles(p50=10 * HOUR, p90=41 * HOUR)


def test_a_hidden_queue_is_judged_by_one_s_own_waits_if_the_scheduler_says_nothing():
    world = snapshot("lab", nodes(1), unseen=("jobs",))
    waits = [past(1, waited=wait * HOUR) for wait in (1, 3, 20)]
    found = start_of(spec(), site("lab"), world, history=waits).when
    assert found.p50 == 3 * HOUR and found.p90 > 16 * HOUR
    elsewhere = [past(1, where="lab/other", waited=20 * HOUR)]
    assert start_of(spec(), site("lab"), world, history=elsewhere).when.p50 == 0


def test_a_queue_deeper_than_the_plan_delays_by_its_work():
    jobs = [pending(str(n), lasts=HOUR) for n in range(1, 201)]
    found = start_of(spec(), site("lab"), snapshot("lab", nodes(2), jobs)).when
    assert found.p50 == pytest.approx(50 * HOUR, rel=0.05)
    assert found.p90 == pytest.approx(100 * HOUR, rel=0.05)


def test_without_history_a_job_runs_the_usual_share_of_its_walltime():
    found = run_of(spec(time=10 * HOUR))
    assert found.task == Quantiles(p50=5 * HOUR, p90=10 * HOUR)
    assert found.basis == "50% of its walltime 10:00:00"


def test_without_any_walltime_the_partition_s_own_decides():
    job, place = spec(time=None), site("lab")
    limited = snapshot("lab", nodes(1), default_walltime=Seconds(2 * HOUR))
    (fit,) = fits(job, place, limited)
    assert forecast_run(job, fit, (), 0.5, {}, POLICY).task.p90 == 2 * HOUR


def test_past_runs_of_the_same_job_decide_and_a_few_of_them_leave_doubt():
    one = run_of(spec(), [past(4)])
    many = run_of(spec(), [past(4, ago=n * DAY) for n in range(1, 11)])
    assert one.task == Quantiles(p50=4 * HOUR, p90=6 * HOUR)
    assert many.task == Quantiles(p50=4 * HOUR, p90=4.2 * HOUR)
    assert many.basis == "10 past runs"


@pytest.mark.parametrize(
    "other",
    [
        past(1, name="other"),
        past(1, gpus="H100:4"),
        past(1, time=HOUR),
        past(0.1, completed=False),
        past(-1),
        replace(past(1), array=Array(text="0-9", tasks=10)),
    ],
)
def test_runs_of_other_jobs_teach_nothing(other):
    assert run_of(spec(), [other]).task == run_of(spec()).task


def test_a_run_that_was_cut_at_its_walltime_counts_as_that_long():
    found = run_of(spec(), [past(10, completed=False)])
    assert found.task.p50 == found.task.p90 == 10 * HOUR
    assert found.overrun > 0.4


def test_a_throttled_array_teaches_what_one_of_its_waves_took():
    before = replace(past(6), array=array(6, 2))
    assert run_of(spec(array=array(20, 2)), [before]).task.p50 == 2 * HOUR


def test_old_runs_are_forgotten():
    recent = [past(2, ago=n * HOUR) for n in range(1, 21)]
    assert run_of(spec(), [past(9, ago=90 * DAY), *recent]).task.p50 == 2 * HOUR


def test_run_time_scales_with_the_relative_speed_of_the_gpus():
    place = site("lab", speed={"H100": 1.0, "A100": 0.5})
    slow = run_of(spec(gpus=("A100:8",)), [past(3)], place=place, kind="a100")
    assert slow.task.p50 == 6 * HOUR
    fast = run_of(spec(), [past(3, gpus="A100:8")], place=place)
    assert fast.task.p50 == 1.5 * HOUR


def test_no_run_is_longer_than_its_walltime_but_the_danger_is_said():
    place = site("lab", speed={"H100": 1.0, "A100": 0.2})
    found = run_of(spec(gpus=("A100:8",)), [past(4)], place=place, kind="a100")
    assert found.task.p90 == 10 * HOUR
    assert found.overrun > 0.5 and "killed at its walltime" in found.basis


def test_gpus_at_a_tenth_of_the_speed_are_expected_to_be_cut_at_the_walltime_before_anything_ran():
    place = site("lab", speed={"H100": 1.0, "A100": 0.1, "A40": 0.9})
    slow = run_of(spec(gpus=("A100:8",)), [], place=place, kind="a100")
    assert slow.overrun > 0.5 and "killed at its walltime" in slow.basis
    assert 0.0 < run_of(spec(gpus=("A40:8",)), [], place=place, kind="a40").overrun < 0.5
    assert run_of(spec(), [], place=place).overrun == 0.0


def test_the_usual_share_is_learned_slowly_from_the_person_s_own_jobs():
    assert learned_fraction((), POLICY) == 0.5
    one = learned_fraction([past(9)], POLICY)
    many = learned_fraction([past(9) for _ in range(95)], POLICY)
    assert 0.5 < one < 0.6
    assert many == pytest.approx(0.88)


def test_an_array_takes_as_many_waves_as_its_throttle_or_the_nodes_make():
    task = Quantiles(p50=3600, p90=7200)
    place = site("lab")
    for tasks, waves in ((array(8), 1), (array(32), 4), (array(32, 4), 8), (array(32, 1), 32)):
        job = spec(array=tasks)
        (fit,) = fits(job, place, snapshot("lab", nodes(8)))
        found = makespan(job, fit, task)
        assert (waves - 1) * 3600 + 3600 <= found.p50 <= (waves - 1) * 3600 + 7200
        assert found.p90 == waves * 7200


def test_small_array_tasks_share_nodes_and_a_busy_place_gives_fewer_slots():
    job = spec(gpus=("H100:1",), array=array(64))
    (idle,) = fits(job, site("lab"), snapshot("lab", nodes(8)))
    (busy,) = fits(job, site("lab"), snapshot("lab", nodes(8, gpus_alloc=8)))
    task = Quantiles(p50=3600, p90=3600)
    assert makespan(job, idle, task).p50 == 3600
    assert makespan(job, busy, task) == Quantiles(p50=2 * 3600, p90=4 * 3600)


def test_chances_follow_the_quantiles():
    spread = Quantiles(p50=100, p90=200)
    points = [(-1, 1.0), (0, 1.0), (100, 0.5), (200, 0.1), (300, 0.0), (1e9, 0.0)]
    assert [chance_after(spread, at) for at, _ in points] == pytest.approx([chance for _, chance in points])
    sure = Quantiles(p50=100, p90=100)
    assert (chance_after(sure, 99), chance_after(sure, 101)) == (1.0, 0.0)


def test_the_score_is_price_and_the_worth_of_time_and_a_run_that_may_be_cut_counts_again():
    start, run = Quantiles(p50=HOUR, p90=HOUR), Quantiles(p50=2 * HOUR, p90=2 * HOUR)
    goal = Goal(value_of_time=UsdPerHour(10.0))
    assert weigh(goal, POLICY, start, run, 100.0, 0.0, NOW) == (130.0, 0.0)
    assert weigh(goal, POLICY, start, run, 100.0, 0.5, NOW) == (190.0, 0.0)
    missed = replace(goal, deadline=NOW + HOUR)
    assert weigh(missed, POLICY, start, run, 100.0, 0.0, NOW) == (10_130.0, 1.0)


def test_an_expected_time_lies_between_the_quantiles_and_finishes_add_up():
    assert expected(Quantiles(p50=100, p90=200), POLICY) == pytest.approx(130)
    assert finish(Quantiles(p50=1, p90=2), Quantiles(p50=10, p90=20)) == Quantiles(p50=11, p90=22)
    assert [quantile([3, 1, 2], share) for share in (0, 0.5, 0.75, 1)] == [1, 2, 2.5, 3]


def test_nodes_without_a_known_boot_take_minutes_not_none():
    off = snapshot("lab", nodes(1, powered_down=True))
    found = start_of(spec(), site("lab"), off)
    assert (found.when.p50, found.boot, found.late_boot) == (300, 300, 450)


def test_where_one_s_own_jobs_wait_for_a_limit_the_plan_is_a_lower_bound_and_the_estimate_an_upper_one_no_more():
    idle = snapshot("lab", nodes(4))
    assert start_of(spec(), site("lab"), idle, estimate=HOUR).when.p50 == 0
    found = start_of(spec(), site("lab"), replace(idle, limited=("gpu",)), estimate=HOUR)
    assert found.when.p50 == HOUR < found.when.p90
    assert "wait for a limit" in found.basis

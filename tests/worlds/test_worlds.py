"""Staged worlds: in each the right answer is another one, and can be checked by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hybridhpc.decide.promise import Outcome, Promise
from hybridhpc.decide.route import decide
from hybridhpc.errors import Problem
from hybridhpc.model import Quantiles, Seconds
from hybridhpc.sites.site import InvalidSite
from hybridhpc.sites.snapshot import QueuePartition, Silence, StartEstimate
from tests.worlds.stage import (
    DAY,
    HOUR,
    NOW,
    array,
    native,
    nodes,
    past,
    pending,
    price,
    running,
    site,
    snapshot,
    spec,
)

CLOUD = price(per_gpu=6.0)


def busy_lab(hours):
    """An owned cluster of four nodes, all taken by one job for so many hours (at its limit)."""
    names = tuple(f"n{number}" for number in range(4))
    return site("lab"), snapshot("lab", nodes(4), [running("1", names, ends_in=hours * HOUR, ran=0)])


def idle_cloud(name="cloud", *, boot=0, powered_down=False, cost=CLOUD, kind="h100", **more):
    found = nodes(8, prefix="c", kind=kind, powered_down=powered_down)
    return site(name, cost=cost, purchase="on-demand", boot=boot, **more), snapshot(name, found)


def answer(job, *world, **more):
    return decide(job, world, now=NOW, **more)


def place(ranking):
    return ranking.winner.candidate.name if ranking.winner else None


def choice(ranking, name):
    return next(choice for choice in ranking.choices if choice.candidate.name == name)


def test_the_cheapest_is_wrong_when_waiting_costs_more_than_the_cloud():
    ranking = answer(spec(time=2 * HOUR), busy_lab(40), idle_cloud())
    assert place(ranking) == "cloud/gpu/on-demand"
    lab = choice(ranking, "lab/gpu")
    assert lab.quote.usd == 0 < ranking.winner.quote.usd
    assert lab.reason == "starts 20h later for $48.00 less; your value of time is $30/h"
    assert ranking.winner.reason.startswith("soonest; lab/gpu starts 20h later for $48.00 less")


def test_the_soonest_is_wrong_when_the_wait_is_short_and_the_price_high():
    ranking = answer(spec(), busy_lab(1), idle_cloud())
    assert place(ranking) == "lab/gpu"
    cloud = choice(ranking, "cloud/gpu/on-demand")
    assert cloud.forecast.start.p50 == 0 < ranking.winner.forecast.start.p50
    assert cloud.reason == "starts 30m earlier for $240 more; your value of time is $30/h"


def test_the_person_s_value_of_time_turns_the_answer():
    world = (busy_lab(10), idle_cloud())
    assert place(answer(spec(value=1), *world)) == "lab/gpu"
    assert place(answer(spec(value=300), *world)) == "cloud/gpu/on-demand"


def test_a_deadline_buys_the_cloud_and_one_that_nobody_meets_is_said_not_refused():
    world = (busy_lab(8), idle_cloud())
    assert place(answer(spec(time=4 * HOUR, value=1), *world)) == "lab/gpu"
    assert place(answer(spec(time=4 * HOUR, value=1, deadline=5 * HOUR), *world)) == "cloud/gpu/on-demand"
    hopeless = answer(spec(time=4 * HOUR, value=1, deadline=60), *world)
    assert place(hopeless) == "lab/gpu"
    assert all("miss the deadline" in choice.reason for choice in hopeless.choices)


def test_a_budget_holds_to_the_walltime_and_the_refusal_names_what_would_admit():
    world = (busy_lab(100), idle_cloud())
    ranking = answer(spec(value=300, max_cost=300), *world)
    assert place(ranking) == "lab/gpu"
    refused = choice(ranking, "cloud/gpu/on-demand")
    assert refused.refused == "may cost up to $480 to its walltime of 10:00:00; the ceiling is $300"
    assert refused.would_admit == "max_cost: 480.00 USD"
    shorter = answer(spec(value=300, max_cost=300, time=6 * HOUR), *world)
    assert place(shorter) == "cloud/gpu/on-demand"


def test_powered_down_nodes_start_late_and_their_boot_is_billed():
    off, up = idle_cloud("off", boot=600, powered_down=True), idle_cloud("up", boot=600)
    ranking = answer(spec(), off, up)
    assert place(ranking) == "up/gpu/on-demand"
    late, soon = choice(ranking, "off/gpu/on-demand"), ranking.winner
    assert (late.forecast.start.p50, late.forecast.start.p90) == (600, 900)
    assert (soon.forecast.start.p50, soon.forecast.start.p90) == (0, 5)
    assert late.quote.usd - soon.quote.usd == pytest.approx(8 * 6.0 * 600 / HOUR)


def test_an_estimate_that_ignores_the_boot_does_not_hide_it():
    off = idle_cloud("off", boot=600, powered_down=True)
    ranking = answer(spec(), off, estimates={"off/gpu/on-demand H100:8": StartEstimate(start=NOW)})
    assert ranking.winner.forecast.start.p50 == 600


def test_the_slower_cheaper_gpu_wins_for_who_has_time_and_loses_for_who_has_not():
    speed = {"H100": 1.0, "A100": 0.5}
    old = idle_cloud("old", cost=price(per_gpu=1.0), kind="a100", speed=speed)
    new = idle_cloud("new", cost=price(per_gpu=6.0), speed=speed)
    history = [past(4, where="new/gpu")]
    job = {"gpus": ("H100:8", "A100:8")}
    patient = answer(spec(value=1, **job), old, new, history=history)
    hurried = answer(spec(value=300, **job), old, new, history=history)
    assert place(patient) == "old/gpu/on-demand"
    assert place(hurried) == "new/gpu/on-demand"
    slow = next(choice for choice in patient.choices if choice.refused is None)
    assert (slow.forecast.run.p50, hurried.winner.forecast.run.p50) == (8 * HOUR, 4 * HOUR)


def test_a_gpu_so_slow_that_the_walltime_would_kill_the_job_loses_its_price_advantage():
    speed = {"H100": 1.0, "A100": 0.25}
    old = idle_cloud("old", cost=price(per_gpu=3.0), kind="a100", speed=speed)
    new = idle_cloud("new", cost=price(per_gpu=6.0), speed=speed)
    history = [past(4, where="new/gpu", ago=n * DAY) for n in range(1, 6)]
    ranking = answer(spec(value=1, gpus=("H100:8", "A100:8")), old, new, history=history)
    assert place(ranking) == "new/gpu/on-demand"
    cut = next(c for c in ranking.choices if c.candidate.site.name == "old" and c.refused is None)
    assert cut.forecast.run.p90 == 10 * HOUR
    assert "killed at its walltime" in cut.reason


def hole_lab():
    """Two nodes: one is idle, one busy for 4 h; a job for both waits, so the idle one is a hole of 4 h."""
    jobs = [running("1", ("n0",), ends_in=4 * HOUR, ran=0), pending("2", count=2, lasts=20 * HOUR)]
    return site("lab"), snapshot("lab", nodes(2), jobs)


def test_a_short_job_starts_in_the_hole_of_a_busy_queue_and_a_long_one_goes_elsewhere():
    cloud = idle_cloud()
    short = answer(spec(time=3 * HOUR), hole_lab(), cloud)
    assert place(short) == "lab/gpu"
    assert short.winner.forecast.start.p90 == 5
    long = answer(spec(time=8 * HOUR, value=300), hole_lab(), cloud)
    assert place(long) == "cloud/gpu/on-demand"
    assert choice(long, "lab/gpu").forecast.start.p90 >= 24 * HOUR


def test_the_scheduler_s_estimate_bounds_a_plan_but_does_not_hide_a_hole():
    hole = hole_lab()
    told = {"lab/gpu H100:8": StartEstimate(start=NOW + 24 * HOUR)}
    assert answer(spec(time=3 * HOUR), hole, estimates=told).winner.forecast.start.p50 == 0
    bound = {"lab/gpu H100:8": StartEstimate(start=NOW + HOUR)}
    assert answer(spec(time=8 * HOUR), hole, estimates=bound).winner.forecast.start.p50 == HOUR


def test_a_hidden_queue_is_not_an_empty_queue():
    hidden = site("hidden"), snapshot("hidden", nodes(4), unseen=("other people's jobs: PrivateData=jobs",))
    plain = busy_lab(2)
    assert place(answer(spec(), hidden)) == "hidden/gpu"
    told = {"hidden/gpu H100:8": StartEstimate(start=NOW + 5 * HOUR)}
    ranking = answer(spec(), hidden, plain, estimates=told)
    assert place(ranking) == "lab/gpu"
    start = choice(ranking, "hidden/gpu").forecast.start
    assert start.p50 == 5 * HOUR and start.p90 > 7 * HOUR
    waits = [past(2, where="hidden/gpu", waited=9 * HOUR, ago=n * DAY) for n in range(1, 6)]
    taught = answer(spec(), hidden, plain, history=waits)
    assert place(taught) == "lab/gpu"
    assert choice(taught, "hidden/gpu").forecast.start.p50 == 9 * HOUR


def test_history_says_that_a_job_is_short_and_so_the_cloud_is_affordable():
    world = (busy_lab(6), idle_cloud())
    assert place(answer(spec(time=10 * HOUR), *world)) == "lab/gpu"
    history = [past(0.5, ago=n * DAY) for n in range(1, 8)]
    ranking = answer(spec(time=10 * HOUR), *world, history=history)
    assert place(ranking) == "cloud/gpu/on-demand"
    assert ranking.winner.quote.usd == pytest.approx(0.5 * 8 * 6.0)


def test_a_whole_node_is_priced_where_jobs_get_whole_nodes():
    partition = QueuePartition(name="gpu", max_walltime=Seconds(7 * DAY), exclusive=True)
    whole = site("whole", cost=price(per_gpu=2.0)), snapshot("whole", nodes(2), partitions=(partition,))
    shared = site("shared", cost=price(per_gpu=6.0)), snapshot("shared", nodes(2))
    ranking = answer(spec(gpus=("H100:1",)), whole, shared)
    assert place(ranking) == "shared/gpu"
    assert choice(ranking, "whole/gpu").quote.usd == pytest.approx(5 * 8 * 2.0)


def test_broken_silent_and_unknown_sites_cost_one_line_each():
    broken = InvalidSite(
        name="broken", file="broken.yaml", problems=(Problem(file="broken.yaml", line=3, key="host", message="bad"),)
    )
    mute = site("mute"), Silence(site="mute", why="gave no answer within 10 s")
    ranking = answer(spec(where=("auto", "nowhere")), busy_lab(1), (broken, None), mute)
    assert place(ranking) == "lab/gpu"
    assert ranking.silent == (
        ("broken", "its file is wrong: broken.yaml:3: host: bad"),
        ("mute", "gave no answer within 10 s"),
        ("nowhere", "named in where, but there is no such site or label (there is broken, lab, mute)"),
    )


def test_nothing_is_proposed_that_the_budget_or_what_is_allowed_already_refuses():
    world = idle_cloud(cost=price(per_gpu=2.0))
    both = answer(spec(gpus=("H200:8", "H100:8"), time=2 * HOUR, max_cost=20), world)
    admit = {str(each.candidate.gpus): each.would_admit for each in both.choices}
    assert admit == {"H200:8": None, "H100:8": "max_cost: 32.00 USD"}
    (alone,) = answer(spec(gpus=("H200:8",), time=2 * HOUR, max_cost=20), world).choices
    assert alone.would_admit is None
    (rich,) = answer(spec(gpus=("H200:8",), time=2 * HOUR, max_cost=40), world).choices
    assert rich.would_admit == "gpus: h100:8"


def test_the_embedded_site_costs_nothing_and_says_what_would_admit_a_script_with_an_account():
    here = site("here", cost=price(source="no price given"), scheduler="here"), snapshot("here", nodes(1))
    assert answer(spec(), here).winner.quote.source == "this machine"
    refused = answer(spec(native=native(account="ml")), here).choices[0]
    assert refused.refused == "here has no accounts; the job names slurm: {account: ml}"
    assert refused.would_admit == "no slurm: {account: ml}"
    both = answer(spec(script=True, native=native(account="ml", qos="high", partition="batch")), here).choices[0]
    assert both.would_admit == "no --partition=batch and no --account=ml and no --qos=high"


def test_an_array_takes_waves_and_every_task_is_paid():
    ranking = answer(spec(gpus=("H100:8",), array=array(32)), idle_cloud())
    won = ranking.winner
    assert won.quote.usd == pytest.approx(32 * 5 * 8 * 6.0)
    assert 4 * 5 * HOUR <= won.forecast.run.p50 <= won.forecast.run.p90 == 4 * 10 * HOUR
    throttled = answer(spec(gpus=("H100:8",), array=array(32, 2)), idle_cloud()).winner
    assert throttled.forecast.run.p50 >= 16 * 5 * HOUR


def test_the_same_spec_stays_at_home_when_idle_and_bursts_when_the_queue_costs_more_than_the_cloud():
    job = spec(time=4 * HOUR)
    home = site("lab", cost=price(per_gpu=2.0))
    idle = home, snapshot("lab", nodes(4))
    full = home, snapshot("lab", nodes(4), [running("1", ("n0", "n1", "n2", "n3"), ends_in=20 * HOUR, ran=0)])
    assert place(answer(job, idle, idle_cloud())) == "lab/gpu"
    burst = answer(job, full, idle_cloud())
    assert place(burst) == "cloud/gpu/on-demand"
    # 2 h on 8 GPUs at $6 instead of $2 are $64 more; 10 h of waiting are worth $300.
    assert burst.winner.reason == "soonest; lab/gpu starts 10h later for $64.00 less; your value of time is $30/h"
    short = home, snapshot("lab", nodes(4), [running("1", ("n0", "n1", "n2", "n3"), ends_in=2 * HOUR, ran=0)])
    assert place(answer(job, short, idle_cloud())) == "lab/gpu"


def test_a_cheap_cloud_that_is_far_away_in_time_loses_to_a_dear_one_that_is_near():
    queue = [running("1", tuple(f"c{number}" for number in range(8)), ends_in=30 * HOUR, ran=0)]
    far = site("far", cost=price(per_gpu=3.0), purchase="on-demand", boot=900)
    world = (far, snapshot("far", nodes(8, prefix="c"), queue)), idle_cloud("near", boot=300, powered_down=True)
    ranking = answer(spec(time=4 * HOUR), *world)
    assert place(ranking) == "near/gpu/on-demand"
    assert choice(ranking, "far/gpu/on-demand").reason == (
        "starts 14h 55m later for $52.00 less; your value of time is $30/h"
    )
    assert place(answer(spec(time=4 * HOUR, value=1), *world)) == "far/gpu/on-demand"


SPEEDS = {"H200": 1.4, "H100": 1.0, "A100": 0.45}
THREE = ("H200:8", "H100:8", "A100:8")


def gpu_world(h200, h100, a100):
    """A cloud of each kind, at so many dollars per GPU and hour."""
    kinds = (("h200", h200), ("h100", h100), ("a100", a100))
    return [idle_cloud(kind, cost=price(per_gpu=cost), kind=kind, speed=SPEEDS) for kind, cost in kinds]


@pytest.mark.parametrize(
    ("prices", "value", "winner"),
    [
        ((9.0, 6.0, 3.5), 300, "h200"),  # in a hurry
        ((12.0, 6.0, 3.5), 30, "h100"),  # the fastest is too dear, the slowest runs too long for its price
        ((9.0, 6.0, 1.2), 1, "a100"),  # who has time takes what costs least in all
        ((8.0, 6.0, 3.5), 1, "h200"),  # dearest by the hour, cheapest for the job: 8 / 1.4 < 6
    ],
)
def test_of_three_gpus_that_will_do_each_wins_in_its_world(prices, value, winner):
    history = [past(4, where="h100/gpu", ago=n * DAY) for n in range(1, 4)]
    ranking = answer(spec(gpus=THREE, time=12 * HOUR, value=value), *gpu_world(*prices), history=history)
    assert ranking.winner.candidate.site.name == winner
    runs = {c.candidate.site.name: c.forecast.run.p50 / HOUR for c in ranking.choices if c.refused is None}
    assert runs == pytest.approx({"h200": 4 / 1.4, "h100": 4.0, "a100": 4 / 0.45})


def test_a_site_that_lets_nobody_in_says_so_with_the_command_that_renews():
    why = "AUTH_EXPIRED: login.aws does not let you in: Permission denied (publickey); renew it: step ssh login"
    shut = site("aws"), Silence(site="aws", why=why, fix="try it by hand: ssh login.aws")
    ranking = answer(spec(), busy_lab(1), shut)
    assert ranking.silent == (("aws", f"{why}; try it by hand: ssh login.aws"),)


def test_outcomes_of_earlier_forecasts_correct_this_one_and_turn_the_answer():
    job, world = spec(time=4 * HOUR), (busy_lab(2), idle_cloud())
    before = answer(job, *world)
    assert place(before) == "lab/gpu"
    promise = before.winner.forecast.promise
    assert (promise.site, promise.partition, promise.queued) == ("lab", "gpu", 0)
    said, run = Quantiles(p50=HOUR, p90=2 * HOUR), Quantiles(p50=2 * HOUR, p90=4 * HOUR)
    made = Promise(site="lab", partition="gpu", start=said, run=run, plain_start=said, plain_run=run)
    late = [Outcome(token=str(n), made_at=NOW - n, promise=made, waited=8.0 * HOUR) for n in range(20)]
    after = answer(job, *world, outcomes=late)
    assert place(after) == "cloud/gpu/on-demand"
    lab = choice(after, "lab/gpu").forecast
    assert lab.promise.plain_start == promise.plain_start
    assert lab.start.p50 == pytest.approx(8 * before.winner.forecast.start.p50, rel=0.01)


def test_short_jobs_in_one_place_do_not_make_it_the_quicker_one_for_a_job_that_never_ran():
    job, world = spec(time=4 * HOUR), (busy_lab(0.1), idle_cloud())
    before = answer(job, *world)
    at_once, run = Quantiles(p50=0, p90=5), Quantiles(p50=2 * HOUR, p90=4 * HOUR)
    made = Promise(site="cloud", partition="gpu", start=at_once, run=run, plain_start=at_once, plain_run=run)
    short = [Outcome(token=str(n), made_at=NOW - n, promise=made, waited=0.0, ran=60.0) for n in range(40)]
    after = answer(job, *world, outcomes=short)
    assert place(before) == place(after) == "lab/gpu"
    assert choice(after, "lab/gpu").forecast.run == choice(after, "cloud/gpu/on-demand").forecast.run
    assert after.winner.forecast.run.p50 == before.winner.forecast.run.p50
    assert after.winner.forecast.run.p90 < before.winner.forecast.run.p90


@pytest.mark.parametrize("ran", [60.0, HOUR, 3.9 * HOUR])
def test_whatever_was_learned_a_run_time_keeps_its_spread_and_its_limit(ran):
    at_once, run = Quantiles(p50=0, p90=5), Quantiles(p50=2 * HOUR, p90=4 * HOUR)
    made = Promise(
        site="cloud", partition="gpu", start=at_once, run=run, plain_start=at_once, plain_run=run, past_runs=3
    )
    learned = [Outcome(token=str(n), made_at=NOW - n, promise=made, waited=0.0, ran=ran) for n in range(50)]
    learned += [replace(each, promise=replace(made, past_runs=0)) for each in learned]
    for history in ((), [past(1, time=4 * HOUR)] * 20):
        ranking = answer(spec(time=4 * HOUR), idle_cloud(), outcomes=learned, history=history)
        found = ranking.winner.forecast.run
        assert found.p50 * 1.04 < found.p90 <= 4 * HOUR

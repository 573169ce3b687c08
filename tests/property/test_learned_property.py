"""Laws of what outcomes teach, whatever was forecast and whatever happened."""

from __future__ import annotations

import math

from hypothesis import given, settings
from hypothesis import strategies as st

from hybridhpc.decide.learned import Correction, correction, lessons
from hybridhpc.decide.policy import Policy
from hybridhpc.decide.promise import Outcome, Promise
from hybridhpc.model import Quantiles
from tests.worlds.stage import site

POLICY = Policy()
SOFT = POLICY.softening
laws = settings(max_examples=150, deadline=None)
seconds = st.floats(0, 1e6)
forecasts = st.tuples(seconds, seconds).map(lambda pair: Quantiles(p50=min(pair), p90=max(pair)))
pairs = st.lists(st.tuples(forecasts, seconds), max_size=60)


def told(forecast, outcomes):
    return correction(outcomes, POLICY).applied(forecast, SOFT)


@laws
@given(forecasts, pairs)
def test_what_is_corrected_stays_a_forecast(forecast, outcomes):
    found = told(forecast, outcomes)
    assert 0 <= found.p50 <= found.p90 < math.inf
    assert told(forecast, []) == forecast


@laws
@given(forecasts, pairs, st.floats(1.0, 50.0))
def test_an_outcome_above_the_corrected_p90_never_makes_p90_smaller(forecast, outcomes, times):
    before = told(forecast, outcomes)
    worse = (forecast, (before.p90 + 0.01) * times)
    assert told(forecast, [*outcomes, worse]).p90 >= before.p90 - 1e-6


@laws
@given(forecasts, pairs, st.floats(0.0, 1.0))
def test_an_outcome_below_the_corrected_p50_never_makes_p50_larger(forecast, outcomes, share):
    before = correction(outcomes, POLICY)
    outcome = max(0.0, before.p50 * (forecast.p50 + SOFT) - SOFT) * share
    after = correction([*outcomes, (forecast, outcome)], POLICY)
    assert after.p50 <= before.p50 + 1e-9 or outcome == 0.0


@laws
@given(pairs, forecasts, forecasts)
def test_a_longer_forecast_stays_the_longer_one(outcomes, one, other):
    low = Quantiles(p50=min(one.p50, other.p50), p90=min(one.p90, other.p90))
    high = Quantiles(p50=max(one.p50, other.p50), p90=max(one.p90, other.p90))
    less, more = told(low, outcomes), told(high, outcomes)
    assert less.p50 <= more.p50 + 1e-6 and less.p90 <= more.p90 + 1e-6


@laws
@given(st.lists(st.tuples(st.floats(100, 1e5), st.floats(0.2, 5.0)), min_size=100, max_size=100))
def test_with_enough_outcomes_nine_in_ten_lie_below_p90_and_half_below_p50(drawn):
    outcomes = [(Quantiles(p50=base, p90=2 * base), base * factor) for base, factor in drawn]
    found = [told(forecast, outcomes) for forecast, _ in outcomes]
    below90 = sum(seen <= each.p90 + 1e-6 for each, (_, seen) in zip(found, outcomes, strict=True))
    below50 = sum(seen <= each.p50 + 1e-6 for each, (_, seen) in zip(found, outcomes, strict=True))
    # Equal outcomes lie at the quantile together: there may be more of them, never notably fewer.
    assert below90 >= 85 and below50 >= 40


def outcome(waited, *, boot=0.0, queued=0, start=0.0):
    start = Quantiles(p50=start, p90=start + 5)
    run = Quantiles(p50=60, p90=90)
    promise = Promise(
        site="lab", partition="gpu", start=start, run=run, plain_start=start, plain_run=run, boot=boot, queued=queued
    )
    return Outcome(token="t", made_at=0.0, promise=promise, waited=waited)


boots = st.lists(st.floats(1, 5000), max_size=30)


@laws
@given(boots, st.sampled_from([0, 60, 600]))
def test_a_learned_boot_lies_between_the_file_and_what_was_seen(seen, listed):
    taught = lessons([outcome(value, boot=9.0, start=9.0) for value in seen], POLICY)
    place = site("lab", boot=listed)
    found = taught.boot(place, "gpu")
    assumed = listed or POLICY.assumed_boot
    recent = seen[: POLICY.recent]
    assert min([assumed, *recent]) - 1e-6 <= found.p50 <= max([assumed, *recent]) + 1e-6
    assert found.p50 <= found.p90


def test_boots_are_learned_from_boots_alone_and_waits_from_waits():
    queued = [
        outcome(5000.0, boot=60.0, queued=3, start=60.0),
        outcome(4000.0, boot=60.0, start=900.0),
        outcome(7000.0),
    ]
    taught = lessons(queued, POLICY)
    assert taught.boot(site("lab", boot=60), "gpu") == Quantiles(p50=60, p90=90)
    assert taught.start("lab", "gpu", at_once=True).outcomes == 1
    for site_name, partition, at_once in (("lab", "cpu", True), ("other", "gpu", True), ("lab", "gpu", False)):
        assert taught.start(site_name, partition, at_once=at_once) == Correction()
    slow = lessons([outcome(95.0, boot=60.0, start=60.0) for _ in range(17)], POLICY)
    assert slow.boot(site("lab", boot=60), "gpu").p50 == (95 * 17 + 60 * 3) / 20


def ran(seconds, *, place="gpu", past_runs=0):
    start, run = Quantiles(p50=0, p90=5), Quantiles(p50=1800, p90=3600)
    promise = Promise(
        site="lab", partition=place, start=start, run=run, plain_start=start, plain_run=run, past_runs=past_runs
    )
    return Outcome(token="t", made_at=0.0, promise=promise, waited=0.0, ran=seconds)


def test_how_much_of_their_limit_new_jobs_use_is_learned_for_all_places_at_once_and_its_p50_once():
    taught = lessons([ran(6.0) for _ in range(40)], POLICY)
    new = {taught.run(site_name, place, known=False) for site_name in ("lab", "cloud") for place in ("gpu", "cpu")}
    assert len(new) == 1
    (found,) = new
    assert found.p50 == 1.0 and found.p90 < 1.0 and found.outcomes == 40
    assert taught.run("lab", "gpu", known=True) == Correction()


def test_what_ran_before_is_corrected_where_it_runs():
    taught = lessons([ran(7200.0, past_runs=3) for _ in range(40)], POLICY)
    assert taught.run("lab", "gpu", known=True).p50 > 1.0
    assert taught.run("lab", "cpu", known=True) == taught.run("lab", "gpu", known=False) == Correction()

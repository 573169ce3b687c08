"""What a job waits for besides its turn: a moment, its release, other jobs; and that no forecast is taught by it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest

from hybridhpc.decide.outlook import outlook
from hybridhpc.decide.policy import Policy
from hybridhpc.decide.route import decide
from hybridhpc.decide.waits import OUR_ZONE, Awaited, asked_of, hindrance, strangers
from hybridhpc.model import Quantiles
from hybridhpc.script.plan import Plan, is_comparable
from hybridhpc.sites.snapshot import StartEstimate
from hybridhpc.spec.sbatch_begin import is_relative, parse_begin
from tests.worlds.stage import DAY, HOUR, NOW, nodes, past, pending, running, site, snapshot, spec

LAB = site("lab")
IDLE = snapshot("lab", nodes(2))
TOKYO = timezone(timedelta(hours=9))
THURSDAY = datetime(2026, 11, 26, 15, 30, tzinfo=UTC).timestamp()


def asking(**options: str):
    """Return a script that asks for these options."""
    job = spec(script=True, time=HOUR)
    asked = tuple((name.replace("_", "-"), value) for name, value in options.items())
    return replace(job, payload=replace(job.payload, asked=(*job.payload.asked, *asked), hold="hold" in options))


def choice_of(job, world=IDLE, *, place=LAB, **more):
    (choice,) = decide(job, [(place, world)], now=NOW, **more).choices
    return choice


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("now", "26 15:30:00"),
        ("now+90", "26 15:31:30"),
        ("now+2hours", "26 17:30:00"),
        ("now + 1day", "27 15:30:00"),
        ("16:00", "26 16:00:00"),
        ("15:00", "27 15:00:00"),
        ("3:00 PM", "27 15:00:00"),
        ("4:15:30pm", "26 16:15:30"),
        ("12:10am", "27 00:10:00"),
        ("today", "26 15:30:00"),
        ("tomorrow", "27 00:00:00"),
        ("midnight", "27 00:00:00"),
        ("noon", "27 12:00:00"),
        ("fika", "27 15:00:00"),
        ("teatime", "26 16:00:00"),
        ("2026-11-28", "28 00:00:00"),
        ("2026-11-28T12:34", "28 12:34:00"),
        ("2026-11-28T12:34:56", "28 12:34:56"),
        ("11/29", "29 00:00:00"),
        ("11/29/26", "29 00:00:00"),
        ("112926", "29 00:00:00"),
        ("2020-01-01", "26 15:30:00"),
    ],
)
def test_a_begin_is_read_as_sbatch_reads_it(text: str, moment: str):
    found = parse_begin(text, THURSDAY, UTC)
    assert found is not None
    assert datetime.fromtimestamp(found, UTC).strftime("%d %H:%M:%S") == moment


@pytest.mark.parametrize("text", ["", "whenever", "25:00", "now+3fortnights", "2026-13-01", "10:61"])
def test_what_no_one_can_read_is_no_moment(text: str):
    assert parse_begin(text, THURSDAY, UTC) is None


def test_a_time_of_the_day_is_that_of_a_zone_and_a_span_is_not():
    assert parse_begin("16:00", THURSDAY, TOKYO) == datetime(2026, 11, 27, 16, tzinfo=TOKYO).timestamp()
    assert parse_begin("now+60", THURSDAY, TOKYO) == THURSDAY + 60
    assert [is_relative(text) for text in ("now", "now+1hour", "16:00", "tomorrow")] == [True, True, False, False]


def test_a_job_that_begins_later_is_not_forecast_to_start_now():
    choice = choice_of(asking(begin="now+3hours"))
    assert choice.forecast.start.p50 == 3 * HOUR < choice.forecast.start.p90 <= 3 * HOUR + 10
    assert "--begin=now+3hours: it starts in 3h at the soonest" in choice.reason
    assert choice.forecast.at_once is False
    assert choice_of(asking(begin="now")).forecast.start.p50 == 0


def test_a_queue_that_is_gone_by_then_delays_nothing_and_a_longer_one_does():
    job = asking(begin="now+3hours")
    short = snapshot("lab", nodes(1), [running("1", ("n0",), ends_in=2 * HOUR, ran=0)])
    assert choice_of(job, short).forecast.start.p50 == 3 * HOUR
    long = snapshot("lab", nodes(1), [running("1", ("n0",), ends_in=8 * HOUR, ran=0)])
    assert choice_of(job, long).forecast.start.p50 == 4 * HOUR


def test_nodes_boot_once_the_job_may_start():
    cloud, world = site("lab", boot=300), snapshot("lab", nodes(1, powered_down=True))
    assert choice_of(asking(begin="now+3hours"), world, place=cloud).forecast.start.p50 == 3 * HOUR + 300


def test_a_deadline_counts_what_is_waited_for():
    job = asking(begin="now+3hours")
    late = replace(job, goal=replace(job.goal, deadline=NOW + 2 * HOUR))
    assert "likely to miss the deadline" in choice_of(late).reason
    assert "deadline" not in choice_of(replace(late, payload=asking().payload)).reason


def test_the_scheduler_knows_the_zone_of_its_site():
    """Its estimate lies at the moment of --begin, or later since it waits for its turn as well."""
    own = parse_begin("16:00", NOW, UTC)
    view = outlook(IDLE, {}, 0.5, Policy(), NOW)

    def until(told: float) -> float:
        found = hindrance(asking(begin="16:00"), (), view, StartEstimate(start=told), NOW, UTC)
        return NOW + found.until.p50

    assert hindrance(asking(begin="16:00"), (), view, None, NOW, UTC).until.p50 == own - NOW
    assert until(own) == own
    assert until(own - 9 * HOUR) == max(NOW, own - 9 * HOUR)
    assert until(own + 5.5 * HOUR) == own + 5.5 * HOUR
    assert until(own + 1234) == own, "that is its turn"


def test_whose_zone_a_time_of_the_day_is_read_in_is_said_where_the_site_does_not_tell_its_own():
    view = outlook(IDLE, {}, 0.5, Policy(), NOW)

    def words(begin: str, told: StartEstimate | None) -> str:
        return hindrance(asking(begin=begin), (), view, told, NOW, UTC).words[0]

    for silent in (None, StartEstimate(start=None)):
        assert words("16:00", silent).endswith(OUR_ZONE)
        assert OUR_ZONE not in words("now+1hour", silent)
    assert OUR_ZONE not in words("16:00", StartEstimate(start=NOW + 3600))


def test_a_held_job_says_so_and_counts_from_its_release():
    choice = choice_of(asking(hold=""))
    assert "it is held: all times count from its release" in choice.reason
    assert choice.forecast.held


def test_a_job_starts_after_those_that_it_comes_after():
    world = snapshot("lab", nodes(2), [running("7", ("n0",), ends_in=4 * HOUR, ran=0)])
    for job, awaited in (
        (asking(dependency="afterok:7"), ()),
        (spec(time=HOUR), (Awaited(job="lab:7", kind="ok", site="lab", job_id="7"),)),
    ):
        choice = choice_of(job, world, awaited=awaited)
        assert choice.forecast.start == Quantiles(p50=2 * HOUR, p90=4 * HOUR + 5)
        assert "it comes after lab:7, which ends in 2h–4h" in choice.reason
    assert choice_of(asking(dependency="after:7"), world).forecast.start.p50 == 0, "that has started"
    assert choice_of(asking(dependency="after:7+10"), world).forecast.start.p50 == 600
    assert choice_of(asking(dependency="afterok:99"), world).forecast.start.p50 == 0, "nothing is left of that"


def test_a_queued_one_ends_where_our_plan_of_the_queue_ends_it():
    busy = [running("7", ("n0",), ends_in=4 * HOUR, ran=0), pending("8", lasts=2 * HOUR)]
    choice = choice_of(asking(dependency="afterany:8"), snapshot("lab", nodes(1), busy))
    assert (choice.forecast.start.p50, choice.forecast.start.p90) == (3 * HOUR, 6 * HOUR + 5)


def test_of_one_whose_end_nobody_knows_that_is_said():
    held = snapshot("lab", nodes(1), [pending("8", blocked=True)])
    words = "it comes after lab:8: when that ends is not known, and not counted"
    assert words in choice_of(asking(dependency="afterany:8"), held).reason
    assert "others (singleton)" in choice_of(asking(dependency="singleton")).reason
    assert "not known" in choice_of(asking(dependency="afterok:7?afterok:8")).reason


def test_jobs_of_one_command_come_after_each_other_as_they_are_planned():
    before = Awaited(job="prep", kind="ok", start=Quantiles(p50=HOUR, p90=2 * HOUR), finish=Quantiles(p50=DAY, p90=DAY))
    assert choice_of(spec(), awaited=(before,)).forecast.start.p50 == DAY
    assert choice_of(spec(), awaited=(replace(before, kind="start"),)).forecast.start.p50 == HOUR


def test_this_machine_does_not_pass_over_what_it_cannot_wait_for():
    here = site("here", scheduler="here")
    refused = choice_of(asking(begin="tomorrow"), snapshot("here", nodes(2)), place=here).refused
    assert refused == "here is no Slurm, and would start it at once for all that it asks for: --begin=tomorrow"
    assert choice_of(asking(hold=""), snapshot("here", nodes(2)), place=here).refused is None


def test_waits_for_something_else_teach_nothing_about_a_queue_that_is_hidden():
    unseen = snapshot("lab", nodes(1), unseen=("jobs",))
    slow = [past(1, waited=10 * HOUR) for _ in range(5)]
    assert choice_of(spec(), unseen, history=slow).forecast.start.p50 == 10 * HOUR
    apart = [replace(job, waited_else=True) for job in slow]
    assert choice_of(spec(), unseen, history=apart).forecast.start.p50 == 0


@pytest.mark.parametrize("ahead", [600.0, -600.0])
@pytest.mark.parametrize("begin", ["", "now+3hours"])
def test_a_site_whose_clock_is_minutes_off_is_forecast_as_if_it_were_right(ahead: float, begin: str):
    """All that it says is by its own clock; the deadline is by ours."""
    running_job, queued = running("1", ("n0",), ends_in=2 * HOUR), pending("8", lasts=HOUR)
    right = snapshot("lab", nodes(1), [running_job, queued])
    late = replace(running_job, line=replace(running_job.line, started_at=running_job.line.started_at + ahead))
    off = replace(right, jobs=(late, queued), ahead=ahead)
    job = asking(begin=begin) if begin else spec(time=HOUR)
    job = replace(job, goal=replace(job.goal, deadline=NOW + 4 * HOUR))
    key = choice_of(job, right).candidate.key

    def judged(world, shift):
        told = {key: StartEstimate(start=NOW + 5 * HOUR + shift)}
        return choice_of(job, world, estimates=told)

    assert judged(off, ahead) == judged(right, 0.0)


BOTH = ("onprem", "aws")


@pytest.mark.parametrize(
    ("dependency", "where", "own", "barred"),
    [
        ("afterok:12", ("auto",), {"onprem:12"}, {"aws"}),
        ("afterok:12:13,after:14+5", ("auto",), {"aws:12", "aws:13", "aws:14", "onprem:12"}, {"onprem"}),
        ("afterok:12_3?afterany:13", ("auto",), {"aws:12", "onprem:13"}, {"onprem", "aws"}),
        ("afterok:12", ("auto",), set(), {"onprem", "aws"}),
        ("afterok:12", ("auto",), {"onprem:12", "aws:12"}, {"onprem", "aws"}),
        ("afterok:12", ("onprem", "aws"), set(), {"onprem", "aws"}),
        ("afterok:12", ("aws",), set(), set()),
        ("afterok:12", ("aws/p5", "aws/c7i", "gpu-memory>=80GiB"), set(), set()),
        ("singleton", ("auto",), set(), set()),
        ("", ("auto",), set(), set()),
    ],
)
def test_a_bare_job_id_means_a_job_of_one_site(dependency, where, own, barred):
    job = replace(asking(dependency=dependency) if dependency else asking(), where=where)
    found = strangers(job, BOTH, lambda: frozenset(own))
    assert set(found) == barred
    if len(barred) == 2:
        assert "--where SITE" in found["aws"]
    assert strangers(job, BOTH[:1], frozenset) == {}


def test_what_waits_for_something_else_has_no_promise():
    def plan(job, *options):
        return Plan(
            name="x", site="lab", partition="gpu", resources=job.resources, usd_per_hour=0.0, script=b"", spec=job,
            options=options,
        )  # fmt: skip

    assert is_comparable(plan(asking()))
    assert not any(is_comparable(plan(asking(**{name: "now"}))) for name in ("begin", "dependency", "hold"))
    assert not is_comparable(plan(spec(), "--dependency=afterok:1"))
    assert not is_comparable(plan(spec(), "--begin=tomorrow"))
    assert not asked_of(spec()).anything

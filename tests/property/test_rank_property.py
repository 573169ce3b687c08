"""Laws of the ranking, whatever the sites, queues, prices and jobs are."""

from __future__ import annotations

import math
import string
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from hybridhpc.decide.explain import HEADER, rows
from hybridhpc.decide.route import candidates_that_fit, decide
from hybridhpc.errors import Problem
from hybridhpc.model import (
    Array,
    Goal,
    Gpus,
    JobSpec,
    JobState,
    Mebibytes,
    Native,
    Resources,
    Script,
    UsdPerHour,
)
from hybridhpc.sites.site import InvalidSite, Partition, Site
from hybridhpc.sites.snapshot import (
    Node,
    PastJob,
    QueuedJob,
    QueueLine,
    QueuePartition,
    Silence,
    Snapshot,
    StartEstimate,
)
from tests.worlds.stage import DAY, HOUR, NOW, TIB, nodes, past, pending, price, running, site, snapshot, spec

laws = settings(max_examples=60, deadline=None)


@st.composite
def sightings(draw, name):
    """A plausible site: one partition, a few nodes, some of them taken, a queue, a price."""
    cost = price(per_gpu=draw(st.sampled_from([0.0, 0.5, 2.0, 6.0, 11.0])))
    boot = draw(st.sampled_from([0, 300]))
    width = draw(st.integers(1, 4))
    found = nodes(width, powered_down=draw(st.booleans()) and boot > 0)
    jobs = [
        running(str(number), (f"n{number}",), ends_in=draw(st.integers(60, 3 * DAY)), ran=draw(st.integers(0, DAY)))
        for number in range(draw(st.integers(0, width)))
    ]
    jobs += [
        pending(str(100 + number), count=draw(st.integers(1, width)), lasts=draw(st.integers(60, 2 * DAY)))
        for number in range(draw(st.integers(0, 4)))
    ]
    unseen = draw(st.sampled_from([(), ("jobs",)]))
    return site(name, cost=cost, boot=boot), snapshot(name, found, jobs, unseen=unseen)


worlds = st.tuples(*(sightings(name) for name in ("ash", "beech", "cedar")))
asked = st.builds(
    spec,
    count=st.integers(1, 3),
    time=st.integers(600, 8 * DAY),
    value=st.floats(0, 500),
    deadline=st.none() | st.integers(-HOUR, 3 * DAY),
    max_cost=st.none() | st.floats(0, 2000),
)
histories = st.lists(st.builds(past, st.floats(0.1, 12), where=st.sampled_from(["ash/gpu", "cedar/gpu"])), max_size=4)


def expected_hours(choice, value):
    """What the score holds beside the price, in hours: the expected time until it is finished."""
    return (choice.score - choice.quote.usd) / value


@laws
@given(worlds, asked, histories, st.randoms())
def test_the_order_of_the_sites_does_not_matter(world, job, history, shuffle):
    other = list(world)
    shuffle.shuffle(other)
    assert decide(job, world, history=history, now=NOW) == decide(job, other, history=history, now=NOW)


@laws
@given(worlds, asked, histories)
def test_a_site_that_refuses_changes_nothing_for_the_others(world, job, history):
    small = site("birch"), snapshot("birch", nodes(1, gpus=1))
    broken = InvalidSite(name="broken", file="broken.yaml", problems=())
    silent = site("silent"), Silence(site="silent", why="no answer")
    before = decide(job, world, history=history, now=NOW)
    after = decide(job, [small, *world, (broken, None), silent], history=history, now=NOW)
    assert [choice for choice in after.choices if choice.candidate.site.name != "birch"] == list(before.choices)
    assert after.winner == before.winner


@laws
@given(worlds, asked, st.floats(1, 100), st.floats(1, 100))
def test_who_values_time_more_never_gets_a_later_expected_finish(world, job, value, more):
    def winner(value):
        goal = Goal(value_of_time=UsdPerHour(value))
        won = decide(replace(job, goal=goal), world, now=NOW).winner
        return None if won is None else expected_hours(won, value)

    low, high = winner(value), winner(value + more)
    assert (low is None and high is None) or high <= low + 1e-6


@laws
@given(worlds, asked, st.integers(0, 2), st.floats(0.1, 50))
def test_a_higher_price_never_makes_a_site_win(world, job, which, more):
    raised = list(world)
    place, seen = raised[which]
    (listed,) = place.partitions
    dearer = price(per_gpu=listed.price.per_gpu + more)
    raised[which] = replace(place, partitions=(replace(listed, price=dearer),)), seen
    before, after = decide(job, world, now=NOW).winner, decide(job, raised, now=NOW).winner
    if after is not None and after.candidate.site.name == place.name:
        assert before is not None and before.candidate.site.name == place.name


@laws
@given(st.integers(0, 8), st.integers(1, 64), st.integers(1, TIB), st.floats(0, 20), st.sampled_from([None, 0.0, 0.1]))
def test_who_takes_more_of_a_node_never_pays_less(gpus, cpus, memory, per_gpu, per_cpu):
    """Nor more than for all of it."""
    place = site("ash", cost=price(per_gpu=per_gpu, per_cpu=per_cpu))

    def hourly(gpus, cpus, memory):
        job = spec(gpus=(f"H100:{gpus}",) if gpus else (), cpus=cpus, memory=Mebibytes(memory))
        (choice,) = decide(job, [(place, snapshot("ash", nodes(1)))], now=NOW).choices
        return choice.quote.per_hour

    here = hourly(gpus, cpus, memory)
    more = [hourly(min(8, gpus + 1), cpus, memory), hourly(gpus, min(64, cpus + 9), memory)]
    more += [hourly(gpus, cpus, min(TIB, memory + 9999)), hourly(8, 64, TIB)]
    assert here <= min(more) + 1e-9


@laws
@given(worlds, asked, st.integers(0, 2))
def test_a_longer_queue_never_makes_a_site_start_the_job_earlier(world, job, which):
    place, seen = world[which]
    longer = replace(seen, jobs=(*seen.jobs, pending("999", lasts=DAY)))

    def start(snapshot):
        (choice,) = decide(job, [(place, snapshot)], now=NOW).choices
        return choice.forecast.start.p90 if choice.forecast else None

    before, after = start(seen), start(longer)
    assert (before is None) == (after is None)
    assert before is None or after >= before - 1e-6


@laws
@given(worlds, asked, histories)
def test_what_is_forecast_is_consistent(world, job, history):
    for choice in decide(job, world, history=history, now=NOW).choices:
        if choice.refused is not None:
            assert choice.refused.strip() and choice.score is None
            continue
        start, run = choice.forecast.start, choice.forecast.run
        assert 0 <= start.p50 <= start.p90 < math.inf
        assert 0 < run.p50 <= run.p90 <= job.resources.walltime
        assert start.p50 < start.p90
        assert 0 <= choice.quote.usd <= choice.quote.most
        assert math.isfinite(choice.score) and choice.reason


WORDS = st.text(string.printable, max_size=8)
ODD = st.integers(-3, 9) | st.sampled_from([10**6, 10**12])
REAL = st.floats(allow_nan=True, allow_infinity=True) | st.floats(-1e6, 1e6)
PLACES = st.sampled_from(["gpu", "cpu", "gpu,cpu", ""])
KIND = st.sampled_from([None, "h100", "H100", "a100", ""])
gpus = st.builds(Gpus, count=ODD, kind=KIND)
resources = st.builds(
    Resources,
    nodes=ODD,
    gpus=st.lists(gpus, max_size=2).map(tuple),
    cpus=st.none() | ODD,
    memory=st.none() | ODD,
    whole_nodes=st.booleans(),
    walltime=st.none() | ODD,
)
arrays = st.none() | st.builds(
    Array,
    text=st.sampled_from(["", "0-9", "1,5%2", "%", "[0-3"]),
    tasks=ODD,
    throttle=st.none() | ODD,
)
wild_specs = st.builds(
    JobSpec,
    name=WORDS,
    file=st.just("f"),
    digest=st.just(""),
    resources=st.just(Resources(gpus=(Gpus(count=1),), walltime=HOUR)) | st.just(Resources()) | resources,
    payload=st.just(Script(content=b"", path="/f")),
    array=arrays,
    native=st.just(Native())
    | st.builds(
        Native,
        partition=st.none() | PLACES,
        account=st.none() | WORDS,
        constraint=st.none() | WORDS,
        nodelist=st.none() | WORDS | st.just("n[0-3]"),
        licenses=st.none() | WORDS,
    ),
    where=st.just(("auto",))
    | st.lists(st.sampled_from(["auto", "lab", "lab/", "lab/gpu", "!lab", "!", "", "lab/gpu/spot"])).map(tuple),
    goal=st.none() | st.builds(Goal, value_of_time=REAL, deadline=st.none() | REAL, max_cost=st.none() | REAL),
)
"""Odd numbers and words in every place, among what a real job would say: most odd values alone mean a refusal."""
wild_nodes = st.builds(
    Node,
    name=st.sampled_from(["n0", "n1", "n2"]),
    partitions=st.lists(st.sampled_from(["gpu", "cpu"]), max_size=2).map(tuple),
    native_state=st.just(""),
    usable=st.booleans(),
    powered_down=st.booleans(),
    cpus=ODD,
    cpus_alloc=ODD,
    memory=ODD,
    memory_alloc=ODD,
    gpu_kind=KIND,
    gpus=ODD,
    gpus_alloc=ODD,
)
wild_lines = st.builds(
    QueueLine,
    partition=PLACES,
    state=st.sampled_from(JobState),
    nodes=ODD,
    cpus=ODD,
    memory=ODD,
    gpus=ODD,
    gpu_kind=KIND,
    walltime=st.none() | ODD,
    started_at=st.none() | REAL,
    node_names=st.lists(st.sampled_from(["n0", "n1", "zz"]), max_size=3).map(tuple),
    tasks=ODD,
)
wild_jobs = st.builds(QueuedJob, job_id=WORDS, priority=ODD, line=wild_lines)
wild_snapshots = st.builds(
    Snapshot,
    site=st.just("lab"),
    taken_at=st.just(NOW),
    partitions=st.lists(
        st.builds(
            QueuePartition,
            name=st.sampled_from(["gpu", "cpu"]),
            max_walltime=st.none() | ODD,
            default_walltime=st.none() | ODD,
            max_nodes=st.none() | ODD,
            exclusive=st.booleans(),
            default_memory_per_cpu=st.none() | ODD,
            allowed_accounts=st.sampled_from([(), ("ml",)]),
        ),
        max_size=3,
    ).map(tuple)
    | st.just((QueuePartition(name="gpu"), QueuePartition(name="cpu", exclusive=True))),
    nodes=st.lists(wild_nodes, max_size=3).map(lambda odd: (*odd, *nodes(3, prefix="m", partitions=("gpu", "cpu")))),
    jobs=st.lists(wild_jobs, max_size=5).map(tuple),
    max_array_size=st.none() | ODD,
    unseen=st.sampled_from([(), ("jobs",)]),
)
wild_prices = st.builds(price, per_gpu=REAL, per_node=REAL, per_cpu=REAL)
wild_sites = st.builds(
    Site,
    name=st.just("lab"),
    file=st.none(),
    scheduler=st.sampled_from(["slurm", "here", "?"]),
    transport=st.just("local"),
    partitions=st.lists(
        st.builds(Partition, name=st.sampled_from(["gpu", "ghost"]), price=wild_prices, boot_delay=ODD), max_size=2
    ).map(tuple),
    only_listed=st.booleans(),
    price=wild_prices,
    gpu_speed=st.lists(st.tuples(st.just("h100"), REAL), max_size=1).map(tuple),
    names=st.lists(st.tuples(st.sampled_from(["partition", "account"]), WORDS, WORDS), max_size=1).map(tuple),
)
wild_histories = st.lists(
    st.builds(
        PastJob,
        name=WORDS,
        site=st.just("lab"),
        partition=st.just("gpu"),
        resources=resources,
        array=arrays,
        submitted_at=REAL,
        started_at=REAL,
        ended_at=REAL,
        completed=st.booleans(),
    ),
    max_size=3,
)
problems = (Problem(file="f", line=None, key="", message="bad"),)
wild_answers = st.one_of(
    st.tuples(wild_sites, wild_snapshots),
    st.tuples(wild_sites, st.none() | st.builds(Silence, site=st.just("lab"), why=WORDS)),
    st.tuples(st.just(InvalidSite(name="lab", file="f", problems=problems)), st.none()),
)


@settings(max_examples=400, deadline=None)
@given(wild_specs, st.lists(wild_answers, max_size=2), wild_histories, st.none() | REAL, WORDS)
def test_no_input_makes_an_exception_and_every_refusal_has_words(job, world, history, told, words):
    estimates = {
        candidate.key: StartEstimate(start=told, refusal=words) for candidate in candidates_that_fit(job, world)
    }
    ranking = decide(job, world, estimates=estimates, history=history, now=NOW)
    assert all(len(row) == len(HEADER) for row in rows(ranking))
    for choice in ranking.choices:
        assert (choice.refused is None) == (choice.score is not None)
        assert choice.refused is None or choice.refused.strip()
    refused = [choice.refused is not None for choice in ranking.choices]
    assert refused == sorted(refused)

"""The ranking as a whole: order, ties, reasons, the table, and how long it may take."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from dataclasses import replace

from hybridhpc.decide.explain import HEADER, rows
from hybridhpc.decide.route import decide
from hybridhpc.sites.snapshot import NO_PARTITIONS
from tests.worlds.stage import DAY, HOUR, NOW, nodes, pending, price, running, site, snapshot, spec


def idle(name, cost=0.0, **more):
    return site(name, cost=price(per_gpu=cost), **more), snapshot(name, nodes(2))


def busy(name, hours):
    world = snapshot(name, nodes(1), [running("1", ("n0",), ends_in=hours * HOUR, ran=0)])
    return site(name, cost=price(source="sunk cost")), world


def names(ranking):
    return [choice.candidate.site.name for choice in ranking.choices]


def test_choices_come_best_first_and_refused_ones_last():
    small = site("a-small"), snapshot("a-small", nodes(1, gpus=1))
    ranking = decide(spec(), [small, idle("dear", 9.0), idle("fair", 1.0), busy("late", 300)], now=NOW)
    assert names(ranking) == ["fair", "dear", "late", "a-small"]
    scores = [choice.score for choice in ranking.choices if choice.score is not None]
    assert scores == sorted(scores)
    assert ranking.winner is ranking.choices[0]


def test_a_tie_is_broken_by_name():
    ranking = decide(spec(), [idle("b"), idle("c"), idle("a")], now=NOW)
    assert names(ranking) == ["a", "b", "c"]


def test_gpu_alternatives_that_tie_keep_the_person_s_order():
    mixed = site("lab"), snapshot("lab", (*nodes(1), *nodes(1, prefix="m", kind="a100")))
    for order in (("H100:8", "A100:8"), ("A100:8", "H100:8")):
        assert str(decide(spec(gpus=order), [mixed], now=NOW).winner.candidate.gpus) == order[0]


def test_the_winner_says_why_in_words():
    assert decide(spec(), [idle("a")], now=NOW).winner.reason == "the only one that can run it"
    assert decide(spec(), [idle("a"), busy("b", 4)], now=NOW).winner.reason == "cheapest and soonest"
    cheap = decide(spec(), [idle("cloud", 20.0), busy("lab", 4)], now=NOW).winner
    assert cheap.reason == "cheapest; cloud/gpu starts 2h earlier for $800 more; your value of time is $30/h"
    soon = decide(spec(), [idle("cloud", 1.0), busy("lab", 40)], now=NOW).winner
    assert soon.reason == "soonest; lab/gpu starts 20h later for $40.00 less; your value of time is $30/h"
    middle = decide(
        spec(), [idle("cloud", 9.0), busy("lab", 40), (site("mid", cost=price(per_gpu=1.0)), busy("x", 4)[1])], now=NOW
    )
    assert middle.winner.reason == "lab/gpu starts 18h later for $40.00 less; your value of time is $30/h"  # fmt: skip


def test_a_loser_that_is_worse_in_everything_says_only_how():
    ranking = decide(spec(), [idle("a"), busy("b", 4), idle("c", 1.0)], now=NOW)
    reasons = {choice.candidate.site.name: choice.reason for choice in ranking.choices}
    assert reasons["b"] == "starts 2h later for the same price"
    assert reasons["c"] == "starts at the same time for $40.00 more"


def test_no_price_and_spot_are_said():
    bare = site("bare", cost=price(source="no price given")), snapshot("bare", nodes(1))
    assert decide(spec(), [bare], now=NOW).winner.reason == "the only one that can run it; no price given"
    spot = idle("cloud", 1.0, purchase="spot")
    assert "may be interrupted" in decide(spec(), [spot], now=NOW).winner.reason


def test_the_table_has_a_plain_row_for_every_choice():
    small = site("small"), snapshot("small", nodes(1, gpus=4))
    ranking = decide(spec(), [busy("lab", 4), idle("cloud", 1.0, purchase="on-demand"), small], now=NOW)
    found = rows(ranking)
    assert all(len(row) == len(HEADER) for row in found)
    assert found[0] == (
        "cloud/gpu/on-demand",
        "now",
        "5h–10h",
        "$40.00",
        "5h–10h",
        "235.01",
        "soonest; lab/gpu starts 2h later for $40.00 less; your value of time is $30/h",
    )
    lab = next(row for row in found if row[0] == "lab/gpu")
    assert lab[1:6] == ("2h–4h", "5h–10h", "$0", "7h–14h", "273.00")
    assert found[-1] == (
        "small/gpu", "-", "-", "-", "-", "-",
        "refused: needs 8 x H100 per node; the largest node has 4 (it would fit with gpus: H100:4 or fewer)",
    )  # fmt: skip


def test_the_table_tells_gpu_alternatives_apart():
    ranking = decide(spec(gpus=("H100:8", "A100:8")), [idle("lab")], now=NOW)
    assert [row[0] for row in rows(ranking)] == ["lab/gpu (H100:8)", "lab/gpu (A100:8)"]


def test_a_ranking_without_any_site_is_empty():
    ranking = decide(spec(), [], now=NOW)
    assert (ranking.choices, ranking.winner, rows(ranking)) == ((), None, [])


def test_a_site_without_partitions_is_a_silent_line():
    ranking = decide(spec(), [(site("lab", partition="gpu"), replace(snapshot("lab", ()), partitions=()))], now=NOW)
    assert ranking.silent == (("lab", NO_PARTITIONS),)
    assert ranking.winner is None


def large(name, width, queued, seed):
    """A site of `width` nodes full of jobs of all sizes, and a queue."""
    draw = random.Random(seed)
    jobs, found = [], []
    for node in nodes(width):
        free = 8
        while free:
            gpus = min(free, draw.choice((1, 2, 4, 8)))
            free -= gpus
            more = {"gpus": gpus, "cpus": 8 * gpus, "ends_in": draw.randint(60, 7 * DAY), "ran": draw.randint(0, DAY)}
            jobs.append(running(str(len(jobs) + 1), (node.name,), **more))
        found.append(replace(node, gpus_alloc=8, cpus_alloc=64))
    for number in range(queued):
        count = draw.choice((1, 1, 1, 2, 4))
        gpus = 8 if count > 1 else draw.choice((1, 2, 4, 8))
        more = {"gpus": gpus, "cpus": 8 * gpus, "lasts": draw.randint(600, 3 * DAY), "priority": draw.randint(0, 9)}
        jobs.append(pending(str(10**6 + number), count=count, **more))
    return site(name), snapshot(name, found, jobs)


def fastest(world):
    """Return the least CPU time of five decisions in seconds."""
    spent = []
    for _ in range(5):
        began = time.process_time()
        assert decide(spec(count=2), world, now=NOW).winner is not None
        spent.append(time.process_time() - began)
    return min(spent)


def test_the_time_to_decide_grows_no_faster_than_the_queue():
    short, long = ([large("site", 128, queued, 1)] for queued in (1200, 9600))
    assert fastest(long) < 16 * fastest(short)


def test_deciding_imports_nothing_heavy():
    program = "import sys, hybridhpc.decide.route; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert not {"statistics", "numpy", "decimal", "fractions", "yaml", "pydantic", "subprocess", "time"} & (
        set(loaded) - set(sys.builtin_module_names)
    )

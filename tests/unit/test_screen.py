"""What a person sees: tables on narrow terminals, the chart of the candidates."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridhpc.cli._chart import chart
from hybridhpc.cli._screen import lay_out, wrapped
from hybridhpc.decide.route import decide
from hybridhpc.model import Quantiles
from tests.worlds.stage import HOUR, NOW, nodes, price, running, site, snapshot, spec

HEADER = ("candidate", "start", "why")
LONG = "refused: needs 104 CPUs per node; the largest node has 64 (it would fit with nodes: 4)"
ROWS = (HEADER, ("onprem/batch", "1h–2h", "cheapest and soonest"), ("onprem/cpu", "-", LONG))
NONE: frozenset[int] = frozenset()


def test_a_wide_screen_and_a_pipe_get_one_line_per_row():
    assert lay_out(ROWS, NONE, None) == lay_out(ROWS, NONE, 200)
    assert lay_out(ROWS, NONE, None).splitlines()[2] == f"onprem/cpu    -      {LONG}"


@pytest.mark.parametrize("width", [24, 30, 44, 60, 80, 100])
def test_no_line_is_wider_than_the_screen_and_no_word_is_lost(width):
    text = lay_out(ROWS, NONE, width)
    assert max(map(len, text.splitlines())) <= width
    assert " ".join(text.split()).count("needs") == 1
    assert all(word in text.split() for word in LONG.split())


def test_the_last_cell_is_wrapped_under_itself():
    lines = lay_out(ROWS, NONE, 60).splitlines()
    assert lines[2].startswith("onprem/cpu    -      refused:")
    assert lines[3].startswith(" " * 21) and lines[3][21] != " "


def world():
    far = site("far", cost=price(per_gpu=6.0), purchase="on-demand", boot=600)
    lab = snapshot("lab", nodes(1), [running("1", ("n0",), ends_in=2 * HOUR, ran=0)])
    return decide(
        spec(time=2 * HOUR), [(site("lab"), lab), (far, snapshot("far", nodes(1, powered_down=True)))], now=NOW
    )


@pytest.mark.parametrize("width", [40, 72, 100, 160])
def test_the_chart_draws_waiting_booting_running_and_the_tail_in_the_width_there_is(width):
    lines = chart(world(), width).splitlines()
    assert max(map(len, lines)) <= width
    far = next(line for line in lines if line.startswith("far"))
    lab = next(line for line in lines if line.startswith("lab"))
    assert "▒" in far and "·" not in far and far.index("▒") < far.index("█") < far.index("░")
    assert "·" in lab and "▒" not in lab and lab.index("·") < lab.index("█") < lab.index("░")
    assert lines[0].split()[0] == "now"


def test_the_chart_is_to_scale_and_says_what_lies_beyond():
    ranking = world()
    axis = chart(ranking, 100).splitlines()
    far = next(line for line in axis if line.startswith("far"))
    run = ranking.choices[0] if ranking.choices[0].candidate.site.name == "far" else ranking.choices[1]
    assert far.count("█") == pytest.approx(far.count("▒") * run.forecast.run.p50 / 600, abs=6)
    week = Quantiles(p50=90 * HOUR, p90=170 * HOUR)
    late = type(ranking)(choices=tuple(_started(choice, week) for choice in ranking.choices[:1]) + ranking.choices[1:])
    assert any(line.endswith(">") for line in chart(late, 100).splitlines())


def _started(choice, start):
    from dataclasses import replace

    return replace(choice, forecast=replace(choice.forecast, start=start))


def test_nothing_is_drawn_without_candidates_or_room():
    assert chart(decide(spec(count=9), [(site("lab"), snapshot("lab", nodes(1)))], now=NOW), 100) == ""
    assert chart(world(), 30) == ""


SITES = (
    ("SITE", "PARTITION", "NODES IDLE/ALL", "PENDING"),
    ("cyclecloud-westeurope", "gpu-interactive", "20/20", "1,200"),
    ("cyclecloud-westeurope", "cpu", "4/4", "0"),
    ("far", "-", "-", "-"),
)
NUMBERS = frozenset({2, 3})


def test_a_header_is_broken_before_a_table_is():
    lines = lay_out(SITES, NUMBERS, 60).splitlines()
    assert lines[0].split() == ["NODES"] and lines[1].split() == ["SITE", "PARTITION", "IDLE/ALL", "PENDING"]
    assert lines[2].split() == list(SITES[1])


def test_numbers_are_never_wrapped_away_from_their_row_and_the_first_column_becomes_headings():
    lines = lay_out(SITES, NUMBERS, 45).splitlines()
    assert lines.count("cyclecloud-westeurope") == 1
    assert "  gpu-interactive     20/20    1,200" in lines
    assert "  cpu                   4/4        0" in lines


def test_a_row_that_says_only_its_last_cell_is_that_cell():
    header = ("candidate", "start", "price", "why")
    rows = (header, ("a-very-long/partition", "-", "-", "refused: it is down"), ("another/partition", "1h", "$3", "x"))
    lines = lay_out(rows, NONE, 36).splitlines()
    assert lines[2:4] == ["a-very-long/partition", "  refused: it is down"]


def test_one_long_name_does_not_spoil_the_table_for_the_others():
    header = ("REF", "NAME", "STATE", "REASON")
    long = ("here:3", "pretraining-of-everything-17", "FAILED", "exit code 127 (command not found)")
    rows = (header, ("here:1", "quick", "COMPLETED", ""), ("here:2", "other", "FAILED", "exit code 1"), long)
    lines = lay_out(rows, NONE, 60).splitlines()
    assert lines[1:4] == [
        "here:1  quick  COMPLETED",
        "here:2  other  FAILED     exit code 1",
        "here:3  pretraining-of-everything-17",
    ]
    assert lines[4] == " " * 15 + "FAILED     exit code 127 (command not found)"


def test_prose_is_broken_between_words_and_a_pipe_gets_one_line():
    assert wrapped(LONG, None) == LONG
    assert max(map(len, wrapped(LONG, 40).splitlines())) <= 40
    assert " ".join(wrapped(LONG, 40).split()) == LONG


CELLS = st.text("ab cd", max_size=30).map(lambda text: " ".join(text.split()))
TABLES = st.integers(2, 6).flatmap(lambda width: st.lists(st.tuples(*[CELLS] * width), min_size=2, max_size=6))


@given(TABLES, st.sets(st.integers(0, 5)), st.integers(30, 120))
def test_no_table_loses_a_word_and_none_is_wider_than_its_longest_heading(rows, right, width):
    header = tuple(f"c{column}" for column in range(len(rows[0])))
    text = lay_out((header, *rows), frozenset(right), width)
    assert max(map(len, text.splitlines())) <= max(width, *(len(row[0]) for row in rows))
    for row in rows:
        assert all(text.count(word) >= 1 for cell in row for word in cell.split() if len(word) < 10)

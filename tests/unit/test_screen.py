"""What a person sees: tables on narrow terminals, the chart of the candidates."""

from __future__ import annotations

import pytest

from hybridhpc.cli._chart import chart
from hybridhpc.cli._screen import lay_out
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

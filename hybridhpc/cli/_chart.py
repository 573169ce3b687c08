"""The candidates of a decision on one time axis, in characters: waiting, booting, running, and the tail to p90."""

from __future__ import annotations

from collections.abc import Sequence

from hybridhpc.decide.candidate import Choice, Forecast, Ranking
from hybridhpc.decide.policy import finish
from hybridhpc.units import format_duration

WAITING, BOOTING, RUNNING, TAIL, BEYOND = "·▒█░>"
MOST_BARS = 12
_SHORTEST_AXIS = 20
_FARTHEST = 4.0
"""The axis ends at this many times the soonest p90 finish at most: a queue of a week must not flatten the others."""
_STEPS = tuple(
    minutes * 60.0
    for minutes in (1, 2, 5, 10, 15, 30, 60, 120, 180, 360, 720, 1440, 2880, 4320, 10080, 20160, 40320, 80640, 525600)
)
_BETWEEN_TICKS = 10


def chart(ranking: Ranking, width: int) -> str:
    """Return the drawing, at most so many columns wide; empty if there is nothing to draw or no room for it."""
    admitted = [choice for choice in ranking.choices if choice.forecast is not None][:MOST_BARS]
    names = _names(admitted, width)
    indent = max(map(len, names), default=0) + 2
    axis = width - indent - 1
    if not admitted or axis < _SHORTEST_AXIS:
        return ""
    ends = [finish(choice.forecast.start, choice.forecast.run).p90 for choice in admitted if choice.forecast]
    horizon = max(1.0, min(max(ends), _FARTHEST * min(ends)))
    lines = [" " * indent + _ticks(axis, horizon)]
    for name, choice in zip(names, admitted, strict=True):
        if choice.forecast is not None:
            lines.append(f"{name.ljust(indent)}{_bar(choice.forecast, axis, horizon)}".rstrip())
    legend = f"{WAITING} waiting  {BOOTING} booting  {RUNNING} running, to p50  {TAIL} to p90"
    return "\n".join([*lines, " " * indent + legend] if len(legend) + indent <= width else lines)


def _names(choices: Sequence[Choice], width: int) -> list[str]:
    """Return the candidates' names, with their GPUs where these differ, cut to a third of the width."""
    several = len({choice.candidate.gpus for choice in choices}) > 1
    names = [choice.candidate.key if several else choice.candidate.name for choice in choices]
    longest = max(8, width // 3)
    return [name if len(name) <= longest else name[: longest - 1] + "…" for name in names]


def _ticks(axis: int, horizon: float) -> str:
    """Return the times along the axis, as many as have room."""
    apart = horizon * _BETWEEN_TICKS / axis
    step = next((step for step in _STEPS if step >= apart), horizon)
    line, at = "now", step
    while at <= horizon:
        column, word = round(at / horizon * axis), format_duration(at)
        if column + len(word) > axis:
            break
        line, at = line.ljust(column) + word, at + step
    return line


def _bar(forecast: Forecast, axis: int, horizon: float) -> str:
    start, ends = forecast.start, finish(forecast.start, forecast.run)
    boots = start.p50 - min(start.p50, forecast.boot)
    parts = ((boots, WAITING), (start.p50, BOOTING), (ends.p50, RUNNING), (ends.p90, TAIL))
    bar = ""
    for until, mark in parts:
        columns = round(min(until, horizon) / horizon * axis)
        if mark == RUNNING and columns == len(bar):
            columns += 1
        bar += mark * (columns - len(bar))
    return bar[:axis] + (BEYOND if ends.p90 > horizon else "")

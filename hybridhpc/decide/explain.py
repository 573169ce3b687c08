"""The ranking in words: why a choice won or lost, and the rows of the plan's table. Plain strings, no colours."""

from __future__ import annotations

import math
from collections.abc import Sequence

from hybridhpc.decide.candidate import Choice, Forecast, Ranking
from hybridhpc.decide.cost import GPUS_ALONE, NO_PRICE, dollars
from hybridhpc.decide.policy import finish
from hybridhpc.errors import HpcError, NoCandidate, Unheard
from hybridhpc.model import Goal, Quantiles, UsdPerHour
from hybridhpc.units import format_duration

NOW = 10.0
"""A start within so many seconds is spelled `now`."""
_WORTH_SAYING = 0.5
"""GPUs kept from others below which nothing is said of them: the price has them."""
AT_ONCE = 1.0
"""Of two that finish within so many seconds of each other none is sooner."""
HEADER = ("candidate", "start", "run", "price", "finish", "score", "why")


def rows(ranking: Ranking) -> list[tuple[str, ...]]:
    """Return one row per choice under HEADER: quantiles as p50–p90, price in dollars."""
    several = len({choice.candidate.gpus for choice in ranking.choices}) > 1
    return [_row(choice, several) for choice in ranking.choices]


def _row(choice: Choice, several: bool) -> tuple[str, ...]:
    name = choice.candidate.name
    if several and choice.candidate.gpus:
        name += f" ({choice.candidate.gpus})"
    if choice.forecast is None or choice.quote is None or choice.score is None:
        hint = f" (it would fit with {choice.would_admit})" if choice.would_admit else ""
        return (name, "-", "-", "-", "-", "-", f"refused: {choice.refused}{hint}")
    ends = finish(choice.forecast.start, choice.forecast.run)
    start = "now" if choice.forecast.start.p90 < NOW else span(choice.forecast.start)
    if choice.forecast.held:
        start = "held"
    run = span(choice.forecast.run)
    return (name, start, run, dollars(choice.quote.usd), span(ends), f"{choice.score:.2f}", choice.reason)


def no_place(ranking: Ranking) -> HpcError:
    """Return why a job finds no place: NoCandidate with every refusal; Unheard if a site that might do is silent."""
    lines = [f"{choice.candidate.name}: {choice.refused}" for choice in ranking.choices]
    lines += [f"{site}: {why}" for site, why in ranking.silent]
    near = [choice for choice in ranking.choices if choice.would_admit]
    hint = "`hpc sites` shows what there is"
    if near:
        least = min(near, key=lambda choice: choice.effort)
        at = f" at {least.candidate.name}" if len(ranking.choices) > 1 else ""
        hint = f"it would fit{at} with {least.would_admit}"
    if not ranking.unheard:
        return NoCandidate("\n  ".join(["no site can run this job", *lines]), hint=hint)
    answered = "no site that answered can run this job, and " if ranking.choices else ""
    first = f"{answered}{' and '.join(ranking.unheard)} could not be asked"
    again = "repeat the command when it answers; `hpc check` looks for what is wrong"
    return Unheard("\n  ".join([first, *lines]), hint=f"{hint}; or {again}" if near else again)


def span(quantiles: Quantiles) -> str:
    """Spell p50–p90, or one time if they look the same."""
    low, high = format_duration(quantiles.p50), format_duration(quantiles.p90)
    return low if low == high else f"{low}–{high}"


def why_it_won(choice: Choice, others: Sequence[Choice], value: UsdPerHour) -> str:
    """Say why the first choice won against the other admitted ones."""
    if not others:
        return "the only one that can run it"
    cheapest = min(others, key=lambda other: _usd(other))
    soonest = min(others, key=lambda other: _finish(other))
    cheap, soon = _usd(choice) <= _usd(cheapest) + 0.005, _finish(choice) <= _finish(soonest) + AT_ONCE
    if cheap and soon:
        return "cheapest and soonest"
    worth = f"your value of time is ${value:g}/h"
    if cheap:
        return f"cheapest; {_name(soonest)} {_against(soonest, choice)}; {worth}"
    return f"{'soonest; ' if soon else ''}{_name(cheapest)} {_against(cheapest, choice)}; {worth}"


def why_it_lost(choice: Choice, winner: Choice, value: UsdPerHour) -> str:
    """Say what a choice gives and costs against the winner."""
    words = _against(choice, winner)
    better = _usd(choice) < _usd(winner) - 0.005 or _finish(choice) < _finish(winner) - AT_ONCE
    return f"{words}; your value of time is ${value:g}/h" if better else words


def _name(choice: Choice) -> str:
    return choice.candidate.name


def _usd(choice: Choice) -> float:
    return choice.quote.usd if choice.quote else 0.0


def _finish(choice: Choice) -> float:
    return finish(choice.forecast.start, choice.forecast.run).p50 if choice.forecast else 0.0


def _against(choice: Choice, other: Choice) -> str:
    """Say the difference in time and money, as in `starts 2h 50m earlier for $310 more`."""
    if choice.forecast is None or other.forecast is None:
        return ""
    time = _time(choice.forecast, other.forecast)
    extra = _usd(choice) - _usd(other)
    if abs(extra) < 0.005:
        return f"{time} for the same price"
    return f"{time} for {dollars(abs(extra))} {'more' if extra > 0 else 'less'}"


def _time(mine: Forecast, other: Forecast) -> str:
    alike = abs(mine.run.p50 - other.run.p50) < 1.0
    verb = "starts" if alike else "finishes"
    later = finish(mine.start, mine.run).p50 - finish(other.start, other.run).p50
    if abs(later) <= AT_ONCE:
        return f"{verb} at the same time"
    return f"{verb} {format_duration(abs(later))} {'later' if later > 0 else 'earlier'}"


def remarks(choice: Choice, goal: Goal, late: float, overrun: float, now: float) -> list[str]:
    """Say what else a person should know: a deadline in danger, a price that nobody gave, a run that may be cut."""
    found = []
    if goal.deadline is not None and late > 0.5:
        found.append(
            f"likely to miss the deadline by {format_duration(min(1e9, _finish(choice) - goal.deadline + now))}"
        )
    elif late >= 0.01:
        found.append(f"may miss the deadline ({late:.0%})")
    if choice.quote and choice.quote.source == NO_PRICE:
        found.append("no price given")
    if choice.quote and choice.quote.most == math.inf:
        found.append("it has no walltime: nothing bounds its price")
    if choice.quote and choice.quote.source.endswith(GPUS_ALONE):
        found.append("only GPUs have a price there")
    if choice.quote and choice.quote.blocked >= _WORTH_SAYING:
        found.append(f"its CPUs or memory keep {choice.quote.blocked:.1f} GPUs from others, which it is charged for")
    if choice.candidate.purchase == "spot":
        found.append("spot: it may be interrupted, which is not priced")
    if overrun > 0.5:
        found.append("it is likely to be killed at its walltime")
    return found

"""How the decisions of one command are shown: the candidates of a single one, else one table of where the jobs go."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from itertools import chain

from hybridhpc.cli._output import money, prose, table
from hybridhpc.cli._plan import show_plan
from hybridhpc.cli._unplaced import first_of
from hybridhpc.decide.candidate import Choice
from hybridhpc.decide.cost import dollars
from hybridhpc.decide.explain import NOW, span
from hybridhpc.decide.policy import finish
from hybridhpc.model import JobSpec, Quantiles
from hybridhpc.planning import Planned, Wish
from hybridhpc.units import format_duration
from hybridhpc.values import dataclass

HEADER = ("jobs", "place", "start", "run", "price", "finish", "why")
MOST_ROWS = 12
"""Decisions that are shown one by one; of more, those that go to the same place share a row."""
MOST_REMARKS = 5
OF_THE_FIRST = "of jobs that ask for the same, start and finish are those of the first; the price is that of all"


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """One decision: the first job that it was made for, and how many it holds for."""

    spec: JobSpec
    planned: Planned
    jobs: int = 1

    @property
    def winner(self) -> Choice | None:
        """Where they go."""
        return self.planned.ranking.winner

    @property
    def usd(self) -> float:
        """The price of all of them."""
        return self.winner.quote.usd * self.jobs if self.winner and self.winner.quote else 0.0


def decisions(wishes: Sequence[Wish], planned: Sequence[Planned]) -> list[Decision]:
    """Return each decision once."""
    alike: dict[int, list[int]] = {}
    for number, answer in enumerate(planned):
        alike.setdefault(id(answer.ranking), []).append(number)
    return [
        Decision(spec=wishes[first].spec, planned=planned[first], jobs=1 + len(others))
        for first, *others in alike.values()
    ]


def show_plans(made: Sequence[Decision], *, to_stderr: bool = False) -> str:
    """Return what a person reads of all decisions of a command, laid out for the screen it will be shown on."""
    if len(made) == 1:
        return show_plan(made[0].spec, made[0].planned, made[0].jobs, to_stderr=to_stderr)
    groups = _groups(made)
    rows = [_row(group) for group in groups[:MOST_ROWS]]
    lines = [*_rest(groups[MOST_ROWS:]), *_notes(made)]
    drawn = table(HEADER, rows, to_stderr=to_stderr)
    head = prose(_heading(made), to_stderr=to_stderr)
    return "\n".join([head, drawn, *(prose(line, to_stderr=to_stderr) for line in lines)])


def _groups(made: Sequence[Decision]) -> list[list[Decision]]:
    """Return what shares a row: nothing if there are few, else what goes to the same place, the most jobs first."""
    if len(made) <= MOST_ROWS:
        return [[each] for each in made]
    found: dict[str, list[Decision]] = {}
    for each in made:
        found.setdefault(_place(each), []).append(each)
    return sorted(found.values(), key=lambda group: -_jobs(group))


def _place(decision: Decision) -> str:
    return decision.winner.candidate.name if decision.winner else "-"


def _jobs(group: Sequence[Decision]) -> int:
    return sum(each.jobs for each in group)


def _row(group: Sequence[Decision]) -> tuple[str, ...]:
    first, place = group[0], _place(group[0])
    jobs = f"{_jobs(group):,}" if len(group) > 1 else first.spec.name
    jobs += f" and {first.jobs - 1:,} like it" if len(group) == 1 and first.jobs > 1 else ""
    start, run, ends = (_all(group, which) for which in ("start", "run", "finish"))
    if start is None or run is None or ends is None:
        return (jobs, place, "-", "-", "-", "-", "refused, for the reasons below")
    at = "now" if start.p90 < NOW else span(start)
    return (jobs, place, at, span(run), dollars(sum(each.usd for each in group)), span(ends), _why(group))


def _all(group: Sequence[Decision], which: str) -> Quantiles | None:
    """Return the least p50 and the greatest p90 of what was forecast; None if nothing was."""
    found = []
    for each in group:
        if each.winner and (seen := each.winner.forecast):
            times = {"start": seen.start, "run": seen.run, "finish": finish(seen.start, seen.run)}
            found.append(times[which])
    if not found:
        return None
    return Quantiles(p50=min(each.p50 for each in found), p90=max(each.p90 for each in found))


def _why(group: Sequence[Decision]) -> str:
    """Say why they go there: of several that of the first, if not all have the same reason."""
    reasons = [_reason(each) for each in group]
    alike = all(reason == reasons[0] for reason in reasons)
    return reasons[0] if alike else f"{group[0].spec.name}: {reasons[0]}"


def _reason(decision: Decision) -> str:
    because, winner = decision.planned.because, decision.winner
    return f"because {because}" if because else (winner.reason if winner else "")


def _heading(made: Sequence[Decision]) -> str:
    """Say how many jobs there are, what they cost together, and when the first and the last start and finish."""
    parts = [f"plan for {_jobs(made):,} jobs that ask for {len(made):,} different things"]
    placed = [each for each in made if each.winner]
    if lost := _jobs(made) - _jobs(placed):
        parts.append(f"no place for {lost:,} of them")
    if placed:
        usd = sum(each.usd for each in placed)
        most = sum(each.winner.quote.most * each.jobs for each in placed if each.winner and each.winner.quote)
        limit = f", {money(most)} at most" if usd < most < math.inf else ""
        parts.append(f"{money(usd)} in all{limit}")
    if (start := _all(placed, "start")) and (ends := _all(placed, "finish")):
        last = max(each.winner.forecast.start.p50 for each in placed if each.winner and each.winner.forecast)
        parts.append(f"the first starts {_in(start.p50)}, the last {_in(last)}")
        parts.append(f"all are finished in {format_duration(ends.p90)} (p90)")
    return "; ".join(parts)


def _in(seconds: float) -> str:
    return "now" if seconds < NOW else f"in {format_duration(seconds)}"


def _rest(groups: Sequence[Sequence[Decision]]) -> Iterator[str]:
    """Say what has no row."""
    if groups:
        jobs = sum(_jobs(group) for group in groups)
        yield f"{jobs:,} more jobs go to {len(groups):,} other places; `--json` has all of them"


def _notes(made: Sequence[Decision]) -> Iterator[str]:
    """Say what else holds for some of them, each thing once."""
    silent = dict(chain.from_iterable(each.planned.ranking.silent for each in made))
    yield from (f"{site}: not considered: {why}" for site, why in silent.items())
    if any(each.jobs > 1 for each in made):
        yield OF_THE_FIRST
    if unasked := [each for each in made if each.planned.unasked]:
        yield (
            f"the schedulers were not asked about every place of {len(unasked):,} of the {len(made):,} different "
            "things, since each answer costs a job id: there the start is from our own plan of the queue"
        )
    yield from (f"note: {note}" for note in dict.fromkeys(chain.from_iterable(map(_own_notes, made))))
    yield from _remarks(made)


def _own_notes(decision: Decision) -> tuple[str, ...]:
    return decision.planned.plans[0].notes if decision.planned.plans else ()


def _remarks(made: Sequence[Decision]) -> Iterator[str]:
    """Say what is unusual about which jobs, where they have no row of their own; figures are those of the first."""
    found: dict[str, tuple[str, list[str]]] = {}
    for each in made if len(made) > MOST_ROWS else ():
        for remark in each.winner.remarks if each.winner else ():
            found.setdefault(re.sub(r"\d\S*", "", remark), (remark, []))[1].append(each.spec.file)
    for remark, names in list(found.values())[:MOST_REMARKS]:
        yield f"{first_of(names)}: {remark}"
    if len(found) > MOST_REMARKS:
        yield f"{len(found) - MOST_REMARKS:,} more remarks; `--json` has all of them"

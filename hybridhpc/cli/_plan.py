"""How a decision is shown: a table of candidates with reasons, or JSON with stable keys."""

from __future__ import annotations

from dataclasses import replace

from hybridhpc.cli._output import money, prose, table
from hybridhpc.cli._unplaced import first_of
from hybridhpc.decide.candidate import Choice, Ranking
from hybridhpc.decide.explain import HEADER, rows
from hybridhpc.decide.places import LEFT_OUT, NOT_NAMED
from hybridhpc.decide.policy import finish
from hybridhpc.model import JobSpec, Quantiles
from hybridhpc.planning import Planned


def show_plan(spec: JobSpec, planned: Planned, alike: int = 1, *, to_stderr: bool = False) -> str:
    """Return the plan as a person reads it, laid out for the screen it will be shown on."""
    ranking, unwanted = _wanted(planned.ranking)
    head = _heading(spec, planned, alike)
    drawn = [table(HEADER, rows(ranking), to_stderr=to_stderr)] if ranking.choices else []
    lines = [f"not wanted by `where`: {first_of(unwanted)}"] if unwanted else []
    lines += [f"{site}: not considered: {why}" for site, why in ranking.silent]
    if planned.plans:
        winner = ranking.choices[0]
        because = f", because {planned.because}" if planned.because else ""
        lines += [f"placement: {winner.candidate.name}{because}"]
        lines += [f"forecast: {winner.forecast.basis}"] if winner.forecast else []
        lines += [f"note: {note}" for note in planned.plans[0].notes]
    return "\n".join([prose(head, to_stderr=to_stderr), *drawn, *(prose(line, to_stderr=to_stderr) for line in lines)])


def _wanted(ranking: Ranking) -> tuple[Ranking, list[str]]:
    """Return a ranking without the places that the person does not want, and their names; all, if none is found."""
    unwanted = [each for each in ranking.choices if (each.refused or "").startswith((NOT_NAMED, LEFT_OUT))]
    if ranking.winner is None or not unwanted:
        return ranking, []
    kept = tuple(each for each in ranking.choices if each not in unwanted)
    return replace(ranking, choices=kept), list(dict.fromkeys(each.candidate.name for each in unwanted))


def _heading(spec: JobSpec, planned: Planned, alike: int) -> str:
    """Say what is planned: one job, a sweep with its number of points, or several jobs that are placed alike."""
    if spec.points:
        count = len(spec.points.rows)
        arrays = f" in {len(planned.plans)} arrays" if len(planned.plans) > 1 else ""
        return f"plan for {spec.name}: {count:,} point{'s' * (count != 1)}{arrays}"
    if alike == 1:
        return f"plan for {spec.name}"
    quoted = planned.ranking.winner.quote if planned.ranking.winner else None
    price = f", {money(quoted.usd * alike)} in all" if quoted else ""
    return f"plan for {spec.name} and {alike - 1:,} more job{'s' * (alike > 2)} like it, each as below{price}"


def plan_json(planned: Planned) -> dict[str, object]:
    """Return the stable keys of `hpc plan --json`."""
    winner = planned.ranking.winner
    return {
        "placement": f"{winner.candidate.site.name}/{winner.candidate.partition}" if winner else None,
        "because": planned.because or None,
        "candidates": [_choice_json(choice) for choice in planned.ranking.choices],
        "silent": [{"site": site, "why": why} for site, why in planned.ranking.silent],
    }


def _choice_json(choice: Choice) -> dict[str, object]:
    return {
        "site": choice.candidate.site.name,
        "partition": choice.candidate.partition,
        "purchase": choice.candidate.purchase,
        "gpus": str(choice.candidate.gpus) if choice.candidate.gpus else None,
        "start_s": _quantiles(choice.forecast.start if choice.forecast else None),
        "boot_s": round(choice.forecast.boot, 1) if choice.forecast else None,
        "not_before_s": _quantiles(choice.forecast.after if choice.forecast else None),
        "held": choice.forecast.held if choice.forecast else None,
        "run_s": _quantiles(choice.forecast.run if choice.forecast else None),
        "finish_s": _quantiles(finish(choice.forecast.start, choice.forecast.run) if choice.forecast else None),
        "basis": choice.forecast.basis if choice.forecast else None,
        "cost_usd": round(choice.quote.usd, 4) if choice.quote else None,
        "cost_source": choice.quote.source if choice.quote else None,
        "score": None if choice.score is None else round(choice.score, 4),
        "refused": choice.refused,
        "would_admit": choice.would_admit,
        "reason": choice.reason,
    }


def _quantiles(value: Quantiles | None) -> dict[str, float] | None:
    return None if value is None else {"p50": round(value.p50, 1), "p90": round(value.p90, 1)}

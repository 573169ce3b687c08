"""How a decision is shown: a table of candidates with reasons, or JSON with stable keys."""

from __future__ import annotations

from hybridhpc.cli._output import table
from hybridhpc.decide.candidate import Choice
from hybridhpc.decide.explain import HEADER, rows
from hybridhpc.decide.policy import finish
from hybridhpc.model import JobSpec, Quantiles
from hybridhpc.planning import Planned


def show_plan(spec: JobSpec, planned: Planned, *, to_stderr: bool = False) -> str:
    """Return the plan as a person reads it, laid out for the screen it will be shown on."""
    ranking = planned.ranking
    lines = [f"plan for {spec.name}", table(HEADER, rows(ranking), to_stderr=to_stderr)]
    lines += [f"{site}: not considered: {why}" for site, why in ranking.silent]
    if planned.plan is not None:
        lines += [f"placement: {ranking.choices[0].candidate.name}"]
        lines += [f"note: {note}" for note in planned.plan.notes]
    return "\n".join(lines)


def plan_json(planned: Planned) -> dict[str, object]:
    """Return the stable keys of `hpc plan --json`."""
    winner = planned.ranking.winner
    return {
        "placement": f"{winner.candidate.site.name}/{winner.candidate.partition}" if winner else None,
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

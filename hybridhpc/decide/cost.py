"""What a job would cost: hours, nodes and GPUs times the price of the place. Dollars; no preferences here."""

from __future__ import annotations

import math
from dataclasses import replace

from hybridhpc.decide.candidate import Quote
from hybridhpc.decide.fit import Fit
from hybridhpc.decide.policy import HOUR
from hybridhpc.decide.refusal import Change, Refusal, to_time
from hybridhpc.model import JobSpec, Quantiles, Usd, UsdPerHour
from hybridhpc.sites.site import Price
from hybridhpc.units import MAX_WALLTIME, format_walltime

NO_PRICE = Price().source
"""What a price says that nobody gave."""
THIS_MACHINE = "this machine"
GPUS_ALONE = ", which prices GPUs alone"
"""Said behind the source of a price by which a job on nodes without GPUs costs nothing."""


def price_of(fit: Fit) -> Price:
    """Return the price of a candidate's partition, else that of its site."""
    site = fit.candidate.site
    listed = site.partition(fit.candidate.partition).price
    price = site.price if listed == Price() else listed
    if site.scheduler == "here" and price == Price():
        return Price(source=THIS_MACHINE)
    return price


def _charged(price: Price, fit: Fit) -> tuple[tuple[int, float], ...]:
    """Return the CPUs and GPUs that a task is charged for on each kind of node that could hold it.

    Where jobs get whole nodes, whole nodes are; where GPUs alone have a price, the share of a node's CPUs or memory
    that is taken counts as that share of its GPUs: nobody else gets them (decisions/0012).
    """
    need = fit.need
    kinds = {(node.cpus, int(node.memory), node.gpus) for node in fit.nodes}
    if need.whole and kinds:
        return tuple({(cpus, float(gpus)) for cpus, _, gpus in kinds})
    if price.per_gpu and not price.per_node and price.per_cpu is None and kinds:
        shares = ((max(need.cpus / max(1, cpus), need.memory / max(1, memory)), gpus) for cpus, memory, gpus in kinds)
        return tuple({(need.cpus, max(float(need.gpus), min(1.0, share) * gpus)) for share, gpus in shares})
    return ((need.cpus, float(need.gpus)),)


def _hourly(price: Price, fit: Fit) -> tuple[float, float]:
    """Return what a task costs per hour: where that is least, and where most."""
    per_cpu = price.per_cpu or 0.0
    hourly = [
        fit.most_nodes * (price.per_node + per_cpu * cpus + price.per_gpu * gpus) for cpus, gpus in _charged(price, fit)
    ]
    return max(0.0, min(hourly)), max(0.0, *hourly)


def _tasks(spec: JobSpec) -> tuple[int, int]:
    """Return how many tasks there are, and how many of them may run at once."""
    if spec.array is None:
        return 1, 1
    tasks = max(1, spec.array.tasks)
    return tasks, min(tasks, spec.array.throttle or tasks)


def quote(spec: JobSpec, fit: Fit, task: Quantiles, whole: Quantiles, boot: float) -> Quote:
    """Price the job at its p50 run time, and at most: to its walltime. Without one nothing bounds its price.

    Of a range of nodes the most that it may be given are priced: Slurm gives as many as are free (seen: 22.05, 26.05).
    `task` is how long one task runs, `whole` the whole job (the same but for an array).
    `boot` seconds of powered-down nodes are billed too: once for each task that runs at once.
    """
    price = price_of(fit)
    usual, highest = _hourly(price, fit)
    tasks, at_once = _tasks(spec)
    usd = usual * (tasks * task.p50 + at_once * boot) / HOUR
    most = highest * (tasks * float(fit.walltime or math.inf) + at_once * boot) / HOUR if highest else 0.0
    together = tasks * task.p50 / whole.p50 if whole.p50 > 0 else 1.0
    blocked = 0.0 if fit.need.whole else min(gpus for _, gpus in _charged(price, fit)) - fit.need.gpus
    return Quote(
        usd=Usd(usd),
        most=Usd(max(usd, most)),
        per_hour=UsdPerHour(usual * together),
        source=f"{price.source}{GPUS_ALONE}" if price.per_gpu and not usual else price.source,
        blocked=fit.most_nodes * max(0.0, blocked),
    )


def over_budget(spec: JobSpec, fit: Fit, quoted: Quote, task: Quantiles, boot: float, ceiling: float) -> Refusal | None:
    """Refuse a job that may cost more than the ceiling before its walltime ends it; None if it cannot."""
    if quoted.most <= ceiling:
        return None
    tasks, at_once = _tasks(spec)
    highest = _hourly(price_of(fit), fit)[1]
    enough = (ceiling * HOUR / highest - at_once * boot) / tasks if highest > 0 else 0.0
    seconds = int(max(60.0, min(enough, MAX_WALLTIME)))
    shorter = to_time(spec, seconds // 60 * 60)
    if fit.walltime is None:
        reason = f"has no walltime, so that nothing bounds its price; the ceiling is {dollars(ceiling)}"
        return Refusal(reason=reason, ways=(shorter,) if enough >= 60.0 else ())
    dearer = math.ceil(quoted.most * 100 - 1e-6) / 100
    way = Change(what="max_cost", words=f"max_cost: {dearer:.2f} USD", spec=_with_ceiling(spec, dearer))
    until = f"to its walltime of {format_walltime(fit.walltime)}"
    reason = f"may cost up to {dollars(quoted.most)} {until}; the ceiling is {dollars(ceiling)}"
    return Refusal(reason=reason, ways=(shorter if enough >= max(60.0, task.p90) else way,))


def is_surely_too_dear(spec: JobSpec, fit: Fit) -> bool:
    """Whether a job breaks its ceiling there, however soon its nodes boot."""
    ceiling = spec.goal.max_cost if spec.goal else None
    if ceiling is None:
        return False
    highest, (tasks, _) = _hourly(price_of(fit), fit)[1], _tasks(spec)
    return highest > 0 and highest * tasks * float(fit.walltime or math.inf) / HOUR > ceiling


def _with_ceiling(spec: JobSpec, usd: float) -> JobSpec:
    return replace(spec, goal=replace(spec.goal, max_cost=Usd(usd))) if spec.goal else spec


def dollars(amount: float) -> str:
    """Spell an amount: $0, $3.20, $310, $12,400."""
    if amount < 0:
        return "-" + dollars(-amount)
    if amount < 0.005:
        return "$0"
    return f"${amount:,.2f}" if amount < 99.995 else f"${amount:,.0f}"

"""What a job would cost: hours, nodes and GPUs times the price of the place. Dollars; no preferences here."""

from __future__ import annotations

from hybridhpc.decide.candidate import Quote
from hybridhpc.decide.fit import Fit
from hybridhpc.decide.native import Refusal
from hybridhpc.decide.policy import HOUR
from hybridhpc.decide.spelling import spelled_time
from hybridhpc.model import JobSpec, Quantiles, Usd, UsdPerHour
from hybridhpc.sites.site import Price
from hybridhpc.units import MAX_WALLTIME, format_walltime

NO_PRICE = Price().source
"""What a price says that nobody gave."""
THIS_MACHINE = "this machine"
GPUS_ALONE = ", which prices GPUs alone"
"""Said behind the source of a price by which a job without GPUs costs nothing."""


def price_of(fit: Fit) -> Price:
    """Return the price of a candidate's partition, else that of its site."""
    site = fit.candidate.site
    listed = site.partition(fit.candidate.partition).price
    price = site.price if listed == Price() else listed
    if site.scheduler == "here" and price == Price():
        return Price(source=THIS_MACHINE)
    return price


def _hourly(price: Price, fit: Fit) -> tuple[float, float]:
    """Return what a task costs per hour: on the smallest nodes that could hold it, and on the largest.

    Where jobs get whole nodes, whole nodes are priced.
    """
    need = fit.need
    shares = {(need.cpus, need.gpus)}
    if need.whole:
        shares = {(node.cpus, node.gpus) for node in fit.nodes} or shares
    hourly = [need.nodes * (price.per_node + price.per_cpu * cpus + price.per_gpu * gpus) for cpus, gpus in shares]
    return max(0.0, min(hourly)), max(0.0, *hourly)


def _tasks(spec: JobSpec) -> tuple[int, int]:
    """Return how many tasks there are, and how many of them may run at once."""
    if spec.array is None:
        return 1, 1
    tasks = max(1, spec.array.tasks)
    return tasks, min(tasks, spec.array.throttle or tasks)


def quote(spec: JobSpec, fit: Fit, task: Quantiles, whole: Quantiles, boot: float) -> Quote:
    """Price the job at its p50 run time, and at most: to its walltime, a year if it has none.

    `task` is how long one task runs, `whole` the whole job (the same but for an array).
    `boot` seconds of powered-down nodes are billed too: once for each task that runs at once.
    """
    price = price_of(fit)
    usual, highest = _hourly(price, fit)
    tasks, at_once = _tasks(spec)
    usd = usual * (tasks * task.p50 + at_once * boot) / HOUR
    most = highest * (tasks * float(fit.walltime or MAX_WALLTIME) + at_once * boot) / HOUR
    together = tasks * task.p50 / whole.p50 if whole.p50 > 0 else 1.0
    source = f"{price.source}{GPUS_ALONE}" if price.per_gpu and not highest else price.source
    return Quote(usd=Usd(usd), most=Usd(max(usd, most)), per_hour=UsdPerHour(usual * together), source=source)


def over_budget(spec: JobSpec, fit: Fit, quoted: Quote, task: Quantiles, boot: float, ceiling: float) -> Refusal | None:
    """Refuse a job that may cost more than the ceiling before its walltime ends it; None if it cannot."""
    if quoted.most <= ceiling:
        return None
    until = f"to its walltime of {format_walltime(fit.walltime)}" if fit.walltime else "since it has no walltime"
    tasks, at_once = _tasks(spec)
    highest = _hourly(price_of(fit), fit)[1]
    enough = (ceiling * HOUR / highest - at_once * boot) / tasks if highest > 0 else 0.0
    fix = f"max_cost: {quoted.most:.2f} USD"
    if enough >= max(60.0, task.p90):
        fix = f"{spelled_time(spec, int(enough) // 60 * 60)} or less"
    reason = f"may cost up to {dollars(quoted.most)} {until}; the ceiling is {dollars(ceiling)}"
    return Refusal(reason=reason, would_admit=fix)


def dollars(amount: float) -> str:
    """Spell an amount: $0, $3.20, $310, $12,400."""
    if amount < 0:
        return "-" + dollars(-amount)
    if amount < 0.005:
        return "$0"
    return f"${amount:,.2f}" if amount < 99.995 else f"${amount:,.0f}"

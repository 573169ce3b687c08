"""Limits and capacity: what a partition's nodes and rules do not allow, with the numbers. One function per check."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

from hybridhpc.decide.candidate import Candidate
from hybridhpc.decide.native import missing_nodes
from hybridhpc.decide.refusal import (
    Change,
    Refusal,
    in_site_file,
    to_cpus,
    to_gpus,
    to_indices,
    to_memory,
    to_most_nodes,
    to_nodes,
    to_time,
    ways,
)
from hybridhpc.model import Gpus, JobSpec, Seconds
from hybridhpc.sites.snapshot import Node, QueuePartition, Snapshot
from hybridhpc.units import format_memory, format_walltime
from hybridhpc.values import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One job in one place: what a check looks at."""

    spec: JobSpec
    candidate: Candidate
    snapshot: Snapshot
    partition: QueuePartition
    nodes: tuple[Node, ...]
    """Of the partition, with the features and names the job asks for."""
    able: tuple[Node, ...]
    """Those of them that could hold the job's share, were they up and empty."""
    cpus: int
    memory: int


def over_limits(case: Case) -> list[Refusal]:
    """Return every limit that the job breaks there."""
    return [refusal for check in _CHECKS if (refusal := check(case)) is not None]


def walltime_of(case: Case) -> Seconds | None:
    """Return the limit the job would run under; None if there is none."""
    if case.spec.resources.unlimited:
        return None
    return case.spec.resources.walltime or case.partition.default_walltime or case.partition.max_walltime


def gpus_on(candidate: Candidate, node: Node) -> int:
    """Return how many GPUs of the kind asked for a node has."""
    return gpus_of(native_kind(candidate), node)


def gpus_of(wanted: str, node: Node) -> int:
    """Return how many GPUs of a kind, in lower case, a node has; of no kind in particular: all."""
    return node.gpus if not wanted or (node.gpu_kind or "").lower() == wanted else 0


def native_kind(candidate: Candidate) -> str:
    """Return the scheduler's word in lower case for the GPUs asked for; empty: any."""
    kind = candidate.gpus.kind if candidate.gpus else None
    return candidate.site.native_gpu(kind).lower() if kind else ""


def _up(case: Case) -> Refusal | None:
    return None if case.partition.up else Refusal(reason=f"partition {case.partition.name} is down")


def _time(case: Case) -> Refusal | None:
    """Slurm takes a job that asks for more, or for no limit, and never starts it (PartitionTimeLimit; seen: 22.05)."""
    limit, asked = case.partition.max_walltime, walltime_of(case)
    if limit is None or (asked is not None and asked <= limit):
        return None
    if asked is None and not case.spec.resources.unlimited:
        return None
    what = "asks for no walltime limit, which" if asked is None else f"walltime {format_walltime(asked)}"
    return Refusal(
        reason=f"{what} is over the partition's limit of {format_walltime(limit)}",
        ways=(to_time(case.spec, limit),) if limit > 0 else (),
    )


def _node_limit(case: Case) -> Refusal | None:
    """A range that ends beyond the limit never starts, even if its least is allowed (seen: 22.05, 24.11, 26.05)."""
    limit, asked, most = case.partition.max_nodes, case.spec.resources.nodes, case.spec.resources.most_nodes
    if limit is None or max(asked, most or 0) <= limit:
        return None
    if most is not None and asked <= limit:
        return Refusal(
            reason=f"asks for up to {_nodes(most)}, and partition {case.partition.name} gives a job at most {limit}: "
            "it would never start",
            ways=ways(to_most_nodes(case.spec, limit)),
        )
    return Refusal(
        reason=f"needs {_nodes(asked)}; partition {case.partition.name} gives a job at most {limit}",
        ways=ways(to_nodes(case.spec, limit)),
    )


def _array(case: Case) -> Refusal | None:
    limit, array = case.snapshot.max_array_size, case.spec.array
    # A sweep is cut into as many arrays as it takes.
    if limit is None or array is None or case.spec.points is not None:
        return None
    last = max((int(digits) for digits in re.findall(r"\d{1,12}", re.sub("[:%]\\d+", "", array.text))), default=0)
    if last < limit:
        return None
    return Refusal(
        reason=f"array index {last} is over the largest index {limit - 1} (MaxArraySize {limit})",
        ways=ways(to_indices(case.spec, limit)),
    )


def _listed(case: Case) -> Refusal | None:
    missing = missing_nodes(case.spec.native, case.candidate.site, case.snapshot.nodes_of(case.partition.name))
    if not missing or case.candidate.site.scheduler == "here":
        return None
    return Refusal(reason=f"partition {case.partition.name} has no node {', '.join(missing[:3])}")


def _shape(case: Case) -> Refusal | None:
    """Judge one node's share, then the number of nodes that can hold it."""
    name = case.partition.name
    if not case.nodes:
        what = f"with constraint {case.spec.native.constraint}" if case.spec.native.constraint else "that may be used"
        return Refusal(reason=f"partition {name} has no node {what}")
    if not case.able:
        share = [why for check in (_gpu_share, _cpu_share, _memory_share) if (why := check(case))]
        kinds = _other_kinds(case) if _most_gpus(case) == 0 else ()
        return Refusal(reason="; ".join(share) or f"no node has {_spell(case)} at once", ways=kinds or _smaller(case))
    usable = sum(node.usable for node in case.able)
    if usable >= case.spec.resources.nodes:
        return None
    down = len(case.able) - usable
    like = "" if len(case.able) == len(case.nodes) else f" with {_spell(case)}"
    return Refusal(
        reason=f"needs {_nodes(case.spec.resources.nodes)}{like}; partition {name} has {len(case.able)}"
        + (f" ({down} down)" if down else ""),
        ways=ways(to_nodes(case.spec, usable)) + _smaller(case),
    )


def _smaller(case: Case) -> tuple[Change, ...]:
    """Return a smaller share in each figure alone: what enough nodes have that hold the other two.

    Where too few nodes are left for the job, it is what all of those have; then the number of nodes must change, too.
    """
    gpus, spec = case.candidate.gpus, case.spec
    wanted = gpus.count if gpus else 0
    usable = [(gpus_on(case.candidate, node), node.cpus, node.memory) for node in case.nodes if node.usable]

    def most(figure: int, *others: tuple[int, int]) -> int:
        holding = (node[figure] for node in usable if all(node[at] >= least for at, least in others))
        found = sorted(holding, reverse=True)[: max(1, spec.resources.nodes)]
        return found[-1] if found else 0

    fewer, narrower = most(0, (1, case.cpus), (2, case.memory)), most(1, (0, wanted), (2, case.memory))
    less = most(2, (0, wanted), (1, case.cpus))
    return ways(
        to_gpus(spec, Gpus(count=fewer, kind=gpus.kind), fewer=True) if gpus and fewer < wanted else None,
        to_cpus(spec, narrower) if narrower < case.cpus else None,
        to_memory(spec, less) if less < case.memory else None,
    )


def _nodes(count: int) -> str:
    return f"{count} node{'' if count == 1 else 's'}"


def _spell(case: Case) -> str:
    gpus = case.candidate.gpus
    parts = [_spell_gpus(gpus)] if gpus else []
    parts += [f"{case.cpus} CPUs"] if case.spec.resources.cpus else []
    parts += [format_memory(case.memory)] if case.spec.resources.memory else []
    return ", ".join(parts) or "enough"


def _spell_gpus(gpus: Gpus) -> str:
    return f"{gpus.count} x {gpus.kind}" if gpus.kind else f"{gpus.count} GPUs"


def _most_gpus(case: Case) -> int | None:
    """Return the most GPUs of the kind asked for that a node has; None if none are asked for."""
    return max(gpus_on(case.candidate, node) for node in case.nodes) if case.candidate.gpus else None


def _gpu_share(case: Case) -> str:
    gpus, most = case.candidate.gpus, _most_gpus(case)
    if gpus is None or most is None or most >= gpus.count:
        return ""
    if most > 0:
        return f"needs {_spell_gpus(gpus)} per node; the largest node has {most}"
    kinds = sorted({node.gpu_kind or "GPUs without a type" for node in case.nodes if node.gpus > 0})
    return f"no node has GPUs of kind {gpus.kind} (it has {', '.join(kinds)})" if kinds else "no node has GPUs"


def _other_kinds(case: Case) -> tuple[Change, ...]:
    """Return the scheduler's word that seems to mean the kind asked for, else the kinds of which a node has enough.

    What the job allows already is a candidate of its own.
    """
    gpus, site = case.candidate.gpus, case.candidate.site
    if gpus is None or gpus.kind is None:
        return ()
    word, kind = gpus.kind.lower(), gpus.kind
    holding = [node for node in case.nodes if node.gpu_kind and node.gpus > 0]
    alike = next((own for own in sorted({node.gpu_kind or "" for node in holding}) if _means(own, word)), None)
    if alike:
        mapped = replace(site, gres=((kind, alike), *site.gres))
        return (in_site_file(case.spec, "gres", f"gres: {{{kind}: {alike}}}", mapped, ""),)
    allowed = {site.native_gpu(each.kind).lower() for each in case.spec.resources.gpus if each.kind}
    enough = sorted({node.gpu_kind or "" for node in holding if node.gpus >= gpus.count} - allowed)
    return ways(*(to_gpus(case.spec, Gpus(kind=own, count=gpus.count), fewer=False) for own in enough))


def _means(native: str, word: str) -> bool:
    return word in re.split("[_-]", native.lower())


def _cpu_share(case: Case) -> str:
    most = max(node.cpus for node in case.nodes)
    return f"needs {case.cpus} CPUs per node; the largest node has {most}" if case.cpus > most else ""


def _memory_share(case: Case) -> str:
    most = max(node.memory for node in case.nodes)
    if case.memory <= most:
        return ""
    return f"needs {format_memory(case.memory)} per node; the largest node has {format_memory(most)}"


_CHECKS: tuple[Callable[[Case], Refusal | None], ...] = (_up, _time, _node_limit, _array, _listed, _shape)

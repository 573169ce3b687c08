"""Limits and capacity: what a partition's nodes and rules do not allow, with the numbers. One function per check."""

from __future__ import annotations

import re
from collections.abc import Callable

from hybridhpc.decide.candidate import Candidate
from hybridhpc.decide.native import Refusal, missing_nodes
from hybridhpc.decide.spelling import spelled, spelled_gpus, spelled_memory, spelled_time
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
    return case.spec.resources.walltime or case.partition.default_walltime or case.partition.max_walltime


def gpus_on(candidate: Candidate, node: Node) -> int:
    """Return how many GPUs of the kind asked for a node has."""
    wanted = native_kind(candidate)
    return node.gpus if not wanted or (node.gpu_kind or "").lower() == wanted else 0


def native_kind(candidate: Candidate) -> str:
    """Return the scheduler's word in lower case for the GPUs asked for; empty: any."""
    kind = candidate.gpus.kind if candidate.gpus else None
    return candidate.site.native_gpu(kind).lower() if kind else ""


def _up(case: Case) -> Refusal | None:
    return None if case.partition.up else Refusal(reason=f"partition {case.partition.name} is down")


def _time(case: Case) -> Refusal | None:
    limit, asked = case.partition.max_walltime, walltime_of(case)
    if limit is None or asked is None or asked <= limit:
        return None
    return Refusal(
        reason=f"walltime {format_walltime(asked)} is over the partition's limit of {format_walltime(limit)}",
        would_admit=f"{spelled_time(case.spec, limit)} or less",
    )


def _node_limit(case: Case) -> Refusal | None:
    limit, asked = case.partition.max_nodes, case.spec.resources.nodes
    if limit is None or asked <= limit:
        return None
    return Refusal(
        reason=f"needs {asked} nodes; partition {case.partition.name} gives a job at most {limit}",
        would_admit=spelled(case.spec, "nodes", str(limit)) if limit > 0 else None,
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
        would_admit=f"array indices up to {limit - 1}" if limit > 0 else None,
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
        share = [refusal for check in (_gpu_share, _cpu_share, _memory_share) if (refusal := check(case)) is not None]
        together = f"no node has {_spell(case)} at once"
        return Refusal(
            reason="; ".join(refusal.reason for refusal in share) or together,
            would_admit=share[0].would_admit if len(share) == 1 else None,
        )
    usable = sum(node.usable for node in case.able)
    if usable >= case.spec.resources.nodes:
        return None
    down = len(case.able) - usable
    like = "" if len(case.able) == len(case.nodes) else f" with {_spell(case)}"
    return Refusal(
        reason=f"needs {case.spec.resources.nodes} nodes{like}; partition {name} has {len(case.able)}"
        + (f" ({down} down)" if down else ""),
        would_admit=spelled(case.spec, "nodes", str(usable)) if usable else None,
    )


def _spell(case: Case) -> str:
    gpus = case.candidate.gpus
    parts = [_spell_gpus(gpus)] if gpus else []
    parts += [f"{case.cpus} CPUs"] if case.spec.resources.cpus else []
    parts += [format_memory(case.memory)] if case.spec.resources.memory else []
    return ", ".join(parts) or "enough"


def _spell_gpus(gpus: Gpus) -> str:
    return f"{gpus.count} x {gpus.kind}" if gpus.kind else f"{gpus.count} GPUs"


def _gpu_share(case: Case) -> Refusal | None:
    gpus = case.candidate.gpus
    if gpus is None:
        return None
    most = max(gpus_on(case.candidate, node) for node in case.nodes)
    if most >= gpus.count:
        return None
    if most > 0:
        reason = f"needs {_spell_gpus(gpus)} per node; the largest node has {most}"
        return Refusal(reason=reason, would_admit=f"{spelled_gpus(case.spec, most, gpus.kind)} or fewer")
    return _gpu_kind(case, gpus)


def _gpu_kind(case: Case, gpus: Gpus) -> Refusal:
    holding = [node for node in case.nodes if node.gpus > 0]
    if not holding:
        return Refusal(reason="no node has GPUs")
    kinds = sorted({node.gpu_kind or "GPUs without a type" for node in holding})
    reason = f"no node has GPUs of kind {gpus.kind} (it has {', '.join(kinds)})"
    word = (gpus.kind or "").lower()
    alike = next((kind for kind in kinds if word in re.split("[_-]", kind.lower())), None)
    if alike:
        return Refusal(reason=reason, would_admit=f"`gres: {{{gpus.kind}: {alike}}}` in the site file")
    typed = [node.gpu_kind for node in holding if node.gpu_kind and node.gpus >= gpus.count]
    near = f"{min(typed)}:{gpus.count}" if typed else ""
    return Refusal(reason=reason, would_admit=spelled(case.spec, "gpus", near) if near else None)


def _cpu_share(case: Case) -> Refusal | None:
    most = max(node.cpus for node in case.nodes)
    if case.cpus <= most:
        return None
    reason = f"needs {case.cpus} CPUs per node; the largest node has {most}"
    return Refusal(reason=reason, would_admit=f"{most} CPUs per node or fewer" if most > 0 else None)


def _memory_share(case: Case) -> Refusal | None:
    most = max(node.memory for node in case.nodes)
    if case.memory <= most:
        return None
    reason = f"needs {format_memory(case.memory)} per node; the largest node has {format_memory(most)}"
    return Refusal(reason=reason, would_admit=f"{spelled_memory(case.spec, most)} or less")


_CHECKS: tuple[Callable[[Case], Refusal | None], ...] = (_up, _time, _node_limit, _array, _listed, _shape)

"""Which candidates there are, and which of them can run a job at all: a reason for every no."""

from __future__ import annotations

import math
from dataclasses import replace

from hybridhpc.decide.candidate import Candidate
from hybridhpc.decide.limits import Case, gpus_of, gpus_on, native_kind, over_limits, walltime_of
from hybridhpc.decide.native import node_names, on_here, on_slurm, with_features
from hybridhpc.decide.places import is_named, misplaced
from hybridhpc.decide.profile import Need
from hybridhpc.decide.refusal import Refusal
from hybridhpc.model import Gpus, JobSpec, Mebibytes, Script, Seconds
from hybridhpc.sites.site import Site
from hybridhpc.sites.snapshot import Node, QueuePartition, Snapshot
from hybridhpc.values import dataclass

_OF_EACH = {"gpus-per-node", "gres"}
"""Options by which each node has so many GPUs, over however many the job is spread."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """What became of a candidate: the refusals, and what forecast and price need to know."""

    candidate: Candidate
    partition: QueuePartition
    nodes: tuple[Node, ...] = ()
    """On which it can run: usable, and large enough."""
    most_nodes: int = 1
    """So many of them it may be given, of the range that it asks for: it pays for all."""
    need: Need = Need(nodes=1, cpus=1, memory=0, gpus=0, lasts=math.inf)
    """What it takes; it may last as long as its walltime, for ever without one."""
    walltime: Seconds | None = None
    """The limit it would run under; None if there is none."""
    refusals: tuple[Refusal, ...] = ()
    notes: tuple[str, ...] = ()


def fits(spec: JobSpec, site: Site, snapshot: Snapshot) -> list[Fit]:
    """Judge every candidate of a site: each partition with each GPU alternative."""
    alternatives = tuple(dict.fromkeys(gpus for gpus in spec.resources.gpus if gpus.count > 0)) or (None,)
    return [judge(spec, candidate, snapshot) for candidate in _candidates(spec, site, snapshot, alternatives)]


def _candidates(
    spec: JobSpec, site: Site, snapshot: Snapshot, alternatives: tuple[Gpus | None, ...]
) -> list[Candidate]:
    names = [partition.name for partition in snapshot.partitions]
    names += [partition.name for partition in site.partitions]
    names += [entry.split("/")[1] for entry in spec.where if entry.startswith(f"{site.name}/")]
    return [
        Candidate(site=site, partition=name, purchase=site.partition(name).purchase, gpus=gpus)
        for name in dict.fromkeys(names)
        for gpus in alternatives
    ]


def judge(spec: JobSpec, candidate: Candidate, snapshot: Snapshot) -> Fit:
    """Judge one candidate."""
    partition = snapshot.partition(candidate.partition)
    if partition is None:
        return _absent(candidate, snapshot)
    if spec.resources.spread:
        spec, candidate = _spread(spec, candidate, snapshot)
    case = _case(spec, candidate, snapshot, partition)
    names, notes = _names(case)
    usable = tuple(node for node in case.able if node.usable)
    least, most = max(1, spec.resources.nodes), spec.resources.most_nodes
    most_nodes = max(least, min(most or least, len(usable)))
    if most is not None:
        notes.append(f"asks for {least} to {most} nodes: its start is that of {least}, its price that of {most_nodes}")
    return Fit(
        candidate=candidate,
        partition=partition,
        nodes=usable,
        most_nodes=most_nodes,
        need=_need(case),
        walltime=walltime_of(case),
        refusals=(*names, *over_limits(case)),
        notes=tuple(notes),
    )


def _spread(spec: JobSpec, candidate: Candidate, snapshot: Snapshot) -> tuple[JobSpec, Candidate]:
    """Share out a job that does not say over how many nodes, as Slurm would: over as many as its totals need."""
    asked, gpus = spec.resources, candidate.gpus
    shared = gpus if gpus and not _asks_of_each(spec) else None
    nodes = snapshot.nodes_of(candidate.partition)
    nodes = tuple(node for node in nodes if node.usable) or nodes
    spread = max(
        asked.nodes,
        _nodes_for(asked.cpus or 0, asked.nodes, [node.cpus for node in nodes]),
        _nodes_for(shared.count, asked.nodes, [gpus_on(candidate, node) for node in nodes]) if shared else 0,
    )
    part = asked.nodes / spread
    resources = replace(
        asked,
        nodes=spread,
        cpus=math.ceil((asked.cpus or 1) * part),
        memory=None if asked.memory is None else Mebibytes(math.ceil(asked.memory * part)),
    )
    each = replace(shared, count=math.ceil(shared.count * part)) if shared else gpus
    return replace(spec, resources=resources), replace(candidate, gpus=each)


def _asks_of_each(spec: JobSpec) -> bool:
    options = {name for name, _ in spec.payload.asked} if isinstance(spec.payload, Script) else set()
    return not _OF_EACH.isdisjoint(options)


def _nodes_for(share: int, nodes: int, there: list[int]) -> int:
    """Return over how many nodes so much for each of `nodes` goes where the largest node has no more than is there."""
    largest = max(there, default=0)
    return math.ceil(share * nodes / largest) if share > largest > 0 else 0


def _need(case: Case) -> Need:
    gpus = case.candidate.gpus
    return Need(
        nodes=max(1, case.spec.resources.nodes),
        cpus=case.cpus,
        memory=case.memory,
        gpus=gpus.count if gpus else 0,
        gpu_kind=native_kind(case.candidate) or None,
        whole=case.spec.resources.whole_nodes or case.partition.exclusive,
        lasts=float(walltime_of(case) or math.inf),
    )


def _absent(candidate: Candidate, snapshot: Snapshot) -> Fit:
    known = ", ".join(partition.name for partition in snapshot.partitions) or "none"
    refusal = Refusal(reason=f"{candidate.site.name} has no partition {candidate.partition} (it has {known})")
    return Fit(candidate=candidate, partition=QueuePartition(name=candidate.partition, up=False), refusals=(refusal,))


def _case(spec: JobSpec, candidate: Candidate, snapshot: Snapshot, partition: QueuePartition) -> Case:
    asked, site = spec.resources, candidate.site
    nodes = snapshot.nodes_of(partition.name)
    if site.scheduler != "here":
        nodes = with_features(spec.native, site, nodes)
        listed = frozenset(node_names(spec.native, site))
        if listed and len(listed) >= asked.nodes:
            nodes = tuple(node for node in nodes if node.name in listed)
    cpus = asked.cpus or 1
    memory = asked.memory or (partition.default_memory_per_cpu or 0) * cpus
    gpus, wanted = candidate.gpus.count if candidate.gpus else 0, native_kind(candidate)
    able = [node for node in nodes if node.cpus >= cpus and node.memory >= memory and gpus_of(wanted, node) >= gpus]
    return Case(
        spec=spec,
        candidate=candidate,
        snapshot=snapshot,
        partition=partition,
        nodes=nodes,
        able=tuple(able),
        cpus=cpus,
        memory=memory,
    )


def _names(case: Case) -> tuple[list[Refusal], list[str]]:
    """Judge what a job names: places in `where`, and what only some sites have."""
    candidate, spec = case.candidate, case.spec
    found = misplaced(spec, candidate, case.able or case.nodes)
    if candidate.site.scheduler == "here":
        return [*found, *on_here(spec, candidate.site, candidate.partition)], []
    explicit = any(is_named(entry, candidate) for entry in spec.where)
    known = [partition.name for partition in case.snapshot.partitions]
    refusals, notes = on_slurm(spec, candidate.site, case.partition, known, explicit)
    return [*found, *refusals], notes

"""Our own conservative backfill at node level: when a new job would start behind all that is queued or running.

What a job lasts is a parameter: the caller makes one plan with limits and one with likely run times.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from heapq import nsmallest
from operator import attrgetter

from hybridhpc.decide.profile import Block, Need, Profile, Segment, split_names
from hybridhpc.model import JobState
from hybridhpc.sites.snapshot import Node, QueuedJob, QueueLine, Snapshot
from hybridhpc.values import dataclass

Shares = list[tuple[float, int, int, int]]
"""When (seconds from now) so many CPUs, MiB and GPUs of a node are given back."""
_RUN = (JobState.RUNNING, JobState.SUSPENDED)
_ALL = 1 << 40
"""More than any node has of anything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How long things last, in seconds: what each job will still run or would run, and how long nodes boot."""

    remaining: Callable[[QueueLine], float]
    lasting: Callable[[QueueLine], float]
    unseen: Callable[[str], float]
    """When what nobody seen holds in a partition is given back."""
    boot: Callable[[str], float]
    """How long a powered-down node of a partition boots."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turns:
    """A site's jobs by what becomes of them; blocked ones take no place."""

    running: Sequence[QueueLine]
    first: Sequence[QueuedJob]
    """Those to plan one by one, in their order."""
    rest: Sequence[tuple[QueueLine, int]]
    """So many tasks in all stand behind them, by what they are."""


def turns(snapshot: Snapshot, depth: int) -> Turns:
    """Return whose turn it is at a site: of the queue `depth` jobs one by one, the others together."""
    running, queue = list[QueueLine](), list[QueuedJob]()
    for job in snapshot.jobs:
        if job.line.waiting:
            queue.append(job)
        elif job.line.state in _RUN:
            running.append(job.line)
    first = nsmallest(depth, queue, key=attrgetter("turn"))
    counts = Counter(map(id, map(attrgetter("line"), queue)))
    counts.subtract(id(job.line) for job in first)
    lines = {id(job.line): job.line for job in queue}
    rest = [(lines[each], max(1, lines[each].tasks) * count) for each, count in counts.items() if count]
    return Turns(running=running, first=first, rest=rest)


def plan(snapshot: Snapshot, seen: Turns, pace: Pace, depth: int) -> Profile:
    """Return the Profile of a site: running jobs end, queued ones are placed in their order, `depth` tasks at most.

    Every place is reserved at once (conservative backfill), so a later job fills holes but delays nobody. What is
    beyond `depth` is folded.
    """
    exclusive = {partition.name for partition in snapshot.partitions if partition.exclusive}
    profile = Profile(_blocks(snapshot, seen.running, pace, exclusive))
    left, cut = depth, []
    for job in seen.first:
        line = job.line
        partitions = split_names(line.partition)
        need = _need(line, pace.lasting(line), _is_whole(line, exclusive))
        now = min(max(1, line.tasks), left)
        left -= now
        start = _placed(profile, need, partitions, now)
        if start is not None and line.tasks > now:
            cut.append((line, line.tasks - now))
        elif start is not None:
            profile.starts[job.job_id] = start
    _fold(profile, [*cut, *seen.rest], pace, exclusive)
    return profile


def _placed(profile: Profile, need: Need, partitions: frozenset[str], tasks: int) -> float | None:
    """Place so many tasks, and return when the last one starts; None if one never fits."""
    latest = 0.0
    for _ in range(tasks):
        start = profile.place(need, partitions)
        if start is None:
            return None
        latest = max(latest, start)
    return latest


def _fold(profile: Profile, jobs: list[tuple[QueueLine, int]], pace: Pace, exclusive: Collection[str]) -> None:
    """Remember jobs that are not planned one by one, so many tasks of each, by the work they bring."""
    for job, tasks in jobs:
        seconds = pace.lasting(job) * tasks
        nodes, cpus, gpus = profile.folded.get(job.partition, (0.0, 0.0, 0.0))
        if _is_whole(job, exclusive):
            nodes += seconds * job.nodes
        profile.fold(job.partition, (nodes, cpus + seconds * job.cpus, gpus + seconds * job.gpus))


def _is_whole(job: QueueLine, exclusive: Collection[str]) -> bool:
    """Whether it gets whole nodes: it wants them, or one of its partitions gives nothing less."""
    return job.whole or (bool(exclusive) and not split_names(job.partition).isdisjoint(exclusive))


def _need(job: QueueLine, lasts: float, whole: bool) -> Need:
    """Return a queued job's share per node; its totals are rounded up."""
    nodes = max(1, job.nodes)
    return Need(
        nodes=nodes,
        cpus=-(-max(0, job.cpus) // nodes),
        memory=-(-max(0, job.memory) // nodes),
        gpus=-(-max(0, job.gpus) // nodes),
        gpu_kind=job.gpu_kind.lower() if job.gpu_kind else None,
        whole=whole,
        lasts=lasts,
    )


def _blocks(snapshot: Snapshot, running: Sequence[QueueLine], pace: Pace, exclusive: Collection[str]) -> list[Block]:
    """Return the usable nodes as Blocks of equals."""
    shares = _shares(snapshot, running, pace, exclusive)
    blocks: dict[object, Block] = {}
    for node in snapshot.nodes:
        if not node.usable:
            continue
        boot = max((pace.boot(name) for name in node.partitions), default=0.0) if node.powered_down else 0.0
        releases = _releases(node, shares.get(node.name, []), pace, bool(snapshot.unseen))
        key = (node.partitions, node.cpus, node.memory, node.gpus, node.gpu_kind, boot, tuple(releases))
        if key in blocks:
            blocks[key].names.append(node.name)
        else:
            blocks[key] = Block(node, [node.name], boot, _segments(node, releases, boot))
    return list(blocks.values())


def _shares(
    snapshot: Snapshot, running: Sequence[QueueLine], pace: Pace, exclusive: Collection[str]
) -> dict[str, Shares]:
    """Return, by node, what running jobs hold of it and until when. An exclusive job holds all of its nodes."""
    only = (snapshot.nodes[0].name,) if len(snapshot.nodes) == 1 else ()
    shares: dict[str, Shares] = {}
    for job in running:
        names = job.node_names or only
        if not names:
            continue
        ends, count = pace.remaining(job), len(names)
        share = (ends, -(-job.cpus // count), -(-job.memory // count), -(-job.gpus // count))
        if _is_whole(job, exclusive):
            share = (ends, _ALL, _ALL, _ALL)
        for name in names:
            shares.setdefault(name, []).append(share)
    return shares


def _releases(node: Node, shares: Shares, pace: Pace, blind: bool) -> Shares:
    """Return when what is in use on a node is given back, in order of time.

    What its jobs do not explain goes with the last of them if all jobs can be seen, else nobody knows when: `unseen`.
    """
    cpus = node.cpus_alloc - sum(share[1] for share in shares)
    memory = node.memory_alloc - sum(share[2] for share in shares)
    gpus = node.gpus_alloc - sum(share[3] for share in shares)
    if max(cpus, memory, gpus) <= 0:
        return sorted(shares)
    at = max(shares)[0] if shares and not blind else max((pace.unseen(name) for name in node.partitions), default=0.0)
    return sorted([*shares, (at, max(0, cpus), max(0, memory), max(0, gpus))])


def _segments(node: Node, releases: Shares, boot: float) -> list[Segment]:
    """Return the free resources of a node over time; the last segment is the node with nothing on it."""
    free = (max(0, node.cpus), max(0, node.memory), max(0, node.gpus))
    segments: list[Segment] = []
    until = math.inf
    for at, cpus, memory, gpus in reversed(releases):
        if at <= boot:
            break
        if at < until:
            segments.append((at, *free))
            until = at
        free = (free[0] - cpus, free[1] - memory, free[2] - gpus)
    segments.append((boot, *free))
    segments.reverse()
    return segments

"""What is free when, node by node: the availability profile that backfill plans in.

Nodes with the same future are one Block, so a cluster of equal idle nodes costs as much as one node. Times are seconds
from now. Nothing here knows queues or sites.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Collection
from dataclasses import replace

from hybridhpc.sites.snapshot import Node
from hybridhpc.values import dataclass

Segment = tuple[float, int, int, int]
"""From when on (seconds from now) so many CPUs, MiB and GPUs are free, until the next segment."""

Runs = list[tuple[float, float]]
"""Spans (from, until) in which there is room for a share."""
Offer = tuple["Block", int]
"""A Block and how many of its nodes may be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What a job takes on each of its nodes, and for how long it may hold them (seconds)."""

    nodes: int
    cpus: int
    memory: int
    gpus: int
    gpu_kind: str | None = None
    """The scheduler's word in lower case; None: any."""
    whole: bool = False
    """It gets whole nodes."""
    lasts: float

    @property
    def shape(self) -> tuple[object, ...]:
        """What two jobs have in common that find room at the same times."""
        return self.cpus, self.memory, self.gpus, self.gpu_kind, self.whole


MOST_REMEMBERED = 64
"""Shapes of jobs: of many that all ask for different things none comes again."""


class Block:
    """Nodes that are alike now and in all of the plan so far."""

    __slots__ = ("boot", "cpus", "gpu_kind", "gpus", "memory", "names", "partitions", "remembered", "segments")

    def __init__(self, node: Node, names: list[str], boot: float, segments: list[Segment]) -> None:
        self.names = names
        self.partitions = frozenset(node.partitions)
        self.cpus = max(0, node.cpus)
        self.memory = max(0, node.memory)
        self.gpus = max(0, node.gpus)
        self.gpu_kind = (node.gpu_kind or "").lower()
        self.boot = boot
        self.segments = segments
        self.remembered: dict[object, Runs] = {}

    def split(self, names: list[str]) -> Block:
        """Return a Block of these nodes, which this one loses."""
        part: Block = object.__new__(Block)
        for slot in self.__slots__:
            setattr(part, slot, getattr(self, slot))
        part.names, part.segments = names, list(self.segments)
        chosen = set(names)
        self.names = [name for name in self.names if name not in chosen]
        return part

    def share(self, need: Need) -> tuple[int, int, int]:
        """Return the CPUs, MiB and GPUs of one node that the job takes."""
        return (self.cpus, self.memory, self.gpus) if need.whole else (need.cpus, need.memory, need.gpus)

    def runs(self, need: Need, shape: object) -> Runs:
        """Return when a node of it has room for the job's share, remembered until something is placed on it."""
        found = self.remembered.get(shape)
        if found is None:
            if len(self.remembered) >= MOST_REMEMBERED:
                self.remembered = {}
            found = self.remembered[shape] = self._room(need) if self._holds(need) else []
        return found

    def _holds(self, need: Need) -> bool:
        if need.gpus > self.gpus or need.cpus > self.cpus or need.memory > self.memory:
            return False
        return not (need.gpus and need.gpu_kind) or need.gpu_kind == self.gpu_kind

    def _room(self, need: Need) -> Runs:
        cpus, memory, gpus = self.share(need)
        found: Runs = []
        since = -1.0
        for at, free_cpus, free_memory, free_gpus in self.segments:
            if free_gpus >= gpus and free_cpus >= cpus and free_memory >= memory:
                if since < 0:
                    since = at
            elif since >= 0:
                found.append((since, at))
                since = -1.0
        if since >= 0:
            found.append((since, math.inf))
        return found

    def reserve(self, need: Need, start: float) -> None:
        """Take the job's share of every node of it from `start` on for as long as it lasts."""
        self.remembered = {}
        cpus, memory, gpus = self.share(need)
        first, last = self._cut(start), self._cut(start + need.lasts)
        for index in range(first, last):
            at, free_cpus, free_memory, free_gpus = self.segments[index]
            self.segments[index] = (at, free_cpus - cpus, free_memory - memory, free_gpus - gpus)

    def _cut(self, at: float) -> int:
        """Make a segment begin at that moment and return its index."""
        index = bisect_left(self.segments, (at,))
        if index == len(self.segments) or self.segments[index][0] != at:
            self.segments.insert(index, (at, *self.segments[index - 1][1:]))
        return index


class Profile:
    """What is free when, with everything that was planned so far; and what lies beyond the planning depth."""

    def __init__(self, blocks: list[Block]) -> None:
        self.blocks = blocks
        self.folded: dict[str, tuple[float, float, float]] = {}
        """By partition: node-, CPU- and GPU-seconds of the jobs that were not planned one by one."""
        self.starts: dict[str, float] = {}
        """When each queued job that was planned starts, of an array its last task; seconds from now."""
        self._backlogs: dict[str, float] = {}
        self._members: dict[frozenset[str], list[Block]] = {}

    def earliest(self, need: Need, names: Collection[str], after: float = 0.0) -> tuple[float, float] | None:
        """Return the earliest start on these nodes behind everything planned, and after; None if it never fits.

        With it comes how long the slowest of the chosen nodes boots, which the start includes; 0 if all are up.
        """
        counts = {block: sum(name in names for name in block.names) for block in self.blocks}
        found = _find(need, [block for block, count in counts.items() if count], counts, after)
        if found is None:
            return None
        start, chosen = found
        boot = max((block.boot for block, _ in chosen), default=0.0)
        return (max(start, after + boot) if after else start), boot

    def place(self, need: Need, partitions: frozenset[str], after: float = 0.0) -> float | None:
        """Reserve the earliest place for a job and return its start; None if it never fits."""
        found = _find(need, self._blocks_of(partitions), None, after)
        if found is None:
            return None
        start, chosen = found
        for block, count in chosen:
            part = block
            if count < len(block.names):
                part = block.split(block.names[:count])
                self.blocks.append(part)
                self._members = {}
            part.reserve(need, start)
        return start

    def take(self, need: Need, partition: str, lasts: float, jobs: int, more: int, after: float) -> None:
        """Reserve places for so many equal jobs one by one, after a moment; `more` of them only add their work."""
        one = replace(need, lasts=lasts)
        for _ in range(jobs):
            self.place(one, frozenset((partition,)), after)
        if more:
            nodes, cpus, gpus = self.folded.get(partition, (0.0, 0.0, 0.0))
            work = more * lasts * need.nodes
            self.fold(partition, (nodes + work * need.whole, cpus + work * need.cpus, gpus + work * need.gpus))

    def fold(self, partitions: str, work: tuple[float, float, float]) -> None:
        """Set the node-, CPU- and GPU-seconds of jobs that are not planned one by one."""
        self.folded[partitions] = work
        self._backlogs = {}

    def _blocks_of(self, partitions: frozenset[str]) -> list[Block]:
        found = self._members.get(partitions)
        if found is None:
            found = [block for block in self.blocks if not partitions.isdisjoint(block.partitions)]
            self._members[partitions] = found
        return found

    def backlog(self, partition: str) -> float:
        """Return the seconds that a partition's nodes need for the folded jobs that may use them."""
        found = self._backlogs.get(partition)
        if found is None:
            names = {name for block in self.blocks if partition in block.partitions for name in block.names}
            found = sum(self._drain(text, work, names) for text, work in self.folded.items())
            self._backlogs[partition] = found
        return found

    def _drain(self, partitions: str, work: tuple[float, float, float], names: Collection[str]) -> float:
        mine = split_names(partitions)
        blocks = [block for block in self.blocks if not mine.isdisjoint(block.partitions)]
        if not any(name in names for block in blocks for name in block.names):
            return 0.0
        capacity = [0, 0, 0]
        for block in blocks:
            for index, amount in enumerate((1, block.cpus, block.gpus)):
                capacity[index] += len(block.names) * amount
        return max(seconds / amount if amount else 0.0 for seconds, amount in zip(work, capacity, strict=True))


def _find(
    need: Need, blocks: list[Block], counts: dict[Block, int] | None, after: float = 0.0
) -> tuple[float, list[Offer]] | None:
    """Return the earliest start on enough nodes, and how many of each Block; `counts`: if not all may be used."""
    lasts, shape = need.lasts, need.shape
    open_at: list[tuple[float, float, Block]] = []
    for block in blocks:
        runs = block.remembered.get(shape)
        for since, until in block.runs(need, shape) if runs is None else runs:
            first = since if since > after else after
            if until - first >= lasts:
                open_at.append((first, until - lasts, block))
    start = _earliest(open_at, need.nodes, counts)
    if start is None:
        return None
    able = [(block, _count(block, counts)) for first, last, block in open_at if first <= start <= last]
    return start, _choose(able, need.nodes)


def _count(block: Block, counts: dict[Block, int] | None) -> int:
    return len(block.names) if counts is None else counts[block]


def _earliest(spans: list[tuple[float, float, Block]], nodes: int, counts: dict[Block, int] | None) -> float | None:
    """Return the earliest moment that lies in spans of so many nodes."""
    if nodes == 1:
        return min((first for first, _, _ in spans), default=None)
    events = []
    for first, last, block in spans:
        count = _count(block, counts)
        events.append((first, 0, count))
        if last < math.inf:
            events.append((last, 1, -count))
    able = 0
    for at, _, count in sorted(events):
        able += count
        if able >= nodes:
            return at
    return None


def _choose(able: list[Offer], nodes: int) -> list[Offer]:
    """Return the Blocks to use: nodes that are up before nodes that must boot, small ones before large ones."""
    chosen = []
    for block, count in sorted(able, key=_preference):
        taken = min(count, nodes)
        nodes -= taken
        chosen.append((block, taken))
        if nodes <= 0:
            break
    return chosen


def _preference(offer: Offer) -> tuple[float, int, int, int, int]:
    block = offer[0]
    _, cpus, memory, gpus = block.segments[0]
    return block.boot, block.gpus, gpus, cpus, memory


def split_names(partitions: str) -> frozenset[str]:
    """Return the partitions of a job: one name, or several with commas."""
    return frozenset(partitions.split(",")) if "," in partitions else frozenset((partitions,))

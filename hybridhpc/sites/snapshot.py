"""What a site answered at one moment: its partitions, nodes and queue. Values only; who asked is probe.py."""

from __future__ import annotations

import dataclasses

from hybridhpc.model import Array, JobState, Mebibytes, Resources, Seconds
from hybridhpc.values import dataclass

NO_PARTITIONS = "it has no partitions, or names them in words that cannot be read"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)  # there may be thousands: see values.py
class Node:
    """One node now. `usable` is False if nothing can start on it (down, drained, reserved for maintenance)."""

    name: str
    partitions: tuple[str, ...]
    native_state: str
    usable: bool
    powered_down: bool = False
    """It must boot first."""
    cpus: int
    cpus_alloc: int = 0
    memory: Mebibytes
    memory_alloc: Mebibytes = Mebibytes(0)
    gpu_kind: str | None = None
    """The scheduler's word."""
    gpus: int = 0
    gpus_alloc: int = 0
    features: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuePartition:
    """A partition as the scheduler describes it. Limits are None if there is none."""

    name: str
    up: bool = True
    default: bool = False
    max_walltime: Seconds | None = None
    default_walltime: Seconds | None = None
    max_nodes: int | None = None
    exclusive: bool = False
    """Every job gets whole nodes."""
    default_memory_per_cpu: Mebibytes | None = None
    allowed_accounts: tuple[str, ...] = ()
    allowed_qos: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)  # there may be thousands: see values.py
class QueueLine:
    """What a queue says of a job besides its id and priority."""

    partition: str
    state: JobState
    nodes: int = 1
    cpus: int = 1
    """Total over its nodes."""
    memory: Mebibytes = Mebibytes(0)
    """Total over its nodes."""
    gpus: int = 0
    """Total over its nodes."""
    gpu_kind: str | None = None
    walltime: Seconds | None = None
    started_at: float | None = None
    start_estimate: float | None = None
    """The scheduler's own, for a pending job."""
    node_names: tuple[str, ...] = ()
    reason: str = ""
    tasks: int = 1
    """Pending array tasks that this line stands for."""
    whole: bool = False
    """It gets whole nodes, whatever it asks for on each."""
    blocked: bool = False
    """Held, dependent or never startable: it takes no place in the plan."""

    @property
    def waiting(self) -> bool:
        """Whether it takes a place in the queue."""
        return self.state is JobState.PENDING and not self.blocked


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)  # there may be thousands: see values.py
class QueuedJob:
    """A job in the queue or running. Jobs of which the queue says the same share one line."""

    job_id: str
    priority: int = 0
    line: QueueLine

    @property
    def turn(self) -> tuple[int, int, str, str]:
        """Its place in an order of the queue: priority, then id, which is that of submission."""
        whole, _, part = self.job_id.replace("+", "_").partition("_")
        return -self.priority, len(whole), whole, part


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The answers of one site at one moment."""

    site: str
    taken_at: float
    """By this machine's clock, in seconds since the epoch."""
    ahead: float = 0.0
    """So many seconds its scheduler's clock is ahead of this machine's; all other times are by that clock."""
    version: str = ""
    partitions: tuple[QueuePartition, ...] = ()
    nodes: tuple[Node, ...] = ()
    jobs: tuple[QueuedJob, ...] = ()
    max_array_size: int | None = None
    limited: tuple[str, ...] = ()
    """Partitions in which the person's own jobs wait for a limit of theirs: a new one waits with them."""
    unseen: tuple[str, ...] = ()
    """What could not be seen, in words ("other people's jobs: PrivateData=jobs"); widens the forecast."""

    def partition(self, name: str) -> QueuePartition | None:
        """Return the partition of that name, if the scheduler has it."""
        return next((partition for partition in self.partitions if partition.name == name), None)

    def nodes_of(self, partition: str) -> tuple[Node, ...]:
        """Return the nodes that belong to a partition."""
        return tuple(node for node in self.nodes if partition in node.partitions)


@dataclass(frozen=True, slots=True, kw_only=True)
class Silence:
    """A site that did not answer: one line in the table, not the end of the run."""

    site: str
    why: str
    fix: str = ""
    """What to do about it, where that is known."""
    asked: bool = True
    """Whether it was asked at all; False: on purpose it was not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StartEstimate:
    """The scheduler's own estimate for a job not yet submitted (`sbatch --test-only`): an upper bound in Slurm."""

    start: float | None
    """Seconds since the epoch; None if it refuses."""
    refusal: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PastJob:
    """One finished job of the person's own history, from the ledger."""

    name: str
    site: str
    partition: str
    resources: Resources
    array: Array | None
    submitted_at: float
    started_at: float
    ended_at: float
    completed: bool
    waited_else: bool = False
    """It waited for more than its turn: its release, a moment, other jobs."""

"""The nouns that flow from the spec to the ledger. Frozen values; the unit stands in the name, the type or the doc."""

from __future__ import annotations

from dataclasses import field
from enum import Enum
from typing import NewType

from hybridhpc.points import Points
from hybridhpc.values import dataclass

Seconds = NewType("Seconds", int)
Mebibytes = NewType("Mebibytes", int)
Usd = NewType("Usd", float)
UsdPerHour = NewType("UsdPerHour", float)


class JobState(Enum):
    """Our states. UNKNOWN is an honest answer: an absent or unreadable job is never COMPLETED and never FAILED."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    SUSPENDED = "SUSPENDED"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    TIMEOUT = "TIMEOUT"
    PREEMPTED = "PREEMPTED"
    NODE_FAIL = "NODE_FAIL"
    OUT_OF_MEMORY = "OUT_OF_MEMORY"
    UNKNOWN = "UNKNOWN"

    @property
    def final(self) -> bool:
        """Whether the job can no longer change by itself."""
        return self not in _LIVE


_LIVE = frozenset({JobState.PENDING, JobState.RUNNING, JobState.SUSPENDED, JobState.UNKNOWN})


class Launcher(Enum):
    """Who starts the tasks of a job on its nodes."""

    TORCHRUN = "torchrun"
    SRUN = "srun"
    MPIRUN = "mpirun"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpus:
    """GPUs of one node. `kind` is the person's word ("H100"), None if any will do."""

    count: int
    kind: str | None = None

    def __str__(self) -> str:
        return f"{self.kind}:{self.count}" if self.kind else str(self.count)


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What a job asks for. cpus and memory are per node; None means the site's default."""

    nodes: int = 1
    gpus: tuple[Gpus, ...] = ()
    """Alternatives, best first; empty: none."""
    cpus: int | None = None
    memory: Mebibytes | None = None
    whole_nodes: bool = False
    """Nothing else may run on its nodes."""
    walltime: Seconds | None = None
    unlimited: bool = False
    """No limit on its run time is asked for, not even the one that a partition gives by itself."""
    most_nodes: int | None = None
    """Slurm may give so many nodes instead of `nodes`, and gives as many as are free; None: exactly `nodes`."""
    spread: bool = False
    """How many nodes is not said: more of them may share the CPUs and GPUs, if no single node has so many."""
    approximate: bool = False
    """A per-node figure was rounded up, since the script gives totals only."""

    @property
    def gpus_per_node(self) -> int:
        """GPUs per node of the first alternative."""
        return self.gpus[0].count if self.gpus else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Bind:
    """A directory of the node made visible in the container."""

    source: str
    target: str
    read_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """Where a job keeps its checkpoint and how it is asked for one."""

    directory: str
    signal: str = "USR1"
    grace: Seconds = Seconds(120)


@dataclass(frozen=True, slots=True, kw_only=True)
class Retries:
    """How often a new attempt is made, by cause."""

    preempted: int = 0
    node_fail: int = 0
    timeout: int = 0
    """Its walltime was used up: it goes on from its checkpoint."""
    failed: int = 0


class Move(Enum):
    """Whether a job that waits is placed anew where it would do better; ADVISE: that is only said."""

    OFF = "off"
    ADVISE = "advise"
    ON = "on"


@dataclass(frozen=True, slots=True, kw_only=True)
class Array:
    """Indices of an array in Slurm's spelling ("0-99%10") and what routing needs of it."""

    text: str
    tasks: int
    throttle: int | None = None  # at most so many run at once


@dataclass(frozen=True, slots=True, kw_only=True)
class After:
    """Dependencies: `kind` is Slurm's word without "after" (ok, any, notok, start), jobs are names, tokens or refs."""

    kind: str
    jobs: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """What the person wants: the money an hour of waiting is worth to them, a deadline, a ceiling."""

    value_of_time: UsdPerHour
    deadline: float | None = None
    """Seconds since the epoch, UTC."""
    max_cost: Usd | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Native:
    """What only some sites have and a job names: such a job fits only a site that has or maps it."""

    partition: str | None = None
    """One name, or several with commas: any of them."""
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    reservation: str | None = None
    licenses: str | None = None
    nodelist: str | None = None
    cluster: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What a YAML spec wants run: hybridhpc renders the script around it."""

    run: str
    setup: str = ""
    launcher: Launcher = Launcher.NONE
    tasks_per_node: int | None = None
    image: str | None = None
    binds: tuple[Bind, ...] = ()
    workdir: str | None = None
    """Directory that is shipped to the site; absolute."""
    outputs: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    secrets: tuple[tuple[str, str], ...] = ()
    """Name and reference (`secret://...`), never a value."""
    checkpoint: Checkpoint | None = None
    retries: Retries = Retries()
    slurm: tuple[tuple[str, str | None], ...] = ()
    """Native options, long names; None: the flag has no value."""

    def tasks_on_node(self, gpus: Gpus | None, cpus: int | None) -> int:
        """Return how many tasks run on each node: as written; else for srun and mpirun one per GPU or CPU, for torchrun
        one per GPU, and one without a launcher.
        """
        if self.tasks_per_node is not None:
            return self.tasks_per_node
        if self.launcher is Launcher.NONE:
            return 1
        count = gpus.count if gpus else 0
        if self.launcher is Launcher.TORCHRUN:
            return count or 1
        return count or cpus or 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """An sbatch script taken as it is: submitted byte for byte, its options untouched."""

    content: bytes
    path: str
    """Absolute path of the person's file."""
    args: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    """Options of the command line, as sbatch is to get them."""
    hold: bool = False
    """The person asked for a held job: it is not released."""
    waits: bool = False
    """The person asked to wait for its end (--wait)."""
    output: str | None = None
    error: str | None = None
    chdir: str | None = None
    """Where it writes and works if it says so; a site that is no Slurm must be told."""
    asked: tuple[tuple[str, str], ...] = ()
    """Options of sbatch by their full names, with the values that count (flags over environment over script)."""
    calls_slurm: str = ""
    """The first command of Slurm's that it calls (srun, scontrol ...); empty: none was seen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSpec:
    """What a person wrote, checked and normalised. `payload` tells a YAML spec from an sbatch script."""

    name: str
    file: str
    """Absolute path of what was read."""
    digest: str
    """SHA-256 of its bytes."""
    resources: Resources
    payload: Work | Script
    array: Array | None = None
    points: Points | None = None
    """It is a sweep: task i of the array gets the i-th of them."""
    parallel: int | None = None  # at most so many points of a sweep run at once
    after: tuple[After, ...] = ()
    native: Native = Native()
    plugin_options: tuple[tuple[str, str | None], ...] = ()  # that only a plugin of a site adds to sbatch
    where: tuple[str, ...] = ("auto",)
    """auto, or sites, site/partitions and labels: any of them; `!` excludes, a comparison narrows."""
    residency: str | None = None
    """A label that a candidate must have for the data's sake; None: the data may go anywhere."""
    leads_to: tuple[str, ...] = ()  # of `resident_data`, by links on the machine where it was read
    goal: Goal | None = None
    move: Move | None = None  # None: as the agent's settings say
    lines: tuple[tuple[str, int], ...] = field(default=(), compare=False)  # of the keys at its top level
    aliases: tuple[tuple[str, str], ...] = field(default=(), compare=False)  # own name of a key: as it was spelled


class Stuck(Enum):
    """Why a pending job never starts by itself, or why one was cancelled before it began."""

    HELD = "held"
    IN_VAIN = "in vain"
    """What it waits for can never be met."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStatus:
    """What a scheduler says of one job now. Times are seconds since the epoch, None: not known or not yet."""

    job_id: str
    state: JobState
    native_state: str
    reason: str = ""
    submitted_at: float | None = None
    started_at: float | None = None
    """When it began; until then, and if it never does, when it was given its nodes, which are paid for from then on."""
    ended_at: float | None = None
    exit_code: int | None = None
    signal: int | None = None
    nodes: str = ""
    restarts: int = 0
    stuck: Stuck | None = None
    ahead: float = 0.0
    """So many seconds the clock that these times are told by is ahead of this machine's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantiles:
    """A forecast in seconds: half of the outcomes lie below p50, nine in ten below p90."""

    p50: float
    p90: float


AT_ONCE = Quantiles(p50=0.0, p90=0.0)
"""Now, for certain."""

"""Whose turn it is: strict order of submission over CPU, memory and GPU slots. PURE: no file, process or clock here.

NamedTuples instead of dataclasses all over here/: importing dataclasses costs more than a whole `status` does.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

FINAL_BADLY = frozenset({"FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY"})
FINAL = FINAL_BADLY | {"COMPLETED"}

MET = "met"
WAITS = "waits"
NEVER = "never"


class Machine(NamedTuple):
    """What this machine lends to jobs. Memory in MiB."""

    host: str
    cpus: int
    cpu_ids: tuple[int, ...]
    """Kernel numbers of the CPU slots, to pin jobs to; empty: jobs are not pinned."""
    memory: int
    gpus: tuple[str, ...]
    """Kind of each GPU, in the order of its PCI address, which is its index."""


class Taken(NamedTuple):
    """What one running task holds."""

    cpus: tuple[int, ...]
    memory: int
    gpus: tuple[int, ...]


class Waiting(NamedTuple):
    """A job with pending tasks. `running`: tasks of it that run now."""

    job: int
    cpus: int
    memory: int
    gpus: int
    gpu_kind: str | None
    throttle: int | None
    held: bool
    running: int
    dependency: str
    """MET, WAITS or NEVER."""


class Grant(NamedTuple):
    """The next task to start belongs to `job` and gets these slots."""

    job: int
    cpus: tuple[int, ...]
    gpus: tuple[int, ...]


class Outlook(NamedTuple):
    """The queue at one moment: who may start, why the others wait (by job), and who never can."""

    grant: Grant | None
    reasons: dict[int, str]
    never: tuple[int, ...]


def look(machine: Machine, taken: Sequence[Taken], waiting: Iterable[Waiting]) -> Outlook:
    """Find the first job that may start. `waiting` is in order of submission.

    Whoever is held, dependent, throttled or too big for the machine steps aside; the first of the rest blocks all
    behind it until it fits, so that a wide job is never overtaken by narrow ones.
    """
    grant: Grant | None = None
    reasons: dict[int, str] = {}
    never: list[int] = []
    blocked = False
    for job in waiting:
        reason = _steps_aside(machine, job)
        if reason is None and not blocked:
            grant = _fit(machine, taken, job)
            reason, blocked = ("" if grant else "Resources"), True
        reasons[job.job] = "Priority" if reason is None else reason
        if job.dependency == NEVER:
            never.append(job.job)
    return Outlook(grant, reasons, tuple(never))


def never_fits(machine: Machine, cpus: int, memory: int, gpus: int, gpu_kind: str | None) -> str:
    """Say in words what the machine can never give; empty if it can."""
    fitting = sum(1 for kind in machine.gpus if gpu_kind in (None, kind))
    if cpus > machine.cpus:
        return f"asks {cpus} CPUs, this machine lends {machine.cpus}"
    if memory > machine.memory:
        return f"asks {memory} MiB of memory, this machine lends {machine.memory} MiB"
    if gpus > fitting:
        return f"asks {gpus} GPUs{f' of kind {gpu_kind}' if gpu_kind else ''}, this machine has {fitting}"
    return ""


def dependency(kind: str, states: Sequence[str], started: int) -> str:
    """Tell how a dependency stands, from the states of the tasks depended on and how many of them ever started.

    As sbatch(1) --dependency has it (25.11): `after` starts or is cancelled, `afterany` ended, `afterok` all with
    exit code 0, `afternotok` ended and not all well.
    """
    ended = sum(1 for state in states if state in FINAL)
    badly = sum(1 for state in states if state in FINAL_BADLY)
    if kind == "after":
        return MET if started >= len(states) else WAITS
    if kind == "afterok" and badly:
        return NEVER
    if ended < len(states):
        return WAITS
    return NEVER if kind == "afternotok" and not badly else MET


def _steps_aside(machine: Machine, job: Waiting) -> str | None:
    if job.held:
        return "JobHeldUser"
    if job.dependency != MET:
        return "Dependency" if job.dependency == WAITS else "DependencyNeverSatisfied"
    if job.throttle is not None and job.running >= job.throttle:
        return "JobArrayTaskLimit"
    too_big = never_fits(machine, job.cpus, job.memory, job.gpus, job.gpu_kind)
    return too_big or None


def _fit(machine: Machine, taken: Sequence[Taken], job: Waiting) -> Grant | None:
    busy_cpus = {cpu for task in taken for cpu in task.cpus}
    busy_gpus = {gpu for task in taken for gpu in task.gpus}
    cpus = [cpu for cpu in range(machine.cpus) if cpu not in busy_cpus]
    gpus = [index for index, kind in enumerate(machine.gpus) if index not in busy_gpus and job.gpu_kind in (None, kind)]
    memory = machine.memory - sum(task.memory for task in taken)
    if len(cpus) < job.cpus or memory < job.memory or len(gpus) < job.gpus:
        return None
    return Grant(job.job, tuple(cpus[: job.cpus]), tuple(gpus[: job.gpus]))

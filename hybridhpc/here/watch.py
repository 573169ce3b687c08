"""The processes of a job: who belongs to it, what memory they use, and how they are ended. Knows no queue.

A process belongs to a job if it descends from the job's supervisor (a subreaper: daemons stay its descendants), if it
is in the job's control group, or if it carries the job's mark in its environment (what finds it once the supervisor
is dead). Supervisors of other jobs, submitted from inside a job, and what runs below them do not belong.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from hybridhpc.here import cgroup

MARK = "HPC_HERE_TASK"
"""Variable of every process of a job: its directory, which nobody can guess, and the task's number."""
SUPERVISOR = "HPC_HERE_SUPERVISOR"
"""Variable of supervisors alone."""
_PAGE = os.sysconf("SC_PAGE_SIZE")
_MIB = 1024 * 1024


class Job(NamedTuple):
    """What tells the processes of one running task from all others."""

    mark: str
    """Value of MARK."""
    supervisor: int
    """Its process id; 0 if it is dead."""
    group: Path | None
    """Its control group."""


def descendants(job: Job) -> set[int]:
    """Return the living processes below the job's supervisor."""
    return _below(job, set())


def members(job: Job) -> set[int]:
    """Return all processes of the job that can be found, in any of the three ways, and what runs below them."""
    carried = b"\0" + os.fsencode(f"{MARK}={job.mark}") + b"\0"
    marked = {pid for pid in _processes() if carried in b"\0" + _read(f"/proc/{pid}/environ")}
    grouped = cgroup.members(job.group) if job.group else set()
    return _below(job, {pid for pid in marked | grouped if _lives(pid)})


def _below(job: Job, tops: set[int]) -> set[int]:
    if not tops and (not job.supervisor or _childless(job.supervisor)):
        return set()
    children = _children()
    rest = list(tops) + (children.get(job.supervisor, []) if job.supervisor else [])
    found: set[int] = set()
    while rest:
        pid = rest.pop()
        if pid not in found and not _foreign(pid, job):
            found.add(pid)
            rest += children.get(pid, [])
    return found


def send(pids: Iterable[int], number: int) -> None:
    """Send a signal to each process; those that are gone are no matter."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def terminate(leader: int | None, pids: Iterable[int]) -> None:
    """Ask processes to end: the group of the living `leader` at once, so that none goes on because another ended, then
    those outside it. Stopped ones are woken to hear it.
    """
    chosen = set(pids)
    for number in (signal.SIGTERM, signal.SIGCONT):
        outside = chosen
        if leader is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(leader, number)
            outside = {pid for pid in chosen if _group(pid) != leader}
        send(outside, number)


def kill_all(find: Callable[[], set[int]], reap: Callable[[], object], *, patience: float) -> set[int]:
    """Kill what `find` returns until it returns nothing; what is left after `patience` seconds is returned."""
    end = time.monotonic() + patience
    pids = find()
    while pids and time.monotonic() < end:
        send(pids, signal.SIGKILL)
        time.sleep(0.005)
        reap()
        pids = find()
    return pids


def used_memory(pids: Iterable[int], limit: int) -> int:
    """Return what processes use together, in MiB: resident pages, shared ones counted once if that is near the limit.

    Counting shared pages once (PSS) walks every mapping and holds up the process, so it is done in doubt alone.
    """
    chosen = list(pids)
    resident = sum(_resident(pid) for pid in chosen) // _MIB
    if resident <= limit:
        return resident
    return sum(_proportional(pid) for pid in chosen) // _MIB


def _children() -> dict[int, list[int]]:
    """Map each process to its children, the dead ones left out."""
    children: dict[int, list[int]] = {}
    for pid in _processes():
        state, parent = _state(pid)
        if state not in "ZX":
            children.setdefault(parent, []).append(pid)
    return children


def _childless(pid: int) -> bool:
    """Whether a process without threads has no child, dead or alive; False if the kernel does not tell (proc(5))."""
    try:
        return not Path(f"/proc/{pid}/task/{pid}/children").read_bytes()
    except OSError:
        return False


def _foreign(pid: int, job: Job) -> bool:
    variables = _environment(pid)
    mark = variables.get(MARK.encode())
    return SUPERVISOR.encode() in variables or (mark is not None and mark != os.fsencode(job.mark))


def _lives(pid: int) -> bool:
    return _state(pid)[0] not in "ZX"


def _state(pid: int) -> tuple[str, int]:
    """Return state letter and parent of a process, X and 0 if it is gone (proc_pid_stat(5))."""
    fields = _read(f"/proc/{pid}/stat").rpartition(b")")[2].split(None, 2)
    return (fields[0].decode(), int(fields[1])) if len(fields) > 1 else ("X", 0)


def _group(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None


def _environment(pid: int) -> dict[bytes, bytes]:
    pairs = (entry.partition(b"=") for entry in _read(f"/proc/{pid}/environ").split(b"\0"))
    return {name: value for name, _, value in pairs}


def _resident(pid: int) -> int:
    fields = _read(f"/proc/{pid}/statm").split()
    return int(fields[1]) * _PAGE if len(fields) > 1 else 0


def _proportional(pid: int) -> int:
    """Return the process's share of memory in bytes; its resident pages where the kernel keeps no smaps_rollup."""
    for line in _read(f"/proc/{pid}/smaps_rollup").splitlines():
        if line.startswith(b"Pss:"):
            return int(line.split()[1]) * 1024
    return _resident(pid)


def _processes() -> list[int]:
    with os.scandir("/proc") as entries:
        return [int(entry.name) for entry in entries if entry.name.isdecimal()]


def _read(path: str) -> bytes:
    """Read a file of /proc whole; empty if it is gone or closed to us."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        parts = [os.read(descriptor, 1 << 20)]
        while parts[-1]:
            parts.append(os.read(descriptor, 1 << 20))
        return b"".join(parts)
    except OSError:
        return b""
    finally:
        os.close(descriptor)

"""What every command of `here` does in passing: it clears up after dead supervisors and starts the one that is due."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from hybridhpc.here import cgroup, slots, watch
from hybridhpc.here.machine import boot_id
from hybridhpc.here.place import Place
from hybridhpc.here.queue import Machine, Outlook
from hybridhpc.here.slots import Task
from hybridhpc.here.surroundings import supervisor_environment

TURN = 3
"""Descriptor by which a new supervisor holds the lock of whoever is on its way."""
_PATIENCE = 2.0
"""Seconds that processes get to vanish after SIGKILL before their end is called unknown."""


def tend(
    place: Place, machine: Machine, environ: Mapping[str, str] = os.environ, *, boot: str | None = None
) -> Outlook:
    """Repair, settle and start; return the outlook. `boot` is the kernel's boot id, for tests of a reboot."""
    repair(place, boot or boot_id())
    seen = slots.outlook(place, machine)
    if seen.never:
        seen = slots.settle(place, machine, seen)
    if seen.grant:
        start_supervisor(place, environ)
    return seen


def repair(place: Place, boot: str) -> None:
    """End the processes of tasks whose supervisor is dead, and record honestly how these tasks ended."""
    for task in slots.started_tasks(place):
        lock = place.lock(task.id)
        if lock is None:
            continue
        now = slots.tasks(place, task.job, task.array_index)[0]
        if now.state in ("RUNNING", "UNKNOWN"):
            _bury(place, now, boot)
        place.unlock(task.id, lock)


def start_supervisor(place: Place, environ: Mapping[str, str]) -> None:
    """Start a process of its own session that claims the next task, unless one is on its way to do that.

    Whoever is on its way holds a lock until it has claimed, and looks again once it let go: no task is overlooked, and
    fifty submissions at once do not start fifty processes at once. The process between is gone before this returns,
    so that a supervisor is never below another one. What the new processes do before the program of the supervisor runs
    is the least possible: the caller may have threads, of whose locks they hold copies.
    """
    turn = place.lock_turn()
    if turn is None:
        return
    log = f"{place.root}/here.log"
    command = (sys.executable, "-P", "-m", "hybridhpc.here.supervise", str(place.root))
    environ = supervisor_environment(environ, str(place.root))
    try:
        between = os.fork()
    except BlockingIOError:  # too many processes now: the next command tries again
        os.close(turn)
        return
    if between:
        os.close(turn)
        os.waitpid(between, 0)
        return
    try:
        os.setsid()
        if os.fork() == 0:
            _become_supervisor(command, environ, log, turn)
    finally:
        os._exit(0)


def _become_supervisor(command: tuple[str, ...], environ: Mapping[str, str], log: str, turn: int) -> None:
    nothing = os.open("/dev/null", os.O_RDWR)
    words = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for descriptor, source in enumerate((nothing, nothing, words, os.dup(turn))):
        os.dup2(source, descriptor)
    os.execve(command[0], command, environ)  # noqa: S606 (an argument list, no shell)


def _bury(place: Place, task: Task, boot: str) -> None:
    mark, directory = slots.mark_and_directory(place, task)
    group = Path(task.control_group) if task.control_group else None
    job = watch.Job(mark, 0, group)
    left = watch.kill_all(lambda: watch.members(job), lambda: None, patience=_PATIENCE)
    if left:
        numbers = ", ".join(str(pid) for pid in sorted(left)[:5])
        slots.doubt(place, task.id, f"its supervisor is dead and its processes cannot be ended ({numbers})")
        return
    if group:
        cgroup.remove(group)
    code = _exit_marker(directory, task)
    if task.cancelled:
        slots.finish(place, task.id, "CANCELLED", "cancelled", exit_code=code)
    elif code is not None:
        slots.finish(place, task.id, "FAILED" if code else "COMPLETED", "", exit_code=code)
    else:
        slots.finish(place, task.id, "NODE_FAIL", _why_lost(task, boot))


def _why_lost(task: Task, boot: str) -> str:
    if task.boot != boot:
        return "machine was restarted"
    return f"its supervisor (process {task.supervisor}) died; what was left of the job was ended"


def _exit_marker(directory: str, task: Task) -> int | None:
    """Return the exit code that the script itself wrote down (its first word); None if it did not get that far."""
    part = "-" if task.array_index is None else str(task.array_index)
    try:
        return int(Path(directory, f"exit.{part}.0").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return None

"""What the commands of `here` answer: values that JSON can hold. Reads the database, changes nothing."""

from __future__ import annotations

from typing import Any

from hybridhpc import __version__
from hybridhpc.here import slots
from hybridhpc.here.place import Place
from hybridhpc.here.queue import Machine, Outlook
from hybridhpc.here.request import common_values, file_name, read_job_id
from hybridhpc.here.slots import TASK_COLUMNS, Task
from hybridhpc.here.surroundings import user_name

_BLOCKED = ("JobHeldUser", "Dependency")


def survey(place: Place, machine: Machine, seen: Outlook) -> dict[str, Any]:
    """Describe the machine, what is taken of it, and every job that is not final."""
    cpus, memory, gpus = place.db.execute(
        "SELECT IFNULL(SUM(j.cpus), 0), IFNULL(SUM(j.memory), 0), IFNULL(SUM(j.gpus), 0)"
        " FROM tasks t JOIN jobs j ON j.id = t.job WHERE t.state IN ('RUNNING', 'UNKNOWN')"
    ).fetchone()
    return {
        "version": __version__,
        "host": machine.host,
        "cpus": machine.cpus,
        "memory": machine.memory,
        "gpus": machine.gpus,
        "cpus_taken": cpus,
        "memory_taken": memory,
        "gpus_taken": gpus,
        "jobs": [_live(row, machine, seen) for row in _live_rows(place)],
    }


def status(place: Place, words: list[str], machine: Machine, seen: Outlook) -> dict[str, Any]:
    """Describe the tasks of each job asked for; a job that is unknown here is left out."""
    found = {word: slots.tasks(place, *read_job_id(word)) for word in words}
    return {word: [_task(task, machine, seen) for task in tasks] for word, tasks in found.items() if tasks}


def submitted(place: Place, token: str, attempt: str, machine: Machine) -> dict[str, Any]:
    """Name the job of a token and the pattern of its log, where %j, %A and %a are left to be filled in."""
    known = slots.known_job(place, token, attempt)
    if known is None:
        raise LookupError(token)
    job, request = known
    common = common_values(request, host=machine.host, user=user_name())
    names = {letter: value.replace("%", "%%") for letter, value in common.items()}
    output = file_name(request.output, names)
    log = output if output.startswith("/") else f"{request.cwd.replace('%', '%%').rstrip('/')}/{output}"
    return {"job_id": str(job), "log": log}


def tokens(place: Place) -> dict[str, str]:
    """Name the token of every job."""
    return {str(job): token for job, token in place.db.execute("SELECT id, token FROM jobs ORDER BY id")}


def _live_rows(place: Place) -> list[tuple[Any, ...]]:
    """Select running tasks one by one and pending ones a job at a time (its first pending task stands for them)."""
    return place.db.execute(
        f"SELECT {TASK_COLUMNS}, COUNT(*), j.cpus, j.memory, j.gpus, j.gpu_kind, j.walltime, MIN(t.id)"  # noqa: S608
        " FROM tasks t JOIN jobs j ON j.id = t.job WHERE t.state IN ('PENDING', 'RUNNING', 'UNKNOWN')"
        " GROUP BY t.job, CASE t.state WHEN 'PENDING' THEN 0 ELSE t.id END ORDER BY MIN(t.id)"
    ).fetchall()


def _live(row: tuple[Any, ...], machine: Machine, seen: Outlook) -> dict[str, Any]:
    width = len(Task._fields)
    task = Task(*row[:width])
    count, cpus, memory, gpus, gpu_kind, walltime, _ = row[width:]
    pending = task.state == "PENDING"
    reason = seen.reasons.get(task.job, "") if pending else task.reason
    return {
        "id": str(task.job) if pending else task.name,
        "state": task.state,
        "reason": reason,
        "cpus": cpus,
        "memory": memory,
        "gpus": gpus,
        "gpu_kind": gpu_kind,
        "walltime": walltime,
        "started_at": task.started_at,
        "node": machine.host if task.started_at else "",
        "tasks": count,
        "blocked": pending and (reason in _BLOCKED or reason.startswith("asks ")),
    }


def _task(task: Task, machine: Machine, seen: Outlook) -> dict[str, Any]:
    return {
        "id": task.name,
        "state": task.state,
        "reason": seen.reasons.get(task.job, "") if task.state == "PENDING" else task.reason,
        "submitted_at": task.submitted_at,
        "started_at": task.started_at,
        "ended_at": task.ended_at,
        "exit_code": task.exit_code,
        "signal": task.signal,
        "node": machine.host if task.started_at else "",
    }

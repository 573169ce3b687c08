"""The slot keeper: jobs, tasks and what they hold, over SQLite. Whose turn it is, is decided in queue.py.

A task is PENDING until its supervisor claims it for itself; there is no moment in which a task is promised to a
process that does not live yet. All times are seconds since the epoch.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from hybridhpc.here import queue
from hybridhpc.here.place import Place
from hybridhpc.here.queue import Machine, Outlook, Taken, Waiting
from hybridhpc.here.request import Refusal, Request

TASK_COLUMNS = (
    "t.id, t.job, t.array_index, t.state, t.reason, t.started_at, t.ended_at, t.exit_code, t.signal, t.supervisor, "
    "t.boot, t.control_group, t.cancelled, j.submitted_at"
)


class Task(NamedTuple):
    """One task as it stands. `cancelled`: someone asked for its end."""

    id: int
    job: int
    array_index: int | None
    state: str
    reason: str
    started_at: float | None
    ended_at: float | None
    exit_code: int | None
    signal: int | None
    supervisor: int | None
    boot: str | None
    control_group: str | None
    cancelled: int
    submitted_at: float

    @property
    def name(self) -> str:
        """Its id as people write it: 12, or 12_3 in an array."""
        return str(self.job) if self.array_index is None else f"{self.job}_{self.array_index}"


class Claim(NamedTuple):
    """A task that is now running, for whoever claimed it to start."""

    task: Task
    request: Request
    surroundings: dict[str, Any]
    cpus: tuple[int, ...]
    gpus: tuple[int, ...]
    lock: int
    """Descriptor that holds the task's lock."""


def record_machine(place: Place, machine: Machine) -> None:
    """Remember what the machine lends, for supervisors and for jobs that submit jobs."""
    content = json.dumps(machine)
    row = place.db.execute("SELECT content FROM machine").fetchone()
    if row is None or row[0] != content:
        place.db.execute("INSERT OR REPLACE INTO machine (one, content) VALUES (1, ?)", (content,))


def recorded_machine(place: Place) -> Machine | None:
    """Return what was remembered."""
    row = place.db.execute("SELECT content FROM machine").fetchone()
    if row is None:
        return None
    host, cpus, cpu_ids, memory, gpus = json.loads(row[0])
    return Machine(host, cpus, tuple(cpu_ids), memory, tuple(gpus))


def known_job(place: Place, token: str, attempt: str) -> tuple[int, Request] | None:
    """Return the job that was submitted with this token and attempt."""
    row = place.db.execute("SELECT id, request FROM jobs WHERE token = ? AND attempt = ?", (token, attempt)).fetchone()
    return (row[0], _request(row[1])) if row else None


def insert(place: Place, token: str, attempt: str, request: Request, surroundings: dict[str, Any]) -> int:
    """Add a job and its tasks, once per token and attempt; its id is that of its first task. Raises Refusal."""
    with place.writing():
        known = known_job(place, token, attempt)
        if known:
            return known[0]
        for _, job, index in request.after:
            if not _states(place, job, index)[0]:
                raise Refusal(f"it depends on job {job if index is None else f'{job}_{index}'}, which is unknown here")
        (first,) = place.db.execute("SELECT IFNULL(MAX(id), 0) + 1 FROM tasks").fetchone()
        place.db.execute(
            "INSERT INTO jobs (id, token, attempt, submitted_at, name, cpus, memory, gpus, gpu_kind, walltime,"
            " throttle, held, after, request, surroundings) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (first, token, attempt, time.time(), *_columns(request), json.dumps(request), json.dumps(surroundings)),
        )
        indices: Sequence[int | None] = (None,) if request.indices is None else request.indices
        place.db.executemany(
            "INSERT INTO tasks (id, job, array_index, state) VALUES (?, ?, ?, 'PENDING')",
            [(first + offset, first, index) for offset, index in enumerate(indices)],
        )
        return int(first)


def outlook(place: Place, machine: Machine) -> Outlook:
    """Say who may start now and why the others wait."""
    taken = [
        Taken(tuple(json.loads(cpus)), memory, tuple(json.loads(gpus)))
        for cpus, memory, gpus in place.db.execute(
            "SELECT t.cpus, j.memory, t.gpus FROM tasks t JOIN jobs j ON j.id = t.job"
            " WHERE t.state IN ('RUNNING', 'UNKNOWN')"
        )
    ]
    return queue.look(machine, taken, _waiting(place))


def settle(place: Place, machine: Machine, seen: Outlook) -> Outlook:
    """Cancel jobs whose dependency can never be met, and those that depend on these; return the new outlook."""
    while seen.never:
        with place.writing():
            seen = outlook(place, machine)
            place.db.executemany(
                "UPDATE tasks SET state = 'CANCELLED', reason = 'DependencyNeverSatisfied', ended_at = ?"
                " WHERE job = ? AND state = 'PENDING'",
                [(time.time(), job) for job in seen.never],
            )
            _forget(place)
            seen = outlook(place, machine)
    return seen


def claim(place: Place, machine: Machine, *, supervisor: int, boot: str) -> Claim | None:
    """Take the task whose turn it is, for the process `supervisor`; None if nobody can start now."""
    with place.writing():
        grant = outlook(place, machine).grant
        if grant is None:
            return None
        first = "t.job = ? AND t.state = 'PENDING' ORDER BY t.id LIMIT 1"
        (task,) = _select(place, first, (grant.job,))
        lock = place.lock(task.id)
        if lock is None:
            return None
        place.db.execute(
            "UPDATE tasks SET state = 'RUNNING', started_at = ?, cpus = ?, gpus = ?, supervisor = ?, boot = ?"
            " WHERE id = ?",
            (time.time(), json.dumps(grant.cpus), json.dumps(grant.gpus), supervisor, boot, task.id),
        )
        (task,) = _select(place, "t.id = ?", (task.id,))
        request, surroundings = place.db.execute(
            "SELECT request, surroundings FROM jobs WHERE id = ?", (grant.job,)
        ).fetchone()
    return Claim(task, _request(request), json.loads(surroundings), grant.cpus, grant.gpus, lock)


def finish(
    place: Place, task: int, state: str, reason: str, *, exit_code: int | None = None, signal: int | None = None
) -> None:
    """Record how a running task ended. The environment of its job is forgotten with the last task."""
    with place.writing():
        place.db.execute(
            "UPDATE tasks SET state = ?, reason = ?, ended_at = ?, exit_code = ?, signal = ?"
            " WHERE id = ? AND state IN ('RUNNING', 'UNKNOWN')",
            (state, reason, time.time(), exit_code, signal, task),
        )
        _forget(place)


def doubt(place: Place, task: int, reason: str) -> None:
    """Record that what became of a running task cannot be known now; it keeps its slots."""
    place.db.execute("UPDATE tasks SET state = 'UNKNOWN', reason = ? WHERE id = ?", (reason, task))


def note_group(place: Place, task: int, group: str) -> None:
    """Remember a task's control group, for whoever must clear up after its supervisor."""
    place.db.execute("UPDATE tasks SET control_group = ? WHERE id = ?", (group, task))


def cancel(place: Place, job: int, index: int | None) -> bool:
    """End the pending tasks of a job or one task, and ask for the end of the running ones; False if unknown."""
    which = (job, index, index)
    with place.writing():
        place.db.execute(
            "UPDATE tasks SET state = 'CANCELLED', reason = 'cancelled while pending', ended_at = ?"
            " WHERE state = 'PENDING' AND job = ? AND (? IS NULL OR array_index = ?)",
            (time.time(), *which),
        )
        place.db.execute(
            "UPDATE tasks SET cancelled = 1 WHERE state IN ('RUNNING', 'UNKNOWN') AND job = ?"
            " AND (? IS NULL OR array_index = ?)",
            which,
        )
        _forget(place)
    return bool(tasks(place, job, index))


def withdraw(place: Place, job: int) -> str:
    """Cancel a job if nothing of it ever began; say whether it is `taken`, was so `earlier`, `stays` or is `absent`.

    A supervisor claims a task in a transaction of its own, so that there is nothing between the look and the end.
    """
    with place.writing():
        found = tasks(place, job, None)
        if any(task.started_at is not None or task.state not in ("PENDING", "CANCELLED") for task in found):
            return "stays"
        place.db.execute(
            "UPDATE tasks SET state = 'CANCELLED', reason = 'taken back before it began', ended_at = ?"
            " WHERE state = 'PENDING' AND job = ?",
            (time.time(), job),
        )
        _forget(place)
    if not found:
        return "absent"
    return "taken" if any(task.state == "PENDING" for task in found) else "earlier"


def release(place: Place, job: int) -> bool:
    """Let a held job take its turn; False if it is unknown."""
    return place.db.execute("UPDATE jobs SET held = 0 WHERE id = ?", (job,)).rowcount > 0


def asked_to_end(place: Place, task: int) -> bool:
    """Tell whether someone cancelled a running task."""
    return bool(place.db.execute("SELECT cancelled FROM tasks WHERE id = ?", (task,)).fetchone()[0])


def tasks(place: Place, job: int, index: int | None) -> list[Task]:
    """Return the tasks of a job, or the one with that array index."""
    return _select(place, "t.job = ? AND (? IS NULL OR t.array_index = ?) ORDER BY t.id", (job, index, index))


def started_tasks(place: Place) -> list[Task]:
    """Return the tasks that are running as far as is known."""
    return _select(place, "t.state IN ('RUNNING', 'UNKNOWN') ORDER BY t.id", ())


def mark_and_directory(place: Place, task: Task) -> tuple[str, str]:
    """Return what a task's processes carry in their environment, and the directory of its job."""
    (request,) = place.db.execute("SELECT request FROM jobs WHERE id = ?", (task.job,)).fetchone()
    directory = _request(request).job_dir
    return f"{directory}:{task.id}", directory


def _waiting(place: Place) -> Iterable[Waiting]:
    for row in place.db.execute(
        "SELECT j.id, j.cpus, j.memory, j.gpus, j.gpu_kind, j.throttle, j.held, j.after,"
        " (SELECT COUNT(*) FROM tasks r WHERE r.job = j.id AND r.state IN ('RUNNING', 'UNKNOWN'))"
        " FROM jobs j WHERE j.id IN (SELECT job FROM tasks WHERE state = 'PENDING') ORDER BY j.id"
    ).fetchall():
        job, cpus, memory, gpus, gpu_kind, throttle, held, after, running = row
        met = _dependency(place, json.loads(after))
        yield Waiting(job, cpus, memory, gpus, gpu_kind, throttle, bool(held), running, met)


def _dependency(place: Place, after: list[tuple[str, int, int | None]]) -> str:
    found = {queue.dependency(kind, *_states(place, job, index)) for kind, job, index in after}
    return next((word for word in (queue.NEVER, queue.WAITS) if word in found), queue.MET)


def _states(place: Place, job: int, index: int | None) -> tuple[list[str], int]:
    """Return the states of a job's tasks, and how many of them started or will never need to."""
    found = tasks(place, job, index)
    started = sum(1 for task in found if task.started_at is not None or task.state == "CANCELLED")
    return [task.state for task in found], started


def _select(place: Place, which: str, values: Sequence[object]) -> list[Task]:
    rows = place.db.execute(
        f"SELECT {TASK_COLUMNS} FROM tasks t JOIN jobs j ON j.id = t.job WHERE {which}",  # noqa: S608 (fixed texts)
        values,
    )
    return [Task(*row) for row in rows]


def _forget(place: Place) -> None:
    place.db.execute(
        "UPDATE jobs SET surroundings = NULL WHERE surroundings IS NOT NULL AND id NOT IN"
        " (SELECT job FROM tasks WHERE state IN ('PENDING', 'RUNNING', 'UNKNOWN'))"
    )


def _columns(request: Request) -> tuple[object, ...]:
    """Return the columns that tell whose turn it is."""
    wants = (request.cpus, request.memory, request.gpus, request.gpu_kind, request.walltime)
    name = request.name.encode(errors="replace").decode()
    return (name, *wants, request.throttle, request.held, json.dumps(request.after))


def _request(text: str) -> Request:
    fields = Request(*json.loads(text))
    return fields._replace(
        args=tuple(fields.args),
        signal=tuple(fields.signal) if fields.signal else None,  # type: ignore[arg-type]
        indices=None if fields.indices is None else tuple(fields.indices),
        after=tuple(tuple(entry) for entry in fields.after),  # type: ignore[misc]
    )

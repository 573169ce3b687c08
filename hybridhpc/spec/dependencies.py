"""Dependencies among specs submitted together: what is missing, what goes round in a circle, what goes first."""

from __future__ import annotations

import posixpath
from collections.abc import Container, Sequence
from graphlib import CycleError, TopologicalSorter

from hybridhpc.errors import Problem, SpecError
from hybridhpc.model import JobSpec, JobState
from hybridhpc.spec.fault import problem_of


def is_met(kind: str, state: JobState) -> bool | None:
    """Whether a dependency on a job in this state is met: yes, never, or not yet (None)."""
    if not state.final:
        return None
    wanted = {"ok": state is JobState.COMPLETED, "notok": state is not JobState.COMPLETED}
    return wanted.get(kind, True)


def check_dependencies(specs: Sequence[JobSpec], *, known: Container[str] = ()) -> tuple[JobSpec, ...]:
    """Return the specs in an order in which each comes after those that it waits for.

    A dependency names a spec of the batch (by name or file), something `known` (names and tokens of the ledger), or a
    ref (`site:jobid`). Raises SpecError for one that is missing, ambiguous or part of a circle.
    """
    problems: list[Problem] = []
    graph: dict[int, list[int]] = {}
    for index, spec in enumerate(specs):
        graph[index] = []
        for job in (job for after in spec.after for job in after.jobs):
            found = meant(job, spec, specs)
            graph[index] += found[:1]
            problems += _problems(job, spec, [specs[each] for each in found], known)
    try:
        order = list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        order, problems = [], [*problems, _circle([specs[each] for each in reversed(error.args[1])])]
    if problems:
        raise SpecError(tuple(problems))
    return tuple(specs[index] for index in order)


def meant(job: str, spec: JobSpec, specs: Sequence[JobSpec]) -> list[int]:
    """Return which specs of a batch a dependency means, by name or by file."""
    file = posixpath.normpath(posixpath.join(posixpath.dirname(spec.file), job))
    return [index for index, other in enumerate(specs) if job == other.name or file == other.file]


def _problems(job: str, spec: JobSpec, found: list[JobSpec], known: Container[str]) -> list[Problem]:
    if len(found) == 1 or (not found and (":" in job or job in known)):
        return []
    message, hint = f"{job!r} is no job that is known", "give its name, its ref or the file of its spec"
    if found:
        message = f"{job!r} could be {' or '.join(other.file for other in found)}"
        hint = "give them different names"
    return [problem_of(spec, "after", message, hint)]


def _circle(specs: list[JobSpec]) -> Problem:
    message = f"the jobs wait for each other: {' -> '.join(spec.name for spec in specs)}"
    return problem_of(specs[0], "after", message, "leave out one of these")

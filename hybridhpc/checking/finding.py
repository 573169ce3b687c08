"""What a look at one thing found. Values only."""

from __future__ import annotations

from collections.abc import Iterator

from hybridhpc.errors import Problem
from hybridhpc.values import dataclass

FAULT, WARNING, FINE = "fault", "warning", "fine"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at. `level`: fault (jobs fail or are refused), warning, or fine."""

    level: str
    where: str
    what: str
    fix: str = ""


Findings = Iterator[Finding]


def fault(where: object, what: str, fix: str) -> Finding:
    """Return something that must be mended."""
    return Finding(level=FAULT, where=str(where), what=what, fix=fix)


def warning(where: object, what: str, fix: str) -> Finding:
    """Return something a person should know."""
    return Finding(level=WARNING, where=str(where), what=what, fix=fix)


def fine(where: object, what: str) -> Finding:
    """Return something that is as it should be."""
    return Finding(level=FINE, where=str(where), what=what)


def of_problem(problem: Problem) -> Finding:
    """Return what is wrong in a file that a person wrote."""
    where = problem.file if problem.line is None else f"{problem.file}:{problem.line}"
    what = f"{problem.key}: {problem.message}" if problem.key else problem.message
    return fault(where, what, problem.hint or "docs/sites.md has every key")

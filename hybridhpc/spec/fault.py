"""What is wrong with a spec that could be read, said of the key and the line where it stands."""

from __future__ import annotations

from hybridhpc.errors import Problem
from hybridhpc.model import JobSpec


def problem_of(spec: JobSpec, key: str, message: str, hint: str = "") -> Problem:
    """Return the problem of a key at the top level of a spec."""
    return Problem(file=spec.file, line=dict(spec.lines).get(key), key=key, message=message, hint=hint)

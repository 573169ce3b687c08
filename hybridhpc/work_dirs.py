"""Where at its site a job runs: one directory, or one for each point of a sweep. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from hybridhpc.errands import WORK
from hybridhpc.ledger.base import Record
from hybridhpc.schedulers.lists import parse_indices
from hybridhpc.script.points import POINT

CARRIED = ".carried"
"""Behind the directory of a point: what an earlier attempt left, which the point is given when it begins."""


def work_dir(record: Record) -> str:
    """Return the directory at the site in which a job runs; of a sweep, the one around those of its points."""
    if record.plan.cwd:
        return record.plan.cwd
    plan = record.plan
    return f"{record.job_dir}/{WORK}" if plan.workdir and not is_sweep(record) else record.job_dir


def is_sweep(record: Record) -> bool:
    """Whether a job is an array whose tasks are points, each with a directory of its own."""
    spec = record.plan.spec
    return spec is not None and spec.points is not None


def work_dirs(record: Record) -> Mapping[str, str]:
    """Return the directories in which a job runs: by the index of the point, or one without a name."""
    spec = record.plan.spec
    if spec is None or spec.points is None or spec.array is None:
        return {"": work_dir(record)}
    indices = parse_indices(spec.array.text, spec.array.tasks)
    return {str(index): f"{record.job_dir}/{POINT}{index}" for index in indices}

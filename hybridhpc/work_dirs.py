"""Where at its site a job runs, one directory or one for each point of a sweep, and where its output lies. Pure."""

from __future__ import annotations

import re
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


def log_names(record: Record) -> tuple[str, re.Pattern[str]]:
    """Return the directory of a job's outputs and what their names look like: an array has one for each task."""
    directory, _, name = record.log.rpartition("/")
    words = {
        "%A": re.escape(record.job_id),
        "%a": "([0-9]+)",
        "%j": "[0-9]+",
        "%J": "[0-9]+",
        "%x": re.escape(record.name),
    }
    parts = [words.get(part, re.escape(part)) for part in re.split(r"(%.)", name)]
    return directory, re.compile("".join(parts))


def log_path(record: Record, task: int | None) -> str:
    """Return where a job's output lies: the pattern with its ids put in (sbatch(1), FILENAME PATTERN).

    Of an array as a whole `*` stands for the index.
    """
    array_id, _, index = record.job_id.partition("_")
    index = str(task) if task is not None else index or "*"
    words = {"%%": "%", "%j": record.job_id, "%A": array_id, "%a": index, "%x": record.name, "%J": record.job_id}
    path = record.log
    for pattern, word in words.items():
        path = path.replace(pattern, word)
    return path

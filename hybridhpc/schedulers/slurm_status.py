"""What became of jobs: squeue while they are in its memory, sacct afterwards; tasks folded into arrays. Pure.

squeue forgets a job MinJobAge (300 s by default) after its end, an array task by task; sacct needs a slurmdbd.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice

from hybridhpc.command import Command, CommandResult
from hybridhpc.model import JobState, JobStatus
from hybridhpc.schedulers.base import SAME_MOMENT
from hybridhpc.schedulers.fold import fold
from hybridhpc.schedulers.lists import parse_indices
from hybridhpc.schedulers.slurm_reasons import stuck
from hybridhpc.schedulers.slurm_states import CLOSED, job_state
from hybridhpc.schedulers.slurm_survey import FULL_LISTS
from hybridhpc.schedulers.slurm_text import (
    NOTHING,
    SEPARATOR,
    answered,
    fields_of,
    long_format,
    parse_count,
    parse_time,
    split_job_id,
)

MEMORY_FIELDS = (
    "JobArrayID", "State", "SubmitTime", "StartTime", "EndTime", "exit_code", "RestartCnt", "NodeList", "Reason",
)  # fmt: skip
"""squeue(1) --Format."""

HISTORY_FIELDS = ("JobID", "State", "ExitCode", "Submit", "Start", "End", "NodeList")
"""sacct(1) --format. Restarts would be there from 24.11 only."""

MOST_STATUSES = 1_000_000
"""Jobs and tasks that one answer may speak of; of what it says beyond that, nothing is known."""

IDS_AT_ONCE = 1000
"""Job ids on one command line."""

_NO_SUCH_JOB = "Invalid job id specified"
_WAIT_STATUS = re.compile(r"([0-9]{1,9})(?::([0-9]{1,9}))?")
_TASK = re.compile(r"(\d+)(?:_\d+|\+\d+)")


def status_commands(job_ids: Sequence[str]) -> tuple[Command, ...]:
    """Ask squeue for my jobs: one question; with more ids than a command line should hold, for all that are mine.

    `--me` lets the controller filter: with a list of ids alone it sends everybody's jobs (22.05).
    """
    bases = _bases(job_ids)
    if not bases:
        return ()
    only = (f"--jobs={','.join(bases)}",) if len(bases) <= IDS_AT_ONCE else ()
    argv = ("squeue", "--me", "--all", "--local", "--noheader", "--states=all", *only)
    return (Command(argv=(*argv, f"--Format={long_format(MEMORY_FIELDS)}"), env=FULL_LISTS),)


def parse_status(answers: Sequence[CommandResult]) -> Mapping[str, JobStatus]:
    """Read squeue's answers. Raises SchedulerError if the queue cannot be seen."""
    found: dict[str, JobStatus] = {}
    for answer in answers:
        # Asked for one job it does not know, squeue fails; asked for several it leaves that one out.
        if not answer.ok and _NO_SUCH_JOB in answer.complaint:
            continue
        for fields in fields_of(answered(answer).text, len(MEMORY_FIELDS)):
            if len(found) > MOST_STATUSES:
                break
            job_id, state, submitted, started, ended, code, restarts, nodes, reason = fields
            times = (submitted, started, ended)
            found |= _statuses(job_id, state, times, code, nodes, reason=reason, restarts=parse_count(restarts))
    return found | _folds(found.values())


def last_words_commands(job_ids: Sequence[str]) -> tuple[Command, ...]:
    """Ask sacct. With ids and without times it looks through all of its history (sacct(1), --starttime).

    Of an id it tells the latest job alone unless it is asked for all (--duplicates): a controller that lost its state
    begins to count anew, and then that is another job.
    """
    bases = _bases(job_ids)
    argv = ("sacct", "--allocations", "--duplicates", "--noheader", "--parsable2", f"--delimiter={SEPARATOR}")
    return tuple(
        Command(
            argv=(*argv, f"--format={','.join(HISTORY_FIELDS)}", f"--jobs={','.join(bases[at : at + IDS_AT_ONCE])}"),
            env=FULL_LISTS,
        )
        for at in range(0, len(bases), IDS_AT_ONCE)
    )


def parse_last_words(answers: Sequence[CommandResult], submitted: Mapping[str, float]) -> Mapping[str, JobStatus]:
    """Read sacct's answers. No accounting, or one that does not answer, is no error: then nothing is remembered.

    `submitted`: when each job was, by its site's clock, as far as that is known.
    """
    rows = (row for answer in answers for row in fields_of(answer.text if answer.ok else "", len(HISTORY_FIELDS)))
    by_id: dict[str, list[list[str]]] = {}
    for row in islice(rows, MOST_STATUSES):
        by_id.setdefault(row[0], []).append(row)
    found: dict[str, JobStatus] = {}
    for job_id, runs in by_id.items():
        last = _last_run(sorted(runs, key=_submitted), submitted.get(_base(job_id)))
        if last is not None and len(found) <= MOST_STATUSES:
            _, state, code, asked, started, ended, nodes = last
            reason = CLOSED if state == "CANCELLED" else ""
            found |= _statuses(job_id, state, (asked, started, ended), code, nodes, reason=reason)
    return found | _folds(found.values())


def _submitted(row: Sequence[str]) -> float:
    return parse_time(row[3]) or 0.0


def _last_run(runs: Sequence[list[str]], submitted: float | None) -> list[str] | None:
    """Return what is told last of a job, of all that had its id; None if nothing is told of it.

    Each run has a row. One that was requeued says so (REQUEUED, NODE_FAIL, PREEMPTED; 22.05 and 24.11), and the next
    row, submitted as it ended, is the same job; any other one is another job.
    """
    if submitted is None:
        return runs[-1]
    ours: list[str] | None = None
    for row in runs:
        goes_on = ours is not None and job_state(ours[1]) in _REQUEUED
        if goes_on or abs(_submitted(row) - submitted) <= SAME_MOMENT:
            ours = row
    return ours


_REQUEUED = (JobState.PENDING, JobState.NODE_FAIL, JobState.PREEMPTED)


def _folds(found: Iterable[JobStatus]) -> dict[str, JobStatus]:
    groups: dict[str, list[JobStatus]] = {}
    for status in found:
        if _TASK.fullmatch(status.job_id):
            groups.setdefault(_base(status.job_id), []).append(status)
    folded = ((base, fold(tasks)) for base, tasks in groups.items())
    return {base: status for base, status in folded if status is not None}


def _statuses(
    job_id: str,
    native: str,
    times: tuple[str, str, str],
    code: str,
    nodes: str,
    *,
    reason: str = "",
    restarts: int = 0,
) -> dict[str, JobStatus]:
    """Return the statuses that one line tells: several for array tasks that are not split off yet."""
    parts = split_job_id(job_id)
    if parts is None:
        return {}
    state = job_state(native)
    where = "" if nodes in NOTHING else nodes
    submitted, started, ended = (parse_time(time) for time in times)
    exit_code, signal = _exit(code) if state.final else (None, None)
    status = JobStatus(
        job_id="".join(parts),
        state=state,
        native_state=native,
        reason="" if reason in NOTHING and state is not JobState.PENDING else reason,
        submitted_at=submitted,
        # Of a pending job it is an estimate, and of one that never started the time of its end.
        started_at=started if where and state is not JobState.PENDING else None,
        ended_at=ended if state.final else None,
        exit_code=exit_code,
        signal=signal,
        nodes=where,
        restarts=restarts,
        stuck=stuck(reason) if state in {JobState.PENDING, JobState.CANCELLED} else None,
    )
    return {each: status if each == status.job_id else replace(status, job_id=each) for each in _ids(*parts)}


def _ids(base: str, part: str) -> Iterator[str]:
    """Yield the ids a line stands for: `_[0-3%2]` is four tasks, and stays as it is if it cannot be read."""
    if not part.startswith("_["):
        yield base + part
        return
    indices = parse_indices(part[2:-1])
    yield from (f"{base}_{index}" for index in indices)
    if not indices:
        yield base


def _exit(text: str) -> tuple[int | None, int | None]:
    """Return exit code and signal, of which only one is known.

    squeue of 20.11 and 22.05 gives a wait status (768 is exit code 3, 9 is signal 9), that of 24.11 and 26.05 and sacct
    of all give `3:0` and `0:9`.
    """
    match = _WAIT_STATUS.fullmatch(text)
    if match is None:
        return None, None
    first, second = match.groups()
    code, signal = (int(first), int(second)) if second is not None else (int(first) >> 8 & 255, int(first) & 127)
    return (None, signal) if signal else (code, None)


def _base(job_id: str) -> str:
    parts = split_job_id(job_id)
    return parts[0] if parts else job_id


def _bases(job_ids: Sequence[str]) -> tuple[str, ...]:
    """Return the numbers of the jobs, each once, in order; what is no job id is left out."""
    return tuple(dict.fromkeys(parts[0] for job_id in job_ids if (parts := split_job_id(job_id))))

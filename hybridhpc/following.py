"""What became of jobs: one question per site for all of a person's jobs, then accounting, then the exit markers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from hybridhpc import registry
from hybridhpc.at_once import AtOnce
from hybridhpc.clock import Clock, now
from hybridhpc.command import Command
from hybridhpc.errors import HpcError
from hybridhpc.ledger.base import Phase, Record
from hybridhpc.model import JobState, JobStatus
from hybridhpc.probe import run_all
from hybridhpc.schedulers.base import SAME_CLOCK, SAME_MOMENT, Scheduler
from hybridhpc.schedulers.fold import fold
from hybridhpc.schedulers.words import stuck
from hybridhpc.sites.site import InvalidSite, Site
from hybridhpc.transports.base import Transport

GONE = "the scheduler no longer knows it, and it left no exit marker"


def ask(
    records: Sequence[Record], sites: Sequence[Site | InvalidSite], env: Mapping[str, str], clock: Clock = now
) -> dict[str, JobStatus]:
    """Return, by token, what is now known of jobs that are not final. UNKNOWN with a reason where nothing is."""
    by_site: dict[str, list[Record]] = {}
    for record in records:
        if record.phase is Phase.SUBMITTED and not record.state.final:
            by_site.setdefault(record.site, []).append(record)
    calls = {name: partial(_ask_site, name, asked, sites, env, clock) for name, asked in by_site.items()}
    answers = AtOnce(calls, _patience(by_site, sites)).answers()
    found: dict[str, JobStatus] = {}
    for name, asked in by_site.items():
        silence = {record.token: unknown(record, f"site {name} gave no answer in time") for record in asked}
        found |= silence | answers.get(name, {})
    return found


def _patience(names: Iterable[str], sites: Sequence[Site | InvalidSite]) -> float:
    deadlines = [site.probe_deadline for site in sites if isinstance(site, Site) and site.name in names]
    return float(max(deadlines, default=10)) * 3


def _ask_site(
    name: str, records: Sequence[Record], sites: Sequence[Site | InvalidSite], env: Mapping[str, str], clock: Clock
) -> dict[str, JobStatus]:
    try:
        site = registry.site_named(tuple(sites), name)
        transport = registry.transport(site, env)
        found: dict[str, JobStatus] = {}
        for group in _apart(records):
            found |= _statuses(site, registry.scheduler(site.scheduler), transport, group, clock)
        return found
    except HpcError as error:
        return {record.token: unknown(record, error.message) for record in records}


def _apart(records: Sequence[Record]) -> list[list[Record]]:
    """Return jobs in groups without two of one id: a controller that lost its state gave it again. Mostly one group."""
    groups: list[dict[str, Record]] = [{}]
    for record in records:
        group = next((group for group in groups if record.job_id not in group), None)
        if group is None:
            groups.append(group := {})
        group[record.job_id] = record
    return [list(group.values()) for group in groups]


def _statuses(
    site: Site, scheduler: Scheduler, transport: Transport, records: Sequence[Record], clock: Clock
) -> dict[str, JobStatus]:
    """Ask the scheduler; what it has forgotten, accounting; and what that does not know, the exit markers."""
    known = ask_scheduler(site, scheduler, transport, records, within=site.probe_deadline, clock=clock)
    marked = read_exits(transport, records, known)
    return {record.token: _status(record, known, marked[record.token]) for record in records}


def ask_scheduler(
    site: Site,
    scheduler: Scheduler,
    transport: Transport,
    records: Sequence[Record],
    *,
    within: float,
    clock: Clock = now,
) -> dict[str, JobStatus]:
    """Return what a scheduler, and its accounting, say of jobs and tasks, by id. `within`: seconds for each question.

    Raises HpcError if it does not answer.
    """
    ids = [record.job_id for record in records]
    questions, which_clock = scheduler.status_commands(site, ids), scheduler.clock_command(site)
    answers = run_all(transport, (*questions, *((which_clock,) if which_clock else ())), within)
    known = dict(scheduler.parse_status(answers[: len(questions)]))
    there = scheduler.parse_clock(answers[-1]) if which_clock else None
    ahead = 0.0 if there is None else there - clock()
    known = _without_others(site, scheduler, transport, records, known)
    forgotten = [record for record in records if _tasks_missing(record, known)]
    if forgotten and (questions := scheduler.last_words_commands(site, [record.job_id for record in forgotten])):
        answers = run_all(transport, questions, within)
        submitted = {record.job_id: record.submitted_at for record in forgotten if record.submitted_at is not None}
        remembered = scheduler.parse_last_words(answers, submitted)
        known = {**remembered, **known}
    if abs(ahead) <= SAME_CLOCK:
        return known
    return {job_id: replace(status, ahead=ahead) for job_id, status in known.items()}


def _without_others(
    site: Site, scheduler: Scheduler, transport: Transport, records: Sequence[Record], known: dict[str, JobStatus]
) -> dict[str, JobStatus]:
    """Leave out what is told of other jobs: a controller that lost its state begins to count anew.

    One of the same id that was submitted later is in doubt, and found out about by its token: a requeue is a
    submission, too, and another job may have been requeued as well. A script taken as it is carries no token: one that
    was requeued is believed to be ours, any other is another.
    """
    doubtful = {record.job_id: record for record in records if _later(record, known) > SAME_MOMENT}
    if not doubtful:
        return known
    (answer,) = run_all(transport, [scheduler.find_command(site)], site.probe_deadline)
    others = [
        job_id
        for job_id, record in doubtful.items()
        if job_id not in scheduler.parse_find(answer, record.token)
        and not (known[job_id].restarts and _is_script_as_it_is(record))
    ]
    return {job_id: status for job_id, status in known.items() if _base(job_id) not in others}


def _is_script_as_it_is(record: Record) -> bool:
    """Tell by the output: a rendered script writes it into the job's directory. The plan is not read in a thread."""
    return bool(record.log) and not record.log.startswith(f"{record.job_dir}/")


def _later(record: Record, known: Mapping[str, JobStatus]) -> float:
    """Return by how much a job of this id was submitted later than ours."""
    status = known.get(record.job_id)
    if status is None or status.submitted_at is None or record.submitted_at is None:
        return 0.0
    return status.submitted_at - record.submitted_at


def _base(job_id: str) -> str:
    return re.sub(r"[_+].*", "", job_id)


def tasks_of(record: Record, known: Mapping[str, JobStatus]) -> dict[str, JobStatus]:
    """Return what is known of the tasks of an array, by their ids."""
    return {job_id: status for job_id, status in known.items() if job_id.startswith(f"{record.job_id}_")}


def _tasks_missing(record: Record, known: Mapping[str, JobStatus]) -> int:
    """Return how many tasks of a job nothing is known of: squeue forgets an array task by task."""
    if record.tasks == 1:
        return int(record.job_id not in known)
    return max(0, record.tasks - len(tasks_of(record, known)))


def _status(record: Record, known: Mapping[str, JobStatus], marked: Mapping[str, JobStatus]) -> JobStatus:
    if not _tasks_missing(record, known) and record.job_id in known:
        return known[record.job_id]
    if record.tasks == 1:
        return marked.get(record.job_id) or unknown(record, GONE)
    whole = fold({**marked, **tasks_of(record, known)}.values(), record.tasks)
    return replace(whole, job_id=record.job_id) if whole else unknown(record, GONE)


_MARKERS = """\
number=0
for directory do
    for file in "$directory"/exit.*; do
        name=${file##*/}
        case $name in *[!0-9a-z.-]*) continue ;; esac
        [ -f "$file" ] && read -r code when rest <"$file" && printf '%s %s %s %s\\n' $number $name "$code" "$when"
    done
    number=$((number + 1))
done"""
"""Shows the exit markers in some directories: the directory's number, the marker's name, and what it says."""
_MARKED = re.compile(
    r"^(?P<number>[0-9]+) exit\.(?P<task>-|[0-9]+)\.(?P<restarts>[0-9]+) (?P<code>[0-9]{1,9}) (?P<when>[0-9]{1,15})$",
    re.MULTILINE,
)
_MARKERS_WITHIN = 30.0
"""Seconds for reading them."""
_AT_ONCE = 500
"""Directories that one command looks through: their names are its arguments."""


def read_exits(
    transport: Transport,
    records: Sequence[Record],
    known: Mapping[str, JobStatus],
    *,
    within: float = _MARKERS_WITHIN,
) -> dict[str, dict[str, JobStatus]]:
    """Read, in one go, the exit markers of jobs of which the scheduler does not know all; by token, then job or task.

    A missing marker means unknown, never running or done. Their names are `exit.TASK.RESTARTS`, TASK being `-` where
    there is no array; the last restart counts.
    """
    found: dict[str, dict[str, JobStatus]] = {record.token: {} for record in records}
    missing = [record for record in records if _tasks_missing(record, known)]
    groups = [missing[start : start + _AT_ONCE] for start in range(0, len(missing), _AT_ONCE)]
    questions = [Command(argv=("sh", "-c", _MARKERS, "sh", *(record.job_dir for record in group))) for group in groups]
    for group, answer in zip(groups, run_all(transport, questions, within) if groups else (), strict=True):
        for match in _MARKED.finditer(answer.text):
            record = group[int(match["number"])]
            status = _marked(record, match)
            if found[record.token].get(status.job_id, status).restarts <= status.restarts:
                found[record.token][status.job_id] = status
    return found


def _marked(record: Record, match: re.Match[str]) -> JobStatus:
    code = int(match["code"])
    return JobStatus(
        job_id=record.job_id if match["task"] == "-" else f"{record.job_id}_{match['task']}",
        state=JobState.FAILED if code else JobState.COMPLETED,
        native_state="",
        reason="from its exit marker; the scheduler no longer knows it",
        started_at=record.started_at,
        ended_at=float(match["when"]),
        ahead=record.ahead,
        exit_code=code,
        restarts=int(match["restarts"]),
    )


def unknown(record: Record, reason: str) -> JobStatus:
    """Return an honest answer: what was seen last is kept, the state is UNKNOWN."""
    return JobStatus(
        job_id=record.job_id,
        state=JobState.UNKNOWN,
        native_state=record.native_state,
        reason=reason,
        started_at=record.started_at,
        ended_at=record.ended_at,
        ahead=record.ahead,
    )


def as_known(record: Record) -> JobStatus:
    """Return what the ledger knows of a job that was not asked about: it had ended before."""
    return JobStatus(
        job_id=record.job_id,
        state=record.state,
        native_state=record.native_state,
        reason=record.reason,
        submitted_at=record.submitted_at,
        started_at=record.started_at,
        ended_at=record.ended_at,
        ahead=record.ahead,
        exit_code=record.exit_code,
        signal=record.signal,
        restarts=record.restarts,
        stuck=stuck(record.reason) if record.state is JobState.CANCELLED else None,
    )


def apply(record: Record, status: JobStatus) -> Record:
    """Return the record as it is after a status: itself if that says nothing new."""
    news = {
        "state": status.state,
        "native_state": status.native_state,
        "reason": status.reason,
        "submitted_at": status.submitted_at or record.submitted_at,
        "started_at": status.started_at,
        "ended_at": status.ended_at,
        "exit_code": status.exit_code,
        "signal": status.signal,
        "ahead": status.ahead,
        "spent": record.spent + record.boot_cost(status),
    }
    if all(getattr(record, name) == value for name, value in news.items()):
        return record
    return replace(record, **news)  # type: ignore[arg-type]

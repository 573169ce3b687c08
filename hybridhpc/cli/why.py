"""hpc why: in words, why a job is where it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TypeVar

import click

from hybridhpc import probe
from hybridhpc.array_tasks import SHORT
from hybridhpc.at_once import AtOnce
from hybridhpc.cli._context import check_task, chosen_one, json_option, new_client, split_task
from hybridhpc.cli._output import called, live_reason, record_json, say, show_json, state_word, tell, waits_for_boot
from hybridhpc.cli._sweep import all_known, indices, known_points
from hybridhpc.cli._terminal import clean
from hybridhpc.client import Client
from hybridhpc.errors import HpcError, NotFound, TransportError
from hybridhpc.evidence import read_markers
from hybridhpc.following import as_known
from hybridhpc.ledger.base import Phase, Record
from hybridhpc.model import JobState, Work
from hybridhpc.schedulers.words import exit_words, explain_end, explain_reason, has_begun
from hybridhpc.sites.snapshot import Silence, Snapshot
from hybridhpc.units import format_duration
from hybridhpc.work_dirs import log_path

Answer = TypeVar("Answer")

MOST_READ = 1024 * 1024
"""Bytes of an output that are read for its last line."""
MOST_NAMED = 5
"""Tasks of an array that are named one by one."""
LONGEST = 300
"""Characters of it that are shown."""


@click.command()
@click.argument("job")
@json_option
def command(job: str, as_json: bool) -> None:
    """Say in words why JOB (a ref, a task such as onprem:12_3, a token or a name) is pending, or how it ended.

    Example: hpc why onprem:1234
    """
    client = new_client()
    job, task = split_task(job)
    (record,) = client.refresh([chosen_one(client, job)])
    check_task(record, task)
    if task is not None:
        record = _task(client, record, task)
    lines = _words(client, record)
    if as_json:
        show_json({**record_json(record, client.clock()), "why": list(lines)})
        return
    # What the ledger knows is shown before a site is asked for the rest.
    for line in lines:
        say(clean(line))


def _task(client: Client, record: Record, index: int) -> Record:
    """Return the record of an array as it would be of one task alone. Raises NotFound; TransportError for a silence."""
    asked = client.tasks([record])
    status = asked.known[record.token].get(index)
    alone = replace(record, job_id=f"{record.job_id}_{index}", tasks=1)
    for site, why in asked.silent.items():
        tell(clean(f"note: {site}: {why}"))
    if status is None and all_known(record) and index in indices(record):
        return replace(alone, started_at=None)
    if status is None and asked.silent:
        raise TransportError(f"what became of task {index} of {record.ref} is not known now", hint="ask again later")
    if status is None:
        raise NotFound(f"nothing is known of task {index} of {record.ref}", hint=f"`hpc status {record.ref}` shows it")
    known = ("state", "native_state", "reason", "started_at", "ended_at", "exit_code", "signal")
    return replace(alone, **{name: getattr(status, name) for name in known})


def _words(client: Client, record: Record) -> Iterator[str]:
    now = client.clock()
    yield f"{called(record)} {record.name} is {state_word(record)}" + _native(record)
    if record.phase is Phase.INTENT:
        yield "its submission was interrupted; repeat the command to finish it, or cancel it"
    elif record.phase is Phase.REFUSED:
        yield f"{record.site} refused it: {record.reason.removeprefix(f'{record.site}: ')}"
        yield from (f"in full: {event.text}" for event in client.ledger.events(record.token) if event.kind == "refused")
    elif record.state is JobState.PENDING:
        yield from _pending(client, record, now)
    elif record.state is JobState.RUNNING:
        yield _running(record, now)
        if record.tasks > 1 and record.reason:
            yield f"tasks: {live_reason(record.reason)}"
        if record.unwanted:
            yield "`hpc cancel` has asked for its end"
    elif record.state.final:
        yield from _ended(client, record, now)
        yield from _followed(client, record)
    else:
        yield record.reason or "nothing more is known"


def _native(record: Record) -> str:
    differs = record.native_state and record.native_state != state_word(record)
    return f" (the scheduler says {record.native_state})" if differs else ""


def _running(record: Record, now: float) -> str:
    if waits_for_boot(record):
        lasting = format_duration(record.elapsed(now))
        return f"its nodes have been booting for {lasting}, and are paid for; it has not begun"
    return f"it has run for {_time(record, now)}"


def _time(record: Record, now: float) -> str:
    asked = record.plan.resources.walltime
    return format_duration(record.elapsed(now)) + (f" of {format_duration(asked)}" if asked else "")


def _pending(client: Client, record: Record, now: float) -> Iterator[str]:
    words = explain_reason(record.reason)
    yield f"reason {record.reason or 'not given'}" + (f": {words}" if words else "")
    yield f"it has waited for {format_duration(_waited(record, now))}"
    sites = [site for site in client.usable_sites if site.name == record.site]
    answer = probe.survey(sites, client.env, client.clock).get(record.site)
    if isinstance(answer, Snapshot):
        yield from _queue(record, answer, now)
    elif isinstance(answer, Silence):
        yield f"{answer.site} {answer.why}"


def _waited(record: Record, now: float) -> float:
    return max(0.0, now + record.ahead - record.submitted_at) if record.submitted_at else 0.0


def _queue(record: Record, snapshot: Snapshot, now: float) -> Iterator[str]:
    own = next((job for job in snapshot.jobs if job.job_id.partition("_")[0] == record.job_id), None)
    if own is None:
        return
    partition, estimate = own.line.partition, own.line.start_estimate
    rivals = [job for job in snapshot.jobs if job.line.partition == partition]
    ahead = sum(job.line.tasks for job in rivals if job.line.waiting and job.turn < own.turn)
    running = sum(job.line.state is JobState.RUNNING for job in rivals)
    before = f"{ahead:,} pending jobs are" if ahead > 1 else f"{'1' if ahead else 'no'} pending job is"
    yield f"{before} before it in {partition}, where {running} run{'s' * (running == 1)}"
    if estimate and estimate > now:
        yield f"the scheduler expects to start it in {format_duration(estimate - now)}"


def _ended(client: Client, record: Record, now: float) -> Iterator[str]:
    yield from explain_end(as_known(record), wanted=_is_wanted(record))
    if record.started_at is None:
        return
    begun = has_begun(record.state, record.native_state)
    yield f"it {'ran' if begun else 'had its nodes'} for {_time(record, now)}"
    if begun is None and record.tasks == 1:
        yield from _beginning(client, record)
    if record.tasks > 1:
        yield from _failed_tasks(client, record)
        return
    last = _soon(partial(_last_line, client, record)) if record.state is JobState.FAILED else ""
    if last is None:
        yield f"{record.site} gave no answer within {SHORT:g} s: the last line of its output is not known now"
    elif last:
        yield f"the last line of its output: {last}"
    yield f"its output: {log_path(record, None)}"


def _followed(client: Client, record: Record) -> Iterator[str]:
    """Say what an agent has said that it will do."""
    said = [event for event in client.ledger.events(record.token) if event.attempt == record.attempt]
    if said and said[-1].kind == "waits" and not record.settled:
        yield f"an agent goes on with it: {said[-1].text}"


def _beginning(client: Client, record: Record) -> Iterator[str]:
    """Say by its markers whether a job began of which its state does not tell. A script taken as it is leaves none."""
    spec = record.plan.spec
    if spec is None or not isinstance(spec.payload, Work):
        return
    began = _soon(partial(_marked_begun, client, record))
    if began is not None:
        yield "its script had begun" if began else "its script left no start marker: it seems never to have begun"


def _marked_begun(client: Client, record: Record) -> bool | None:
    with suppress(HpcError):
        return bool(read_markers(client.reach(record)[2], record.job_dir).begun)
    return None


def _soon(ask: Callable[[], Answer]) -> Answer | None:
    """Return an answer that comes soon: what a site adds to the end of a job is not waited for longer."""
    return AtOnce({"": ask}, SHORT).answers().get("")


def _is_wanted(record: Record) -> bool | None:
    """Whether the person let a job be. Who cancelled one task of an array is not kept: then None."""
    return None if "_" in record.job_id and not record.unwanted else not record.unwanted


def _failed_tasks(client: Client, record: Record) -> Iterator[str]:
    """Yield which tasks of an array did not complete, and where to read on."""
    found = known_points(client, [record])
    well = (JobState.COMPLETED, JobState.UNKNOWN)
    failed = [point for point in found.points if point.state not in well]
    for site, why in found.silent.items():
        tasks = "which of its tasks failed is" if not failed else "what its tasks left as exit markers is all that is"
        yield f"{site}: {why}; {tasks} {'known' if failed else 'not known'} now"
    for point in failed[:MOST_NAMED]:
        values = ", ".join(f"{name}={value}" for name, value in point.parameters.items())
        how = exit_words(point.state, point.exit_code, point.signal)
        yield " ".join(filter(None, (point.ref, f"({values})" if values else "", point.state.value, how)))
    if len(failed) > MOST_NAMED:
        yield f"... and {len(failed) - MOST_NAMED:,} more"
    if failed:
        yield f"`hpc why {failed[0].ref}` tells of one task, `hpc logs {failed[0].ref}` shows its output"


def _last_line(client: Client, record: Record) -> str:
    """Return what a job wrote last; empty if it wrote much, nothing, or to several files."""
    try:
        _, _, task = record.job_id.partition("_")
        paths = client.log_files(record, int(task) if task.isdecimal() else None)
        content = client.read_log(record, paths[0], limit=MOST_READ) if len(paths) == 1 else None
    except HpcError:
        return ""
    if content is None or len(content) == MOST_READ:
        return ""
    lines = content.decode("utf-8", "replace").replace("\r", "\n").split("\n")
    return next((line.strip()[:LONGEST] for line in reversed(lines) if line.strip()), "")

"""hpc why: in words, why a job is where it is."""

from __future__ import annotations

from collections.abc import Iterator

import click

from hybridhpc import probe
from hybridhpc.cli._context import chosen_one, json_option, new_client
from hybridhpc.cli._output import NO_REASON, record_json, say, show_json
from hybridhpc.cli._terminal import clean
from hybridhpc.client import Client
from hybridhpc.following import log_path
from hybridhpc.ledger.base import Phase, Record
from hybridhpc.model import JobState
from hybridhpc.schedulers.reasons import explain_reason
from hybridhpc.sites.snapshot import QueuedJob, Silence, Snapshot
from hybridhpc.units import format_duration


@click.command()
@click.argument("job")
@json_option
def command(job: str, as_json: bool) -> None:
    """Say in words why JOB (a ref, a token or a name) is pending, or how it ended.

    Example: hpc why onprem:1234
    """
    client = new_client()
    (record,) = client.refresh([chosen_one(client, job)])
    lines = list(_words(client, record))
    if as_json:
        show_json({**record_json(record, client.clock()), "why": lines})
    else:
        for line in lines:
            say(clean(line))


def _words(client: Client, record: Record) -> Iterator[str]:
    now = client.clock()
    yield f"{record.ref or record.token} {record.name} is {record.state.value}" + _native(record)
    if record.phase is Phase.INTENT:
        yield "its submission was interrupted; repeat the command to finish it, or cancel it"
    elif record.phase is Phase.REFUSED:
        yield f"{record.site} refused it: {record.reason}"
    elif record.state is JobState.PENDING:
        yield from _pending(client, record, now)
    elif record.state is JobState.RUNNING:
        yield f"it has run for {format_duration(record.elapsed(now))} of {_walltime(record)}"
    elif record.state.final:
        yield from _ended(record, now)
    else:
        yield record.reason or "nothing more is known"


def _native(record: Record) -> str:
    differs = record.native_state and record.native_state != record.state.value
    return f" (the scheduler says {record.native_state})" if differs else ""


def _walltime(record: Record) -> str:
    asked = record.plan.resources.walltime
    return format_duration(asked) if asked else "its partition's limit"


def _pending(client: Client, record: Record, now: float) -> Iterator[str]:
    words = explain_reason(record.reason)
    yield f"reason {record.reason or 'not given'}" + (f": {words}" if words else "")
    yield f"it has waited for {format_duration(now - (record.submitted_at or now))}"
    sites = [site for site in client.usable_sites if site.name == record.site]
    answer = probe.survey(sites, client.env, client.clock).get(record.site)
    if isinstance(answer, Snapshot):
        yield from _queue(record, answer, now)
    elif isinstance(answer, Silence):
        yield f"{answer.site} {answer.why}"


def _queue(record: Record, snapshot: Snapshot, now: float) -> Iterator[str]:
    own = next((job for job in snapshot.jobs if job.job_id.partition("_")[0] == record.job_id), None)
    if own is None:
        return
    rivals = [job for job in snapshot.jobs if job.state is JobState.PENDING and job.partition == own.partition]
    ahead = sum(job.tasks for job in rivals if _order(job) < _order(own) and not job.blocked)
    running = sum(job.state is JobState.RUNNING and job.partition == own.partition for job in snapshot.jobs)
    yield f"{ahead} pending jobs are before it in {own.partition}, where {running} run"
    if own.start_estimate and own.start_estimate > now:
        yield f"the scheduler expects to start it in {format_duration(own.start_estimate - now)}"


def _order(job: QueuedJob) -> tuple[int, float, str]:
    return (-job.priority, job.submitted_at or 0.0, job.job_id)


def _ended(record: Record, now: float) -> Iterator[str]:
    if record.reason and record.reason != NO_REASON:
        yield record.reason
    if record.exit_code is not None or record.signal:
        yield f"ended by signal {record.signal}" if record.signal else f"exit code {record.exit_code}"
    yield f"it ran for {format_duration(record.elapsed(now))} of {_walltime(record)}"
    if record.state is JobState.OUT_OF_MEMORY:
        yield "it used more memory than it asked for: raise `memory` in the spec (--mem of a script)"
    if record.state is JobState.TIMEOUT:
        yield "it reached its walltime: raise `time`, or name a `checkpoint` and continue from it"
    yield f"its output: {log_path(record, None)}"

"""What is brought to a site for jobs: what they work on, their files, and the command that submits them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

from hybridhpc.command import Errand, Folder, StagedFile
from hybridhpc.errors import HpcError, NotFound
from hybridhpc.ledger.base import Record
from hybridhpc.schedulers.base import Scheduler, Submission
from hybridhpc.script.plan import Plan
from hybridhpc.secret_files import hidden_names, secret_files
from hybridhpc.sites.site import Site
from hybridhpc.transports.base import Transport
from hybridhpc.values import dataclass

SCRIPT = "script"
"""Name of the job script in the job's directory."""
WORK = "work"
"""Where a workdir is shipped to, and where the job then runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A site, and how it is spoken to. `prepare`: see Submitter."""

    site: Site
    scheduler: Scheduler
    transport: Transport
    env: Mapping[str, str]
    prepare: Callable[[Record], None]


def _stage(place: Place, record: Record, *, fresh: bool) -> None:
    """Bring what a job works on. Not if its script lies there: then it was sent, and may run on that by now."""
    needed = record.plan.workdir or record.attempt > 1
    if not needed or (not fresh and SCRIPT in place.transport.list(record.job_dir)):
        return
    if record.plan.workdir:
        place.transport.put_tree(record.plan.workdir, f"{record.job_dir}/{WORK}")
    place.prepare(record)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job whose errand may be done: what it works on is at its site."""

    submission: Submission
    folder: Folder
    hidden: tuple[str, ...]


def prepare(place: Place, record: Record, *, hold: bool, fresh: bool, trusted: bool) -> Job | HpcError:
    """Bring what a job works on, and return what is still to be brought and done."""
    plan = record.plan
    try:
        _unchanged(plan)
        # A job that is never released runs nothing that would read them.
        values = () if hold else secret_files(plan.secrets, place.env)
        _stage(place, record, fresh=fresh)
    except HpcError as error:
        return error
    script = StagedFile(path=SCRIPT, content=plan.script, executable=True)
    return Job(
        submission=_submission(record, hold=hold or plan.hold, trusted=trusted),
        folder=Folder(path=record.job_dir, files=(script, *plan.staged, *values)),
        hidden=hidden_names(plan.secrets),
    )


def errand(place: Place, jobs: Sequence[Job]) -> Errand:
    """Return what submits a job with its files, or several at once that hide the same."""
    first, *others = jobs
    command = place.scheduler.submit_command(place.site, [job.submission for job in jobs])
    programs = tuple(map(on_site, place.scheduler.on_site))
    return Errand(
        command=replace(command, hidden=first.hidden),
        cwd=first.folder.path if others else first.submission.cwd,
        scrubbed=False,
        folders=(replace(first.folder, files=(*first.folder.files, *programs)), *(job.folder for job in others)),
    )


@cache
def on_site(name: str) -> StagedFile:
    """Return a program of hybridhpc/on_site/, to be put into a job's directory."""
    return StagedFile(path=name, content=(Path(__file__).parent / "on_site" / name).read_bytes(), executable=True)


def _submission(record: Record, *, hold: bool, trusted: bool) -> Submission:
    plan = record.plan
    return Submission(
        token=record.token,
        job_dir=record.job_dir,
        script=plan.script_path or f"{record.job_dir}/{SCRIPT}",
        options=plan.options,
        args=plan.args,
        cwd=plan.cwd or record.job_dir,
        hold=hold,
        trusted=trusted,
        marker=plan.marker,
    )


def _unchanged(plan: Plan) -> None:
    """Raise NotFound if the person's script is no longer the one that was planned."""
    if plan.script_path is None:
        return
    try:
        content = Path(plan.script_path).read_bytes()
    except OSError:
        content = b""
    if hashlib.sha256(content).digest() != hashlib.sha256(plan.script).digest():
        raise NotFound(
            f"{plan.script_path} was changed or removed since it was planned", hint="submit it again with --again"
        )

"""The imperative shell: plan, submit, status, cancel, logs. It joins what decides with what touches the world.

Every change passes through the ledger first: what is not written down there is not done at a site.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path, PurePosixPath

from hybridhpc import following, registry
from hybridhpc.clock import Clock, now
from hybridhpc.command import CommandResult, Errand, StagedFile
from hybridhpc.config import Paths, find_paths
from hybridhpc.errors import HpcError, NotFound, SchedulerError, TransportError, Undecided, Undelivered
from hybridhpc.ledger.base import Phase, Record
from hybridhpc.ledger.sqlite import SqliteLedger
from hybridhpc.model import JobState
from hybridhpc.planning import Planner, Wish
from hybridhpc.schedulers.base import Scheduler, Submission
from hybridhpc.script.plan import Plan
from hybridhpc.sites.site import InvalidSite, Site
from hybridhpc.transports.base import Transport

SCRIPT = "script"
"""Name of the job script in the job's directory."""
WORK = "work"
"""Where a workdir is shipped to, and where the job then runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A job that is submitted, what the site changed or could not promise, and whether an earlier command began it."""

    record: Record
    notes: tuple[str, ...] = ()
    taken_up: bool = False


class Client:
    """One person on one machine: their sites, their ledger."""

    def __init__(self, env: Mapping[str, str], cwd: str, clock: Clock = now) -> None:
        self.env = env
        self.cwd = cwd
        self.clock = clock
        self.paths: Paths = find_paths(env)

    @cached_property
    def sites(self) -> tuple[Site | InvalidSite, ...]:
        """All sites, broken ones too."""
        return registry.load_sites(self.paths)

    @property
    def usable_sites(self) -> tuple[Site, ...]:
        """The sites whose file could be read."""
        return tuple(site for site in self.sites if isinstance(site, Site))

    @cached_property
    def ledger(self) -> SqliteLedger:
        """The ledger, made on first use."""
        return SqliteLedger(self.paths.ledger)

    def planner(self, where: str | None = None) -> Planner:
        """Ask the sites that `where` (as in --where) can mean, once for as many plans as are wanted."""
        named = {word.partition("/")[0] for word in (where or "auto").split(",")}
        known = {site.name: site for site in self.sites}
        sites = [known[name] for name in sorted(named)] if named <= set(known) else self.sites
        return Planner(sites, self.env, self.clock)

    def take_up(self, wish: Wish) -> Outcome | None:
        """Finish a submission of the same wish that was interrupted, if there is one. Raises what submit raises."""
        record = self.ledger.interrupted(wish.request, now=self.clock())
        if record is None:
            return None
        if record.phase is Phase.SUBMITTED:
            return Outcome(record=record, taken_up=True)
        return replace(self._carry_out(record), taken_up=True)

    def submit(self, plan: Plan, request: str) -> Outcome:
        """Submit a plan exactly once: intent in the ledger, the job at the site, its id in the ledger.

        Raises SchedulerError if the scheduler refused, Undecided or TransportError if the outcome is unknown: repeating
        the command then finds out.
        """
        site = registry.site_named(self.sites, plan.site)
        root = registry.transport(site, self.env).resolve(site.job_root or "~/.hybridhpc/jobs")
        record = self.ledger.intend(plan, request=request, job_root=root, now=self.clock())
        return self._carry_out(record, fresh=True)

    def announce(self, record: Record) -> None:
        """Write down that the person has been told the ref."""
        self.ledger.announced(record.token)

    def _carry_out(self, record: Record, *, fresh: bool = False) -> Outcome:
        """Bring an intent to its end. Repeating it is harmless, at any point it may have been cut.

        `fresh`: nothing was sent before, so if its files cannot be put there, there is no job.
        """
        site, scheduler, transport = self._reach(record)
        plan = record.plan
        command = scheduler.submit_command(site, _submission(record))
        errand = Errand(
            command=command,
            cwd=plan.cwd or record.job_dir,
            scrubbed=False,
            directory=record.job_dir,
            files=tuple(_files(plan, scheduler)),
        )
        try:
            _unchanged(plan)
            if plan.workdir:
                transport.put_tree(plan.workdir, f"{record.job_dir}/{WORK}")
            (answer,) = transport.run_all([errand], within=command.timeout)
            submitted = scheduler.parse_submit(_received(answer))
        except (SchedulerError, NotFound, Undelivered) as error:
            if fresh or isinstance(error, SchedulerError):
                self.ledger.refused(record.token, error.message, now=self.clock())
            raise
        known = self.ledger.submitted(record.token, job_id=submitted.job_id, log=submitted.log, now=self.clock())
        return Outcome(record=known, notes=submitted.notes)

    def _reach(self, record: Record) -> tuple[Site, Scheduler, Transport]:
        site = registry.site_named(self.sites, record.plan.site)
        return site, registry.scheduler(site.scheduler), registry.transport(site, self.env)

    def refresh(self, records: Sequence[Record]) -> tuple[Record, ...]:
        """Ask the sites about jobs that are not final, write down what they say, and return the records as they are."""
        statuses = following.ask(records, self.sites, self.env)
        certain = [(token, status) for token, status in statuses.items() if status.state is not JobState.UNKNOWN]
        if certain:
            self.ledger.seen(certain)
        return tuple(
            following.apply(record, statuses[record.token]) if record.token in statuses else record
            for record in records
        )

    def cancel(self, record: Record) -> Record:
        """Cancel a job, pending or running. A final one is left as it is.

        Raises SchedulerError, TransportError, and Undecided if it is being submitted right now.
        """
        if record.phase is Phase.INTENT:
            record = self._finish_held(record)
        (record,) = self.refresh([record])
        if record.state.final:
            return record
        site, scheduler, transport = self._reach(record)
        scheduler.parse_cancel(transport.run(scheduler.cancel_command(site, [record.job_id])))
        return self.refresh([record])[0]

    def _finish_held(self, record: Record) -> Record:
        """Bring an interrupted submission to its end without releasing it: only then is its id sure to be known."""
        if not self.ledger.own(record.token):
            raise Undecided(f"{record.name} is being submitted right now", hint="cancel it once its ref was printed")
        outcome = self._carry_out(replace(record, plan=replace(record.plan, hold=True)))
        self.ledger.announced(record.token)
        return outcome.record

    def has_ended(self, record: Record) -> bool:
        """Whether a rendered script has left an exit marker: cheap to ask of a site on this machine."""
        return any(name.startswith("exit.") for name in self._reach(record)[2].list(record.job_dir))

    def is_local(self, record: Record) -> bool:
        """Whether a job runs at a site that this machine speaks to directly."""
        return any(site.name == record.plan.site and site.transport == "local" for site in self.usable_sites)

    def log_files(self, record: Record, task: int | None = None) -> tuple[str, ...]:
        """Return the paths of a job's outputs: one, or one for each task of an array that has begun."""
        if not record.log:
            return ()
        if task is not None or "%a" not in record.log:
            return (following.log_path(record, task),)
        directory, name = following.log_names(record)
        there = [match for entry in self._reach(record)[2].list(directory) if (match := name.fullmatch(entry))]
        return tuple(f"{directory}/{match[0]}" for match in sorted(there, key=lambda match: int(match[1])))

    def read_log(self, record: Record, path: str, *, offset: int = 0) -> bytes | None:
        """Return what an output holds from `offset` (bytes) on; None if there is none yet."""
        return self._reach(record)[2].read(path, offset=offset)

    def fetch(self, record: Record, destination: Path) -> tuple[tuple[Path, ...], tuple[str, ...]]:
        """Bring a job's outputs here; return where they lie now, and in words what could not be brought."""
        transport = self._reach(record)[2]
        brought, faults = [], []
        for output in record.plan.outputs:
            target = destination / output.rstrip("/")
            try:
                if transport.get(str(PurePosixPath(work_dir(record)) / output), str(target)):
                    brought.append(target)
                else:
                    faults.append(f"{output}: there is none")
            except TransportError as error:
                faults.append(f"{output}: {error.message}")
        return tuple(brought), tuple(faults)


def work_dir(record: Record) -> str:
    """Return the directory at the site in which a job runs."""
    if record.plan.cwd:
        return record.plan.cwd
    return f"{record.job_dir}/{WORK}" if record.plan.workdir else record.job_dir


def _files(plan: Plan, scheduler: Scheduler) -> list[StagedFile]:
    folder = Path(__file__).parent / "on_site"
    on_site = [
        StagedFile(path=name, content=(folder / name).read_bytes(), executable=True) for name in scheduler.on_site
    ]
    return [StagedFile(path=SCRIPT, content=plan.script, executable=True), *on_site, *plan.staged]


def _submission(record: Record) -> Submission:
    plan = record.plan
    return Submission(
        token=record.token,
        job_dir=record.job_dir,
        script=plan.script_path or f"{record.job_dir}/{SCRIPT}",
        options=plan.options,
        args=plan.args,
        cwd=plan.cwd or record.job_dir,
        hold=plan.hold,
        marker=plan.marker,
    )


def _received(answer: CommandResult | HpcError) -> CommandResult:
    if isinstance(answer, HpcError):
        raise answer
    return answer


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

"""The imperative shell: plan, submit, status, cancel, logs. It joins what decides with what touches the world.

Every change passes through the ledger first: what is not written down there is not done at a site.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cache, cached_property
from pathlib import Path, PurePosixPath

from hybridhpc import following, registry
from hybridhpc.array_tasks import ArrayTasks, ask_array_tasks
from hybridhpc.clock import Clock, now
from hybridhpc.config import Paths, find_paths, working_directory
from hybridhpc.errors import HpcError, TransportError, Undecided
from hybridhpc.ledger.base import AGENT, SWEEP_BYTES, Phase, Record
from hybridhpc.ledger.sqlite import SqliteLedger
from hybridhpc.model import JobState, JobStatus
from hybridhpc.planning import Planner
from hybridhpc.schedulers.base import Room, Scheduler
from hybridhpc.script.plan import Plan, asked_for
from hybridhpc.secret_files import forget
from hybridhpc.sites.site import InvalidSite, Site
from hybridhpc.submitting import Outcome, Submitter, Told, job_root, silent, taken_up
from hybridhpc.transports.base import MAX_OUTPUT, Transport
from hybridhpc.work_dirs import is_sweep, log_names, log_path, work_dirs

IDS_AT_ONCE = 500
"""Job ids on one command line."""


class Client:
    """One person on one machine: their sites, their ledger."""

    def __init__(self, env: Mapping[str, str], cwd: str | None = None, clock: Clock = now) -> None:
        self.env = env
        self._cwd = cwd
        self.clock = clock
        self.paths: Paths = find_paths(env)

    @property
    def cwd(self) -> str:
        """The directory that is worked in: the process's own if no other was given. Raises NotFound if it is gone."""
        return self._cwd or working_directory()

    @cached_property
    def sites(self) -> tuple[Site | InvalidSite, ...]:
        """All sites, broken ones too."""
        return registry.load_sites(self.paths)

    def anew(self) -> Client:
        """Return a client that reads site files anew, with the same ledger."""
        other = Client(self.env, self._cwd, self.clock)
        other.ledger = self.ledger
        return other

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
        sites = [known[name] for name in sorted(named)] if named <= set(known) - {"auto"} else self.sites
        own_jobs = cache(lambda: frozenset(record.ref for record in self.ledger.records(live_only=True)))
        return Planner(sites, self.env, self.clock, outcomes=self.ledger.outcomes, own_jobs=own_jobs)

    @property
    def _submitter(self) -> Submitter:
        return Submitter(self.sites, self.env, self.ledger, self.clock)

    def take_up(self, requests: Sequence[str], told: Told = silent) -> dict[str, tuple[Outcome | HpcError, ...]]:
        """Finish the submissions of these requests that were interrupted; return what became of each, by request.

        A sweep is one submission: all of its jobs of a request come together.
        """
        found = self.ledger.interrupted(requests, now=self.clock())
        records = [record for group in found.values() for record in group]
        ended = dict(zip((record.token for record in records), self._submitter.carry_out(records, told), strict=True))
        return {request: tuple(taken_up(ended[record.token]) for record in group) for request, group in found.items()}

    def submit(
        self, jobs: Sequence[tuple[Plan, str]], *, sweep: str = "", told: Told = silent
    ) -> tuple[Outcome | HpcError, ...]:
        """Submit plans, each with its request, exactly once: intents in the ledger, jobs at the sites, their ids.

        Of each job comes what became of it: an Outcome, SchedulerError if the scheduler refused, Undecided or
        TransportError if it is unknown: repeating the command then finds out. `sweep`: the id of the sweep they make.
        """
        return self._submitter.submit(jobs, sweep=sweep, told=told)

    def room(self, plan: Plan) -> Room | None:
        """Ask how many more jobs of a plan's account and QOS its site lets the person submit; None: it does not say."""
        site = registry.site_named(self.sites, plan.site)
        scheduler = registry.scheduler(site.scheduler)
        if (question := scheduler.room_command(site)) is None:
            return None
        try:
            answer = registry.transport(site, self.env).run(question)
        except TransportError:
            return None  # what it takes is found out by submitting
        return scheduler.parse_room(answer, asked_for(plan, "account"), asked_for(plan, "qos"))

    def new_sweep(self, name: str) -> str:
        """Return an id for a sweep: its name, and what tells it from others of that name."""
        return f"{name}-{os.urandom(SWEEP_BYTES).hex()}"

    def carry_out(self, records: Sequence[Record], prepare: Callable[[Record], None]) -> tuple[Outcome | HpcError, ...]:
        """Bring intents that are owned to their end, and return what became of each. `prepare`: see Submitter."""
        return Submitter(self.sites, self.env, self.ledger, self.clock, prepare=prepare).carry_out(records)

    def announce(self, records: Sequence[Record]) -> None:
        """Write down that the person has been told the refs."""
        self.ledger.announced([record.token for record in records])

    def reach(self, record: Record) -> tuple[Site, Scheduler, Transport]:
        """Return a job's site and how it is spoken to. Raises HpcError if its file is gone or broken."""
        site = registry.site_named(self.sites, record.site)
        return site, registry.scheduler(site.scheduler), registry.transport(site, self.env)

    def job_root(self, site: str) -> str:
        """Return the directory at a site that holds a directory for each job."""
        place = registry.site_named(self.sites, site)
        return job_root(place, registry.transport(place, self.env))

    def refresh(self, records: Sequence[Record]) -> tuple[Record, ...]:
        """Ask the sites about jobs that are not final, write down what they say, and return the records as they are."""
        statuses = self.look(records)
        return tuple(
            following.apply(record, statuses[record.token]) if record.token in statuses else record
            for record in records
        )

    def look(self, records: Sequence[Record]) -> dict[str, JobStatus]:
        """Ask the sites about jobs that are not final, write down what they say, and return it by token."""
        statuses = following.ask(records, self.sites, self.env, self.clock)
        by_token = {record.token: record for record in records}
        certain = [
            (by_token[token], status) for token, status in statuses.items() if status.state is not JobState.UNKNOWN
        ]
        # Before their ends are written down: who is killed in between asks, and does this, again.
        with suppress(HpcError):
            self.forget_secrets([record for record, status in certain if status.state.final])
        if certain:
            self.ledger.seen(certain)
        return statuses

    def over(self, records: Sequence[Record]) -> list[bool]:
        """Say of each job whether it has ended and nothing follows: an agent may be about to make a new attempt."""
        doubtful = [
            record.state.final and not (record.settled or record.state is JobState.COMPLETED) for record in records
        ]
        agent = any(doubtful) and self.ledger.leased(AGENT, now=self.clock())
        return [
            record.state.final and not (agent and may_go_on)
            for record, may_go_on in zip(records, doubtful, strict=True)
        ]

    def latest(self, records: Sequence[Record]) -> tuple[Record, ...]:
        """Return jobs with what an agent made of those that had ended, or whose submission is not through."""
        over = self.over(records)
        stale = [
            record.phase is Phase.INTENT or (record.state.final and not done)
            for record, done in zip(records, over, strict=True)
        ]
        return tuple(
            self.ledger.current([record.token])[0] if again else record
            for record, again in zip(records, stale, strict=True)
        )

    def ask_again(self, ended: Sequence[Record]) -> dict[str, JobStatus]:
        """Ask about jobs that have ended as far as is known, and write nothing down; return what is said, by token."""
        return following.ask(
            [replace(record, state=JobState.UNKNOWN) for record in ended], self.sites, self.env, self.clock
        )

    def forget_secrets(self, over: Sequence[Record]) -> None:
        """Remove what attempts that are over were killed too soon to remove. Repeating it is harmless.

        Raises HpcError if a site cannot be reached.
        """
        by_site: dict[str, list[Record]] = {}
        for record in over:
            if record.plan.secrets:
                by_site.setdefault(record.site, []).append(record)
        faults = []
        for records in by_site.values():
            try:
                forget(self.reach(records[0])[2], [record.job_dir for record in records])
            except HpcError as fault:
                faults.append(fault)
        if faults:
            raise faults[0]

    def cancel(self, records: Sequence[Record]) -> tuple[Record, ...]:
        """Cancel jobs, pending or running, those of a site together. Final ones stay as they are; none is tried anew.

        Raises SchedulerError, TransportError, and Undecided if one is being submitted right now.
        """
        unwanted = self.ledger.unwant([record.token for record in records])
        begun = [self._finish_held(record) if record.phase is Phase.INTENT else record for record in unwanted]
        by_site: dict[str, list[Record]] = {}
        for record in self.refresh(begun):
            # What its scheduler does not know may have left its id to another job.
            if not record.state.final and record.reason != following.GONE:
                by_site.setdefault(record.site, []).append(record)
        for living in by_site.values():
            site, scheduler, transport = self.reach(living[0])
            for at in range(0, len(living), IDS_AT_ONCE):
                ids = [record.job_id for record in living[at : at + IDS_AT_ONCE]]
                scheduler.parse_cancel(transport.run(scheduler.cancel_command(site, ids)))
        return self.refresh(begun)

    def cancel_task(self, record: Record, task: int) -> Record:
        """Cancel one task of an array. Raises SchedulerError or TransportError."""
        site, scheduler, transport = self.reach(record)
        scheduler.parse_cancel(transport.run(scheduler.cancel_command(site, [f"{record.job_id}_{task}"])))
        return self.refresh([record])[0]

    def _finish_held(self, record: Record) -> Record:
        """Bring an interrupted submission to its end without releasing it: only then is its id sure to be known."""
        if not self.ledger.own([record]):
            raise Undecided(f"{record.name} is being submitted right now", hint="cancel it once its ref was printed")
        (outcome,) = self._submitter.carry_out([record], hold=True)
        if isinstance(outcome, HpcError):
            raise outcome
        self.ledger.announced([record.token])
        return outcome.record

    def tasks(self, arrays: Sequence[Record]) -> ArrayTasks:
        """Return what is known now of each task of arrays: of what has ended no site is asked for long."""
        return ask_array_tasks(arrays, self.sites, self.env)

    def has_ended(self, record: Record) -> bool:
        """Whether a rendered script has left an exit marker: cheap to ask of a site on this machine."""
        return any(name.startswith("exit.") for name in self.reach(record)[2].list(record.job_dir))

    def is_local(self, record: Record) -> bool:
        """Whether a job runs at a site that this machine speaks to directly."""
        return any(site.name == record.site and site.transport == "local" for site in self.usable_sites)

    def log_files(self, record: Record, task: int | None = None) -> tuple[str, ...]:
        """Return the paths of a job's outputs: one, or one for each task of an array that has begun."""
        if not record.log:
            return ()
        if task is not None or "%a" not in record.log:
            return (log_path(record, task),)
        directory, name = log_names(record)
        there = [match for entry in self.reach(record)[2].list(directory) if (match := name.fullmatch(entry))]
        return tuple(f"{directory}/{match[0]}" for match in sorted(there, key=lambda match: int(match[1])))

    def read_log(self, record: Record, path: str, *, offset: int = 0, limit: int = MAX_OUTPUT) -> bytes | None:
        """Return at most `limit` bytes of what an output holds from `offset` (bytes) on; None if there is none yet."""
        return self.reach(record)[2].read(path, offset=offset, limit=limit)

    def fetch(self, record: Record, destination: Path) -> tuple[tuple[Path, ...], tuple[tuple[str, str], ...]]:
        """Bring a job's outputs here; return where they lie now, and what could not be: of which point, and why.

        Of a sweep each point has a directory of its own, named by its index. What a point that did not run again left
        lies with an earlier attempt.
        """
        attempts = self.ledger.attempts(record.token)[: record.attempt][::-1] if is_sweep(record) else (record,)
        homes = [(self.reach(each)[2], work_dirs(each)) for each in attempts]
        brought, faults = [], []
        for point in homes[-1][1]:
            there = [(transport, directories[point]) for transport, directories in homes if point in directories]
            for output in record.plan.outputs:
                target = destination / point / output.rstrip("/")
                if fault := _bring(there, output, target):
                    faults.append((point, f"{output}: {fault}"))
                else:
                    brought.append(target)
        return tuple(brought), tuple(faults)


def _bring(there: Sequence[tuple[Transport, str]], output: str, target: Path) -> str:
    """Bring an output from the first of these places that has it; return why there is none, empty if there is."""
    try:
        found = any(transport.get(str(PurePosixPath(home) / output), str(target)) for transport, home in there)
    except TransportError as error:
        return error.message
    return "" if found else "there is none"

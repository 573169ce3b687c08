"""One new attempt of a job: where it goes, what it brings along, and how the one before it is taken back.

Every step is written down before it is done, and may be repeated wherever it was cut: propose, take back, begin, bring
the checkpoint, submit. Who does it owns the job meanwhile (the lock that a submission takes, too).
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace

from hybridhpc import evidence, remnants
from hybridhpc.client import Client
from hybridhpc.command import Command, Errand, Folder
from hybridhpc.decide.recover import CERTAIN_AFTER, Cause
from hybridhpc.errands import on_site
from hybridhpc.errors import HpcError, NotFound, TransportError, Unreached
from hybridhpc.journal import Journal
from hybridhpc.ledger.base import Phase, Record
from hybridhpc.model import JobSpec, JobState, Usd, Work
from hybridhpc.planning import Planner, Wish
from hybridhpc.schedulers.base import Taken, Withdrawal
from hybridhpc.script.plan import Plan
from hybridhpc.spec.dependencies import is_met
from hybridhpc.submitting import Outcome
from hybridhpc.values import dataclass
from hybridhpc.work_dirs import CARRIED, is_sweep, work_dirs

_CLOSE = '[ ! -d "$1" ] || : >"$1/followed"'
"""Leaves the sign for which a rendered script looks before it begins."""
_COPY = '[ -d "$1" ] || exit 0; umask 077; mkdir -p -- "$2" && cp -a -- "$1/." "$2"'
_AFTER = re.compile(r"after(\w*):(\d+)")
_ABSENT = Withdrawal(taken=Taken.ABSENT, why="its scheduler does not know it")
_COPYING = 1800.0
"""Seconds that copying a checkpoint may take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempts:
    """Makes new attempts for one person."""

    client: Client
    journal: Journal

    @contextmanager
    def owned(self, record: Record) -> Iterator[Record | None]:
        """Own a job meanwhile, and give it as it is now; None if somebody else is at work on it."""
        ledger = self.client.ledger
        if not ledger.own([record], as_agent=True):
            yield None
            return
        try:
            yield ledger.current([record.token])[0]
        finally:
            ledger.disown([record])

    def spec(self, record: Record) -> JobSpec | None:
        """Return what the person asked for at first; None in ledgers of before there were new attempts."""
        return self.client.ledger.attempts(record.token)[0].plan.spec

    def wish(self, record: Record, *, spent: float, avoid: str = "") -> Wish | None:
        """Return what a new attempt is planned from: the first one's spec, with the money and the tasks that are left.

        None where that is not known. Raises TransportError.
        """
        first, last = self.spec(record), record.plan.spec
        if first is None or last is None:
            return None
        spec = replace(first, array=last.array)
        if record.state.final:
            spec = evidence.still_to_run(record, spec, self.client.reach(record)[2])
        if spec.goal is not None and spec.goal.max_cost is not None:
            left = Usd(max(0.0, spec.goal.max_cost - spent))
            spec = replace(spec, goal=replace(spec.goal, max_cost=left))
        spec = replace(spec, where=_places(spec, record, avoid))
        return Wish(
            spec=spec, request="", cwd=record.plan.cwd or self.client.cwd, dependencies=self.dependencies(record)
        )

    def dependencies(self, record: Record) -> tuple[tuple[str, str, str], ...]:
        """Return what an attempt that never began still has to wait for, as the present attempts of those jobs.

        What can never be met any more stays as it is.
        """
        found = []
        for kind, site, job_id in _awaited(record):
            try:
                other = self.client.ledger.find(f"{site}:{job_id}")
            except NotFound:
                found.append((kind, site, job_id))
                continue
            met = is_met(kind, other.state)
            if met is None and other.job_id:
                found.append((kind, other.site, other.job_id))
            elif not met:
                found.append((kind, site, job_id))
        return tuple(found)

    def waits_in_vain(self, record: Record) -> bool:
        """Whether a job comes after an attempt that another one has followed."""
        return self.dependencies(record) != _awaited(record)

    def may_follow(self, record: Record) -> bool:
        """Whether what a job comes after has, or may have yet, another attempt."""
        for _, site, job_id in _awaited(record):
            with suppress(NotFound):
                if not self.client.ledger.find(f"{site}:{job_id}").settled:
                    return True
        return self.waits_in_vain(record)

    def why_refused(self, record: Record) -> Cause:
        """Tell a refusal from a scheduler that was not reached."""
        told = [event.kind for event in self.client.ledger.events(record.token) if event.attempt == record.attempt]
        last = next((kind for kind in reversed(told) if kind.startswith("not_")), "")
        return Cause.UNREACHED if last == "not_reached" else Cause.REFUSED

    def plan(self, wish: Wish, planner: Planner) -> Plan | None:
        """Plan a new attempt; None if no site will do now."""
        plans = planner.plan(wish, self.client.ledger.history()).plans
        return plans[0] if len(plans) == 1 else None

    def make(self, record: Record, plan: Plan, kind: str, why: str) -> Record | None:
        """Make a new attempt of a job whose last one is over; None if the person cancelled it meanwhile."""
        if not self._propose(record, plan):
            return None
        self._close(record)
        begun = self._begin(record, kind, why)
        if begun is None:
            self.client.ledger.drop_proposal(record)
        return begun

    def _close(self, record: Record) -> None:
        """See to it that an attempt does not run, though its controller forgot that it was cancelled or lost."""
        argv = ("sh", "-c", _CLOSE, "sh", record.job_dir)
        closed = self.client.reach(record)[2].run(Command(argv=argv))
        if not closed.ok:
            raise TransportError(f"{record.job_dir} cannot be written to: {closed.complaint}")

    def _begin(self, record: Record, kind: str, why: str) -> Record | None:
        """Begin the attempt that is proposed to follow one that is over; None if the person cancelled it meanwhile."""
        self.client.forget_secrets([record])
        begun = self.client.ledger.begin(record, kind=kind, why=why, now=self.client.clock())
        if begun is None:
            return None
        self.journal.last(record)
        return self.carry_on(begun)

    def move(self, record: Record, plan: Plan, why: str) -> Record | None:
        """Place a pending job anew: it is taken back first, and stays if it began meanwhile."""
        if not self._propose(record, plan):
            return None
        self.journal.tell(record, "moving", f"to {plan.site}/{plan.partition}: {why}")
        return self.take_back(record)

    def _propose(self, record: Record, plan: Plan) -> bool:
        root = self.client.job_root(plan.site)
        return self.client.ledger.propose(record, plan, job_root=root) is not None

    def take_back(self, record: Record, *, absent_for: float | None = None) -> Record | None:
        """Take a job back for which another attempt is proposed, and begin that. Raises HpcError: repeat it.

        `absent_for`: its scheduler has not known it for so long, so that its id may be another's; None: it does.
        """
        if record.phase is Phase.REFUSED:
            # Nothing to take back: who made the proposal was cut off, and what follows is thought of anew.
            self.client.ledger.drop_proposal(record)
            return None
        found = _ABSENT if absent_for is not None else self._withdraw(record)
        back = _is_back(record, found, absent_for)
        if back:
            # Before the markers are read: a script makes its own first and looks for the sign then.
            self._close(record)
        markers = evidence.read_markers(self.client.reach(record)[2], record.job_dir)
        never_began = record.started_at is None and not markers.begun
        if back and (never_began or record.restarts):
            return self._follow(record, found)
        if found.taken is Taken.ABSENT and never_began:
            return None  # not known for long enough yet
        self.journal.tell(record, "unable" if found.taken is Taken.UNABLE else "stayed", found.why)
        self.client.ledger.drop_proposal(record)
        return None

    def _follow(self, record: Record, found: Withdrawal) -> Record | None:
        """Begin the attempt that follows one that was taken back, as soon as that one certainly stays away."""
        absent = found.taken is Taken.ABSENT
        if not (absent or _heeds_sign(record) or self._is_lasting(record, found)):
            return None
        if begun := self._begin(record, "moved", found.why):
            return begun
        self.journal.tell(record, "dropped", "it was taken back, and you cancelled it meanwhile")
        self.client.ledger.drop_proposal(record)
        return None

    def _is_lasting(self, record: Record, found: Withdrawal) -> bool:
        """Whether its controller remembers that it was cancelled, even if it is killed now: not if it has just been."""
        tell = self.journal.tell if found.taken is Taken.BACK else self.journal.tell_once
        since = tell(record, "taken_back", "it goes elsewhere as soon as its controller cannot have forgotten that")
        return self.client.clock() - since >= remnants.FORGETS

    def _withdraw(self, record: Record) -> Withdrawal:
        site, scheduler, transport = self.client.reach(record)
        errand = Errand(
            command=scheduler.withdraw_command(site, record.job_id, record.job_dir, record.restarts),
            folders=(Folder(path=record.job_dir, files=tuple(on_site(name) for name in scheduler.to_withdraw)),),
        )
        (answer,) = transport.run_all([errand], within=errand.command.timeout)
        if isinstance(answer, HpcError):
            raise answer
        return scheduler.parse_withdraw(answer)

    def carry_on(self, record: Record) -> Record:
        """Bring an attempt that is written down to its end: its checkpoint, then the job. Repeating it is harmless."""
        self._carry_out([record])
        return self.client.ledger.current([record.token])[0]

    def take_up(self, records: Sequence[Record]) -> None:
        """Bring interrupted first submissions to their end that have one owner, unless it lives."""
        with self.owned(records[0]) as mine:
            current = self.client.ledger.current([record.token for record in records]) if mine else ()
            intents = [record for record in current if record.phase is Phase.INTENT]
            for record in intents:
                self.journal.tell_once(record, "carried_on", "its submission was interrupted")
            self._carry_out(intents)

    def _carry_out(self, records: Sequence[Record]) -> None:
        for record, ended in zip(records, self.client.carry_out(records, self._bring_checkpoint), strict=True):
            if isinstance(ended, Outcome):
                notes = f" ({'; '.join(ended.notes)})" if ended.notes else ""
                place = f"{ended.record.site}/{ended.record.partition} as {ended.record.job_id}"
                self.journal.tell(ended.record, "submitted", f"to {place}{notes}")
            else:
                kind = "not_reached" if isinstance(ended, Unreached) else "not_submitted"
                self.journal.tell_once(record, kind, ended.message)

    def _bring_checkpoint(self, record: Record) -> None:
        """Copy the checkpoint of the attempt before into the directory of this one."""
        if record.attempt == 1:
            return
        before = self.client.ledger.attempts(record.token)[record.attempt - 2]
        directory = _checkpoint(record.plan.spec)
        if not directory or directory.startswith("/"):
            return
        there = work_dirs(before)
        for point, home in work_dirs(record).items():
            if point in there:
                into = f"{home}{CARRIED}" if is_sweep(record) else home
                self._carry(before, f"{there[point]}/{directory}", record, f"{into}/{directory}")

    def _carry(self, before: Record, source: str, record: Record, target: str) -> None:
        """Copy a directory of one attempt to another, by way of this machine if they are at different sites."""
        transport = self.client.reach(record)[2]
        if before.site == record.site:
            copied = transport.run(Command(argv=("sh", "-c", _COPY, "sh", source, target), timeout=_COPYING))
            if not copied.ok:
                raise TransportError(f"the checkpoint {source} cannot be copied: {copied.complaint}")
            return
        by_way = self.client.paths.state / "checkpoints" / record.token
        shutil.rmtree(by_way, ignore_errors=True)
        if self.client.reach(before)[2].get(source, str(by_way)):
            transport.put_tree(str(by_way), target)
            self.journal.tell(record, "checkpoint", f"brought from {before.site}:{source}")
        shutil.rmtree(by_way, ignore_errors=True)


def _is_back(record: Record, found: Withdrawal, absent_for: float | None) -> bool:
    """Whether a job was taken back, now or before, or is certainly gone."""
    if found.taken is not Taken.ABSENT:
        return found.taken in {Taken.BACK, Taken.EARLIER}
    long_gone = absent_for is not None and absent_for >= CERTAIN_AFTER
    return long_gone or (_heeds_sign(record) and record.state is JobState.CANCELLED)


def _heeds_sign(record: Record) -> bool:
    """Whether its script looks for the sign that another attempt has followed; one that is taken as it is does not."""
    return record.plan.spec is not None and isinstance(record.plan.spec.payload, Work)


def _checkpoint(spec: JobSpec | None) -> str:
    """Return where a job keeps its checkpoint, relative to the directory in which it runs, or absolute."""
    work = spec.payload if spec is not None else None
    return work.checkpoint.directory.rstrip("/") if isinstance(work, Work) and work.checkpoint else ""


def _awaited(record: Record) -> tuple[tuple[str, str, str], ...]:
    """Return what an attempt was submitted to come after: kind, site and job id; nothing if it has begun."""
    if record.started_at is not None:
        return ()
    options = [option for option in record.plan.options if option.startswith("--dependency=")]
    found = (match for option in options for match in _AFTER.findall(option))
    return tuple((kind or "start", record.site, job_id) for kind, job_id in found)


def _places(spec: JobSpec, record: Record, avoid: str) -> tuple[str, ...]:
    """Return where a new attempt may go. A checkpoint with an absolute path is at one site, and so is the job then."""
    if _checkpoint(spec).startswith("/") and record.started_at is not None:
        return (record.site,)
    return (*spec.where, f"!{avoid}") if avoid else spec.where

"""From plans to jobs, many at once: intents in the ledger, one errand for each job at its site, ids in the ledger.

Every step is written down before and after it is done, so that a submission may be cut at any point and carried out
again. Each job has an outcome of its own: what goes wrong with one says nothing about the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

from hybridhpc import registry
from hybridhpc.clock import Clock
from hybridhpc.command import CommandResult, Errand
from hybridhpc.errands import Place, errand
from hybridhpc.errors import HpcError, NotFound, SchedulerError, TransportError, Undelivered
from hybridhpc.ledger.base import Intent, Ledger, Phase, Record
from hybridhpc.schedulers.base import Scheduler, Submitted
from hybridhpc.script.plan import Plan, demand
from hybridhpc.secret_files import forget
from hybridhpc.sites.site import InvalidSite, Site
from hybridhpc.transports.base import Transport
from hybridhpc.values import dataclass

AT_ONCE = 128
"""Jobs submitted to a site between two looks at what became of them; their ids are written down together."""

RELEASED_TOGETHER = 16
"""Jobs that one command releases: a scheduler answers several such commands at once faster than a long one."""

Told = Callable[[int, int], None]
"""Is told how many jobs of how many are through."""
_NOT_TRIED = "it was not tried: the site did not answer for those before it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A job that is submitted, what the site changed or could not promise, and whether an earlier command began it."""

    record: Record
    notes: tuple[str, ...] = ()
    taken_up: bool = False


def silent(done: int, of: int) -> None:
    """Tell nobody."""


def taken_up(ended: Outcome | HpcError) -> Outcome | HpcError:
    """Say of an outcome that an earlier command began it."""
    return replace(ended, taken_up=True) if isinstance(ended, Outcome) else ended


def job_root(site: Site, transport: Transport) -> str:
    """Return the absolute directory at a site that holds `TOKEN/ATTEMPT/`."""
    return transport.resolve(site.job_root or "~/.hybridhpc/jobs")


class Submitter:
    """Carries out submissions for one person: their sites, their ledger."""

    def __init__(
        self,
        sites: Sequence[Site | InvalidSite],
        env: Mapping[str, str],
        ledger: Ledger,
        clock: Clock,
        *,
        prepare: Callable[[Record], None] = lambda record: None,
    ) -> None:
        """`prepare` brings what else a job needs, after its workdir; not called for one that was sent."""
        self._sites = tuple(sites)
        self._env = env
        self._ledger = ledger
        self._clock = clock
        self._prepare = prepare

    def submit(
        self, jobs: Sequence[tuple[Plan, str]], *, sweep: str = "", told: Told = silent
    ) -> tuple[Outcome | HpcError, ...]:
        """Write down what is wished, each plan with its request, and carry it out."""
        places = {name: self._place(name) for name in {plan.site for plan, _ in jobs}}
        roots = {name: job_root(place.site, place.transport) for name, place in places.items()}
        intents = [Intent(plan=plan, request=request, job_root=roots[plan.site]) for plan, request in jobs]
        records = self._ledger.intend(intents, sweep=sweep, now=self._clock())
        return self.carry_out(records, told, fresh=True)

    def carry_out(
        self, records: Sequence[Record], told: Told = silent, *, fresh: bool = False, hold: bool = False
    ) -> tuple[Outcome | HpcError, ...]:
        """Bring intents to their end, and return what became of each. Repeating it is harmless, wherever it was cut.

        `fresh`: nothing was sent before, so if files cannot be put there, there is no job. `hold`: none is released.
        """
        ended: dict[str, Outcome | HpcError] = {
            record.token: Outcome(record=record) for record in records if record.phase is Phase.SUBMITTED
        }
        by_site: dict[str, list[Record]] = {}
        for record in records:
            if record.token not in ended:
                by_site.setdefault(record.site, []).append(record)
        for name, waiting in by_site.items():
            for found in self._at_site(name, waiting, fresh=fresh, hold=hold):
                ended |= found
                told(len(ended), len(records))
        return tuple(ended[record.token] for record in records)

    def _at_site(
        self, name: str, records: Sequence[Record], *, fresh: bool, hold: bool
    ) -> Iterator[dict[str, Outcome | HpcError]]:
        """Yield, chunk by chunk, what became of jobs at one site. If none of a chunk arrived, the rest is not tried."""
        try:
            place = self._place(name)
        except HpcError as error:
            yield {record.token: error for record in records}
            return
        answering = True
        demands = {record.token: demand(record.plan) for record in records}
        accepted: set[object] = set()
        for chunk in _chunks(records, demands):
            apart = hold or not fresh
            trusted = frozenset(
                each.token for each in chunk if not apart and demands[each.token] in accepted and not each.plan.hold
            )
            unheard = [Undelivered(_NOT_TRIED)] * len(chunk)
            answers = _answers(place, chunk, hold=hold, fresh=fresh, trusted=trusted) if answering else unheard
            found = self._settle(place, chunk, answers, fresh=fresh)
            answering = any(isinstance(ended, Outcome | SchedulerError | NotFound) for ended in found.values())
            accepted |= {demands[token] for token, ended in found.items() if isinstance(ended, Outcome)}
            yield found

    def _settle(
        self, place: Place, records: Sequence[Record], answers: Sequence[Submitted | HpcError], *, fresh: bool
    ) -> dict[str, Outcome | HpcError]:
        """Write down what became of jobs: all ids in one go, all refusals in another."""
        by_token = {record.token: answer for record, answer in zip(records, answers, strict=True)}
        errors = {token: answer for token, answer in by_token.items() if isinstance(answer, HpcError)}
        submitted = {token: answer for token, answer in by_token.items() if isinstance(answer, Submitted)}
        refused = {token: error.message for token, error in errors.items() if _is_refusal(error, fresh=fresh)}
        if refused:
            with suppress(TransportError):  # an agent tries again
                forget(place.transport, [job.job_dir for job in records if job.token in refused and job.plan.secrets])
            self._ledger.refused(refused, now=self._clock())
        known = self._ledger.submitted(submitted, now=self._clock()) if submitted else ()
        return {**errors, **{job.token: Outcome(record=job, notes=submitted[job.token].notes) for job in known}}

    def _place(self, name: str) -> Place:
        site = registry.site_named(self._sites, name)
        return Place(
            site=site,
            scheduler=registry.scheduler(site.scheduler),
            transport=registry.transport(site, self._env),
            env=self._env,
            prepare=self._prepare,
        )


def _chunks(records: Sequence[Record], demands: Mapping[str, object]) -> Iterator[Sequence[Record]]:
    """Yield jobs in chunks, first one of each that ask for the same."""
    first = {demands[record.token]: record for record in reversed(records)}
    heads = [record for record in records if first[demands[record.token]] is record]
    rest = [record for record in records if first[demands[record.token]] is not record]
    for part in (heads, rest):
        yield from (part[at : at + AT_ONCE] for at in range(0, len(part), AT_ONCE))


def _answers(
    place: Place, records: Sequence[Record], *, hold: bool, fresh: bool, trusted: frozenset[str]
) -> list[Submitted | HpcError]:
    """Do the errands of jobs at their site; what went wrong with one is its answer."""
    errands = [errand(place, record, hold=hold, fresh=fresh, trusted=record.token in trusted) for record in records]
    answers = _run(place, errands)
    left_held = [
        number
        for number, (record, answer) in enumerate(zip(records, answers, strict=True))
        if record.token in trusted and isinstance(answer, CommandResult)
    ]
    found = [_read(place.scheduler, answer) for answer in answers]
    for number, released in zip(left_held, _release(place, [answers[number] for number in left_held]), strict=True):
        if isinstance(found[number], Submitted) and released is None:
            # Whatever kept it from being released with the others is found out and said by its own submission.
            (answer,) = _run(place, [errand(place, records[number], hold=hold, fresh=False, trusted=False)])
            found[number] = _read(place.scheduler, answer)
        elif isinstance(found[number], Submitted) and released is not None:
            found[number] = released
    return found


def _release(place: Place, answers: Sequence[CommandResult | HpcError]) -> list[Submitted | None]:
    """Release what was left held, some together and several times that side by side."""
    held = [answer for answer in answers if isinstance(answer, CommandResult)]
    lots = [held[at : at + RELEASED_TOGETHER] for at in range(0, len(held), RELEASED_TOGETHER)]
    commands = [place.scheduler.release_command(place.site, lot) for lot in lots]
    told = iter(_run(place, [Errand(command=command) for command in commands if command]))
    found: list[Submitted | None] = []
    for lot, command in zip(lots, commands, strict=True):
        answer = next(told) if command else None
        if isinstance(answer, CommandResult):
            found += place.scheduler.parse_released(answer, lot)
        else:
            found += [None if command else _submitted(place.scheduler, each) for each in lot]
    return found


def _run(place: Place, errands: Sequence[Errand | HpcError]) -> list[CommandResult | HpcError]:
    """Do errands; one that could not be made is its own answer."""
    sent = [errand for errand in errands if isinstance(errand, Errand)]
    within = max((errand.command.timeout for errand in sent), default=0)
    answers = iter(place.transport.run_all(sent, within=within) if sent else ())
    return [next(answers) if isinstance(each, Errand) else each for each in errands]


def _submitted(scheduler: Scheduler, answer: CommandResult) -> Submitted | None:
    read = _read(scheduler, answer)
    return read if isinstance(read, Submitted) else None


def _read(scheduler: Scheduler, answer: CommandResult | HpcError) -> Submitted | HpcError:
    try:
        return answer if isinstance(answer, HpcError) else scheduler.parse_submit(answer)
    except HpcError as error:
        return error


def _is_refusal(error: HpcError, *, fresh: bool) -> bool:
    """Whether there is certainly no job."""
    return isinstance(error, SchedulerError) or (fresh and isinstance(error, NotFound | Undelivered))

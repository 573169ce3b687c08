"""From plans to jobs, many at once: intents in the ledger, one errand for each job at its site, ids in the ledger.

Every step is written down before and after it is done, so that a submission may be cut at any point and carried out
again. Each job has an outcome of its own: what goes wrong with one says nothing about the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from math import ceil
from pathlib import PurePosixPath

from hybridhpc import registry
from hybridhpc.clock import Clock
from hybridhpc.errands import Job, Place, errand, prepare
from hybridhpc.errors import HpcError, NotFound, SchedulerError, TransportError, Undecided, Undelivered
from hybridhpc.ledger.base import Intent, Ledger, Phase, Record
from hybridhpc.schedulers.base import Submitted
from hybridhpc.script.plan import Plan, demand
from hybridhpc.secret_files import forget
from hybridhpc.sites.site import InvalidSite, Site
from hybridhpc.transports.base import Transport
from hybridhpc.values import dataclass

AT_ONCE = 128
"""Jobs submitted to a site between two looks at what became of them; their ids are written down together."""

Told = Callable[[int, int], None]
"""Is told how many jobs of how many are through."""
_NOT_TRIED = "it was not tried: the site took none of those before it"


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
        """Write down what is wished, each plan with its request, and carry it out.

        Of a site that cannot be spoken to nothing is written down; the others take theirs.
        """
        roots = {name: self._root(name) for name in dict.fromkeys(plan.site for plan, _ in jobs)}
        intents = [
            Intent(plan=plan, request=request, job_root=root)
            for plan, request in jobs
            if isinstance(root := roots[plan.site], str)
        ]
        records = self._ledger.intend(intents, sweep=sweep, now=self._clock()) if intents else ()
        ended = iter(self.carry_out(records, told, fresh=True))
        return tuple(next(ended) if isinstance(root := roots[plan.site], str) else root for plan, _ in jobs)

    def _root(self, name: str) -> str | HpcError:
        """Return where jobs lie at a site, or why it cannot be spoken to: then nothing was begun there."""
        try:
            place = self._place(name)
            return job_root(place.site, place.transport)
        except Undelivered as error:
            return error
        except TransportError as error:
            return Undelivered(error.message, hint=error.hint)
        except HpcError as error:
            return error

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
            if _is_refusal(error, fresh=fresh):
                self._ledger.refused({record.token: error.message for record in records}, now=self._clock())
            yield {record.token: error for record in records}
            return
        answering = True
        demands = {record.token: demand(record.plan) for record in records}
        accepted: set[object] = set()
        for chunk in _chunks(records, demands):
            trusted = frozenset(each.token for each in chunk if fresh and demands[each.token] in accepted)
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
            for record in records:
                if record.token in refused and (evidence := errors[record.token].evidence):
                    self._ledger.tell(record, "refused", evidence, now=self._clock())
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
    prepared = {
        record.token: prepare(place, record, hold=hold, fresh=fresh, trusted=record.token in trusted)
        for record in records
    }
    jobs = [job for job in prepared.values() if isinstance(job, Job)]
    found: dict[str, Submitted | HpcError | None] = {
        record.token: _named(place, error, record.job_dir)
        for record in records
        if isinstance(error := prepared[record.token], HpcError)
    }
    # What was begun before goes by itself.
    found |= _submitted(place, _groups(jobs, place.scheduler.lot if fresh else 1))
    # Whatever kept it from being released with the others is found out and said by its own submission. It was accepted:
    # what goes wrong now does not mean that there is no job.
    again = _submitted(place, [[job] for job in jobs if found[job.submission.token] is None])
    found |= {
        token: answer if isinstance(answer, Submitted) else _unreleased(answer) for token, answer in again.items()
    }
    return [answer for record in records if (answer := found[record.token])]


def _unreleased(error: HpcError | None) -> Undecided:
    why = error.message if error else "no answer"
    return Undecided(f"it is submitted, but whether it was released is not known: {why}", hint="repeat the command")


def _groups(jobs: Sequence[Job], most: int) -> list[list[Job]]:
    """Divide jobs into what one errand submits: those that hide the same go in few lots; what stays held, by itself."""
    together: dict[tuple[str, ...], list[Job]] = {}
    for job in jobs:
        if not job.submission.hold:
            together.setdefault(job.hidden, []).append(job)
    groups = [[job] for job in jobs if job.submission.hold]
    for lots in together.values():
        size = ceil(len(lots) / ceil(len(lots) / most))
        groups += [lots[at : at + size] for at in range(0, len(lots), size)]
    return groups


def _submitted(place: Place, groups: Sequence[Sequence[Job]]) -> dict[str, Submitted | HpcError | None]:
    """Submit groups of jobs, an errand for each; None for a job that is to be submitted again by itself."""
    errands = [errand(place, group) for group in groups]
    within = max((errand.command.timeout for errand in errands), default=0)
    answers = place.transport.run_all(errands, within=within) if errands else ()
    found: dict[str, Submitted | HpcError | None] = {}
    for group, answer in zip(groups, answers, strict=True):
        submissions = [job.submission for job in group]
        if isinstance(answer, HpcError):
            parsed: Sequence[Submitted | HpcError | None] = [_named(place, answer, submissions[0].job_dir)] * len(group)
        else:
            parsed = place.scheduler.parse_submit(answer, submissions)
        found |= {each.token: told for each, told in zip(submissions, parsed, strict=True)}
    return found


def _named(place: Place, error: HpcError, job_dir: str) -> HpcError:
    """Say of an error at which site it was met, and of a directory that cannot be used where that is written."""
    if not isinstance(error, TransportError):
        return error
    root = str(PurePosixPath(job_dir).parents[1])
    hint = f"job_root is {root}: correct it in {place.site.file or 'the settings'}, or make room there"
    named = error.message if error.message.startswith(place.site.name) else f"{place.site.name}: {error.message}"
    return type(error)(named, hint=hint if root in error.message else error.hint, evidence=error.evidence)


def _is_refusal(error: HpcError, *, fresh: bool) -> bool:
    """Whether there is certainly no job."""
    return isinstance(error, SchedulerError) or (fresh and isinstance(error, NotFound | Undelivered))

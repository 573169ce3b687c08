"""Many wishes of one command: planned together, submitted in the order of their dependencies, taken up if cut."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from hybridhpc.cli._output import tell
from hybridhpc.cli._progress import Progress
from hybridhpc.client import Client
from hybridhpc.decide.candidate import Choice, Ranking
from hybridhpc.errors import HpcError, NoCandidate, ProblemsError, SchedulerError, Undelivered, UsageError
from hybridhpc.ledger.base import Record
from hybridhpc.model import JobSpec
from hybridhpc.planning import Planned, Planner, Wish
from hybridhpc.script.plan import Plan
from hybridhpc.spec.dependencies import is_met, meant
from hybridhpc.spec.sweep import sweep_name
from hybridhpc.submitting import Outcome, Told

MEND = "mend what its scheduler names, then repeat the command"
Ended = tuple[Outcome | HpcError, ...]
"""What became of the jobs of one wish: one, or the arrays of a sweep."""


class Batch:
    """The wishes of one command, in the order of their dependencies."""

    def __init__(self, client: Client, planner: Planner, wishes: Sequence[Wish]) -> None:
        self._client = client
        self._planner = planner
        self._wishes = wishes
        self._specs = [wish.spec for wish in wishes]
        self._ended: dict[int, Ended] = {}
        self._planned: dict[int, Planned] = {}
        self._waves = list(_waves(wishes))
        self._single = False

    def take_up(self) -> None:
        """Finish what an interrupted command began of it."""
        requests = [wish.request for wish in self._wishes]
        with Progress("taken up") as progress:
            begun = self._client.take_up(requests, progress)
        for number, request in enumerate(requests):
            if request in begun:
                # A file that is named twice makes two jobs of one request: they come together.
                self._ended[number] = begun[request] if request not in requests[:number] else ()

    def plan(self, *, careful: bool) -> tuple[list[Wish], list[Planned]]:
        """Plan what is not submitted yet, each job at the site of those of this command that it comes after.

        A single job need not be planned with care: what its scheduler refuses goes elsewhere (see Planner.plan, quick).
        """
        self._single = len(self._wishes) == 1 and self._specs[0].points is None
        wishes: dict[int, Wish] = {}
        history = self._client.ledger.history()
        for wave in self._waves:
            numbers = [number for number in wave if number not in self._ended]
            ready = {number: self._ready(number) for number in numbers}
            planned = self._planner.plan_all(tuple(ready.values()), history, quick=self._single and not careful)
            self._planned |= dict(zip(numbers, planned, strict=True))
            wishes |= ready
        waiting = sorted(wishes)
        return [wishes[number] for number in waiting], [self._planned[number] for number in waiting]

    def submit(self) -> tuple[Ended, ...]:
        """Submit what is planned, and return what became of every wish."""
        sweep = self._sweep()
        for wave in self._waves:
            numbers = [number for number in wave if number not in self._ended]
            if wave is not self._waves[0]:
                numbers = self._plan_again([number for number in numbers if not self._is_orphan(number)])
            self._submit(numbers, sweep)
        if self._single and self._planned:
            self._try_elsewhere()
        return tuple(self._ended[number] for number in range(len(self._wishes)))

    def _plan_again(self, numbers: Sequence[int]) -> list[int]:
        """Plan jobs with the ids that they come after, and return those that can be placed.

        Others are submitted by now: what hinders one of these is what became of it, and is raised by nobody.
        """
        ready: dict[int, Wish] = {}
        for number in numbers:
            try:
                ready[number] = self._ready(number)
            except HpcError as error:
                self._ended[number] = (_named(self._specs[number], error),)
        try:
            planned = self._planner.plan_all(tuple(ready.values()), self._client.ledger.history())
        except HpcError as error:
            self._ended |= {number: (_named(self._specs[number], error),) for number in ready}
            return []
        self._planned |= dict(zip(ready, planned, strict=True))
        for number in ready:
            try:
                self._planned[number].chosen()
            except HpcError as error:
                self._ended[number] = (_named(self._specs[number], error),)
        return [number for number in ready if number not in self._ended]

    def _submit(self, numbers: Sequence[int], sweep: str) -> None:
        plans = {number: self._planned[number].chosen() for number in numbers}
        jobs = [(plan, self._wishes[number].request) for number in numbers for plan in plans[number]]
        if not jobs:
            return
        with Progress("submitted") as progress:
            ended = iter(self._sent(jobs, sweep, progress))
        for number in numbers:
            self._ended[number] = tuple(next(ended) for _ in plans[number])

    def _sent(self, jobs: Sequence[tuple[Plan, str]], sweep: str, told: Told) -> Ended:
        """Submit; where a site cannot be spoken to at all, nothing was written down yet and all of it failed."""
        try:
            return self._client.submit(jobs, sweep=sweep, told=told)
        except Undelivered as error:
            return (error,) * len(jobs)

    def _try_elsewhere(self) -> None:
        """Take a job that a place refused, or a site could not take, to the next best place.

        Raises NoCandidate if its schedulers all refuse it; what a site said of itself stays what became of it.
        """
        refused: dict[str, str] = {}
        while isinstance(error := self._ended[0][0], SchedulerError | Undelivered):
            ranking = self._planned[0].ranking
            winner = ranking.winner
            if winner is None or winner.candidate.key in refused:
                return
            refused |= _refused_by(ranking, winner, error)
            history = self._client.ledger.history()
            planned = self._planner.plan(self._ready(0), history, refused=refused, quick=True)
            if planned.ranking.winner is None and isinstance(error, Undelivered):
                return
            self._planned[0] = planned
            try:
                place = planned.chosen()[0]
            except NoCandidate as none:
                raise NoCandidate(none.message, hint=error.hint or MEND) from error
            goes = f"it goes to {place.site}/{place.partition}"
            tell(f"{winner.candidate.name} does not take it: {error.message}; {goes}")
            self._submit([0], "")

    def _sweep(self) -> str:
        """Return the id of the sweep they are: of the one that is taken up, a new one, none for a single job."""
        begun = [each.record.sweep for ended in self._ended.values() for each in ended if isinstance(each, Outcome)]
        if any(begun):
            return next(sweep for sweep in begun if sweep)
        if len(self._specs) == 1 and self._specs[0].points is None:
            return ""
        return self._client.new_sweep(sweep_name([spec.name for spec in self._specs]))

    def _is_orphan(self, number: int) -> bool:
        """Give up a wish that comes after one which was not submitted."""
        lost = [
            self._wishes[other].spec.name
            for other in _before(self._specs[number], self._specs)
            if any(isinstance(each, HpcError) for each in self._ended[other])
        ]
        if lost:
            message = f"{self._specs[number].name} was not submitted: it comes after {lost[0]}, which was not"
            self._ended[number] = (UsageError(message, hint="repeat the command once that is mended"),)
        return bool(lost)

    def _ready(self, number: int) -> Wish:
        done = {
            other: tuple(each.record for each in ended if isinstance(each, Outcome))
            for other, ended in self._ended.items()
        }
        wish = _with_dependencies(self._client, self._wishes[number], self._specs, done)
        before = [other for other in _before(wish.spec, self._specs) if other not in done]
        placed = [(self._specs[other].name, self._planned[other].ranking.winner) for other in before]
        return replace(wish, beside=tuple((name, place.candidate.site.name) for name, place in placed if place))


def _waves(wishes: Sequence[Wish]) -> Iterator[list[int]]:
    """Yield the numbers of wishes: first those that wait for none of the others, then those that wait for them ..."""
    specs = [wish.spec for wish in wishes]
    level: dict[int, int] = {}
    for number, spec in enumerate(specs):
        level[number] = max((level[other] + 1 for other in _before(spec, specs)), default=0)
    for depth in range(max(level.values(), default=0) + 1):
        yield [number for number in level if level[number] == depth]


def _before(spec: JobSpec, specs: Sequence[JobSpec]) -> list[int]:
    return [number for after in spec.after for job in after.jobs for number in meant(job, spec, specs)]


def _with_dependencies(
    client: Client, wish: Wish, specs: Sequence[JobSpec], done: Mapping[int, Sequence[Record]]
) -> Wish:
    """Look the jobs up that a spec comes after; one of the same batch that is not submitted yet is passed over.

    Raises NotFound if nothing has that name, UsageError if the dependency can never be met.
    """
    found = []
    for kind, job in [(after.kind, job) for after in wish.spec.after for job in after.jobs]:
        in_batch = meant(job, wish.spec, specs)
        if in_batch and in_batch[0] not in done:
            continue
        records = done[in_batch[0]] if in_batch else client.ledger.find_all(job)
        for record in client.refresh(records):
            if not _is_met(kind, record):
                found.append((kind, record.site, record.job_id))
    return replace(wish, dependencies=tuple(found))


def _is_met(kind: str, record: Record) -> bool:
    """Whether a dependency is met already. Raises UsageError if it never will be."""
    met = is_met(kind, record.state)
    if met is False:
        message = f"it comes after {record.ref or record.name}, which ended {record.state.value}: it would never start"
        raise UsageError(message, hint="submit that one again first")
    return met is True


def _named(spec: JobSpec, error: HpcError) -> HpcError:
    """Say of which file an error is, if it does not say so itself."""
    if isinstance(error, ProblemsError):
        return error
    return type(error)(f"{spec.file}: {error.message}", hint=error.hint)


def _refused_by(ranking: Ranking, winner: Choice, error: HpcError) -> dict[str, str]:
    """Return what is out of question after an error, by key: the place, or all places of a site that took nothing."""
    if isinstance(error, SchedulerError):
        return {winner.candidate.key: f"the scheduler refuses it: {error.message}"}
    site = winner.candidate.site.name
    places = [choice.candidate for choice in ranking.choices if choice.candidate.site.name == site]
    return {place.key: f"the site took nothing: {error.message}" for place in places}

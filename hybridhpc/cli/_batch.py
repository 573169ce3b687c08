"""Many wishes of one command: planned together, submitted in the order of their dependencies, taken up if cut."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from hybridhpc.cli._begun import Ended, shared_out
from hybridhpc.cli._order import Order
from hybridhpc.cli._output import tell
from hybridhpc.cli._progress import Progress
from hybridhpc.cli._turned_away import TurnedAway, followers, moves, nowhere, refusal
from hybridhpc.client import Client
from hybridhpc.decide.together import Member, Tie, tie
from hybridhpc.errors import HpcError, ProblemsError, UsageError
from hybridhpc.ledger.base import Record
from hybridhpc.model import JobSpec
from hybridhpc.planning import Planned, Planner, Wish
from hybridhpc.spec.dependencies import is_met
from hybridhpc.spec.sweep import sweep_name
from hybridhpc.submitting import Outcome

MOST_PLACES = 8
"""Places where a job that others turn away is tried after the first one."""


class Batch:
    """The wishes of one command, known by their numbers, each after those that it comes after."""

    def __init__(self, client: Client, planner: Planner, wishes: Sequence[Wish]) -> None:
        self._client = client
        self._planner = planner
        self._wishes = list(wishes)
        self._specs = [wish.spec for wish in wishes]
        self._order = Order(self._specs)
        self._begun: dict[int, Ended] = {}
        """Of sweeps that are taken up, the arrays that were begun, while others are left."""
        self._ended: dict[int, Ended] = {}
        self._planned: dict[int, Planned] = {}
        self._ties: dict[int, Tie] = {}
        self._ruled_out: dict[int, tuple[tuple[str, str], ...]] = {}
        self._single = len(wishes) == 1 and self._specs[0].points is None

    def take_up(self) -> None:
        """Finish what an interrupted command began of it."""
        requests = [wish.request for wish in self._wishes]
        with Progress("taken up") as progress:
            begun = self._client.take_up(requests, progress)
        for number, (ended, left) in enumerate(shared_out(self._wishes, begun)):
            if left is None:
                self._ended[number] = ended
            elif ended:
                self._begun[number], self._wishes[number] = ended, self._kept_together(number, ended, left)

    def _kept_together(self, number: int, ended: Ended, left: Wish) -> Wish:
        """Keep what is left of a sweep at the site of what was begun, if others go with it."""
        if all(len(chain) == 1 for chain in self._order.chains() if number in chain):
            return left
        at = {each.record.site for each in ended if isinstance(each, Outcome)}
        others = [site.name for site in self._client.usable_sites if site.name not in at]
        return replace(left, barred=tuple((name, f"the rest of it is at {', '.join(sorted(at))}") for name in others))

    def plan(self, *, careful: bool) -> tuple[list[Wish], list[Planned]]:
        """Plan what is not submitted yet, those that come after each other at one site.

        A single job need not be planned with care: what its scheduler refuses goes elsewhere (see Planner.plan, quick).
        """
        waiting = [number for number in range(len(self._wishes)) if number not in self._ended]
        self._place(waiting, quick=self._single and not careful)
        return [self._wishes[number] for number in waiting], [self._planned[number] for number in waiting]

    def submit(self) -> tuple[Ended, ...]:
        """Submit what is planned, and return what became of every wish."""
        sweep = self._sweep()
        for wave in self._order.waves:
            numbers = [number for number in wave if number not in self._ended]
            if wave is not self._order.waves[0]:
                numbers = self._plan_again([number for number in numbers if not self._is_orphan(number)])
            if numbers:
                self._submit(numbers, sweep)
            for _ in range(MOST_PLACES):
                if numbers := self._moved(numbers):
                    self._submit(numbers, sweep)
        return tuple(self._ended[number] for number in range(len(self._wishes)))

    # ---- Placing

    def _place(self, numbers: Sequence[int], *, quick: bool = False) -> None:
        """Plan wishes each for itself, then those of a chain that go elsewhere together once more."""
        self._ties = {number: known for number, known in self._ties.items() if number not in numbers}
        self._plan(numbers, quick=quick)
        for chain in self._order.chains(numbers):
            places = {number: place for place, number in enumerate(chain)}
            members = [
                Member(
                    name=self._specs[number].name,
                    after=frozenset(places[other] for other in self._order.before[number] if other in places),
                    ranking=self._planned[number].ranking,
                )
                for number in chain
            ]
            self._ties |= dict(zip(chain, tie(members), strict=True))
        self._plan([number for number in numbers if self._is_barred(number)])

    def _is_barred(self, number: int) -> bool:
        """Whether a wish is planned for a site where those are not that it goes with."""
        winner = self._planned[number].ranking.winner
        return winner is not None and winner.candidate.site.name in dict(self._ties[number].barred)

    def _plan(self, numbers: Sequence[int], *, quick: bool = False) -> None:
        seen = self._looked_at(numbers)
        if numbers:
            self._decide({number: self._ready(number, seen) for number in numbers}, quick=quick)

    def _decide(self, ready: Mapping[int, Wish], *, quick: bool = False) -> None:
        planned = self._planner.plan_all(tuple(ready.values()), self._client.ledger.history(), quick=quick)
        for number, answer in zip(ready, planned, strict=True):
            self._planned[number] = replace(answer, because=self._ties.get(number, Tie()).because)

    def _plan_again(self, numbers: Sequence[int]) -> list[int]:
        """Plan jobs with the ids that they come after, and return those that can be placed.

        Others are submitted by now: what hinders one of these is what became of it, and is raised by nobody.
        """
        ready: dict[int, Wish] = {}
        seen = self._looked_at(numbers)
        for number in numbers:
            try:
                ready[number] = self._ready(number, seen)
            except HpcError as error:
                self._ended[number] = (_named(self._specs[number], error),)
        try:
            self._decide(ready)
        except HpcError as error:
            self._ended |= {number: (_named(self._specs[number], error),) for number in ready}
            return []
        for number in ready:
            try:
                self._planned[number].chosen()
            except HpcError as error:
                self._ended[number] = (_named(self._specs[number], error),)
        return [number for number in ready if number not in self._ended]

    # ---- Submitting

    def _submit(self, numbers: Sequence[int], sweep: str) -> None:
        plans = {number: self._planned[number].chosen() for number in numbers}
        jobs = [(plan, self._wishes[number].request) for number in numbers for plan in plans[number]]
        with Progress("submitted") as progress:
            ended = iter(self._client.submit(jobs, sweep=sweep, told=progress))
        for number in numbers:
            self._ended[number] = (*self._begun.get(number, ()), *(next(ended) for _ in plans[number]))

    def _moved(self, numbers: Sequence[int]) -> list[int]:
        """Plan anew what its place turned away just now, and return what has another place."""
        turned: dict[int, TurnedAway] = {}
        for number in numbers:
            winner, error = self._planned[number].ranking.winner, refusal(self._sent(number))
            if winner is not None and error is not None:
                turned[number] = TurnedAway(wish=self._wishes[number], place=winner, error=error)
        if not turned:
            return []
        first: dict[object, TurnedAway] = {}
        for number, each in turned.items():
            # One reason in one spelling: jobs that look alike are placed by one decision again.
            words = first.setdefault(each.alike, each).ruled_out
            self._ruled_out[number] = (*self._ruled_out.get(number, ()), words)
        before = {number: self._site(number) for number in self._planned if number not in self._ended}
        try:
            self._place_anew(turned)
        except HpcError:
            return []  # what it was turned away for stays what became of it
        moved = [number for number in turned if self._planned[number].plans]
        follow = [(self._specs[number].name, at) for number in before if (at := self._site(number)) != before[number]]
        said = moves([(turned[number], self._planned[number]) for number in moved], alone=self._alone)
        for sentence in (*said, *followers(follow)):
            tell(sentence)
        left = {number: each for number, each in turned.items() if number not in moved}
        for number, error in nowhere(left, self._planned, alone=self._alone).items():
            self._ended[number] = (*self._begun.get(number, ()), error)
        return moved

    def _site(self, number: int) -> str | None:
        winner = self._planned[number].ranking.winner
        return winner.candidate.site.name if winner else None

    def _sent(self, number: int) -> Ended:
        """Return what became of what this command submitted of a wish."""
        return self._ended[number][len(self._begun.get(number, ())) :]

    @property
    def _alone(self) -> bool:
        return len(self._wishes) == 1

    def _place_anew(self, turned: Mapping[int, TurnedAway]) -> None:
        """Plan what was turned away, with its chain; where a job of that may be at the site, only for that site."""
        free: list[int] = []
        stuck: list[int] = []
        for chain in self._order.chains():
            lost = [number for number in chain if number in turned]
            begun = [number for number in chain if number in self._ended and number not in turned]
            if lost and not begun:
                free += chain
            for number in lost if begun else ():
                sent = f"{self._specs[begun[0]].name}, which goes with it, was sent to {turned[number].site}"
                barred = tuple((site, sent) for site, _ in self._ties[number].barred)
                self._ties[number] = Tie(barred=barred)
                stuck.append(number)
        self._place(sorted(free), quick=self._single)
        self._plan(sorted(stuck))

    def _sweep(self) -> str:
        """Return the id of the sweep they are: of the one that is taken up, a new one, none for a single job."""
        parts = (*self._ended.values(), *self._begun.values())
        begun = [each.record.sweep for ended in parts for each in ended if isinstance(each, Outcome)]
        if any(begun):
            return next(sweep for sweep in begun if sweep)
        if self._single:
            return ""
        return self._client.new_sweep(sweep_name([spec.name for spec in self._specs]))

    # ---- What they come after

    def _is_orphan(self, number: int) -> bool:
        """Give up a wish that comes after one which was not submitted."""
        lost = [
            self._wishes[other].spec.name
            for other in sorted(self._order.before[number])
            if any(isinstance(each, HpcError) for each in self._ended[other])
        ]
        if lost:
            message = f"{self._specs[number].name} was not submitted: it comes after {lost[0]}, which was not"
            self._ended[number] = (UsageError(message, hint="repeat the command once that is mended"),)
        return bool(lost)

    def _records(self, number: int) -> list[Record]:
        return [each.record for each in self._ended.get(number, ()) if isinstance(each, Outcome)]

    def _looked_at(self, numbers: Sequence[int]) -> dict[str, Record]:
        """Ask once for all about the jobs of this command that wishes come after; return them by token."""
        others = {other for number in numbers for other in self._order.before[number]}
        records = [record for other in sorted(others) for record in self._records(other)]
        return {record.token: record for record in self._client.refresh(records)} if records else {}

    def _ready(self, number: int, seen: Mapping[str, Record]) -> Wish:
        """Look up what a wish comes after; what is not submitted yet is passed over.

        Raises NotFound if nothing has that name, UsageError if the dependency can never be met.
        """
        wish, found = self._wishes[number], []
        for kind, job, inside in self._order.after[number]:
            if inside is None:
                records = list(self._client.refresh(self._client.ledger.find_all(job)))
            else:
                records = [seen[record.token] for record in self._records(inside)]
            found += [(kind, record.site, record.job_id) for record in records if not _is_met(kind, record)]
        barred = (*wish.barred, *self._ties.get(number, Tie()).barred, *self._ruled_out.get(number, ()))
        return replace(wish, dependencies=tuple(found), barred=barred)


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

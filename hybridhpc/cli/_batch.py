"""Many wishes of one command: planned together, submitted in the order of their dependencies, taken up if cut."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from hybridhpc.cli._begun import Ended, shared_out
from hybridhpc.cli._output import tell
from hybridhpc.cli._placing import Placing
from hybridhpc.cli._progress import Progress
from hybridhpc.cli._turned_away import TurnedAway, followers, in_part, moves, nowhere, refusal, tried_in_vain
from hybridhpc.cli._unplaced import first_of
from hybridhpc.client import Client
from hybridhpc.errors import HpcError, ProblemsError, UsageError
from hybridhpc.ledger.base import Record
from hybridhpc.planning import Planned, Planner, Wish
from hybridhpc.spec.sweep import sweep_name
from hybridhpc.submitting import Outcome

MOST_PLACES = 8
"""Places where a job that others turn away is tried after the first one."""


class Batch:
    """The wishes of one command, known by their numbers, each behind those that it comes after."""

    def __init__(self, client: Client, planner: Planner, wishes: Sequence[Wish]) -> None:
        self._client = client
        self._specs = [wish.spec for wish in wishes]
        self._begun: dict[int, Ended] = {}
        """Of sweeps that are taken up, the arrays that were begun, while others are left."""
        self._ended: dict[int, Ended] = {}
        self._placing = Placing(client, planner, wishes, self._records)
        self._order = self._placing.order
        self._alone = len(wishes) == 1
        self._single = self._alone and self._specs[0].points is None

    def take_up(self) -> None:
        """Finish what an interrupted command began of it."""
        wishes = self._placing.wishes
        with Progress("taken up") as progress:
            begun = self._client.take_up([wish.request for wish in wishes], progress)
        for number, (ended, left) in enumerate(shared_out(wishes, begun)):
            if left is None:
                self._ended[number] = ended
            elif ended:
                self._begun[number], wishes[number] = ended, self._kept_together(number, ended, left)

    def _kept_together(self, number: int, ended: Ended, left: Wish) -> Wish:
        """Keep what is left of a sweep at the site of what was begun, if others go with it."""
        if all(len(chain) == 1 for chain in self._order.chains() if number in chain):
            return left
        at = {each.record.site for each in ended if isinstance(each, Outcome)}
        others = [site.name for site in self._client.usable_sites if site.name not in at]
        return replace(left, barred=tuple((name, f"the rest of it is at {', '.join(sorted(at))}") for name in others))

    @property
    def is_begun(self) -> bool:
        """Whether jobs of it are submitted already: then one that finds no place does not hinder the others."""
        return any(isinstance(each, Outcome) for each in self._known())

    def _known(self) -> list[Outcome | HpcError]:
        return [each for ended in (*self._ended.values(), *self._begun.values()) for each in ended]

    def plan(self, *, careful: bool) -> tuple[list[Wish], list[Planned]]:
        """Plan what is not submitted yet, those that come after each other at one site.

        A single job need not be planned with care: what its scheduler refuses goes elsewhere (see Planner.plan, quick).
        """
        waiting = [number for number in range(len(self._specs)) if number not in self._ended]
        if self.is_begun:
            waiting = list(self._possible(waiting))
        self._placing.place(waiting, quick=self._single and not careful)
        return [self._placing.wishes[number] for number in waiting], [self._placing.planned[n] for n in waiting]

    def submit(self) -> tuple[Ended, ...]:
        """Submit what is planned, and return what became of every wish."""
        sweep = self._sweep()
        for wave in self._order.waves:
            numbers = [number for number in wave if number not in self._ended]
            if wave is not self._order.waves[0]:
                numbers = self._plan_again([number for number in numbers if not self._is_orphan(number)])
            if numbers := self._placed(numbers):
                self._submit(numbers, sweep)
            for _ in range(MOST_PLACES):
                if numbers := self._moved(numbers):
                    self._submit(numbers, sweep)
            self._name_places(numbers)
        self._explain_parts()
        return tuple(self._ended[number] for number in range(len(self._specs)))

    def _sweep(self) -> str:
        """Return the id of the sweep they are: of the one that is taken up, a new one, none for a single job."""
        begun = [each.record.sweep for each in self._known() if isinstance(each, Outcome)]
        if any(begun):
            return next(sweep for sweep in begun if sweep)
        if self._single:
            return ""
        return self._client.new_sweep(sweep_name([spec.name for spec in self._specs]))

    def _submit(self, numbers: Sequence[int], sweep: str) -> None:
        plans = {number: self._placing.planned[number].chosen() for number in numbers}
        jobs = [(plan, self._placing.wishes[number].request) for number in numbers for plan in plans[number]]
        with Progress("submitted") as progress:
            ended = iter(self._client.submit(jobs, sweep=sweep, told=progress))
        for number in numbers:
            self._ended[number] = (*self._begun.get(number, ()), *(next(ended) for _ in plans[number]))

    def _records(self, number: int) -> list[Record]:
        return [each.record for each in self._ended.get(number, ()) if isinstance(each, Outcome)]

    # ---- What hinders some while others are submitted by now: it is what became of them, and is raised by nobody

    def _is_orphan(self, number: int) -> bool:
        """Give up a wish that comes after one which was not submitted."""
        lost = [
            self._specs[other].name
            for other in sorted(self._order.before[number])
            if any(isinstance(each, HpcError) for each in self._ended[other])
        ]
        if lost:
            message = f"{self._specs[number].name} was not submitted: it comes after {lost[0]}, which was not"
            self._give_up(number, UsageError(message, hint="repeat the command once that is mended"))
        return bool(lost)

    def _plan_again(self, numbers: Sequence[int]) -> list[int]:
        """Plan jobs with the ids that they come after, and return those that are planned."""
        ready = self._possible(numbers)
        try:
            self._placing.decide(ready)
        except HpcError as error:
            for number in ready:
                self._give_up(number, _named(self._specs[number].file, error))
            return []
        return list(ready)

    def _possible(self, numbers: Sequence[int]) -> dict[int, Wish]:
        """Return the jobs that what they come after allows."""
        ready: dict[int, Wish] = {}
        seen = self._placing.look(numbers)
        for number in numbers:
            try:
                ready[number] = self._placing.ready(number, seen)
            except HpcError as error:
                self._give_up(number, _named(self._specs[number].file, error))
        return ready

    def _placed(self, numbers: Sequence[int]) -> list[int]:
        """Return the jobs that find a place. What hinders others is one error for all that it is the same for."""
        found: dict[tuple[str, str], tuple[HpcError, list[int]]] = {}
        for number in numbers:
            try:
                self._placing.planned[number].chosen()
            except HpcError as error:
                found.setdefault((error.message, error.hint), (error, []))[1].append(number)
        for first, lost in found.values():
            named = _named(first_of([self._specs[number].file for number in lost]), first)
            for number in lost:
                self._give_up(number, named)
        return [number for number in numbers if number not in self._ended]

    def _give_up(self, number: int, error: HpcError) -> None:
        self._ended[number] = (*self._begun.get(number, ()), error)

    # ---- What its place turns away

    def _moved(self, numbers: Sequence[int]) -> list[int]:
        """Plan anew what its place turned away just now, and return what has another place."""
        turned = self._turned_away(numbers)
        planned = self._placing.planned
        before = {number: self._placing.site(number) for number in planned if number not in self._ended}
        try:
            self._place_anew(turned)
        except HpcError:
            return []  # what it was turned away for stays what became of it
        moved = [number for number in turned if planned[number].plans]
        site = self._placing.site
        follow = [(self._specs[number].name, at) for number in before if (at := site(number)) != before[number]]
        said = moves([(turned[number], planned[number]) for number in moved], alone=self._alone)
        for sentence in (*said, *followers(follow)):
            tell(sentence)
        left = {number: each for number, each in turned.items() if number not in moved}
        for number, error in nowhere(left, planned, alone=self._alone).items():
            self._give_up(number, error)
        return moved

    def _name_places(self, numbers: Sequence[int]) -> None:
        """Name all places where jobs were tried that the last of them turned away, too."""
        turned = self._turned_away(numbers)
        ruled_out = {number: self._placing.ruled_out(number) for number in turned}
        for number, error in tried_in_vain(turned, ruled_out, alone=self._alone).items():
            self._give_up(number, error)

    def _explain_parts(self) -> None:
        """Say of a sweep of which some arrays were turned away that the others stay, and how the rest is submitted."""
        for number, ended in self._ended.items():
            submitted = sum(each.record.tasks for each in ended if isinstance(each, Outcome))
            lost = [each for each in ended if isinstance(each, HpcError)]
            points, error = self._specs[number].points, refusal(lost)
            if points is not None and submitted and error is not None:
                told = in_part(self._specs[number].name, submitted, len(points.rows), error)
                self._ended[number] = tuple(each if isinstance(each, Outcome) else told for each in ended)

    def _turned_away(self, numbers: Sequence[int]) -> dict[int, TurnedAway]:
        """Return the wishes of which their place took nothing just now; it is ruled out for them."""
        turned: dict[int, TurnedAway] = {}
        first: dict[object, HpcError] = {}
        for number in numbers:
            wish, winner = self._placing.wishes[number], self._placing.planned[number].ranking.winner
            error = refusal(self._ended[number][len(self._begun.get(number, ())) :])
            if winner is not None and error is not None:
                each = TurnedAway(wish=wish, place=winner, error=error)
                # One reason in one spelling: jobs that look alike are placed by one decision again.
                turned[number] = replace(each, error=first.setdefault(each.alike, error))
                self._placing.rule_out(number, turned[number].ruled_out)
        return turned

    def _place_anew(self, turned: Mapping[int, TurnedAway]) -> None:
        """Plan what was turned away, with its chain; where a job of that may be at the site, only for that site."""
        free: list[int] = []
        stuck: list[int] = []
        for chain in self._order.chains() if turned else ():
            lost = [number for number in chain if number in turned]
            begun = [number for number in chain if number in self._ended and number not in turned]
            if lost and not begun:
                free += chain
            for number in lost if begun else ():
                sent = f"{self._specs[begun[0]].name}, which goes with it, was sent to {turned[number].site}"
                self._placing.hold(number, sent)
                stuck.append(number)
        self._placing.place(sorted(free), quick=self._single)
        self._placing.plan(sorted(stuck))


def _named(file: str, error: HpcError) -> HpcError:
    """Say of which file, or files, an error is, if it does not say so itself."""
    if isinstance(error, ProblemsError):
        return error
    return type(error)(f"{file}: {error.message}", hint=error.hint, evidence=error.evidence)

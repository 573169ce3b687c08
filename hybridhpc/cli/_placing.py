"""Where the wishes of one command go: each planned for itself, then those that come after each other at one site."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from hybridhpc.cli._order import Order
from hybridhpc.client import Client
from hybridhpc.decide.together import Member, Tie, tie
from hybridhpc.decide.waits import Awaited, as_planned
from hybridhpc.errors import UsageError
from hybridhpc.ledger.base import Record
from hybridhpc.planning import Planned, Planner, Wish
from hybridhpc.schedulers.base import Room
from hybridhpc.script.plan import Plan, asked_for
from hybridhpc.spec.dependencies import is_met


class Placing:
    """Plans wishes, known by their numbers; remembers what ties them together and where they need not be tried."""

    def __init__(
        self, client: Client, planner: Planner, wishes: Sequence[Wish], submitted: Callable[[int], Sequence[Record]]
    ) -> None:
        """`submitted` says which jobs of a wish are submitted by now."""
        self._client = client
        self._planner = planner
        self._submitted = submitted
        self.wishes = list(wishes)
        self.order = Order([wish.spec for wish in wishes])
        self.planned: dict[int, Planned] = {}
        self._ties: dict[int, Tie] = {}
        self._rooms: dict[tuple[str, str | None, str | None], Room | None] = {}
        self._ruled_out: dict[int, tuple[tuple[str, str], ...]] = {}

    def place(self, numbers: Sequence[int], *, quick: bool = False) -> None:
        """Plan wishes each for itself, then those of a chain that go elsewhere together once more. Raises HpcError.

        A site that does not take as many jobs as come after each other is left out: half of a chain is no use.
        """
        self._place(numbers, quick=quick)
        for chain in self.order.chains(numbers):
            while full := self._too_many(chain):
                for number in chain:
                    self.rule_out(number, full)
                self._place(chain, quick=quick)

    def _too_many(self, chain: Sequence[int]) -> tuple[str, str] | None:
        """Return the site that a chain is planned for, and why it does not take all of it; None if it may.

        Not asked of one job, or once something of the chain is submitted: then the rest is tried.
        """
        if len(chain) == 1 or any(map(self._submitted, self.order.chain_of[chain[0]])):
            return None
        wanted: dict[tuple[str, str | None, str | None], list[Plan]] = {}
        for plan in (plan for number in chain for plan in self.planned[number].plans):
            wanted.setdefault((plan.site, asked_for(plan, "account"), asked_for(plan, "qos")), []).append(plan)
        for key, plans in wanted.items():
            if key not in self._rooms:
                self._rooms[key] = self._client.room(plans[0])
            room, jobs = self._rooms[key], sum(plan.tasks for plan in plans)
            if room is not None and room.jobs < jobs:
                return key[0], f"{jobs:,} jobs come after each other, and it takes {room.jobs:,} more ({room.why})"
        return None

    def _place(self, numbers: Sequence[int], *, quick: bool) -> None:
        self._ties = {number: known for number, known in self._ties.items() if number not in numbers}
        self.plan(numbers, quick=quick)
        for chain in self.order.chains(numbers):
            places = {number: place for place, number in enumerate(chain)}
            members = [
                Member(
                    name=self.wishes[number].spec.name,
                    after=frozenset(places[other] for other in self.order.before[number] if other in places),
                    ranking=self.planned[number].ranking,
                )
                for number in chain
            ]
            self._ties |= dict(zip(chain, tie(members), strict=True))
        self.plan([number for number in numbers if self.site(number) in dict(self._ties[number].barred)])

    def plan(self, numbers: Sequence[int], *, quick: bool = False) -> None:
        """Plan wishes with what ties them as it is. Raises HpcError."""
        seen = self.look(numbers)
        self.decide({number: self.ready(number, seen) for number in numbers}, quick=quick)

    def decide(self, ready: Mapping[int, Wish], *, quick: bool = False) -> None:
        """Plan wishes that `ready` has returned. Raises HpcError."""
        if not ready:
            return
        standing = [
            (self.wishes[number].spec, planned.ranking.winner)
            for number, planned in self.planned.items()
            if planned.ranking.winner and number not in ready and self._submitted(number)
        ]
        history = self._client.ledger.history()
        planned = self._planner.plan_all(tuple(ready.values()), history, quick=quick, standing=standing)
        for number, answer in zip(ready, planned, strict=True):
            self.planned[number] = replace(answer, because=self._ties.get(number, Tie()).because)

    def site(self, number: int) -> str | None:
        """Return the site that a wish is planned for."""
        winner = self.planned[number].ranking.winner
        return winner.candidate.site.name if winner else None

    def rule_out(self, number: int, place: tuple[str, str]) -> None:
        """Plan a wish no more for a place, by Candidate.key or the name of a site; and why."""
        self._ruled_out[number] = (*self._ruled_out.get(number, ()), place)

    def ruled_out(self, number: int) -> tuple[tuple[str, str], ...]:
        """Return where a wish need not be tried, and why, in the order in which that was found."""
        return self._ruled_out.get(number, ())

    def hold(self, number: int, why: str) -> None:
        """Keep a wish that is tied at its site, now for this reason."""
        self._ties[number] = Tie(barred=tuple((site, why) for site, _ in self._ties[number].barred))

    def look(self, numbers: Sequence[int]) -> dict[str, Record]:
        """Ask once for all about the jobs of this command that wishes come after; return them by token."""
        others = {other for number in numbers for other in self.order.before[number]}
        records = [record for other in sorted(others) for record in self._submitted(other)]
        return {record.token: record for record in self._client.refresh(records)} if records else {}

    def ready(self, number: int, seen: Mapping[str, Record]) -> Wish:
        """Look up what a wish comes after; what is not submitted yet is passed over.

        Raises NotFound if nothing has that name, UsageError if the dependency can never be met.
        """
        wish, found, before = self.wishes[number], [], list[Awaited]()
        for kind, job, inside in self.order.after[number]:
            if inside is None:
                records = list(self._client.refresh(self._client.ledger.find_all(job)))
            else:
                records = [seen[record.token] for record in self._submitted(inside)]
                if not records or not all(_is_met(kind, record) for record in records):
                    before.append(self._as_planned(kind, inside))
            found += [(kind, record.site, record.job_id) for record in records if not _is_met(kind, record)]
        barred = (*wish.barred, *self._ties.get(number, Tie()).barred, *self._ruled_out.get(number, ()))
        return replace(wish, dependencies=tuple(found), before=tuple(before), barred=barred)

    def _as_planned(self, kind: str, number: int) -> Awaited:
        """Return a job of this command as others wait for it: it is in no queue that was looked at."""
        planned, wish = self.planned.get(number), self.wishes[number]
        winner = planned.ranking.winner if planned else None
        known = {wish.request: winner.forecast} if winner and winner.forecast else {}
        return as_planned((Awaited(job=wish.spec.name, kind=kind, request=wish.request),), known)[0]


def _is_met(kind: str, record: Record) -> bool:
    """Whether a dependency is met already. Raises UsageError if it never will be."""
    met = is_met(kind, record.state)
    if met is False:
        message = f"it comes after {record.ref or record.name}, which ended {record.state.value}: it would never start"
        raise UsageError(message, hint="submit that one again first")
    return met is True

"""Jobs that come after each other run at one site: at which, and why each of them goes there. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache

from hybridhpc.decide.candidate import Ranking
from hybridhpc.values import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A job of a chain, placed as if it were alone."""

    name: str
    after: frozenset[int]
    """Which of the others it comes after, by their place in the chain."""
    ranking: Ranking


@dataclass(frozen=True, slots=True, kw_only=True)
class Tie:
    """What ties a job to the site of its chain."""

    because: str = ""
    """Why it goes there, in words; empty: alone it would go there, too, or nowhere."""
    barred: tuple[tuple[str, str], ...] = ()
    """The other sites where it would do, and why it does not go to each."""


def tie(chain: Sequence[Member]) -> tuple[Tie, ...]:
    """Tie the jobs of a chain to the site with the lowest sum of their scores, of those where all of them fit.

    If they fit at no one site, each is barred from all of its own. A job that fits nowhere ties nobody.
    """
    known = _Chain(chain)
    return tuple(known.tie(number) for number in range(len(chain)))


def offered(ranking: Ranking) -> dict[str, tuple[float, int]]:
    """Return the sites where a job may run: its lowest score there (dollars), and the rank of that place."""
    found: dict[str, tuple[float, int]] = {}
    for rank, choice in enumerate(ranking.choices):
        if choice.refused is None and choice.score is not None:
            score = math.inf if math.isnan(choice.score) else choice.score
            found.setdefault(choice.candidate.site.name, (score, rank))
    return found


def common_site(offers: Sequence[Mapping[str, tuple[float, int]]]) -> str | None:
    """Return the site that all are offered with the lowest sum of scores; None if there is none.

    Ties go to the better ranks, then by name. The order of the offers does not matter.
    """
    shared = [site for site in (offers[0] if offers else ()) if all(site in offer for offer in offers)]
    return min(shared, key=lambda site: (*_sums([offer[site] for offer in offers]), site), default=None)


def _sums(offers: Sequence[tuple[float, int]]) -> tuple[float, int]:
    """Sum scores, exactly, and ranks."""
    scores = [score for score, _ in offers]
    return math.inf if math.inf in scores else math.fsum(scores), sum(rank for _, rank in offers)


class _Chain:
    """The jobs of a chain, known by their numbers, and the site that is chosen for them."""

    def __init__(self, members: Sequence[Member]) -> None:
        self._members = members
        self._offers = [offered(member.ranking) for member in members]
        self._some = frozenset(number for number, offer in enumerate(self._offers) if offer)
        """Those that fit somewhere."""
        self._site = common_site([self._offers[number] for number in sorted(self._some)])
        self._confined = frozenset(number for number in self._some if self._offers[number].keys() == {self._site})
        self._followers: list[set[int]] = [set() for _ in members]
        for number, member in enumerate(members):
            for other in member.after:
                self._followers[other].add(number)
        self._lacking = cache(self._those_without)

    def tie(self, me: int) -> Tie:
        """Tie a job to the chosen site."""
        winner = self._members[me].ranking.winner
        if winner is None or len(self._some) < 2:
            return Tie()
        alone = winner.candidate.site.name
        others = [site for site in self._offers[me] if site != self._site]
        return Tie(
            because=self._because(me, alone) if self._site and alone != self._site else "",
            barred=tuple((site, self._why_not(me, site)) for site in sorted(others)),
        )

    def _because(self, me: int, alone: str) -> str:
        """Say why a job goes to the chosen site and not where it would go alone."""
        if self._confined:
            return f"{self._named(me, self._confined)} can only run there"
        if lacking := self._lacking(alone):
            return f"{self._named(me, lacking)} cannot run at {alone}"
        return f"that is better for it and {self._named(me, self._some)} together"

    def _why_not(self, me: int, site: str) -> str:
        """Say why a job does not go to a site where it would do."""
        if lacking := self._lacking(site):
            return f"{self._named(me, lacking)} cannot run there"
        return f"{self._site} is better for it and {self._named(me, self._some)} together"

    def _those_without(self, site: str) -> frozenset[int]:
        return frozenset(number for number in self._some if site not in self._offers[number])

    def _named(self, me: int, others: frozenset[int]) -> str:
        """Name others in a sentence about a job; those that come after it before those that it comes after."""
        follow, precede = others & self._followers[me], others & self._members[me].after
        found = sorted(follow or precede or others - {me})
        several = len(found) > 1
        name = self._members[found[0]].name + (f" and {len(found) - 1:,} more" if several else "")
        if not follow and precede:
            return f"{name}, which it comes after,"
        one, more = ("comes after", "come after") if follow else ("goes with", "go with")
        return f"{name}, which {more if several else one} it,"

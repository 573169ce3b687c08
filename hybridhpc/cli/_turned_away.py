"""Jobs that a place turned away when they were submitted: what counts as that, what it rules out, how it is said."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from hybridhpc.cli._unplaced import first_of
from hybridhpc.decide.candidate import Choice
from hybridhpc.errors import HpcError, SchedulerError, Undelivered, Unheard, Unreached
from hybridhpc.planning import Planned, Wish
from hybridhpc.submitting import Outcome
from hybridhpc.values import dataclass

MEND = "mend what its scheduler names, then repeat the command"
_TOKEN = re.compile(r"\b[0-9a-f]{20}\b")
"""What the words about two jobs may differ in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnedAway:
    """A wish of which a place took nothing: certainly there is no job."""

    wish: Wish
    place: Choice
    error: HpcError

    @property
    def site(self) -> str:
        """The name of its site."""
        return self.place.candidate.site.name

    @property
    def refused(self) -> bool:
        """Whether the scheduler refused it for what it is; else its site can take nothing now."""
        return isinstance(self.error, SchedulerError) and not isinstance(self.error, Unreached)

    @property
    def alike(self) -> object:
        """What is the same for those that are turned away for one reason: a site's state, or a scheduler's words."""
        return (self.place.candidate.key, _TOKEN.sub("", self.error.message)) if self.refused else self.site

    @property
    def ruled_out(self) -> tuple[str, str]:
        """Where it need not be tried again, by Candidate.key or the name of a site, and why."""
        if self.refused:
            return self.place.candidate.key, f"the scheduler refuses it: {self.error.message}"
        return self.site, f"the site took nothing: {self.error.message}"


def refusal(ended: Sequence[Outcome | HpcError]) -> HpcError | None:
    """Return why a wish that was just submitted was turned away; None unless there is certainly no job of it."""
    certain = [each for each in ended if isinstance(each, SchedulerError | Undelivered)]
    return certain[0] if certain and len(certain) == len(ended) else None


def moves(moved: Iterable[tuple[TurnedAway, Planned]], *, alone: bool) -> list[str]:
    """Say where jobs go instead, one sentence for all that are turned away alike. `alone`: there is only one."""
    groups: dict[object, list[tuple[TurnedAway, str]]] = {}
    for turned, planned in moved:
        to = planned.chosen()[0]
        place = f"{to.site}/{to.partition}"
        groups.setdefault((turned.alike, place), []).append((turned, place))
    return [_sentence([turned for turned, _ in group], group[0][1], alone=alone) for group in groups.values()]


def _sentence(turned: Sequence[TurnedAway], to: str, *, alone: bool) -> str:
    first, count = turned[0], len(turned)
    at, why = first.place.candidate.name, first.error.message
    if count > 1:
        return f"{count:,} jobs: {at} does not take them: {why}; they go to {to}"
    return f"{'' if alone else f'{first.wish.spec.name}: '}{at} does not take it: {why}; it goes to {to}"


def followers(names: Iterable[tuple[str, str | None]]) -> list[str]:
    """Say which jobs, by name and site, go where those go that they come after, or that come after them."""
    groups: dict[str, list[str]] = {}
    for name, site in names:
        if site is not None:
            groups.setdefault(site, []).append(name)
    return [
        f"{first}{f' and {len(more):,} more go' if more else ' goes'} to {site}, too"
        for site, (first, *more) in groups.items()
    ]


def in_part(name: str, submitted: int, points: int, error: HpcError) -> HpcError:
    """Return what became of a sweep of which a place took some arrays and turned the others away: those stay there."""
    rest = f"{points - submitted:,}"
    said = f"{name}: {submitted:,} of {points:,} points are submitted, and stay; the other {rest} were turned away: "
    hint = f"repeat the command: it submits those {rest}, where they fit then (--again makes all anew)"
    return type(error)(said + error.message, hint=hint, evidence=error.evidence)


def tried_in_vain(
    turned: Mapping[int, TurnedAway], ruled_out: Mapping[int, tuple[tuple[str, str], ...]], *, alone: bool
) -> dict[int, HpcError]:
    """Return what became of jobs that as many places turned away as are tried: each of those, with its words."""
    groups: dict[tuple[tuple[str, str], ...], list[int]] = {}
    for number in turned:
        groups.setdefault(ruled_out[number], []).append(number)
    found: dict[int, HpcError] = {}
    for places, numbers in groups.items():
        last = turned[numbers[0]].error
        named = "" if alone else f"{first_of([turned[number].wish.spec.file for number in numbers])}: "
        head = f"{named}{len(places)} places were tried, and none of them takes it"
        message = "\n  ".join([head, *(f"{place}: {why}" for place, why in places)])
        hint = f"{last.hint or MEND}; or name another place with --where"
        found |= dict.fromkeys(numbers, type(last)(message, hint=hint))
    return found


def nowhere(turned: Mapping[int, TurnedAway], planned: Mapping[int, Planned], *, alone: bool) -> dict[int, HpcError]:
    """Return what became of those that no other place takes: one error for all of one decision.

    What a site said of itself stays what became of a job; what schedulers refuse is refused by all of them.
    """
    groups: dict[int, list[int]] = {}
    for number, each in turned.items():
        if each.refused:
            groups.setdefault(id(planned[number].ranking), []).append(number)
    found: dict[int, HpcError] = {}
    for numbers in groups.values():
        first = turned[numbers[0]]
        try:
            planned[numbers[0]].chosen()
        except HpcError as none:
            named = "" if alone else f"{first_of([turned[number].wish.spec.file for number in numbers])}: "
            # Of one among many its own hint may speak of all.
            own = first.error.hint if alone else ""
            hint = none.hint if isinstance(none, Unheard) else own or MEND
            found |= dict.fromkeys(numbers, type(none)(f"{named}{none.message}", hint=hint))
    return found

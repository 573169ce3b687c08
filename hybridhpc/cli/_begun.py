"""What an interrupted command began of its wishes, and what is left to be submitted of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from hybridhpc.errors import HpcError, SchedulerError
from hybridhpc.planning import Wish
from hybridhpc.script.points import POINTS, parse_points
from hybridhpc.spec.sweep import with_rows
from hybridhpc.submitting import Outcome

Ended = tuple[Outcome | HpcError, ...]
"""What became of the jobs of one wish: one, or the arrays of a sweep."""


def shared_out(
    wishes: Sequence[Wish], begun: Mapping[str, Sequence[Outcome | HpcError]]
) -> Iterator[tuple[Ended, Wish | None]]:
    """Yield for each wish what became of what was begun, by request, and what is left of it.

    What its scheduler refused when it was taken up is certainly no job: it counts as not begun. A file that is named
    twice makes two jobs of one request: each gets one. All arrays of a sweep go to the first wish of their request.
    """
    left = {
        request: [each for each in ended if not isinstance(each, SchedulerError)] for request, ended in begun.items()
    }
    seen: set[str] = set()
    for wish in wishes:
        there = left.get(wish.request, [])
        if wish.spec.points is None:
            yield ((there.pop(0),), None) if there else ((), wish)
        elif wish.request in seen and wish.request in begun:
            yield (), None
        else:
            yield tuple(there), _rest(wish, there)
        seen.add(wish.request)


def _rest(wish: Wish, begun: Sequence[Outcome | HpcError]) -> Wish | None:
    """Return a sweep with those points of which no array was begun; None if there are none, or that is not known."""
    if wish.spec.points is None or any(isinstance(each, HpcError) for each in begun):
        return None
    files = [file for each in begun if isinstance(each, Outcome) for file in each.record.plan.staged]
    there = {row for file in files if file.path == POINTS for row in parse_points(file.content).rows}
    rows = tuple(row for row in wish.spec.points.rows if row not in there)
    return replace(wish, spec=with_rows(wish.spec, rows)) if rows else None

"""What is said when jobs cannot be placed: each file is named, with its own reasons."""

from __future__ import annotations

from collections.abc import Sequence

from hybridhpc.errors import HpcError, NoCandidate
from hybridhpc.planning import Planned, Wish

MOST_NAMED = 5
"""Files or places that are named one by one."""
MOST_REASONS = 10
"""Different reasons that are told in full."""


def check_placed(wishes: Sequence[Wish], planned: Sequence[Planned], *, shown: bool = False) -> None:
    """Raise unless all can be placed: NoCandidate if one of them certainly fits nowhere, else Unheard.

    `shown`: a person has read the plans. Of one decision they hold every refusal: those are not told again.
    """
    if shown and len({id(answer.ranking) for answer in planned}) == 1:
        _check_one(planned[0])
    found: dict[object, tuple[HpcError, list[str]]] = {}
    for wish, answer in zip(wishes, planned, strict=True):
        try:
            answer.chosen()
        except HpcError as error:
            found.setdefault((error.message, error.hint), (error, []))[1].append(wish.spec.file)
    if not found:
        return
    errors = [error for error, _ in found.values()]
    first = next((error for error in errors if isinstance(error, NoCandidate)), errors[0])
    if len(wishes) == 1:
        raise first
    parts = ["\n  ".join([f"{first_of(names)}: {error.message}", error.hint]) for error, names in found.values()]
    if more := list(found.values())[MOST_REASONS:]:
        others = first_of([name for _, names in more for name in names])
        parts[MOST_REASONS:] = [f"{others}: no place either, for other reasons: `hpc plan` of one file tells them"]
    raise type(first)("\n".join(parts), hint="nothing is submitted unless all of it finds a place")


def _check_one(planned: Planned) -> None:
    """Raise what the table of a decision leaves to be said if it found no place."""
    try:
        planned.chosen()
    except HpcError as error:
        said, _, _ = error.message.partition("\n")
        raise type(error)(f"{said}, for the reasons above", hint=error.hint) from None


def first_of(names: Sequence[str]) -> str:
    """Name files or places, of many the first ones."""
    more = len(names) - MOST_NAMED
    return ", ".join(names[:MOST_NAMED]) + (f" and {more:,} more" if more > 0 else "")

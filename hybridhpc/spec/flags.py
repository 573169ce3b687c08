"""What a person says about a job beside its spec: --where and --goal, or the settings of the same names."""

from __future__ import annotations

import re
from collections.abc import Iterable

from hybridhpc.errors import UsageError
from hybridhpc.model import Goal, Move
from hybridhpc.readers import nearest
from hybridhpc.spec.places import places, read_place
from hybridhpc.spec.values import GOALS, read_worth


def parse_where(text: str, source: str) -> tuple[str, ...]:
    """Read `auto`, or sites, site/partitions, labels and comparisons with commas; `!` before one excludes it.

    Raises UsageError, which names the source: the flag, a variable or a line of a file.
    """
    found = tuple(word.strip() for word in text.split(",") if word.strip())
    try:
        return places(tuple(read_place(word) for word in found))
    except ValueError as error:
        hint = getattr(error, "hint", "") or "write auto, SITE, SITE/PARTITION, or !SITE"
        raise UsageError(f"{source}: {error}", hint=hint) from error


def parse_goal(text: str, source: str) -> Goal:
    """Read cheap, balanced, fast, or what an hour of waiting is worth. Raises UsageError."""
    if text in GOALS:
        return Goal(value_of_time=GOALS[text])
    try:
        return Goal(value_of_time=read_worth(text))
    except ValueError as error:
        message = str(error).partition("; write ")[0] if re.search(r"\d", text) else f"{text!r} is no goal"
        raise UsageError(f"{source}: {message}", hint=_hint(text, GOALS, "30 USD/h")) from error


def parse_move(text: str, source: str) -> Move:
    """Read what may become of waiting jobs whose spec does not say. Raises UsageError."""
    try:
        return Move(text)
    except ValueError as error:
        known = [move.value for move in Move]
        raise UsageError(f"{source}: {text!r} is none of {', '.join(known)}", hint=_hint(text, known)) from error


def _hint(text: str, words: Iterable[str], *others: str) -> str:
    meant = nearest(text, words)
    return (
        f"did you mean {meant}?" if meant else f"write {', '.join(words)}{''.join(f' or {other}' for other in others)}"
    )

"""What fits on a person's screen: its width, and a table laid out for it."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TextIO

ROOM_TO_WRAP = 24
"""Columns that the last cell needs to be wrapped beside the others; with fewer it goes below them."""


def width_of(stream: TextIO) -> int | None:
    """Return the columns of the terminal a stream is shown on; None if it is none: then nothing is wrapped."""
    if not stream.isatty():
        return None
    from shutil import get_terminal_size

    return get_terminal_size().columns


def lay_out(lines: Sequence[Sequence[str]], right: frozenset[int], width: int | None) -> str:
    """Lay out a header and rows in columns. What is too wide for the screen is wrapped, never cut.

    The last cell is wrapped beside the others, else below them; where even these do not fit, each cell gets a line.
    """
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    before = sum(widths[:-1]) + 2 * len(widths[:-1])
    if width is None or before + widths[-1] <= width:
        return "\n".join(_row(line, widths, right) for line in lines)
    if width - before >= ROOM_TO_WRAP:
        return "\n".join(_beside(line, widths, right, before, width) for line in lines)
    if before <= width:
        return "\n".join(_below(line, widths, right, width) for line in lines)
    return "\n".join(_stacked(lines[0], line, width) for line in lines[1:])


def _row(cells: Sequence[str], widths: Sequence[int], right: frozenset[int]) -> str:
    pairs = zip(cells, widths, strict=False)
    padded = [cell.rjust(room) if column in right else cell.ljust(room) for column, (cell, room) in enumerate(pairs)]
    return "  ".join(padded).rstrip()


def _wrapped(text: str, width: int, indent: str) -> list[str]:
    return textwrap.wrap(
        text, max(width, len(indent) + 10), initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False
    )


def _beside(cells: Sequence[str], widths: Sequence[int], right: frozenset[int], before: int, width: int) -> str:
    first, *rest = _wrapped(cells[-1], width - before, "") or [""]
    return "\n".join([_row([*cells[:-1], first], widths, right), *(" " * before + line for line in rest)])


def _below(cells: Sequence[str], widths: Sequence[int], right: frozenset[int], width: int) -> str:
    return "\n".join([_row(cells[:-1], widths, right), *_wrapped(cells[-1], width, "    ")])


def _stacked(header: Sequence[str], cells: Sequence[str], width: int) -> str:
    pairs = [
        f"{name.lower()}: {cell}" for name, cell in zip(header[1:], cells[1:], strict=True) if cell not in ("", "-")
    ]
    return "\n".join([cells[0], *(line for pair in pairs for line in _wrapped(pair, width, "  "))])

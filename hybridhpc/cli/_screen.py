"""What fits on a person's screen: its width, and a table laid out for it."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import TextIO

ROOM_TO_WRAP = 24
"""Columns that the last cell needs to be wrapped beside the others; with fewer it goes below them."""
SHORT = 12
"""Columns that a cell may take at least before it is called long."""
NOTHING = ("", "-")
"""Cells that say nothing."""
_INDENT = "  "


def width_of(stream: TextIO) -> int | None:
    """Return the columns of the terminal a stream is shown on; None if it is none: then nothing is wrapped."""
    if not stream.isatty():
        return None
    from shutil import get_terminal_size

    return get_terminal_size().columns


def lay_out(lines: Sequence[Sequence[str]], right: frozenset[int], width: int | None) -> str:
    """Lay out a header and rows in columns. What is too wide for the screen is wrapped, never cut.

    First the header is broken into two lines, then the last cell, if it is text, is wrapped beside or below the others.
    Where that is not enough a few long cells get a line of their own, or the first cells become headings, and at last
    each cell gets a line.
    """
    widths = _widths(lines)
    if width is None or _room(widths) <= width:
        return "\n".join(_row(line, widths, right) for line in lines)
    heads = _broken(lines[0])
    whole = [*heads, *lines[1:]]
    under = frozenset(column - 1 for column in right)
    for last in (ROOM_TO_WRAP, 0):
        shown = _fitted(whole, right, width, last) or _with_long_cells(whole, right, width, last)
        if shown:
            return "\n".join(shown)
    for last in (ROOM_TO_WRAP, 0):
        bodies = _fitted([line[1:] for line in whole], under, width - len(_INDENT), last)
        if bodies:
            return "\n".join(_headed([lines[0][0], *[""] * (len(heads) - 1), *(line[0] for line in lines[1:])], bodies))
    return "\n".join(_stacked(lines[0], line, width) for line in lines[1:])


def wrapped(text: str, width: int | None) -> str:
    """Return a line of prose broken where the screen ends, what follows indented."""
    if width is None or len(text) <= width:
        return text
    return "\n".join(textwrap.wrap(text, width, subsequent_indent=_INDENT, break_on_hyphens=False))


def _widths(lines: Sequence[Sequence[str]]) -> list[int]:
    return [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]


def _room(widths: Sequence[int]) -> int:
    return sum(widths) + 2 * (len(widths) - 1)


def _broken(header: Sequence[str]) -> list[list[str]]:
    """Break a header with names of several words into two lines."""
    pairs = [name.rpartition(" ")[::2] for name in header]
    both = [[first for first, _ in pairs], [last for _, last in pairs]]
    return both if any(both[0]) else both[1:]


def _fitted(lines: Sequence[Sequence[str]], right: frozenset[int], width: int, last: int) -> list[str] | None:
    """Return each line as it is shown, with its last cell wrapped in at least `last` columns, below the others in 0.

    None if that is too wide, or the last cells are no text.
    """
    widths = _widths(lines)
    before = _room([*widths[:-1], 0])
    if _room(widths) <= width:
        return [_row(line, widths, right) for line in lines]
    if len(widths) - 1 in right or before + last > width:
        return None
    if last:
        return [_beside(line, widths, right, before, width) for line in lines]
    return [_below(line, widths, right, width) for line in lines]


def _with_long_cells(lines: Sequence[Sequence[str]], right: frozenset[int], width: int, last: int) -> list[str] | None:
    """Do so with a few cells, too long for the widest column of text, on lines of their own before the others."""
    widths = _widths(lines)
    texts = [column for column in range(len(widths) - 1) if column not in right]
    if not texts:
        return None
    wide = max(texts, key=lambda column: widths[column])
    most = widths[wide] + width - _room([*widths[:-1], min(last, widths[-1])])
    long = [len(line[wide]) > most for line in lines]
    if most < SHORT or sum(long) > len(lines) / 3:
        return None
    firsts = [_row(line[: wide + 1], widths, right) for line in lines]
    kept = [[*[""] * (wide + 1), *line[wide + 1 :]] if cut else line for line, cut in zip(lines, long, strict=True)]
    fitted = _fitted(kept, right, width, last)
    if fitted is None or max(map(len, firsts)) > width:
        return None
    rests = [
        "\n".join(_wrapped(line[-1], width, _INDENT)) if _is_bare(line) else rest
        for line, rest in zip(kept, fitted, strict=True)
    ]
    return [f"{first}\n{rest}" if cut else rest for first, rest, cut in zip(firsts, rests, long, strict=True)]


def _headed(names: Sequence[str], bodies: Sequence[str]) -> Iterator[str]:
    """Put the first cell of each line above it, once for lines in which it is the same."""
    above = ""
    for name, body in zip(names, bodies, strict=True):
        if name not in ("", above):
            yield name
            above = name
        yield textwrap.indent(body, _INDENT)


def _row(cells: Sequence[str], widths: Sequence[int], right: frozenset[int]) -> str:
    pairs = zip(cells, widths, strict=False)
    padded = [cell.rjust(room) if column in right else cell.ljust(room) for column, (cell, room) in enumerate(pairs)]
    return "  ".join(padded).rstrip()


def _wrapped(text: str, width: int, indent: str) -> list[str]:
    return textwrap.wrap(
        text, max(width, len(indent) + 10), initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False
    )


def _beside(cells: Sequence[str], widths: Sequence[int], right: frozenset[int], before: int, width: int) -> str:
    if _is_bare(cells):
        return "\n".join(_wrapped(cells[-1], width, ""))
    first, *rest = _wrapped(cells[-1], width - before, "") or [""]
    return "\n".join([_row([*cells[:-1], first], widths, right), *(" " * before + line for line in rest)])


def _below(cells: Sequence[str], widths: Sequence[int], right: frozenset[int], width: int) -> str:
    if _is_bare(cells):
        return "\n".join(_wrapped(cells[-1], width, ""))
    return "\n".join([_row(cells[:-1], widths, right), *_wrapped(cells[-1], width, 2 * _INDENT)])


def _is_bare(cells: Sequence[str]) -> bool:
    """Whether only the last cell says something."""
    return all(cell in NOTHING for cell in cells[:-1])


def _stacked(header: Sequence[str], cells: Sequence[str], width: int) -> str:
    pairs = [f"{name.lower()}: {cell}" for name, cell in zip(header[1:], cells[1:], strict=True) if cell not in NOTHING]
    return "\n".join([cells[0], *(line for pair in pairs for line in _wrapped(pair, width, _INDENT))])

"""Lists as people and schedulers write them: the indices of an array, the names of nodes. Pure text to values."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice

MOST_INDICES = 10_000
"""Array tasks that are told apart in one line."""
MAX_HOSTS = 100_000
"""Nodes that one list of hosts may name."""
_INDICES = re.compile(r"([0-9]{1,12})(?:-([0-9]{1,12})(?::([0-9]{1,12}))?)?")
_HOST = re.compile(r"(?:[^,\[\]]|\[(?:\]|[^\]]+\]?))+")
_RANGES = re.compile(r"([^\[]*)\[([\d,-]+)\](.*)", re.DOTALL)


def parse_indices(text: str, most: int = MOST_INDICES) -> tuple[int, ...]:
    """Return the task indices of `0-5,8,10-20:2%4`, at most so many; what cannot be read (`...`) is left out."""
    found: list[int] = []
    for low, high, step in _ranges(text):
        found.extend(range(low, min(high, low + step * (most - len(found))) + 1, step))
        if len(found) >= most:
            break
    return tuple(found[:most])


def count_indices(text: str) -> int:
    """Return how many tasks `0-5,8,10-20:2%4` has, without listing them; at least 1."""
    return max(1, sum((high - low) // step + 1 for low, high, step in _ranges(text)))


def _ranges(text: str) -> Iterator[tuple[int, int, int]]:
    for part in text.partition("%")[0].split(","):
        match = _INDICES.fullmatch(part.strip())
        if match:
            low, high, step = (int(word) if word else None for word in match.groups())
            yield low or 0, high if high is not None else low or 0, step or 1


def parse_hosts(text: str, most: int = MAX_HOSTS) -> tuple[str, ...]:
    """Return the hosts of `dgx[01-04,7],cpu1`, also with several brackets, at most so many.

    What is no such list stays as it is.
    """
    found: list[str] = []
    waiting = _HOST.findall(text)[::-1]
    while waiting and len(found) < most:
        item = waiting.pop()
        match = _RANGES.fullmatch(item)
        if match is None:
            found.append(item.strip())
            continue
        before, ranges, after = match.groups()
        waiting += [f"{before}{number}{after}" for number in reversed(tuple(islice(_numbers(ranges), most)))]
    return tuple(found)


def _numbers(ranges: str) -> Iterator[str]:
    for part in ranges.split(","):
        low, _, high = part.partition("-")
        if max(len(low), len(high)) < 10 and low.isdecimal() and (high.isdecimal() or not high):
            last = min(int(high or low), int(low) + MAX_HOSTS)
            yield from (f"{number:0{len(low)}}" for number in range(int(low), last + 1))

"""Which tiles and compiler hints a kernel gets on which GPU: data, in tuning.json. `--tune` of the jobs makes new ones.

What the file of this folder holds was found without a GPU: the largest tiles that compile without register spills.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("tuning.json")
in_use = [FILE]
# What `--tune` tries of the compilers' own knobs.
HINTS = {
    "cutile": {"num_worker_warps": (4, 8), "num_ctas": (1, 2, 4)},
    "triton": {"num_warps": (4, 8), "num_stages": (2, 3, 4)},
}
GROUPS = (4, 8, 16)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """How one kernel is compiled."""

    tile: tuple[int, ...]
    hints: dict[str, int] = field(default_factory=dict)  # the compiler's own names
    group: int = 8  # rows of tiles that are computed together, for the L2

    @property
    def text(self) -> str:
        """Return it in a few words."""
        hints = "".join(f", {name} {value}" for name, value in self.hints.items())
        return f"tile {'x'.join(map(str, self.tile))}{hints}, group {self.group}"


class Untuned(Exception):
    """There is no such kernel for this GPU; the text says which."""


@cache
def read(file: Path) -> dict[str, Any]:
    """Return all tunings, by language, kernel and architecture: those of this folder, and what a file has instead."""
    tunings: dict[str, Any] = json.loads(FILE.read_text())
    for by, kernels in json.loads(file.read_text()).items():
        for kernel, archs in kernels.items():
            tunings[by][kernel] = tunings[by].get(kernel, {}) | archs
    return tunings


def use(file: Path) -> None:
    """Take a file that `--tune` wrote from now on. Raises OSError or ValueError when it is no such file."""
    read.cache_clear()  # it may have been written anew
    read(file)
    in_use[0] = file


def number(arch: str) -> int:
    """Return 90 for sm_90."""
    return int(arch.removeprefix("sm_"))


def config(by: str, kernel: str, arch: str) -> Config:
    """Return the configuration for an architecture, or that of the newest older one. Raises Untuned."""
    found = read(in_use[0])[by].get(kernel, {})
    older = [known for known in found if number(known) <= number(arch)]
    row = found[max(older, key=number)] if older else None  # null in the file: none from here on
    if row is None:
        raise Untuned(f"{by} has no {kernel} kernel for {arch}")
    return from_json(row)


def from_json(row: dict[str, Any]) -> Config:
    """Return one configuration of the file."""
    return Config(tile=tuple(row["tile"]), hints=row.get("hints", {}), group=row.get("group", 8))


def to_json(one: Config) -> dict[str, Any]:
    """Return a configuration as the file has it."""
    return {"tile": list(one.tile), "hints": one.hints, "group": one.group}


def neighbours(by: str, one: Config) -> list[Config]:
    """Return what `--tune` tries first: a configuration, and others with one size of the tile or one hint changed."""
    tiles = {one.tile}
    for place, size in enumerate(one.tile):
        for other in (size // 2, size * 2):
            if 32 <= other <= 256:
                tiles.add((*one.tile[:place], other, *one.tile[place + 1 :]))
    hints = [one.hints]
    for name, values in HINTS[by].items():
        hints += [one.hints | {name: value} for value in values if one.hints.get(name) != value]
    first = [one.tile, *sorted(tiles - {one.tile})]
    return [replace(one, tile=tile, hints=hint) for tile in first for hint in hints]


def best(by: str, known: Config, run: Callable[[Config], float]) -> Config:
    """Return the fastest of a configuration and its neighbours; `run` returns milliseconds, or raises what it likes.

    Of the fastest, other groups are tried: what is good for the L2 hardly depends on the rest.
    """
    found, least = fastest(neighbours(by, known), run)
    groups = [replace(found, group=group) for group in GROUPS if group != found.group]
    other, took = fastest(groups, run)
    return other if took < least else found


def fastest(tried: list[Config], run: Callable[[Config], float]) -> tuple[Config, float]:
    """Return the fastest configuration and its milliseconds; the first, and infinity, if none runs."""
    found, least = tried[0], float("inf")
    for how in tried:
        try:
            took = run(how)
        except Exception as failure:  # too much shared memory, say
            print(f"  {how.text}: {type(failure).__name__}", file=sys.stderr, flush=True)
            continue
        print(f"  {how.text}: {took:.3f} ms", file=sys.stderr, flush=True)
        if took < least:
            found, least = how, took
    return found, least

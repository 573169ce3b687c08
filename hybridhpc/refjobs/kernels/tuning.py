"""Which tiles and compiler hints a kernel gets on which GPU: data, in tuning.json. `--tune` of the jobs makes new ones.

What the file of this folder holds was found without a GPU: the largest tiles that compile without register spills.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("tuning.json")


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
def read(file: Path = FILE) -> dict[str, Any]:
    """Return all tunings: by language, kernel and architecture."""
    tunings: dict[str, Any] = json.loads(file.read_text())
    return tunings


def number(arch: str) -> int:
    """Return 90 for sm_90."""
    return int(arch.removeprefix("sm_"))


def config(by: str, kernel: str, arch: str, file: Path = FILE) -> Config:
    """Return the configuration for an architecture, or that of the newest older one. Raises Untuned."""
    found = read(file)[by].get(kernel, {})
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


def neighbours(one: Config) -> list[Config]:
    """Return what `--tune` tries besides a configuration: tiles half and twice as large, other groups and warps."""
    tiles = {one.tile}
    for place, size in enumerate(one.tile):
        for other in (size // 2, size * 2):
            if 32 <= other <= 256:
                tiles.add((*one.tile[:place], other, *one.tile[place + 1 :]))
    hints = [one.hints, *({**one.hints, name: value} for name, values in HINTS.items() for value in values)]
    hints = [hint for at, hint in enumerate(hints) if hint not in hints[:at] and set(hint) <= set(one.hints) | {FIRST}]
    groups = sorted({one.group, 4, 8, 16})
    return [Config(tile=tile, hints=hint, group=group) for tile in sorted(tiles) for hint in hints for group in groups]


FIRST = "num_worker_warps"
HINTS = {FIRST: (4, 8), "num_ctas": (1, 2, 4), "num_warps": (4, 8), "num_stages": (2, 3, 4)}

"""Words of `where` and `residency`: places, labels, exclusions, comparisons. Whom they admit: decide/places.py."""

from __future__ import annotations

import re
from collections.abc import Iterable

from hybridhpc.readers import Fault, matching, quoted
from hybridhpc.units import format_memory, parse_memory
from hybridhpc.values import dataclass

CLOUD, ONPREM = "cloud", "onprem"
"""Labels that every candidate has one of."""
_SITE = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
_PARTITION = r"[^\s,/:<>=]{1,64}"
_COMPARISON = re.compile(r"(gpu-memory|gpu-speed)\s*(>=|<=|>|<|=)\s*(\S.*)")
_PLACES = "write auto, SITE, SITE/PARTITION, a label, gpu-memory>=80GiB, '!SITE' or a list of them"
read_label = matching(_SITE, "label: letters, digits, '.', '_' and '-', at most 64")


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What is asked of the GPUs: `figure` is gpu-memory (MiB) or gpu-speed."""

    figure: str
    sign: str
    value: float

    def holds(self, figure: float) -> bool:
        """Whether a GPU with this figure will do."""
        signs = {">": figure > self.value, "<": figure < self.value, "=": figure == self.value}
        return any(signs[sign] for sign in self.sign)

    def spelled(self, figure: float) -> str:
        """Spell a figure of this kind."""
        return format_memory(int(figure)) if self.figure == "gpu-memory" else f"{figure:g}"


def parse_comparison(text: str) -> Comparison | None:
    """Read `gpu-memory>=80GiB` or `gpu-speed>0.5`; None if it is no comparison. Raises ValueError for its value."""
    match = _COMPARISON.fullmatch(text)
    if match is None:
        return None
    figure, sign, value = match.groups()
    if figure == "gpu-memory":
        return Comparison(figure=figure, sign=sign, value=parse_memory(value))
    if not re.fullmatch(r"[0-9]{1,6}(?:\.[0-9]{1,6})?", value):
        raise Fault(f"{quoted(value)} is no number", "write gpu-speed>=0.5")
    return Comparison(figure=figure, sign=sign, value=float(value))


def read_place(text: str) -> str:
    """Read `auto`, `site`, `site/partition`, a label, one of these three excluded (`!site`), or a comparison."""
    if parse_comparison(text) is not None:
        return text.replace(" ", "")
    site, mark, partition = text.removeprefix("!").partition("/")
    fits = re.fullmatch(_SITE, site) and (not mark or re.fullmatch(_PARTITION, partition))
    if not fits or (site == "auto" and text != "auto"):
        raise Fault(f"{quoted(text)} is no place", _PLACES)
    return text


def places(found: tuple[str, ...]) -> tuple[str, ...]:
    """Check places together: `auto` means all of them. Raises Fault."""
    if not found:
        raise Fault("names no place")
    if "auto" in found and any(place != "auto" for place in admitting(found)):
        raise Fault("names auto beside other places", "auto is every site: leave it out")
    return found


def admitting(where: Iterable[str]) -> tuple[str, ...]:
    """Return the words that admit: places and labels. Exclusions and comparisons only narrow."""
    return tuple(entry for entry in where if not entry.startswith("!") and parse_comparison(entry) is None)


def unknown_names(where: Iterable[str], sites: Iterable[str], labels: Iterable[str]) -> tuple[str, ...]:
    """Return the names in `where` that no site and no label has."""
    known, words = {"auto", *sites}, {CLOUD, ONPREM, *labels}
    found = []
    for entry in where:
        name, mark, _ = entry.removeprefix("!").partition("/")
        if parse_comparison(entry) is None and name not in known and (mark or name not in words):
            found.append(name)
    return tuple(dict.fromkeys(found))

"""What the jobs of a sweep differ in, and where a text mentions it. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

from hybridhpc.values import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Points:
    """What the jobs of a sweep differ in: one value of each name for each of them."""

    names: tuple[str, ...]
    """Names of environment variables."""
    rows: tuple[tuple[str, ...], ...]
    name: str = ""
    """What each is called, with `${NAME}` for values; empty: all alike."""

    def parts(self, text: str) -> tuple[tuple[str, bool], ...]:
        """Cut a text at its `$NAME` and `${NAME}`: pieces of it, and names of parameters (True)."""
        found, at = [], 0
        for match in re.finditer(r"\$(?:\{(\w+)\}|([A-Za-z_]\w*))", text, re.ASCII):
            name = match[1] or match[2]
            if name in self.names:
                found += [(text[at : match.start()], False), (name, True)]
                at = match.end()
        return (*found, (text[at:], False))

    def mentioned(self, text: str) -> bool:
        """Whether a text mentions a parameter."""
        return any(named for _, named in self.parts(text))

    def fill(self, text: str, values: Mapping[str, str]) -> str:
        """Put values where a text mentions parameters."""
        return "".join(values[part] if named else part for part, named in self.parts(text))

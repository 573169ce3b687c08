"""What is said about a key or a value that is wrong: how to write it, where it belongs, which key was meant."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from hybridhpc.document import KeyPath
from hybridhpc.readers import nearest
from hybridhpc.values import dataclass

Words = tuple[str, str]
"""Message and hint."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wording:
    """What a file knows of its keys."""

    write: Mapping[str, str]
    """`resources.gpus` (a person's own key is `*`) to an example; the keys are those of the schema."""
    aliases: Mapping[str, str]
    """Other spellings to keys."""
    foreign: Mapping[str, Words]
    """Keys of other tools."""
    strange: Callable[[str], Words | None]
    """Is asked about any other key that is not known."""

    def of(self, what: str, path: KeyPath, fault: object) -> Words:
        """Say what is wrong at a path: a key that is `missing`, one that is none (`extra_forbidden`), or a value."""
        pattern = self._pattern(path)
        example = f"write {self.write[pattern]}" if pattern in self.write else ""
        if what == "extra_forbidden":
            return self._unknown(str(path[-1]), pattern.rpartition(".")[0])
        if what == "missing":
            return "is missing", example
        message, _, how = str(fault or "cannot be written like this").partition("; write ")
        return message, f"write {how}" if how else getattr(fault, "hint", "") or example

    def _unknown(self, key: str, parent: str) -> Words:
        return self.foreign.get(key) or self._misplaced(key) or self.strange(key) or self._misspelt(key, parent)

    def _misplaced(self, key: str) -> Words | None:
        deep = {alias: known for alias, known in self.aliases.items() if "." in alias}
        words = {**dict(zip(self.write, self.write, strict=True)), **deep}
        known = next((known for word, known in words.items() if word.rpartition(".")[2] == key), None)
        if known is None:
            return None
        place = known.rpartition(".")[0].replace("*", "NAME")
        where = f"it belongs below {place}:" if place else "it belongs at the top level:"
        return "is not known here", f"{where} write {self.write[known]}"

    def _misspelt(self, key: str, parent: str) -> Words:
        here, also = _below(parent, self.write), _below(parent, self.aliases)
        meant = nearest(key, {**here, **also})
        if meant:
            known = here.get(meant) or self.aliases[also[meant]]
            return "is not a known key", f"did you mean {known.rpartition('.')[2]}? write {self.write[known]}"
        return "is not a known key", f"known are {', '.join(here)}"

    def _pattern(self, path: KeyPath) -> str:
        parts: list[str] = []
        for part in path:
            if isinstance(part, str):
                parts.append(part if ".".join([*parts, part]) in self.write else "*")
        return ".".join(parts)


def _below(parent: str, keys: Iterable[str]) -> dict[str, str]:
    """Return the keys that lie directly below one, by their last word."""
    return {key.rpartition(".")[2]: key for key in keys if key.rpartition(".")[0] == parent}

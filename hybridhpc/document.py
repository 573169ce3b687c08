"""Reading YAML that people write: bytes to a plain tree of text, the line of every key, and every structural fault.

Nothing is converted: `08`, `no`, `1e3` and `12:00:00` stay what the person typed, since YAML 1.1 would make a number,
a truth value or 43200 of them. What the keys mean does not belong here.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import field

import yaml

from hybridhpc.errors import Problem
from hybridhpc.readers import Plain, quoted
from hybridhpc.values import dataclass
from hybridhpc.yaml_text import decode, syntax_problems

KeyPath = tuple[str | int, ...]

MAX_DEPTH = 20
MAX_VALUES = 20_000
_LOADER = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
_NULLS = ("", "null", "Null", "NULL")
_IN_NO_TEXT = re.compile("[\x00\ud800-\udfff]")
_PLAIN_KEY = r"[\w.<>@+=/-]{1,60}"
_VARIABLE = r"[A-Za-z_][A-Za-z0-9_]{0,59}"
_IGNORED = "\0"
"""Stands for a key that was refused: what lies below it is read, but nothing is said about it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """What was read. If `complete` is False the reading broke off and `root` says nothing."""

    file: str
    root: dict[str, Plain] = field(default_factory=dict)
    lines: Mapping[KeyPath, int] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    refused: frozenset[KeyPath] = frozenset()
    """Keys whose value was refused already: no more is said about them."""
    complete: bool = True

    def problem(self, path: KeyPath, message: str, hint: str = "") -> Problem:
        """Return a problem of a key, with the line of the key or of the nearest one around it."""
        line = self.lines.get(self.written(path))
        return Problem(file=self.file, line=line, key=dotted(path), message=message, hint=hint)

    def written(self, path: KeyPath) -> KeyPath:
        """Return the longest beginning of a path that stands in the file."""
        while path and path not in self.lines:
            path = path[:-1]
        return path


def read_document(content: bytes, file: str) -> Document:
    """Read YAML whose top level is a mapping. Never raises: what is wrong is in `problems`."""
    text, problems = decode(content, file)
    if problems:
        return Document(file=file, problems=problems, complete=False)
    reader = _Reader(file)
    try:
        for event in yaml.parse(text, Loader=_LOADER):
            reader.take(event)
    except _Stop:
        return reader.document(complete=False)
    except yaml.YAMLError as error:
        reader.problems.extend(syntax_problems(error, text, file))
        return reader.document(complete=False)
    return reader.document(complete=True)


def dotted(path: KeyPath) -> str:
    """Spell a path for a person: resources.gpus[0]. Odd keys below `secrets` are not shown: they may hold one."""
    secret = path[:1] == ("secrets",)
    words = ""
    for part in path:
        if isinstance(part, int):
            words += f"[{part}]"
            continue
        plain = re.fullmatch(_VARIABLE if secret else _PLAIN_KEY, part)
        name = part if plain else ("<not shown>" if secret else quoted(part))
        words += f".{name}" if words else name
    return words


class _Stop(Exception):
    """Nothing sensible can be read beyond this point; the problem is noted."""


@dataclasses.dataclass(slots=True)
class _Open:
    """A mapping or list that is being read."""

    value: dict[str, Plain] | list[Plain]
    path: KeyPath
    key: str | None = None
    """The key whose value comes next; None: a key comes next."""

    @property
    def wants_key(self) -> bool:
        return isinstance(self.value, dict) and self.key is None


class _Reader:
    """Builds the tree from YAML's events, without recursion."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.problems: list[Problem] = []
        self._lines: dict[KeyPath, int] = {}
        self._refused: set[KeyPath] = set()
        self._top: list[Plain] = []
        self._open = [_Open(self._top, ())]
        self._documents = 0
        self._values = 0

    def take(self, event: yaml.Event) -> None:
        """Take the next event. Raises _Stop if reading on makes no sense."""
        match event:
            case yaml.ScalarEvent():
                self._scalar(event)
            case yaml.MappingStartEvent():
                self._start(event, {})
            case yaml.SequenceStartEvent():
                self._start(event, [])
            case yaml.CollectionEndEvent():
                self._open.pop()
            case yaml.AliasEvent():
                self._alias(event)
            case yaml.DocumentStartEvent():
                self._document_start(event)

    def document(self, *, complete: bool) -> Document:
        """Return what was read."""
        root = self._top[0] if self._top else None
        if complete and not isinstance(root, dict):
            message = "is empty" if root is None else "must be keys and values at the top level"
            self._say((), message, "write 'key: value' lines")
        return Document(
            file=self.file,
            root=root if isinstance(root, dict) else {},
            lines=self._lines,
            problems=tuple(self.problems),
            refused=frozenset(self._refused),
            complete=complete and isinstance(root, dict),
        )

    def _document_start(self, event: yaml.Event) -> None:
        self._documents += 1
        if self._documents > 1:
            self._say((), "holds more than one document", "put each in a file of its own", _line(event))
            raise _Stop

    def _start(self, event: yaml.CollectionStartEvent, value: dict[str, Plain] | list[Plain]) -> None:
        parent = self._open[-1]
        if parent.wants_key:
            self._say(parent.path, "a key must be a plain word", "write 'key: value'", _line(event))
            parent.key = _IGNORED
            path: KeyPath = (*parent.path, _IGNORED)
        else:
            path = self._place(event, value)
            self._decorations(event, path)
        if len(self._open) > MAX_DEPTH:
            self._say((), f"is nested more than {MAX_DEPTH} deep", "no key here needs that", _line(event))
            raise _Stop
        self._open.append(_Open(value, path))

    def _scalar(self, event: yaml.ScalarEvent) -> None:
        if self._open[-1].wants_key:
            self._key(self._open[-1], event)
            return
        unwritten = event.implicit[0] and event.value in _NULLS
        path = self._place(event, None if unwritten else event.value)
        self._decorations(event, path)
        if _IN_NO_TEXT.search(event.value):
            self._refuse(path, "holds a NUL or half a character", "no file or command can carry it")

    def _alias(self, event: yaml.AliasEvent) -> None:
        parent, message, hint = self._open[-1], "an alias (*) is not accepted", "write the value out where it is used"
        if parent.wants_key:
            parent.key = _IGNORED
            self._say(parent.path, message, hint, _line(event))
        else:
            self._refuse(self._place(event, None), message, hint)

    def _key(self, parent: _Open, event: yaml.ScalarEvent) -> None:
        key, line = event.value, _line(event)
        path = (*parent.path, key)
        parent.key = _IGNORED
        if event.anchor or event.tag:
            self._say(parent.path, f"the key {quoted(key)} has an anchor or a tag", "write the key alone", line)
        elif key == "<<" and event.implicit[0]:
            self._say(parent.path, "a merge key (<<) is not accepted", "write the keys out where they are used", line)
        elif key == "" or _IN_NO_TEXT.search(key):
            self._say(parent.path, "a ':' has no key before it", "write 'key: value'", line)
        elif path in self._lines:
            self._say(path, f"stands twice, first on line {self._lines[path]}", "keep one of them", line)
        else:
            parent.key = key
            self._lines[path] = line

    def _place(self, event: yaml.NodeEvent, value: Plain) -> KeyPath:
        """Put a value where it belongs and return its path."""
        self._values += 1
        if self._values > MAX_VALUES:
            self._say((), f"holds more than {MAX_VALUES:,} values", "data belongs in files of its own")
            raise _Stop
        parent = self._open[-1]
        if isinstance(parent.value, list):
            path = (*parent.path, len(parent.value)) if len(self._open) > 1 else ()
            self._lines[path] = _line(event)
            parent.value.append(value)
            return path
        key, parent.key = parent.key or _IGNORED, None
        if key != _IGNORED:
            parent.value[key] = value
        return (*parent.path, key)

    def _decorations(self, event: yaml.ScalarEvent | yaml.CollectionStartEvent, path: KeyPath) -> None:
        if event.tag is not None:
            tag = event.tag.replace("tag:yaml.org,2002:", "!!")
            self._refuse(
                path, f"the tag {quoted(tag)} is not accepted", "leave it out; put a value that begins with ! in quotes"
            )
        elif event.anchor is not None:
            anchor = quoted("&" + event.anchor)
            self._say(path, f"the anchor {anchor} is not accepted", "write the value out where it is used")

    def _refuse(self, path: KeyPath, message: str, hint: str) -> None:
        self._refused.add(path)
        self._say(path, message, hint)

    def _say(self, path: KeyPath, message: str, hint: str, line: int | None = None) -> None:
        if _IGNORED not in path:
            place = line or self._lines.get(path)
            self.problems.append(Problem(file=self.file, line=place, key=dotted(path), message=message, hint=hint))


def _line(event: yaml.Event) -> int:
    return 1 if event.start_mark is None else int(event.start_mark.line) + 1

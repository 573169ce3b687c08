"""Reading YAML that people write: bytes to a plain tree of text, the line of every key, and every structural fault.

Nothing is converted: `08`, `no`, `1e3` and `12:00:00` stay what the person typed, since YAML 1.1 would make a number,
a truth value or 43200 of them. What the keys mean does not belong here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from hybridhpc.errors import Problem

Plain = dict[str, "Plain"] | list["Plain"] | str | None
"""Text, lists and mappings; None where nothing was written."""
KeyPath = tuple[str | int, ...]

MAX_BYTES = 1_000_000
MAX_DEPTH = 20
MAX_VALUES = 20_000
MAX_PROBLEMS = 100
_LOADER: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
_NULLS = ("", "null", "Null", "NULL")
_UNSEEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
_IN_TEXT = re.compile("[\x00\ud800-\udfff]")
_PLAIN_KEY = re.compile(r"[\w.<>@+=/-]{1,60}")
_SECRET_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,59}")
_IGNORED = "\0"
"""Stands for a key that was refused: what lies below it is read, but nothing is said about it."""

_SYNTAX = (
    ("cannot start any token", "a value begins with a character that means something in YAML", "put it in quotes"),
    (
        "mapping values are not allowed",
        "a ':' stands where none can",
        "indent it like its neighbours, or quote the value",
    ),
    ("could not find expected ':'", "a line has no 'key: value'", "give it a key, or indent it below one"),
    ("expected ',' or ']'", "a list is not closed", "end it with ']'"),
    ("expected ',' or '}'", "a mapping is not closed", "end it with '}'"),
    ("expected key", "the indentation fits none of the lines above", "indent keys of one level alike, with spaces"),
    ("expected '-' indicator", "a list ends in the middle", "begin every entry with '- ' in the same column"),
    ("block sequence entries are not allowed", "a '- ' stands where no list can", "put the list on its own lines"),
    ("unexpected end of stream", "a quote is never closed", "close it, or write text over several lines with '|'"),
    ("unknown escape character", "a backslash escape is unknown", "use single quotes, in which '\\' is itself"),
    ("alphabetic or numeric character", "an anchor or alias has no name", "quote values that begin with '&' or '*'"),
)


class Fault(ValueError):
    """What is wrong with one value and how to write it; whoever catches it knows where it stands."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


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
        return _problem(self.file, self.lines, path, message, hint)

    def written(self, path: KeyPath) -> KeyPath:
        """Return the longest part of a path that stands in the file."""
        while path and path not in self.lines:
            path = path[:-1]
        return path


def read_document(content: bytes, file: str) -> Document:
    """Read YAML whose top level is a mapping. Never raises: what is wrong is in `problems`."""
    text, problems = _decode(content, file)
    if problems:
        return Document(file=file, problems=tuple(problems), complete=False)
    reader = _Reader(file)
    try:
        for event in yaml.parse(text, Loader=_LOADER):
            reader.take(event)
    except _Stop:
        return reader.document(complete=False)
    except yaml.YAMLError as error:
        reader.problems.extend(_syntax_problems(error, text, file))
        return reader.document(complete=False)
    return reader.document(complete=True)


def dotted(path: KeyPath) -> str:
    """Spell a path for a person: resources.gpus[0]. Odd keys below `secrets` are not shown: they may hold one."""
    shown = _SECRET_KEY if path[:1] == ("secrets",) else _PLAIN_KEY
    words = ""
    for part in path:
        if isinstance(part, int):
            words += f"[{part}]"
            continue
        name = part if shown.fullmatch(part) else ("..." if shown is _SECRET_KEY else quoted(part))
        words += f".{name}" if words else name
    return words


def quoted(text: str) -> str:
    """Quote what a person wrote, cut to a length that reads well."""
    return repr(text if len(text) <= 60 else text[:57] + "...")


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word that was probably meant."""
    import difflib  # only wanted where something is wrong

    spelled = {name.casefold(): name for name in known}
    close = difflib.get_close_matches(word[:60].casefold().replace("-", "_"), spelled, n=1)
    return spelled[close[0]] if close else None


def in_order(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """Sort problems by line and bound their number."""
    ordered = sorted(problems, key=lambda problem: problem.line or 0)
    if len(ordered) <= MAX_PROBLEMS:
        return tuple(ordered)
    rest = Problem(file=ordered[0].file, line=None, key="", message=f"{len(ordered) - MAX_PROBLEMS} more problems")
    return (*ordered[:MAX_PROBLEMS], rest)


def _problem(file: str, lines: Mapping[KeyPath, int], path: KeyPath, message: str, hint: str) -> Problem:
    place = path
    while place and place not in lines:
        place = place[:-1]
    return Problem(file=file, line=lines.get(place), key=dotted(path), message=message, hint=hint)


def _decode(content: bytes, file: str) -> tuple[str, list[Problem]]:
    def one(message: str, hint: str = "", line: int | None = None) -> tuple[str, list[Problem]]:
        return "", [Problem(file=file, line=line, key="", message=message, hint=hint)]

    if len(content) > MAX_BYTES:
        return one(
            f"is {len(content):,} bytes long; at most {MAX_BYTES:,} are read", "data belongs in files of its own"
        )
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return one("is written in UTF-16", "save it as UTF-8")
    if b"\0" in content:
        return one("is a binary file, not YAML", "name the text file you mean")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        byte, line = content[error.start], content.count(b"\n", 0, error.start) + 1
        return one(f"byte 0x{byte:02X} is no UTF-8", "save the file as UTF-8", line)
    return text, [_unseen(text, match, file) for match in list(_UNSEEN.finditer(text))[:MAX_PROBLEMS]]


def _unseen(text: str, match: re.Match[str], file: str) -> Problem:
    line = text.count("\n", 0, match.start()) + 1
    message = f"holds the unprintable character U+{ord(match.group()):04X}"
    return Problem(file=file, line=line, key="", message=message, hint="delete it; in double quotes write it as \\x..")


def _syntax_problems(error: yaml.YAMLError, text: str, file: str) -> list[Problem]:
    mark = getattr(error, "problem_mark", None)
    line = None if mark is None else mark.line + 1
    words = str(getattr(error, "problem", None) or "it cannot be read")
    lines = text.splitlines()
    if line is not None and line <= len(lines) and "\t" in _indentation(lines[line - 1]):
        return [_tab(file, number) for number, each in enumerate(lines, 1) if "\t" in _indentation(each)][:MAX_PROBLEMS]
    for fragment, message, hint in _SYNTAX:
        if fragment in words:
            return [Problem(file=file, line=line, key="", message=message, hint=hint)]
    return [
        Problem(file=file, line=line, key="", message=f"is no YAML: {words}", hint="docs/spec.md shows how it reads")
    ]


def _indentation(line: str) -> str:
    return line[: len(line) - len(line.lstrip())]


def _tab(file: str, line: int) -> Problem:
    return Problem(file=file, line=line, key="", message="is indented with a tab", hint="YAML wants spaces")


class _Stop(Exception):  # noqa: N818 -- not an error: the rest is not worth reading
    """Nothing sensible can be read beyond this point; the problem is noted."""


@dataclass(slots=True)
class _Open:
    """A mapping or list that is being read."""

    value: dict[str, Plain] | list[Plain]
    path: KeyPath
    key: str | None = None
    """The key whose value comes next; None: a key comes next."""


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
        self._actions = {
            yaml.DocumentStartEvent: self._document_start,
            yaml.MappingStartEvent: lambda event: self._start(event, {}),
            yaml.SequenceStartEvent: lambda event: self._start(event, []),
            yaml.MappingEndEvent: lambda _: self._open.pop(),
            yaml.SequenceEndEvent: lambda _: self._open.pop(),
            yaml.ScalarEvent: self._scalar,
            yaml.AliasEvent: self._alias,
        }

    def take(self, event: Any) -> None:
        """Take the next event. Raises _Stop if reading on makes no sense."""
        action = self._actions.get(type(event))
        if action is not None:
            action(event)

    def document(self, *, complete: bool) -> Document:
        """Return what was read."""
        root = self._top[0] if self._top else None
        if complete and not isinstance(root, dict) and not self.problems:
            message = "is empty" if root is None else "must be keys and values at the top level"
            self.problems.append(
                Problem(file=self.file, line=None, key="", message=message, hint="write 'key: value' lines")
            )
        return Document(
            file=self.file,
            root=root if isinstance(root, dict) else {},
            lines=self._lines,
            problems=tuple(self.problems),
            refused=frozenset(self._refused),
            complete=complete and isinstance(root, dict),
        )

    def _say(self, path: KeyPath, message: str, hint: str, line: int | None = None) -> None:
        if _IGNORED in path:
            return
        problem = _problem(self.file, self._lines, path, message, hint)
        place = line or problem.line
        self.problems.append(Problem(file=self.file, line=place, key=problem.key, message=message, hint=hint))

    def _document_start(self, event: Any) -> None:
        self._documents += 1
        if self._documents > 1:
            self._say((), "holds more than one document", "put each in a file of its own", event.start_mark.line + 1)
            raise _Stop

    def _start(self, event: Any, value: dict[str, Plain] | list[Plain]) -> None:
        parent = self._open[-1]
        if self._wants_key(parent):
            self._say(parent.path, "a key must be a plain word", "write 'key: value'", event.start_mark.line + 1)
            parent.key = _IGNORED
            self._open.append(_Open(value, (*parent.path, _IGNORED)))
            return
        path = self._place(event, value)
        if len(self._open) > MAX_DEPTH:
            self._say(
                path, f"is nested more than {MAX_DEPTH} deep", "nothing here needs that", event.start_mark.line + 1
            )
            raise _Stop
        self._open.append(_Open(value, path))

    def _scalar(self, event: Any) -> None:
        parent = self._open[-1]
        if self._wants_key(parent):
            self._key(parent, event)
            return
        plain = event.implicit[0]
        path = self._place(event, None if plain and event.value in _NULLS else event.value)
        if _IN_TEXT.search(event.value):
            self._refuse(path, "holds a NUL or half a character", "no command or file can carry that")

    def _alias(self, event: Any) -> None:
        parent, hint = self._open[-1], "write the value out: what runs must be readable where it stands"
        if self._wants_key(parent):
            parent.key = _IGNORED
            self._say(parent.path, "aliases (*name) are not accepted", hint, event.start_mark.line + 1)
            return
        self._refuse(self._place(event, None), "aliases (*name) are not accepted", hint)

    def _key(self, parent: _Open, event: Any) -> None:
        key, line, path = event.value, event.start_mark.line + 1, (*parent.path, event.value)
        parent.key = _IGNORED
        self._decorations(event, parent.path)
        if key == "<<" and event.implicit[0]:
            self._say(parent.path, "merge keys (<<) are not accepted", "write the keys out", line)
        elif key == "" or _IN_TEXT.search(key):
            self._say(parent.path, "a ':' has no key before it", "write 'key: value'", line)
        elif path in self._lines:
            self._say(path, f"stands twice; first on line {self._lines[path]}", "keep one of them", line)
        else:
            parent.key = key
            self._lines[path] = line

    def _place(self, event: Any, value: Plain) -> KeyPath:
        self._values += 1
        if self._values > MAX_VALUES:
            self._say((), f"holds more than {MAX_VALUES:,} values", "data belongs in files of its own")
            raise _Stop
        parent = self._open[-1]
        if isinstance(parent.value, list):
            path = (*parent.path, len(parent.value)) if len(self._open) > 1 else ()
            self._lines.setdefault(path, event.start_mark.line + 1)
            parent.value.append(value)
        else:
            path = (*parent.path, parent.key or "")
            if parent.key != _IGNORED:
                parent.value[parent.key or ""] = value
            parent.key = None
        self._decorations(event, path)
        return path

    def _decorations(self, event: Any, path: KeyPath) -> None:
        if getattr(event, "tag", None) is not None:
            tag = event.tag.replace("tag:yaml.org,2002:", "!!")
            self._refuse(
                path, f"the tag {quoted(tag)} is not accepted", "leave it out: what a value is follows from its key"
            )
        elif event.anchor is not None and not isinstance(event, yaml.AliasEvent):
            self._say(
                path, f"the anchor {quoted('&' + event.anchor)} is not accepted", "write the value out where it is used"
            )

    def _refuse(self, path: KeyPath, message: str, hint: str) -> None:
        self._refused.add(path)
        self._say(path, message, hint)

    @staticmethod
    def _wants_key(parent: _Open) -> bool:
        return isinstance(parent.value, dict) and parent.key is None

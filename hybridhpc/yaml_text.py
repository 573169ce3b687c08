"""What comes before and beside YAML's structure: bytes to text, and a YAML error in a person's words.

The tree that is read from the text does not belong here.
"""

from __future__ import annotations

import re

from yaml import YAMLError

from hybridhpc.errors import Problem

MAX_BYTES = 1_000_000
_MAX_PROBLEMS = 20
_UNSEEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")

_AT_ITS_BEGINNING = (
    ("could not find expected ':'", "stands alone, without ':'", "write 'key: value', or indent it below its key"),
    ("expected ',' or ']'", "begins a list that is not closed", "end it with ']'"),
    ("expected ',' or '}'", "begins a mapping that is not closed", "end it with '}'"),
    ("unexpected end of stream", "begins a quote that is not closed", "close it; long text goes below '|'"),
)
"""Words of libyaml, and ours, for what is best shown where the unfinished thing begins."""
_WHERE_SEEN = (
    ("cannot start any token", "a value begins with a character that means something in YAML", "put it in quotes"),
    (
        "mapping values are not allowed",
        "a ':' stands where none can",
        "indent it like its neighbours or quote the value",
    ),
    ("expected key", "the indentation fits none of the lines above", "indent keys of one level alike, with spaces"),
    (
        "expected <block end>",
        "the indentation fits none of the lines above",
        "indent keys of one level alike, with spaces",
    ),
    ("expected '-' indicator", "a list ends in the middle", "begin every entry with '- ' in the same column"),
    ("block sequence entries are not allowed", "a '- ' stands where no list can", "put the list on lines of its own"),
    ("unknown escape character", "a backslash escape is unknown", "use single quotes, in which \\ is itself"),
    ("alphabetic or numeric character", "an anchor or alias has no name", "quote a value that begins with & or *"),
)


def decode(content: bytes, file: str) -> tuple[str, tuple[Problem, ...]]:
    """Return the text of a file, or why it holds none."""
    if len(content) > MAX_BYTES:
        size = f"is {len(content):,} bytes long; at most {MAX_BYTES:,} are read"
        return "", (_problem(file, None, size, "data belongs in files of its own"),)
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "", (_problem(file, None, "is written in UTF-16", "save it as UTF-8"),)
    if b"\0" in content:
        return "", (_problem(file, None, "is a binary file", "name the text file you mean"),)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        byte, line = content[error.start], content.count(b"\n", 0, error.start) + 1
        return "", (_problem(file, line, f"the byte 0x{byte:02X} is no UTF-8", "save the file as UTF-8"),)
    unseen = [
        _unseen(text, match, file) for _, match in zip(range(_MAX_PROBLEMS), _UNSEEN.finditer(text), strict=False)
    ]
    return text, tuple(unseen)


def syntax_problems(error: YAMLError, text: str, file: str) -> list[Problem]:
    """Say in plain words where YAML broke off. Tabs in indentation are named on every line that has them."""
    words = str(getattr(error, "problem", None) or "it cannot be read")
    line, beginning = _line(error, "problem_mark"), _line(error, "context_mark")
    lines = text.splitlines()
    if line is not None and line <= len(lines) and _tabbed(lines[line - 1]):
        tabbed = [number for number, each in enumerate(lines, 1) if _tabbed(each)][:_MAX_PROBLEMS]
        return [_problem(file, number, "is indented with a tab", "YAML wants spaces") for number in tabbed]
    for place, table in ((beginning or line, _AT_ITS_BEGINNING), (line, _WHERE_SEEN)):
        for fragment, message, hint in table:
            if fragment in words:
                return [_problem(file, place, message, hint)]
    return [_problem(file, line, f"is no YAML: {words}", "mend this line first")]


def _line(error: YAMLError, name: str) -> int | None:
    mark = getattr(error, name, None)
    return None if mark is None else int(mark.line) + 1


def _tabbed(line: str) -> bool:
    return "\t" in line[: len(line) - len(line.lstrip())]


def _unseen(text: str, match: re.Match[str], file: str) -> Problem:
    line = text.count("\n", 0, match.start()) + 1
    message = f"holds the unprintable character U+{ord(match.group()):04X}"
    return _problem(file, line, message, "delete it")


def _problem(file: str, line: int | None, message: str, hint: str) -> Problem:
    return Problem(file=file, line=line, key="", message=message, hint=hint)

"""From the bytes of a script to the words on its #SBATCH lines, cut as sbatch cuts them; not what they mean.

Every rule was seen on sbatch 20.11.4, 21.08.5, 22.05.8, 23.11.4, 24.11.5, 25.11.2 and 26.05.5.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from dataclasses import field

from hybridhpc.errors import Problem
from hybridhpc.readers import quoted
from hybridhpc.spec.sbatch_options import Release
from hybridhpc.values import dataclass

_SPACE = " \t\v\f\r\n"
_MAGIC = ("#SBATCH", "#SLURM")
_SEPARATOR = re.compile(r"(?:hetjob|packjob)", re.IGNORECASE)
_SEPARATOR_WORD = re.compile(r"(?:hetjob|packjob)(?=[ \t\v\f\r\n]|$)", re.IGNORECASE)
_FOREIGN = ("#PBS", "#BSUB")
_SEPARATORS_ARE_WORDS: Release = (21, 8)
"""Before, `hetjob` anywhere in a line, even in a name or a comment, began a new component."""
_SPACE_CAN_BE_ESCAPED: Release = (24, 11)


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """One word as an option parser gets it, and the line of the script it stands on."""

    text: str
    line: int | None = None


@dataclasses.dataclass(slots=True)
class Directives:
    """What the head of a script holds: the words of each component, and what could not be cut into words."""

    components: list[list[Word]] = field(default_factory=lambda: [[]])
    problems: list[Problem] = field(default_factory=list)
    foreign: list[int] = field(default_factory=list)
    """Lines of PBS and LSF directives, which sbatch translates unless it is told --ignore-pbs."""


def script_problems(content: bytes, path: str) -> list[Problem]:
    """Find why sbatch would not take the file as a script at all; its own checks, in its order."""
    head = content.partition(b"\0")[0]
    if not content:
        return [_whole(path, "is empty; sbatch says: Batch script is empty!", "write a script")]
    if not head.strip(_SPACE.encode()):
        return [_whole(path, "holds only white space; sbatch says: Batch script contains only whitespace!", "")]
    if not content.startswith(b"#!"):
        marked = content.startswith(b"\xef\xbb\xbf#!")
        hint = "save it without a byte order mark" if marked else "begin it with #!/bin/bash"
        return [_whole(path, "sbatch says: This does not look like a batch script", hint)]
    if b"\0" in content:
        line = head.count(b"\n") + 1
        return [
            Problem(file=path, line=line, key="", message="holds a NUL byte, which sbatch refuses", hint="remove it")
        ]
    if b"\r\n" in content:
        line = content.partition(b"\r\n")[0].count(b"\n") + 1
        message = "sbatch says: Batch script contains DOS line breaks (\\r\\n)"
        return [
            Problem(file=path, line=line, key="", message=message, hint="convert it with dos2unix or sed 's/\\r$//'")
        ]
    return []


def _whole(path: str, message: str, hint: str) -> Problem:
    return Problem(file=path, line=None, key="", message=message, hint=hint)


def read_directives(content: bytes, path: str, release: Release) -> Directives:
    """Cut the #SBATCH lines before the first command into words; bytes that are not UTF-8 become surrogates."""
    found = Directives()
    for number, line in _head(content):
        magic = next((word for word in _MAGIC if line.startswith(word)), None)
        if magic is None:
            continue
        rest = line.removeprefix(magic)
        if release < _SEPARATORS_ARE_WORDS:
            rest, separates = _blank_separators(rest)
        else:
            separates = _SEPARATOR_WORD.match(rest.lstrip(_SPACE)) is not None
        if separates:
            found.components.append([])
        try:
            for text in _words(rest, release):
                found.components[-1].append(Word(text=text, line=number))
        except ValueError as error:
            found.problems.append(Problem(file=path, line=number, key=magic, message=str(error)))
    found.foreign = [number for number, line in _lines(content) if line.startswith(_FOREIGN)]
    return found


def lines_too_late(content: bytes) -> tuple[int, ...]:
    """Return the #SBATCH lines behind the first command, which sbatch takes for comments.

    None where the script has a here-document: they may be those of a script that it writes.
    """
    if b"<<" in content:
        return ()
    read = sum(1 for _ in _head(content))
    return tuple(number for number, line in _lines(content) if number > read and line.startswith(_MAGIC))


def _lines(content: bytes) -> Iterator[tuple[int, str]]:
    text = content.decode("utf-8", "surrogateescape")
    return enumerate(text.split("\n"), start=1)


def _head(content: bytes) -> Iterator[tuple[int, str]]:
    """Yield the lines before the first one that is neither blank nor a comment."""
    for number, line in _lines(content):
        if line.lstrip(_SPACE)[:1] not in ("", "#"):
            return
        yield number, line


def _blank_separators(text: str) -> tuple[str, bool]:
    blank, count = _SEPARATOR.subn(lambda match: " " * len(match[0]), text)
    return blank, count > 0


def _words(text: str, release: Release) -> Iterator[str]:
    """Yield the words of one line. Raises ValueError for an unmatched quote or a lone colon.

    A backslash keeps the next character, also inside quotes; `#` begins a comment even within a word; an empty word
    (`""`) and the word hetjob end the line.
    """
    at = 0
    while True:
        while text[at : at + 1] and text[at] in _SPACE:
            at += 1
        if text[at : at + 1] == ":":
            raise ValueError(
                f"sbatch says: Unexpected `:` in {quoted(text[at:])}; write a line `#SBATCH hetjob` instead"
            )
        if release >= _SEPARATORS_ARE_WORDS and _SEPARATOR_WORD.match(text, at):
            return
        word, at = _word(text, at, release)
        if not word:
            return
        yield word


def _word(text: str, at: int, release: Release) -> tuple[str, int]:
    """Return the word that begins at a place, without its quotes, and where it ends."""
    word: list[str] = []
    quote = ""
    begin = at
    while at < len(text) and (quote or text[at] not in _SPACE):
        letter = text[at]
        if letter == "\\":
            at += 1
            if not _is_kept(text[at : at + 1], quote, release):
                continue
            word.append(text[at])
        elif letter == quote:
            quote = ""
        elif quote:
            word.append(letter)
        elif letter in "\"'":
            quote = letter
        elif letter == "#":
            break
        else:
            word.append(letter)
        at += 1
    if quote:
        raise ValueError(f"sbatch says: Unmatched `{quote}` in {quoted(text[begin:])}")
    return "".join(word), at


def _is_kept(letter: str, quote: str, release: Release) -> bool:
    """Tell whether a backslash protects the letter behind it; a space outside quotes ended the word before 24.11."""
    if letter == " " and not quote:
        return release >= _SPACE_CAN_BE_ESCAPED
    return letter != "" and (bool(quote) or letter not in _SPACE)

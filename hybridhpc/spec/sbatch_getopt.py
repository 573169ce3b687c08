"""From words to options, as getopt_long takes them: abbreviations, joined and separate arguments, bundled flags.

glibc's getopt_long with a leading `+` (the first word that is no option ends them); the option table is sbatch_options,
and what plugins of sites add to it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from hybridhpc.errors import Problem
from hybridhpc.readers import nearest, quoted
from hybridhpc.spec.native import mended
from hybridhpc.spec.sbatch_options import (
    BY_NAME,
    BY_SHORT,
    OPTIONS,
    RELEASES,
    Argument,
    Known,
    Release,
    spell_release,
)
from hybridhpc.spec.sbatch_plugins import NONE_ADDED, Added
from hybridhpc.spec.sbatch_words import Word
from hybridhpc.values import dataclass

Origin = Literal["script", "environment", "command line"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One option as it was given. `name` is the full name without dashes; value None: no argument was given."""

    name: str
    value: str | None
    line: int | None
    origin: Origin
    spelling: str = ""
    """As the person wrote it, without the argument: `--nod`, `-N`, or the variable's name."""


Found = tuple[list[Option], list[Problem], int]
"""Options, problems, and how many words were options or their arguments."""


def read_options(
    words: Sequence[Word], *, file: str, origin: Origin, release: Release | None, plugins: Added = NONE_ADDED
) -> Found:
    """Read words until one is no option. Unlike getopt it goes on after a fault, so that all are found.

    With no release an option is taken if any release has it, and an abbreviation if all that understand it agree, with
    `plugins` and without.
    """
    reader = _Reader(words, file, origin, release, plugins)
    return reader.options, reader.problems, reader.read()


def resolve(name: str, release: Release | None, plugins: Added = NONE_ADDED) -> Known | str:
    """Return the option a long name or an abbreviation stands for, or what is wrong with it; "": there is none."""
    if name in plugins:
        return plugins[name]
    if release is None and name in BY_NAME:
        return BY_NAME[name]
    releases = RELEASES if release is None else (release,)
    tables = (OPTIONS, (*OPTIONS, *plugins.values())) if plugins else (OPTIONS,)
    answers = [_resolve_in(name, each, table) for table in tables for each in reversed(releases)]
    meant = {known.name: known for known in answers if isinstance(known, Known)}
    if len(meant) == 1:
        return next(iter(meant.values()))
    if meant:
        return _ambiguous(name, sorted(meant))
    return next((answer for answer in answers if isinstance(answer, str) and answer), "")


def _resolve_in(name: str, release: Release, table: Sequence[Known]) -> Known | str:
    exact = BY_NAME.get(name)
    if exact is not None and exact.exists_in(release):
        return exact
    begun = [known for known in table if known.name.startswith(name) and known.exists_in(release)]
    if len(begun) == 1:
        return begun[0]
    return _ambiguous(name, [known.name for known in begun]) if begun else ""


def _ambiguous(name: str, names: Sequence[str]) -> str:
    return f"is ambiguous: {', '.join('--' + each for each in names)}"


class _Reader:
    def __init__(
        self, words: Sequence[Word], file: str, origin: Origin, release: Release | None, plugins: Added
    ) -> None:
        self._words = words
        self._file = file
        self._origin: Origin = origin
        self._release = release
        self._plugins = plugins
        self._at = 0
        self.options: list[Option] = []
        self.problems: list[Problem] = []

    def read(self) -> int:
        """Read all options, and return the number of words that were theirs."""
        while self._at < len(self._words):
            word = self._words[self._at]
            if word.text == "--":
                return self._at + 1
            if not word.text.startswith("-") or word.text == "-":
                break
            self._at += 1
            take: Callable[[Word], None] = self._long if word.text.startswith("--") else self._short
            take(word)
        return self._at

    def _long(self, word: Word) -> None:
        name, joined, value = word.text[2:].partition("=")
        known = resolve(name, self._release, self._plugins)
        if isinstance(known, str):
            self._unresolved(word, name, value if joined else self._stray(word), known)
            return
        argument = known.argument_in(self._release)
        if argument is Argument.NONE and joined:
            self._problem(word, f"--{known.name}", "takes no argument", f"write --{known.name} alone")
        elif argument is Argument.REQUIRED and not joined:
            self._with_next(word, known, f"--{name}")
        else:
            self._add(word, known, value if joined else None, f"--{name}")

    def _short(self, word: Word) -> None:
        letters = word.text[1:]
        while letters:
            letter, letters = letters[0], letters[1:]
            known = BY_SHORT.get(letter)
            if known is None:
                self._problem(word, f"-{letter}", "is no option of sbatch", _nearest_to(word.text.lstrip("-")))
                return
            argument = known.argument_in(self._release)
            if argument is Argument.NONE:
                self._add(word, known, None, f"-{letter}")
                continue
            if letters or argument is Argument.OPTIONAL:
                self._add(word, known, letters or None, f"-{letter}")
            else:
                self._with_next(word, known, f"-{letter}")
            return

    def _with_next(self, word: Word, known: Known, spelling: str) -> None:
        if self._at == len(self._words):
            self._problem(word, spelling, "needs an argument", f"write --{known.name}=...")
            return
        self._at += 1
        self._add(word, known, self._words[self._at - 1].text, spelling)

    def _add(self, word: Word, known: Known, value: str | None, spelling: str) -> None:
        name = known.means or known.name
        option = Option(name=name, value=value, line=word.line, origin=self._origin, spelling=spelling)
        self.options.append(option)

    def _stray(self, word: Word) -> str | None:
        """Pass over what seems to be the argument of an unknown option of a script: one fault is one problem."""
        follows = self._words[self._at] if self._at < len(self._words) else word
        if self._origin != "script" or follows.line != word.line or follows.text.startswith("-"):
            return None
        self._at += 1
        return follows.text

    def _unresolved(self, word: Word, name: str, value: str | None, why: str) -> None:
        elsewhere = BY_NAME.get(name)
        if why:
            self._problem(word, f"--{name}", why, "write the name in full")
        elif elsewhere is not None and self._release is not None:
            self._problem(word, f"--{name}", absent_from(elsewhere, self._release), "")
        else:
            self._problem(word, f"--{name}", "is no option of sbatch", mended(name, value, "--"))

    def _problem(self, word: Word, key: str, message: str, hint: str) -> None:
        problem = Problem(file=self._file, line=word.line, key=legible(key), message=message, hint=hint)
        self.problems.append(problem)


def absent_from(known: Known, release: Release) -> str:
    """Say since or until when an option exists that sbatch of a release does not know."""
    here = f"this is {spell_release(release)}"
    if release < known.since:
        return f"exists from Slurm {spell_release(known.since)} on; {here}"
    if release > known.until:
        return f"exists up to Slurm {spell_release(known.until)} only; {here}"
    return f"does not exist in Slurm {spell_release(release)}, though before and after it"


def _nearest_to(name: str) -> str:
    meant = nearest(name, BY_NAME)
    return f"did you mean --{meant}?" if meant else "`sbatch --help` lists them"


def legible(text: str) -> str:
    """Return what a person wrote so that it can be printed, bytes that are no text as escapes, cut if very long."""
    return text if text.isprintable() and len(text) <= 60 else quoted(text)[1:-1]

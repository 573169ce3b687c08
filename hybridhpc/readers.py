"""Readers of single values that people write, for spec and site files alike: text to value, Fault if it is none.

What only a spec or only a site file knows does not belong here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

Plain = dict[str, "Plain"] | list["Plain"] | str | None
"""What people write: text, lists and mappings; None where nothing was written."""
Reader = Callable[[str], Any]
"""Reads one value that is text. Raises ValueError with a sentence for the person, best a Fault."""

_WHOLE = r"-?[0-9]{1,15}"
_DECIMAL = r"-?[0-9]{1,12}(\.[0-9]{1,12})?"
KEPT_BY_BASH = """
_ BASHOPTS BASHPID BASH_ALIASES BASH_ARGC BASH_ARGV BASH_ARGV0 BASH_CMDS BASH_COMMAND BASH_LINENO BASH_SOURCE
BASH_SUBSHELL BASH_VERSINFO DIRSTACK EPOCHREALTIME EPOCHSECONDS EUID FUNCNAME GROUPS HISTCMD LINENO OPTIND PIPESTATUS
PPID RANDOM SECONDS SHELLOPTS SHLVL SRANDOM UID
"""
"""bash(1), 5.2: variables that are read-only, computed or arrays: a value would not arrive as it was written."""
_TRUTH = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_ARTICLES: dict[type, str] = {str: "text", list: "a list", dict: "a mapping"}


class Fault(ValueError):
    """What is wrong with one value and how to write it; whoever catches it knows where it stands."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


def quoted(text: str) -> str:
    """Quote what a person wrote, cut to a length that reads well."""
    return repr(text if len(text) <= 60 else text[:57] + "...")


def kind(value: Plain) -> str:
    """Say what was written, with its article."""
    return "nothing" if value is None else _ARTICLES[type(value)]


def choice(*words: str) -> Reader:
    """Return a reader of one of a few words."""

    def read(text: str) -> str:
        if text in words:
            return text
        meant = nearest(text, words)
        hint = f"did you mean {meant}?" if meant else f"write {', '.join(words[:-1])} or {words[-1]}"
        raise Fault(f"{quoted(text)} is none of {', '.join(words)}", hint)

    return read


def whole(low: int, high: int) -> Reader:
    """Return a reader of a whole number; 08 is eight, as everywhere but in YAML 1.1."""

    def read(text: str) -> int:
        if not re.fullmatch(_WHOLE, text):
            raise Fault(f"{quoted(text)} is no whole number")
        if not low <= int(text) <= high:
            raise Fault(f"{text} is out of range", f"write a number from {low} to {high}")
        return int(text)

    return read


def decimal(low: float, high: float) -> Reader:
    """Return a reader of a plain decimal number."""

    def read(text: str) -> float:
        if not re.fullmatch(_DECIMAL, text):
            raise Fault(f"{quoted(text)} is no number")
        if not low <= float(text) <= high:
            raise Fault(f"{text} is out of range", f"write a number from {low:g} to {high:g}")
        return float(text)

    return read


def truth(text: str) -> bool:
    """Read true or false, in YAML's spellings."""
    if text.lower() not in _TRUTH:
        raise Fault(f"{quoted(text)} is neither true nor false")
    return _TRUTH[text.lower()]


def matching(pattern: str, what: str) -> Reader:
    """Return a reader of text that fits a pattern; `what` says in words what that is."""

    def read(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise Fault(f"{quoted(text)} is no {what}")
        return text

    return read


def printable(text: str) -> str:
    """Read one line of text without control characters."""
    if not text.strip() or not text.isprintable():
        raise Fault(f"{quoted(text)} must be one line of printable text")
    return text


def nearest(text: str, known: Iterable[str]) -> str | None:
    """Return the known word that was probably meant."""
    import difflib  # wanted only where something is wrong

    spelled = {name.casefold().replace("-", "_"): name for name in known}
    wanted = text[:60].casefold().replace("-", "_")
    close = difflib.get_close_matches(wanted, spelled, n=1)
    close += [name for name in spelled if len(name) > 2 and wanted.startswith(name)]
    return spelled[close[0]] if close else None

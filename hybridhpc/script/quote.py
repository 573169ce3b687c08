"""Quoting: every value a person wrote passes through here on its way into a script. What is shell by right (`run`,
`setup`, a site's preamble) goes into heredocs or in as it is, and not through here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from hybridhpc.readers import KEPT_BY_BASH

_PLAIN = re.compile(r"[A-Za-z0-9_@%+:,./-][A-Za-z0-9_@%+=:,./-]*")
_SBATCH_PLAIN = re.compile(r"[A-Za-z0-9_@%+=:,./*\[\]()|&^~-]+")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OURS = "HPC_"


def shell_word(value: str) -> str:
    """Quote a value so that a POSIX shell reads exactly it, as one word. It may still begin with a dash.

    Raises ValueError for NUL and for what cannot be encoded as UTF-8: no shell can carry them.
    """
    _refuse_unspeakable(value)
    if _PLAIN.fullmatch(value):
        return value
    return "'" + value.replace("'", "'\\''") + "'"


def shell_words(values: Iterable[str]) -> str:
    """Quote an argument list."""
    return " ".join(shell_word(value) for value in values)


def assignment(name: str, value: str) -> str:
    """Return `NAME=value` for `export`. Raises ValueError if the name is none, or not free to be set."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no name of an environment variable; use letters, digits and _")
    if name in KEPT_BY_BASH.split():
        raise ValueError(f"{name} belongs to bash itself and cannot be set; choose another name")
    if name.startswith(_OURS):
        raise ValueError(f"{name}: names that begin with {_OURS} are hybridhpc's own; choose another name")
    return f"{name}={shell_word(value)}"


def home_path(path: str) -> str:
    """Quote an absolute path, or one that starts with `~/` or `$HOME/`: that part is left to the shell of the node."""
    for start in ("~/", "$HOME/"):
        if path.startswith(start):
            return '"$HOME"/' + shell_word(path.removeprefix(start))
    return shell_word(path)


def sbatch_word(option: str) -> str:
    """Quote an option for a `#SBATCH` line.

    sbatch reads such a line by rules of its own (seen in 22.05; _get_argument in sbatch's opt.c, the same from 20.11 to
    26.05): quotes group, a backslash escapes even between single quotes, a bare # begins a comment. Raises ValueError
    for a line break, which cannot be written there.
    """
    _refuse_unspeakable(option)
    if "\n" in option:
        raise ValueError(f"{option.partition('=')[0]} has a line break, which cannot stand on an #SBATCH line")
    if _SBATCH_PLAIN.fullmatch(option):
        return option
    return '"' + option.replace("\\", "\\\\").replace('"', '\\"') + '"'


def heredoc_end(text: str) -> str:
    """Return a word that ends a quoted heredoc of this text: none of its lines is that word."""
    _refuse_unspeakable(text)
    end = "HPC_END"
    while end in text:
        end += "_"
    return end


def _refuse_unspeakable(value: str) -> None:
    if "\0" in value:
        raise ValueError(f"{value[:40]!r} has a NUL character, which no shell can carry")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{value[:40]!r} cannot be written as UTF-8") from error

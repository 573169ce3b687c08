"""How far a command with many jobs has come: a bar on a terminal, else a plain line now and then. To stderr."""

from __future__ import annotations

import sys
from types import TracebackType

import click

from hybridhpc.cli._terminal import clean

WIDTH = 30
_SILENT_BELOW = 20
"""Jobs; so few are done before a bar is seen."""
_STEPS = 10
"""Lines at most where there is no terminal."""


def bar(done: int, of: int, width: int = WIDTH) -> str:
    """Draw how much of a whole is done."""
    full = width * done // of if of else width
    return f"[{'#' * full}{'.' * (width - full)}]"


class Progress:
    """Shows how many of how many are through; `what` is the word behind the numbers."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._shown = ""
        self._step = 0
        self._drawn = sys.stderr.isatty()

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._drawn and self._shown:
            click.echo(file=sys.stderr)

    def __call__(self, done: int, of: int, more: str = "") -> None:
        """Show it, unless it looks as it did before."""
        line = clean(f"{done:,} of {of:,} {self._what}{more}")
        if of < _SILENT_BELOW or line == self._shown:
            return
        if self._drawn:
            click.echo(f"\r\x1b[K{bar(done, of)} {line}", file=sys.stderr, nl=False)
        elif done * _STEPS // of > self._step or (done == of and not self._shown):
            click.echo(line, file=sys.stderr)
        else:
            return
        self._step = done * _STEPS // of
        self._shown = line

"""Standard output and error: what they can show, and what becomes of a command whose words do not arrive.

Progress and errors that cannot be written are dropped. So are results, but that is remembered, and said at the end: a
command that has changed something must come to its own end, and know its own exit code, whatever becomes of its words.
"""

from __future__ import annotations

import codecs
import io
import os
import sys
from collections.abc import Mapping
from errno import EPIPE
from typing import TYPE_CHECKING, TextIO

from hybridhpc.errors import Unprinted

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

PLAIN = {"–": "-", "…": "~", "·": ".", "▒": "%", "█": "#", "░": "-"}
"""What stands for a character of ours where the locale has none; any other is shown as an escape."""
_ERRORS = "hybridhpc.plain"


class _Standard(io.FileIO):
    """A stream whose first failure is remembered, and which swallows all that comes after."""

    lost: OSError | None = None

    def write(self, data: ReadableBuffer, /) -> int:
        if self.lost is None:
            try:
                return self._whole(data)
            except OSError as error:
                self.lost = error
        return memoryview(data).nbytes

    def _whole(self, data: ReadableBuffer) -> int:
        """Write, and wait where another program that has the same terminal or pipe made it refuse to wait."""
        while (written := super().write(data)) is None:
            from select import select

            select([], [self], [])
        return written


def hold_streams(env: Mapping[str, str]) -> None:
    """Put streams that never fail in the place of Python's. One that the caller closed leads nowhere from now on."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # The lowest free number is this one. Left free, the next file that is opened would be written to.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    codecs.register_error(_ERRORS, _plainly)
    sys.stdout, sys.stderr = _held(1, sys.stdout, env), _held(2, sys.stderr, env)


def _held(number: int, stream: TextIO | None, env: Mapping[str, str]) -> TextIO:
    encoding = encoding_for(stream.encoding if stream else "utf-8", env)
    buffer = io.BufferedWriter(_Standard(number, "w", closefd=False))
    return io.TextIOWrapper(buffer, encoding=encoding, errors=_ERRORS, line_buffering=number == 2 or os.isatty(number))


def encoding_for(own: str, env: Mapping[str, str]) -> str:
    """Return the encoding a locale asks for (locale(7)), or `own`, Python's choice, if nothing is asked for.

    In the locale C, Python writes UTF-8 (PEP 540), and where LC_ALL is not set says so in LC_CTYPE (PEP 538).
    """
    language = env.get("LANG", "")
    coerced = env.get("LC_CTYPE") == "C.UTF-8" and language in ("C", "POSIX")
    locale = env.get("LC_ALL") or ("" if coerced else env.get("LC_CTYPE")) or language
    if not locale or "utf" in locale.lower() or env.get("PYTHONIOENCODING") or env.get("PYTHONUTF8") == "1":
        return own
    codeset = locale.partition(".")[2].partition("@")[0]
    try:
        "".encode(codeset)
    except LookupError:
        return "ascii"
    return codeset


def _plainly(error: UnicodeError) -> tuple[str, int]:
    """Spell what an encoding lacks (see codecs.register_error)."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_plain, error.object[error.start : error.end])), error.end


def _plain(character: str) -> str:
    return PLAIN.get(character) or character.encode("ascii", "backslashreplace").decode("ascii")


def loss(*, of_readers: bool = True) -> Unprinted | None:
    """Return what became of results that did not arrive; None if all did. `of_readers`: also if nobody read on."""
    error = getattr(getattr(getattr(sys.stdout, "buffer", None), "raw", None), "lost", None)
    if error is None or (error.errno == EPIPE and not of_readers):
        return None
    return Unprinted(
        f"what was printed could not be written: {(error.strerror or str(error)).lower()}",
        hint="make room where it goes, or print it elsewhere; then repeat the command",
    )


def check_printed() -> None:
    """Write what waits to be written. Raises Unprinted if results did not arrive, if only for want of a reader."""
    sys.stdout.flush()
    if lost := loss():
        raise lost

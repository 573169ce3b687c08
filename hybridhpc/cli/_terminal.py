"""What may reach a terminal. Names, reasons and errors come from specs and sites, and a terminal obeys what it is sent:
it can be made to rewrite what stands on it, to hide text, to fill the clipboard, or to type an answer.
"""

from __future__ import annotations

import codecs
import re

_STEERING = re.compile(r"\x1b\[[0-9;:]{0,40}[mK]|[^\x20-\x7e\n\r\t\b]")
_UNFINISHED = re.compile(r"\x1b(?:\[[0-9;:]{0,40})?\Z")
_PLAIN_AGAIN = "\x1b[0m"


def clean(text: str) -> str:
    """Return one line that cannot steer a terminal: control, bidi and unseen characters become visible escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def clean_lines(text: str) -> str:
    """Return text whose lines are ours, with each line clean."""
    return "\n".join(map(clean, text.split("\n")))


def cell(text: str) -> str:
    """Return what stands in one column: without two blanks in a row, which are what divides columns."""
    return re.sub("  +", " ", clean(text)).strip()


class OutputOfJobs:
    """Bytes that jobs have printed, made fit for a terminal: colours and progress bars stay, all else is shown.

    Only a terminal needs that: a file or a pipe gets the very bytes.
    """

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
        self._rest = ""
        self.in_a_line = False
        """What was shown last did not end its line."""

    def shown(self, content: bytes) -> str:
        """Return the next part. A sequence or a character that is cut waits for its other half."""
        text = self._rest + self._decoder.decode(content)
        unfinished = _UNFINISHED.search(text)
        self._rest = unfinished[0] if unfinished else ""
        passed = _STEERING.sub(_harmless, text[: len(text) - len(self._rest)])
        self.in_a_line = not passed.endswith("\n") if passed else self.in_a_line
        # What is not the job's is never shown in colours of the job, among which is an invisible one.
        return passed + _PLAIN_AGAIN if "\x1b[" in passed else passed


def _harmless(match: re.Match[str]) -> str:
    found = match[0]
    return found if found.startswith("\x1b[") or found == "\xa0" else clean(found)

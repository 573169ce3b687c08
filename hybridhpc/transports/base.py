"""The agreement a transport keeps: it brings commands and files to a site, and nothing else.

Argument lists only, a time limit always, bounded output. A command that could not be brought there, or whose end was
not seen, raises TransportError; one that ran and failed is a CommandResult with its exit code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from hybridhpc.command import Command, CommandResult, Errand, StagedFile
from hybridhpc.errors import HpcError, Undelivered

MAX_OUTPUT = 64 * 1024 * 1024
"""Bytes of standard output kept; what comes after is cut and said so (`truncated`)."""


_SCRUBBED = ("SQUEUE_", "SINFO_", "SACCT_", "SBATCH_", "SCONTROL_", "SLURM_")


def question_environment(env: Mapping[str, str]) -> dict[str, str]:
    """Return an environment in which a scheduler's answers mean the same for everybody.

    With SQUEUE_STATES=RUNNING set, a pending job looks gone. SLURM_TIME_FORMAT=%s: epoch seconds (squeue(1), 22.05).
    """
    kept = {key: value for key, value in env.items() if key == "SLURM_CONF" or not key.startswith(_SCRUBBED)}
    return {**kept, "LC_ALL": "C", "TZ": "UTC", "SLURM_TIME_FORMAT": "%s"}


def no_directory(site: str, cwd: str) -> Undelivered:
    """Return the error for a command whose working directory a site lacks."""
    return Undelivered(
        f"{site} has no directory {cwd} to work in, or none that you may enter",
        hint="an sbatch script works where it is submitted from (cwd), or where its --chdir says: make that directory "
        f"there, or name one that {site} has: --chdir=DIR",
    )


_NO_ROOM = {
    "No space left on device": "its disk is full",
    "Disk quota exceeded": "your quota on its disk is used up",
    "printf: I/O error": "its disk is full, or your quota on it is used up, or it is broken",
}
"""What programs say in the C locale, and Python in any (strerror(3): ENOSPC, EDQUOT), and what that means; dash itself
says the third of any failed write.
"""
_MOST_SHOWN = 200
"""Characters of other words that are shown."""


def not_written(what: str, words: str) -> Undelivered:
    """Return the error for files that a site did not take: in short, with all that was said as evidence."""
    if full := next((meant for said, meant in _NO_ROOM.items() if said in words), None):
        return Undelivered(f"{what}: {full}", hint="make room there", evidence=words)
    short = words if len(words) <= _MOST_SHOWN else f"{words[:_MOST_SHOWN]}..."
    return Undelivered(f"{what}: {short}", hint="is there room, and may you write there?", evidence=words)


class Transport(Protocol):
    """How commands and files reach one site."""

    def run(self, command: Command, *, cwd: str | None = None, scrubbed: bool = True) -> CommandResult:
        """Run a command at the site. `scrubbed`: without SBATCH_*, SQUEUE_*, SLURM_* ..., in a fixed locale and zone.

        Raises TransportError if it could not be started or did not end in time.
        """
        ...

    def run_all(self, errands: Sequence[Errand], *, within: float) -> tuple[CommandResult | HpcError, ...]:
        """Do several errands at the site in as few round trips as the transport can, and return an answer for each.

        An errand that could not be done, or whose end was not seen within so many seconds (or its own time limit),
        has a TransportError as its answer, Undelivered if its command was certainly not begun; the others go on. In
        which order they are done is not promised: none may depend on another. Raises nothing.
        """
        ...

    def resolve(self, path: str) -> str:
        """Return the absolute path at the site of one that may start with `~`, or hold `$HOME` or `$USER`."""
        ...

    def put(self, directory: str, files: Sequence[StagedFile]) -> None:
        """Write files below a directory that is made 0700 if missing. Raises TransportError."""
        ...

    def put_tree(self, source: str, directory: str) -> None:
        """Copy a local directory to a directory at the site, in one that is made 0700 if missing.

        Raises TransportError.
        """
        ...

    def get(self, path: str, destination: str) -> bool:
        """Copy a file or directory from the site to a local path; False if there is none. Raises TransportError."""
        ...

    def read(self, path: str, *, offset: int = 0, limit: int = MAX_OUTPUT) -> bytes | None:
        """Read part of a file; None if there is none. Raises TransportError."""
        ...

    def list(self, directory: str) -> tuple[str, ...]:
        """Return the names in a directory, sorted; empty if there is none. Raises TransportError."""
        ...

"""The agreement a transport keeps: it brings commands and files to a site, and nothing else.

Argument lists only, a time limit always, bounded output. A command that could not be brought there, or whose end was
not seen, raises TransportError; one that ran and failed is a CommandResult with its exit code.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from hybridhpc.command import Command, CommandResult
from hybridhpc.script.plan import StagedFile

MAX_OUTPUT = 64 * 1024 * 1024
"""Bytes of standard output kept; what comes after is cut and said so (`truncated`)."""


class Transport(Protocol):
    """How commands and files reach one site."""

    def run(self, command: Command, *, cwd: str | None = None, scrubbed: bool = True) -> CommandResult:
        """Run a command at the site. `scrubbed`: without SBATCH_*, SQUEUE_*, SLURM_* ..., in a fixed locale and zone.

        Raises TransportError if it could not be started or did not end in time.
        """
        ...

    def put(self, directory: str, files: Sequence[StagedFile]) -> None:
        """Write files below a directory that is made 0700 if missing. Raises TransportError."""
        ...

    def put_tree(self, source: str, directory: str) -> None:
        """Copy a local directory to a directory at the site. Raises TransportError."""
        ...

    def get(self, path: str, destination: str) -> bool:
        """Copy a file or directory from the site to a local path; False if there is none. Raises TransportError."""
        ...

    def read(self, path: str, *, offset: int = 0, limit: int = MAX_OUTPUT) -> bytes | None:
        """Read part of a file; None if there is none. Raises TransportError."""
        ...

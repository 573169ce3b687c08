"""Commands and their results as plain values. Nothing here can start a process."""

from __future__ import annotations

from dataclasses import field

from hybridhpc.values import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """An argument list for a site, what it reads, and the environment it wants beside the site's own."""

    argv: tuple[str, ...]
    stdin: bytes = b""
    env: tuple[tuple[str, str], ...] = ()
    timeout: float = 30.0
    """Seconds until it is given up."""
    hidden: tuple[str, ...] = ()
    """Variables of this machine that it must not see: their values are brought as secrets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandResult:
    """What a command answered. Output is bytes: sites are not trusted to speak UTF-8."""

    argv: tuple[str, ...]
    exit_code: int
    """128 + n for death by signal n, as shells count."""
    stdout: bytes
    stderr: bytes
    truncated: bool = field(default=False)
    """Output went past the limit and was cut."""

    @property
    def ok(self) -> bool:
        """Whether it exited with 0."""
        return self.exit_code == 0

    @property
    def text(self) -> str:
        """Standard output as text; bytes that are no UTF-8 become replacement characters."""
        return self.stdout.decode("utf-8", "replace")

    @property
    def complaint(self) -> str:
        """The scheduler's own words: standard error, else standard output, on one line."""
        words = self.stderr or self.stdout
        return " ".join(words.decode("utf-8", "replace").split())[:2000]


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedFile:
    """A file put into a directory at a site; `path` is relative to it."""

    path: str
    content: bytes = field(repr=False)
    executable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Folder:
    """A directory at a site, made 0700 if missing, and the files that are put there."""

    path: str
    files: tuple[StagedFile, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Errand:
    """What is done at a site in one go: files are put into directories, then a command runs."""

    command: Command
    cwd: str | None = None
    scrubbed: bool = True
    """Asked without SBATCH_*, SQUEUE_*, SLURM_* ..., in a fixed locale and zone."""
    folders: tuple[Folder, ...] = ()

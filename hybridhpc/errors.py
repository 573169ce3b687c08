"""Every error a person can meet. Each class owns an exit code; `hpc` catches HpcError alone and prints it.

HpcError                     1   something went wrong (base: a fault in hybridhpc itself, a full disk)
├── Unprinted                1   results did not arrive where they were printed to; quiet if nobody reads on
├── UsageError               2   the command line is wrong
├── SpecError                3   the spec or the sbatch script is wrong (carries every problem found)
├── SiteFileError            4   a site file or a settings file is wrong
├── NoCandidate              5   no site can run this job (carries the refusals)
├── TransportError           6   a command could not be brought to a site or timed out
│   ├── Unheard              6   none that answered can run this job, and a site that might gave no answer
│   └── Undelivered          6   it was certainly not begun there
│       └── AuthExpired      6   the site did not let the person in: keys or certificates are to be renewed
├── SchedulerError           7   the scheduler refused or gave an answer that cannot be read
│   └── Unreached            7   it was not reached from its site: nothing was submitted
├── LedgerError              8   the ledger cannot be read or written
├── NotFound                 9   no such job, site or file
├── JobFailed               10   the job ended, but not COMPLETED
├── Undecided               11   what happened cannot be known now; nothing was guessed
├── CheckFailed             12   `hpc check` found faults
└── (Ctrl-C)               130   interrupted by the person
"""

from __future__ import annotations

from collections.abc import Iterable

from hybridhpc.values import dataclass

EXIT_INTERRUPTED = 130
MAX_PROBLEMS = 100


class HpcError(Exception):
    """Says what went wrong, and what to do about it (`hint`).

    `evidence`: what a program said at length; it is kept with a job's events, not printed.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "", evidence: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.evidence = evidence

    def lines(self) -> list[str]:
        """Return the text a person reads, without the `hpc:` in front."""
        return [self.message, *([f"  {self.hint}"] if self.hint else [])]


class Unprinted(HpcError):
    """Results did not arrive where they were printed to."""


class UsageError(HpcError):
    """The command line is wrong."""

    exit_code = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One fault in something a person wrote: where it stands, what is wrong and how to write it."""

    file: str
    line: int | None
    key: str
    message: str
    hint: str = ""

    def __str__(self) -> str:
        where = self.file if self.line is None else f"{self.file}:{self.line}"
        key = f" {self.key}:" if self.key else ""
        hint = f" ({self.hint})" if self.hint else ""
        return f"{where}:{key} {self.message}{hint}"


def in_order(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """Sort problems by line and bound their number."""
    ordered = sorted(problems, key=lambda problem: problem.line or 0)
    if len(ordered) <= MAX_PROBLEMS:
        return tuple(ordered)
    rest = f"{len(ordered) - MAX_PROBLEMS} more problems are not shown"
    return (*ordered[:MAX_PROBLEMS], Problem(file=ordered[0].file, line=None, key="", message=rest))


class ProblemsError(HpcError):
    """A file a person wrote is wrong; all its problems together."""

    def __init__(self, problems: tuple[Problem, ...], *, hint: str = "") -> None:
        super().__init__("\n".join(str(problem) for problem in problems), hint=hint)
        self.problems = problems


class SpecError(ProblemsError):
    """The spec or the sbatch script is wrong; nothing was submitted."""

    exit_code = 3


class SiteFileError(ProblemsError):
    """A site file or a settings file is wrong."""

    exit_code = 4


class NoCandidate(HpcError):
    """No site can run this job."""

    exit_code = 5


class TransportError(HpcError):
    """A command could not be brought to a site, or it timed out: what it did there is unknown."""

    exit_code = 6


class Unheard(TransportError):
    """No site that answered can run this job, and one that might gave no answer: whether it fits is not known."""


class Undelivered(TransportError):
    """A command that was certainly not begun at the site: it left no trace there but files."""


class AuthExpired(Undelivered):
    """The site did not let the person in: a key, certificate or login has to be renewed. Jobs stay where they are."""


class SchedulerError(HpcError):
    """The scheduler refused, or its answer cannot be read; its own words are in the message."""

    exit_code = 7


class Unreached(SchedulerError):
    """The scheduler was not reached from its site (Slurm: its controller): nothing was submitted."""


class LedgerError(HpcError):
    """The ledger cannot be read or written."""

    exit_code = 8


class NotFound(HpcError):
    """No such job, site or file."""

    exit_code = 9


class JobFailed(HpcError):
    """The job ended in a final state other than COMPLETED."""

    exit_code = 10


class Undecided(HpcError):
    """What happened cannot be known now; nothing was guessed and nothing was repeated."""

    exit_code = 11


class CheckFailed(HpcError):
    """`hpc check` found faults."""

    exit_code = 12

"""How Slurm spells things in its answers: fields, times, amounts, TRES, job ids. Pure text to values."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

from hybridhpc.command import CommandResult
from hybridhpc.errors import SchedulerError
from hybridhpc.model import Gpus, Mebibytes, Seconds
from hybridhpc.units import parse_slurm_time

SEPARATOR = "\x1f"
"""ASCII unit separator: squeue and sinfo put it after each field as it is (seen: 20.11, 22.05, 24.11, 26.05)."""

NOTHING = frozenset({"", "N/A", "(null)", "None", "Unknown", "NONE", "None assigned", "n/a"})
"""What Slurm prints for a value there is not: N/A in squeue, Unknown and None assigned in sacct, (null) in both."""

_MEBIBYTES = {"": 1.0, "K": 1 / 1024, "M": 1.0, "G": 1024.0, "T": 1024.0**2, "P": 1024.0**3}
_AMOUNT = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?)([KMGTP]?)[nc]?")
_JOB_ID = re.compile(r"([0-9]{1,18})(?:_(?:([0-9]{1,9})|\[([^\]]*)\]?)|\+([0-9]{1,9}))?(?:;\S+)?")
_PAREN = re.compile(r"\([^)]*\)?")
_LABEL = re.compile(r"\b(?:sbatch|srun|salloc): (?:error: )?|allocation failure: |Batch job submission failed: ")
_UNREACHABLE = re.compile(
    r"Unable to contact slurm controller|Socket timed out|Zero Bytes were transmitted"
    r"|Transport endpoint is not connected|Connection (?:refused|timed out|reset)"
    r"|Communication (?:connection|shutdown) failure|standby mode|Could not establish a configuration"
    r"|Unexpected message received"  # scontrol on a timeout (22.05)
    r"|Insane message length|Incompatible versions of client and server",
    re.IGNORECASE,
)


def fields_of(text: str, count: int) -> Iterator[list[str]]:
    """Yield the fields of each record of `count` fields; a line that is no such record is left out.

    With -O every field, the last too, is followed by the separator; with -o the separators stand between them.
    """
    for line in text.split("\n"):
        fields = line.split(SEPARATOR)
        if len(fields) == count + 1 and not fields[-1].strip():
            fields.pop()
        if len(fields) == count:
            yield [field.strip() for field in fields]


def long_format(names: Iterable[str]) -> str:
    """Return the value of squeue's and sinfo's --Format for these fields, each followed by the separator."""
    return ",".join(f"{name}:{SEPARATOR}" for name in names)


def parse_time(text: str) -> float | None:
    """Read seconds since the epoch, as SLURM_TIME_FORMAT=%s makes them; None if there is no time."""
    words = text.strip()
    return float(words) if words.isascii() and words.isdecimal() and len(words) < 13 and int(words) > 0 else None


@lru_cache(maxsize=1024)
def parse_count(text: str, default: int = 0) -> int:
    """Read a whole number, of a range `2-4` the first; `default` if it is none."""
    words = text.strip().partition("-")[0]
    return int(words) if words.isascii() and words.isdecimal() and len(words) < 19 else default


@lru_cache(maxsize=1024)
def parse_limit(text: str) -> Seconds | None:
    """Read a time limit; None for no limit, not set or not readable."""
    try:
        return parse_slurm_time(text)
    except ValueError:
        return None


@lru_cache(maxsize=1024)
def parse_amount(text: str) -> Mebibytes | None:
    """Read an amount of memory, in MiB if it has no unit (`1000M`, `3.50G`, `2000000`); None if it is none."""
    match = _AMOUNT.fullmatch(text.strip())
    return Mebibytes(round(float(match.group(1)) * _MEBIBYTES[match.group(2)])) if match else None


def parse_tres(text: str) -> dict[str, str]:
    """Read `cpu=24,mem=24000M,node=1,gres/gpu:h100=2` as a mapping; what has no `=` is left out."""
    return dict(part.split("=", 1) for part in text.split(",") if "=" in part)


@lru_cache(maxsize=1024)
def parse_gpus(text: str) -> Gpus | None:
    """Read the GPUs of a list of GRES; None if it names none.

    Spellings seen: `gpu:h100:8` (sinfo, squeue 20.11), `gres:gpu:h100:2` (22.05), `gres/gpu:h100:2` (24.11, 26.05),
    `gpu:h100:6(IDX:0-5)`, `gpu:h100:8(S:0-1)`, `gres/gpu=2`, `gpu:0`, `gpu`. Kinds on one node are added up under the
    name of the most frequent; shares of GPUs (`shard`, `mps`) are no GPUs.
    """
    if "gpu" not in text:
        return None
    counts: dict[str | None, int] = {}
    for part in _PAREN.sub("", text).split(","):
        name, *rest = re.split("[:=]", part.strip().removeprefix("gres:").removeprefix("gres/"))
        if name == "gpu":
            count = parse_count(rest.pop(), 1) if rest and rest[-1].isdecimal() else 1
            kind = rest[0] if rest else None
            counts[kind] = counts.get(kind, 0) + count
    if len(counts) > 1:
        # `gres/gpu=8,gres/gpu:h100=8` says the same eight twice.
        counts.pop(None, None)
    if not counts:
        return None
    return Gpus(count=sum(counts.values()), kind=max(counts, key=lambda kind: counts[kind]))


def split_job_id(text: str) -> tuple[str, str] | None:
    """Return the job's id and what follows: "" alone, "_3" one task, "_[0-3%2]" tasks not split off, "+0" a component.

    None if it is no job id. A cluster behind `;` is dropped (sbatch --parsable with -M).
    """
    match = _JOB_ID.fullmatch(text.strip())
    if match is None:
        return None
    job_id, task, tasks, component = match.groups()
    if task is not None:
        return job_id, f"_{task}"
    if tasks is not None:
        return job_id, f"_[{tasks}]"
    return job_id, "" if component is None else f"+{component}"


def is_unreachable(words: str) -> bool:
    """Whether a command says that it did not reach the controller, or did not get its answer."""
    return _UNREACHABLE.search(words) is not None


def answered(answer: CommandResult) -> CommandResult:
    """Return an answer that is one. Raises SchedulerError with Slurm's own words if the command failed."""
    if answer.ok:
        return answer
    name = answer.argv[0] if answer.argv else "the command"
    words = answer.complaint or f"exit code {answer.exit_code}, and not a word"
    hint = "the controller cannot be reached; ask again later" if is_unreachable(words) else ""
    raise SchedulerError(f"{name}: {words}", hint=hint)


def pick(fields: Sequence[str], names: Sequence[str]) -> dict[str, str]:
    """Return the fields under their names, with every way of saying nothing made empty."""
    return {name: "" if value in NOTHING else value for name, value in zip(names, fields, strict=True)}


def own_words(text: str) -> str:
    """Return Slurm's words without the labels it puts before each line."""
    return " ".join(_LABEL.sub("", text.replace(SEPARATOR, " ")).split())

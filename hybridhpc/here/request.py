"""What a job asks of `here`, read from the options of `submit`. PURE: nothing is looked up, nothing is done."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from signal import Signals
from typing import NamedTuple

MAX_ARRAY_SIZE = 10_001
"""Array indices lie below this, and an array has at most so many tasks."""

_FLAGS = frozenset({"hold", "exclusive"})
_VALUES = frozenset(
    {
        "array",
        "attempt",
        "chdir",
        "cpus",
        "dependency",
        "error",
        "gpus",
        "job-dir",
        "memory",
        "name",
        "ntasks",
        "output",
        "root",
        "signal",
        "token",
        "walltime",
    }
)
# Compiled on first use: most commands read no job.
_NUMBER = r"[0-9]{1,12}"
_JOB = r"([0-9]{1,12})(?:_([0-9]{1,9}))?"
_INDICES = r"([0-9]{1,9})(?:-([0-9]{1,9})(?::([1-9][0-9]{0,8}))?)?"
_DEPENDENCY = r"(after|afterok|afterany|afternotok)((?::[0-9]{1,12}(?:_[0-9]{1,9})?)+)"
_SIGNAL = r"(B:)?(?:SIG)?([A-Z]+[0-9]?|[0-9]{1,2})(?:@([0-9]{1,9}))?"
_GPUS = r"(?:([A-Za-z0-9_.-]+):)?([0-9]{1,4})"
_PLACEHOLDER = r"%([0-9]{0,2})([%AaJjNnstux])"
_SIGNALS = 65
_NO_TASK = "4294967294"


class Refusal(Exception):
    """The job or the command is refused, in words for a person; nothing was submitted or changed."""


class Request(NamedTuple):
    """One submission, whole. Memory in MiB, walltime in seconds; None: not asked."""

    job_dir: str
    script: str
    args: tuple[str, ...]
    cwd: str
    name: str
    output: str
    error: str | None
    cpus: int
    memory: int
    gpus: int
    gpu_kind: str | None
    walltime: int | None
    ntasks: int
    cpus_per_task: int | None
    signal: tuple[int, bool, int] | None
    """Its number, only to the script's own process, seconds before the walltime."""
    indices: tuple[int, ...] | None
    throttle: int | None
    after: tuple[tuple[str, int, int | None], ...]
    """Kind, job, array index or None for the whole job."""
    held: bool


def read_options(words: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Split a command line into options and the rest; the last of equal options wins. Raises Refusal."""
    options: dict[str, str] = {}
    rest = list(words)
    while rest and rest[0].startswith("--"):
        name, equals, value = rest.pop(0)[2:].partition("=")
        if not name and not equals:
            break
        if name in _FLAGS and not equals:
            value = "yes"
        elif name not in _VALUES or (not equals and not rest):
            raise Refusal(f"--{name} is no option here, or it lacks its value")
        options[name] = value if equals or name in _FLAGS else rest.pop(0)
    return options, rest


def read_request(options: Mapping[str, str], script: Sequence[str], *, cwd: str, cpus: int, memory: int) -> Request:
    """Make a Request of options; `cpus` and `memory` are the machine's, for defaults. Raises Refusal."""
    if not script:
        raise Refusal("submit needs a script")
    whole = "exclusive" in options
    ntasks = _number(options, "ntasks") or 1
    asked = _number(options, "cpus")
    share = cpus if whole else asked or ntasks
    indices, throttle = read_array(options["array"]) if "array" in options else (None, None)
    kind, gpus = read_gpus(options.get("gpus", "0"))
    return Request(
        job_dir=options["job-dir"],
        script=script[0],
        args=tuple(script[1:]),
        cwd=options.get("chdir", cwd),
        name=options.get("name") or script[0].rpartition("/")[2],
        output=options.get("output") or ("%j.log" if indices is None else "%A_%a.log"),
        error=options.get("error"),
        cpus=share,
        memory=_number(options, "memory") or (memory if whole else memory * share // max(cpus, 1)),
        gpus=gpus,
        gpu_kind=kind,
        walltime=_number(options, "walltime"),
        ntasks=ntasks,
        cpus_per_task=max(1, asked // ntasks) if asked else None,
        signal=_signal(options["signal"]) if "signal" in options else None,
        indices=indices,
        throttle=throttle,
        after=read_dependency(options.get("dependency", "")),
        held="hold" in options,
    )


def read_array(text: str) -> tuple[tuple[int, ...], int | None]:
    """Read `0-3`, `1,5,9-20:2` or `0-99%10` into indices and the throttle. Raises Refusal."""
    words, percent, limit = text.partition("%")
    matches = [re.fullmatch(_INDICES, part) for part in words.split(",")]
    if not all(matches) or (percent and not (re.fullmatch(_NUMBER, limit) and int(limit))):
        raise Refusal(f"--array={text} is no list of indices; write 0-99, 1,5,9 or 0-99%10")
    indices: set[int] = set()
    for match in filter(None, matches):
        first, last, step = match.groups()
        if max(int(first), int(last or 0)) >= MAX_ARRAY_SIZE:
            raise Refusal(f"--array={text}: indices must lie below {MAX_ARRAY_SIZE}")
        indices.update(range(int(first), int(last or first) + 1, int(step or 1)))
    if not indices:
        raise Refusal(f"--array={text} names no index")
    return tuple(sorted(indices)), int(limit) if percent else None


def read_gpus(text: str) -> tuple[str | None, int]:
    """Read `2` or `h100:2` into kind and count. Raises Refusal."""
    match = re.fullmatch(_GPUS, text)
    if match is None:
        raise Refusal(f"--gpus={text} names no GPUs; write 2 or h100:2")
    return (match.group(1).lower() if match.group(1) else None), int(match.group(2))


def read_dependency(text: str) -> tuple[tuple[str, int, int | None], ...]:
    """Read `afterok:12:13_4,afterany:9`. Raises Refusal for `?` (any of), delays, aftercorr and singleton."""
    found: list[tuple[str, int, int | None]] = []
    for part in text.split(",") if text else ():
        match = re.fullmatch(_DEPENDENCY, part)
        if match is None:
            raise Refusal(f"--dependency={part} cannot be kept here; use after, afterok, afterany or afternotok:JOB")
        for job in match.group(2)[1:].split(":"):
            found.append((match.group(1), *read_job_id(job)))
    return tuple(found)


def read_job_id(text: str) -> tuple[int, int | None]:
    """Read `12` or `12_3`. Raises Refusal."""
    match = re.fullmatch(_JOB, text)
    if match is None:
        raise Refusal(f"{text!r} is no job id; write 12 or 12_3")
    return int(match.group(1)), int(match.group(2)) if match.group(2) else None


def file_name(pattern: str, values: Mapping[str, str]) -> str:
    """Fill in sbatch's file name pattern; letters that are not in `values` stay. A width pads numbers (%4j).

    sbatch(1), "filename pattern"; for a job that is no array %A is its id and %a 4294967294, as Slurm has it.
    """

    def fill(match: re.Match[str]) -> str:
        width, letter = match.groups()
        known = values.get(letter)
        if known is None:
            return match.group(0)
        return known.zfill(int(width)) if width and known.isdecimal() else known

    return re.sub(_PLACEHOLDER, fill, pattern)


def name_values(request: Request, *, job: int, task: int, index: int | None, host: str, user: str) -> dict[str, str]:
    """Return the letters of the file name pattern for one task."""
    return {
        **common_values(request, host=host, user=user),
        "%": "%",
        "j": str(task),
        "J": str(task),
        "A": str(job),
        "a": _NO_TASK if index is None else str(index),
    }


def common_values(request: Request, *, host: str, user: str) -> dict[str, str]:
    """Return the letters that are the same for all tasks of a job."""
    return {"x": request.name, "u": user, "N": host.partition(".")[0], "n": "0", "t": "0", "s": "batch"}


def _number(options: Mapping[str, str], name: str) -> int | None:
    text = options.get(name)
    if text is None:
        return None
    if not re.fullmatch(_NUMBER, text) or not int(text):
        raise Refusal(f"--{name}={text} must be a whole number above 0")
    return int(text)


def _signal(text: str) -> tuple[int, bool, int]:
    match = re.fullmatch(_SIGNAL, text)
    number = _signal_number(match.group(2)) if match else None
    if match is None or number is None:
        raise Refusal(f"--signal={text} names no signal; write B:USR1@120")
    return number, bool(match.group(1)), int(match.group(3) or 60)


def _signal_number(word: str) -> int | None:
    known = Signals.__members__.get(f"SIG{word}")
    if word.isdecimal() and 0 < int(word) < _SIGNALS:
        return int(word)
    return None if known is None else int(known)

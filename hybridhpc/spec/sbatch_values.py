"""What the arguments of sbatch's options mean that decide where a job fits: numbers, memory, time, GPUs, arrays.

Each rule was asked of sbatch 20.11.4 to 26.05.5. Whether a release takes a form at all is told by sbatch_checks.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

from hybridhpc.model import Mebibytes, Seconds
from hybridhpc.readers import quoted
from hybridhpc.units import parse_slurm_time
from hybridhpc.values import dataclass

_SUFFIX = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3, "t": 1024**4, "p": 1024**5}
_MEBI = {"k": 1 / 1024, "": 1, "m": 1, "g": 1024, "t": 1024**2}
_MOST_INDICES = 4_000_000
"""slurm.conf(5), MaxArraySize."""
_COUNT = re.compile(r"\s*\+?(\d{1,10})", re.ASCII)
_MEMORY = re.compile(r"\s*\+?(\d{1,15})(?:([kmgt])b?)?", re.ASCII | re.IGNORECASE)
_NODES = re.compile(r"(?:\+?(\d{1,9})([km]?)\s*)?(?:-\s*(\d{1,9})([km]?))?", re.ASCII | re.IGNORECASE)
_NODE_STEP = re.compile(r"\d{1,9}(?:-\d{1,9}(?::\d{1,9})?)?", re.ASCII)
_ARRAY_PART = re.compile(r"(\d{1,9})(?:-(\d{1,9})(?::([1-9]\d{0,8}))?)?", re.ASCII)
_TRES = re.compile(
    r"(?:gres[:/])?(?P<name>[^\s:/=()]+)(?::(?P<kind>[^\s\d:/=()][^\s:/=()]*))?"
    r"(?:[:=](?P<digits>\d{1,10})(?P<suffix>[kmgtp]?))?(?:\(S:[-\d,]*\))?",
    re.ASCII | re.IGNORECASE,
)
_NEVER_PER_TASK = ("mem", "node", "energy", "billing", "fs", "vmem", "pages", "bb")


@dataclass(frozen=True, slots=True, kw_only=True)
class Nodes:
    """At least and at most so many; a plain number is both."""

    least: int
    most: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Tres:
    """So many of a generic resource, e.g. gpu, of a type or of any."""

    name: str
    kind: str | None
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Indices:
    """An array: how many tasks, the highest index, and how many may run at once (None: all)."""

    tasks: int
    highest: int
    throttle: int | None


def parse_count(text: str) -> int:
    """Read a whole number above zero. Raises ValueError."""
    count = parse_whole(text)
    if count == 0:
        raise ValueError(f"{quoted(text)} is no number above zero")
    return count


def parse_whole(text: str) -> int:
    """Read a whole number; sbatch takes white space and a plus sign in front. Raises ValueError."""
    match = _COUNT.fullmatch(text)
    if match is None or int(match[1]) >= 2**31 - 1:
        raise ValueError(f"{quoted(text)} is no whole number")
    return int(match[1])


def parse_nodes(text: str) -> Nodes:
    """Read `4`, `2-4`, `-4` (1 to 4), `4k`; from 23.02 also `1,3,5-9:2`. Raises ValueError."""
    match = _NODES.fullmatch(text.strip())
    if match is None or (match[1] is None and match[3] is None):
        return _parse_node_list(text)
    least = int(match[1] or 1) * _SUFFIX[(match[2] or "").lower()]
    most = least if match[3] is None else int(match[3]) * _SUFFIX[(match[4] or "").lower()]
    if most < least:
        raise ValueError(f"{quoted(text)}: at most {most} nodes is less than at least {least}")
    return Nodes(least=least, most=most)


def _parse_node_list(text: str) -> Nodes:
    parts = text.split(",")
    if not all(_NODE_STEP.fullmatch(part) for part in parts):
        raise ValueError(f"{quoted(text)} is no number of nodes; write 4 or 2-4")
    sizes = [_sizes(part) for part in parts]
    return Nodes(least=min(each[0] for each in sizes), most=max(each[-1] for each in sizes))


def _sizes(part: str) -> range:
    bounds, _, step = part.partition(":")
    least, _, most = bounds.partition("-")
    sizes = range(int(least), int(most or least) + 1, int(step or 1) or 1)
    if not sizes:
        raise ValueError(f"{quoted(part)} is no number of nodes; write the smaller first")
    return sizes


def parse_memory(text: str) -> Mebibytes:
    """Read `4096`, `512M`, `4G`, `4GB`, `1T`; no unit is MiB, kibibytes round up, 0 is all of a node.

    Raises ValueError.
    """
    match = _MEMORY.fullmatch(text)
    if match is None:
        raise ValueError(f"{quoted(text)} is no amount of memory; write 4G, 512M or a plain number of MiB")
    return Mebibytes(math.ceil(int(match[1]) * _MEBI[(match[2] or "").lower()]))


def parse_time(text: str) -> Seconds | None:
    """Read a time limit; None: no limit, which 0 is too. sbatch rounds seconds up to the minute. Raises ValueError."""
    if text != text.strip() or not text.isascii() or (text.startswith("-") and text != "-1"):
        raise ValueError(f"{quoted(text)} is no time; write minutes, HH:MM:SS or D-HH:MM:SS")
    seconds = parse_slurm_time(f"{text}0" if re.fullmatch(r"\d+-", text) else text)
    return Seconds(-(-seconds // 60) * 60) if seconds else None


def parse_gres(text: str) -> tuple[Tres, ...]:
    """Read --gres: `gpu`, `gpu:2`, `gpu:h100:2`, several with commas, `none`. Raises ValueError."""
    if text.lower() == "none":
        return ()
    if text in ("help", "list"):
        raise ValueError(f"{quoted(text)} makes sbatch list what there is, and submit nothing")
    return last_of_each([_parse_tres(part) for part in text.split(",") if part])


def parse_gpus(text: str) -> tuple[Tres, ...]:
    """Read --gpus and its kin: `4`, `h100:4`, `h100`, several with commas. Raises ValueError."""
    plain = [re.sub("^gres[:/]gpu[:/]", "", part.strip()) for part in text.split(",")]
    return last_of_each([_parse_tres(f"gpu:{part}") for part in plain if part])


def parse_tres_per_task(text: str) -> tuple[Tres, ...]:
    """Read `cpu=2,gres/gpu:h100=1`, and 23.02's `cpu:2,gres:gpu:1`; sbatch takes a bare `gpu` for nothing.

    Raises ValueError.
    """
    found = []
    for part in text.split(","):
        name, _, count = part.lower().replace(":", "=").partition("=")
        if name in _NEVER_PER_TASK:
            raise ValueError(f"{name} cannot be asked per task")
        if name == "cpu":
            found.append(Tres(name="cpu", kind=None, count=parse_count(count)))
        elif name.startswith("gres"):
            found.append(_parse_tres(part))
    return last_of_each(found)


def _parse_tres(part: str) -> Tres:
    match = _TRES.fullmatch(part.strip())
    if match is None:
        raise ValueError(f"{quoted(part)} is no resource; write gpu:2 or gpu:h100:2")
    count = int(match["digits"] or 1) * _SUFFIX[(match["suffix"] or "").lower()]
    return Tres(name=match["name"], kind=match["kind"], count=count)


def last_of_each(parts: Iterable[Tres]) -> tuple[Tres, ...]:
    """Keep the last of each name and type: `gpu:h100:2,gpu:h100:1` gets one GPU (seen running on 22.05.8)."""
    return tuple({(part.name, part.kind): part for part in parts}.values())


def parse_array(text: str) -> Indices | None:
    """Read `0-15%4`, `1,3,5-9:2`, `[0-3]`; None if empty, which is no array. Raises ValueError.

    The first % counts, wherever it stands; one without a number limits nothing.
    """
    if not text:
        return None
    throttles = re.findall(r"%(\d*)", text)
    parts = re.sub(r"%[^,\]]*", "", text).removeprefix("[").removesuffix("]").split(",")
    ranges = [_indices(part) for part in parts if part] or [range(1)]
    if sum(len(each) for each in ranges) > 10 * _MOST_INDICES:
        raise ValueError("names more tasks than any Slurm allows")
    highest = max(each[-1] for each in ranges)
    asked = bytearray(highest + 1)
    for each in ranges:
        asked[each.start : each[-1] + 1 : each.step] = b"\1" * len(each)
    throttle = int(throttles[0] or 0) if throttles else 0
    return Indices(tasks=asked.count(1), highest=highest, throttle=throttle or None)


def _indices(part: str) -> range:
    match = _ARRAY_PART.fullmatch(part)
    first, last, step = match.groups() if match else ("1", "0", "1")
    found = range(int(first), int(last or first) + 1, int(step or 1))
    if not found:
        raise ValueError(f"{quoted(part)} is no index or range of an array; write 0-15, 1,3,5 or 0-15:4")
    if found[-1] > _MOST_INDICES:
        raise ValueError(f"{quoted(part)} is beyond {_MOST_INDICES}, the highest index any Slurm allows")
    return found

"""Sweeps: values by name, or the rows of a CSV file, become the points of one job. Text to values; no file is read."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise, product
from posixpath import commonprefix

from hybridhpc.errors import Problem, SpecError
from hybridhpc.model import Array, JobSpec, UsdPerHour, Work
from hybridhpc.points import Points
from hybridhpc.readers import Fault, Plain, kind, quoted
from hybridhpc.spec.values import read_env_name, read_env_value
from hybridhpc.yaml_text import decode

MAX_POINTS = 10_000
MAX_VALUE = 4_000
"""Characters of one value."""
_RANGE = r"([0-9]{1,40})-([0-9]{1,40})(?::([0-9]{1,40}))?"
_RESERVED = ("HPC_", "SLURM_", "SBATCH_")
_MOST_PROBLEMS = 20


def read_parameter(text: str) -> str:
    """Read the name of a parameter: that of an environment variable."""
    read_env_name(text)
    if text.startswith(_RESERVED):
        raise Fault(f"{text} is the scheduler's or hybridhpc's own", "choose another name")
    return text


def read_values(value: Plain) -> tuple[str, ...]:
    """Read the values of one parameter: a list, a range of whole numbers (`0-9`, `0-100:20`), or a single one."""
    if isinstance(value, str) and (match := re.fullmatch(_RANGE, value)):
        return _range(value, *match.groups())
    if isinstance(value, dict) or value in (None, []):
        raise Fault(f"has no values, but {kind(value)}", "write a list, or a range such as 0-9")
    found = tuple(_value(each) for each in (value if isinstance(value, list) else [value]))
    for each in found if len(set(found)) < len(found) else ():
        if found.count(each) > 1:
            raise Fault(f"{quoted(each)} stands twice", "keep one of them")
    return found


def _range(text: str, first: str, last: str, step: str | None) -> tuple[str, ...]:
    low, high, by = int(first), int(last), int(step or 1)
    if high < low or by == 0:
        raise Fault(f"{quoted(text)} does not rise", "write 0-9, or a list")
    if (high - low) // by >= MAX_POINTS:
        raise Fault(f"{quoted(text)} has more than {MAX_POINTS:,} values", "make several sweeps of it")
    width = len(first) if first.startswith("0") else 0
    return tuple(str(number).zfill(width) for number in range(low, high + 1, by))


def _value(value: Plain) -> str:
    text = read_env_value(value)
    if text and not text.isprintable():
        raise Fault(f"{quoted(text)} must be one line of printable text")
    if len(text) > MAX_VALUE:
        raise Fault(f"is {len(text):,} characters long; at most {MAX_VALUE:,} fit")
    return text


def matrix_points(matrix: Mapping[str, tuple[str, ...]]) -> Points:
    """Return every combination of the values, the last name changing fastest. Raises Fault if there are too many."""
    if not matrix:
        raise Fault("names no parameter")
    count = 1
    for values in matrix.values():
        count *= len(values)
    if count > MAX_POINTS:
        sizes = " x ".join(str(len(values)) for values in matrix.values())
        raise Fault(f"makes {count:,} jobs ({sizes}); at most {MAX_POINTS:,} are taken", "make several sweeps of it")
    return Points(names=tuple(matrix), rows=tuple(product(*matrix.values())))


def parse_csv(content: bytes, path: str) -> Points:
    """Read a table of parameters: names in the first line, then one job per line.

    Raises SpecError with every problem found.
    """
    text, problems = decode(content, path)
    if problems:
        raise SpecError(problems)
    reader = csv.reader(text.splitlines(keepends=True), strict=True)
    lines: list[tuple[int, list[str]]] = []
    try:
        lines += ((reader.line_num, row) for row in reader if row)
    except csv.Error as error:
        raise SpecError((_fault(path, reader.line_num, f"is no CSV: {error}"),)) from error
    if len(lines) < 2:
        hint = "write the names in the first line, then one job per line"
        raise SpecError((_fault(path, None, "holds no points", hint),))
    (first, names), rows = lines[0], lines[1:]
    found = [*_name_problems(path, first, names), *_row_problems(path, len(names), rows)]
    if len(rows) > MAX_POINTS:
        found.append(_fault(path, None, f"has {len(rows):,} points; at most {MAX_POINTS:,} are taken"))
    if found:
        raise SpecError(tuple(found[:_MOST_PROBLEMS]))
    return Points(names=tuple(map(str.strip, names)), rows=tuple(tuple(row) for _, row in rows))


def _name_problems(path: str, line: int, names: Sequence[str]) -> Iterator[Problem]:
    for position, name in enumerate(map(str.strip, names)):
        try:
            read_parameter(name)
        except Fault as fault:
            yield _fault(path, line, f"{quoted(name)}: {fault}", fault.hint)
        if name in map(str.strip, names[:position]):
            yield _fault(path, line, f"{quoted(name)} stands twice", "give the columns different names")


def _row_problems(path: str, width: int, rows: Sequence[tuple[int, list[str]]]) -> Iterator[Problem]:
    seen: dict[tuple[str, ...], int] = {}
    for line, row in rows:
        if len(row) != width:
            yield _fault(path, line, f"has {len(row)} values for {width} names", "quote a value that has a comma in it")
            continue
        earlier = seen.setdefault(tuple(row), line)
        if earlier != line:
            yield _fault(path, line, f"says the same as line {earlier}", "keep one of them")
        try:
            for value in row:
                _value(value)
        except Fault as fault:
            yield _fault(path, line, str(fault))


def _fault(path: str, line: int | None, message: str, hint: str = "") -> Problem:
    return Problem(file=path, line=line, key="", message=message, hint=hint)


def with_points(spec: JobSpec, points: Points) -> JobSpec:
    """Make a job an array with one task per point, of which at most `parallel` run at once.

    Its name loses the parameters in it: the array has one name, the points have their own.
    """
    own = replace(points, name=spec.name) if points.mentioned(spec.name) else points
    plain = re.sub(r"[-_. ]*\0[-_. ]*", "-", points.fill(spec.name, dict.fromkeys(points.names, "\0"))).strip("-")
    return replace(spec, name=plain or "sweep", points=own, array=_array(len(points.rows), spec.parallel))


def _array(tasks: int, parallel: int | None) -> Array:
    throttle = f"%{parallel}" if parallel else ""
    return Array(text=f"0-{tasks - 1}{throttle}", tasks=tasks, throttle=parallel)


def with_rows(spec: JobSpec, rows: tuple[tuple[str, ...], ...]) -> JobSpec:
    """Leave a sweep with these of its points; anything else stays as it is."""
    if spec.points is None or rows == spec.points.rows:
        return spec
    return replace(spec, points=replace(spec.points, rows=rows), array=_array(len(rows), spec.parallel))


def pieces(spec: JobSpec, most: int | None) -> tuple[JobSpec, ...]:
    """Cut a sweep into arrays of at most `most` tasks (MaxArraySize); anything else stays whole."""
    points, array = spec.points, spec.array
    if points is None or array is None or most is None or array.tasks <= most:
        return (spec,)
    count = -(-array.tasks // most)
    cuts = [array.tasks * number // count for number in range(count + 1)]
    # Together they may run as many at once as were wished, one each at the least.
    share = max(1, array.throttle // count) if array.throttle else None
    return tuple(
        replace(with_rows(spec, points.rows[low:high]), array=_array(high - low, share)) for low, high in pairwise(cuts)
    )


def shape(spec: JobSpec) -> JobSpec:
    """Return what a decision sees of a job: two with the same shape are placed alike."""
    payload = spec.payload
    if isinstance(payload, Work):
        payload = replace(payload, run="", setup="", env=(), outputs=(), workdir=None)
    else:
        lines = [line for line in payload.content.split(b"\n") if line.startswith(b"#SBATCH")]
        payload = replace(payload, content=b"\n".join(lines), path="", args=())
    # Past jobs are known by their names, in which numbers count for nothing.
    name = re.sub(r"\d+", "", spec.name)
    return replace(spec, name=name, file="", digest="", payload=payload, points=None, after=())


def sweep_name(names: Sequence[str]) -> str:
    """Return what several jobs are called together: what their names begin with."""
    return names[0] if len(set(names)) == 1 else commonprefix(names).rstrip("0123456789-_. ") or "sweep"


def per_hour(whole: UsdPerHour, piece: JobSpec, spec: JobSpec) -> UsdPerHour:
    """Return the part of a sweep's price per hour that falls to one of its pieces."""
    return UsdPerHour(whole * piece.array.tasks / spec.array.tasks) if piece.array and spec.array else whole

"""Results of the jobs: one list of rows becomes a table, a JSON file and a picture."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Row = dict[str, Any]
NOTHING_MEASURED = "Results were checked, no speed was measured."


def cell(value: object) -> str:
    """Return a value as the table shows it."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.1e}" if value and abs(value) < 1e-2 else f"{value:.4g}"
    return str(value)


def table(rows: list[Row], columns: list[str], *, markdown: bool = False) -> str:
    """Return rows as a table of some columns."""
    lines = [columns, *([cell(row.get(column)) for column in columns] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = [[text.ljust(width) for text, width in zip(line, widths, strict=True)] for line in lines]
    if not markdown:
        return "\n".join("  ".join(line).rstrip() for line in padded)
    rule = ["-" * width for width in widths]
    return "\n".join(f"| {' | '.join(line)} |" for line in (padded[0], rule, *padded[1:]))


def write(folder: Path, name: str, content: dict[str, Any]) -> Path:
    """Write a JSON file that is there complete or, if the job is killed right now, as it was before."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    unfinished = path.with_suffix(f".{os.getpid()}.tmp")
    unfinished.write_text(json.dumps(content, indent=1) + "\n")
    unfinished.replace(path)
    return path


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """The rows of a job and its JSON file, up to date after every row: a job that is killed leaves what it had."""

    folder: Path
    name: str
    about: Row  # what the file says beside the rows
    rows: list[Row] = field(default_factory=list)

    def write(self, *, finished: bool) -> Path:
        """Write the file; `finished` tells a whole one from what a killed job left."""
        return write(self.folder, self.name, self.about | {"finished": finished, "rows": self.rows})


def failed(failure: Exception) -> Row:
    """Return what a row says of a failure: its first line in the table, all of it in the file."""
    text = f"{type(failure).__name__}: {failure}"
    return {"verdict": f"failed: {text}".splitlines()[0][:200], "failure": text[:4000]}


def plot(path: Path, draw: Callable[[Any], None]) -> str:
    """Have a figure drawn and write it as PNG; return what to tell the person."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return f"no {path.name}: matplotlib is missing"
    figure = Figure(figsize=(9, 5), layout="constrained")
    draw(figure)
    figure.savefig(path)
    return str(path)


def lines(rows: list[Row], *, of: str, x: str, y: str) -> dict[str, tuple[list[float], list[float]]]:
    """Return the points (x, y) of every kind of row, named by the column `of`; rows without y are left out."""
    found: dict[str, tuple[list[float], list[float]]] = {}
    for row in rows:
        if row.get(y) is not None:
            points = found.setdefault(row[of], ([], []))
            points[0].append(row[x])
            points[1].append(row[y])
    return found

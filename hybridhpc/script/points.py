"""The points of a sweep as a file beside the job script, and the shell text with which each task reads its own.

Values are data throughout: they are read from the file into variables, and never become shell text.
"""

from __future__ import annotations

from hybridhpc.command import StagedFile
from hybridhpc.points import Points
from hybridhpc.script.quote import shell_word

POINT = "point-"
"""With a task's index behind it: the directory in the job's directory in which that point of a sweep runs."""
POINTS = "points"
"""Name of the file in the job's directory: a line for what points are called, one for the names, one for each task."""
_SEPARATOR = "\x1f"
"""Between values; it is not printable, so no value holds it."""


def points_file(points: Points) -> StagedFile:
    """Write points down."""
    lines = [points.name, *(_SEPARATOR.join(row) for row in (points.names, *points.rows))]
    return StagedFile(path=POINTS, content="".join(f"{line}\n" for line in lines).encode())


def parse_points(content: bytes) -> Points:
    """Read what points_file wrote."""
    name, first, *lines = content.decode().split("\n")[:-1]
    rows = tuple(tuple(line.split(_SEPARATOR)) for line in lines)
    return Points(names=tuple(first.split(_SEPARATOR)), rows=rows, name=name)


def reading(points: Points) -> list[str]:
    """Return the lines of shell (bash 4 or later) that set a task's parameters and its name."""
    names = " ".join(points.names)
    return [
        "hpc_point=()",
        f'mapfile -t -s "$((${{SLURM_ARRAY_TASK_ID:-0}} + 2))" -n 1 hpc_point <"$HPC_JOB_DIR/{POINTS}"',
        '[ "${#hpc_point[@]}" -eq 1 ] || {',
        f'  echo "hpc: task ${{SLURM_ARRAY_TASK_ID:-0}} has no parameters in $HPC_JOB_DIR/{POINTS}" >&2',
        "  exit 1",
        "}",
        f"for hpc_name in {names}; do",
        '  printf -v "$hpc_name" %s "${hpc_point[0]%%$\'\\037\'*}"',
        "  hpc_point[0]=${hpc_point[0]#*$'\\037'}",
        "done",
        f"export {names}",
        *([f"export HPC_NAME={filled(points, points.name)}"] if points.name else []),
    ]


def filled(points: Points, text: str) -> str:
    """Return a shell word for a text that mentions parameters: those are left to the task, the rest is quoted."""
    return "".join(f'"${{{part}}}"' if named else shell_word(part) for part, named in points.parts(text) if part)

"""The shell files that a job script writes beside itself for its tasks: env.sh, setup.sh and run.sh.

`setup` and `run` are shell by right and stay as they were written; around them stands what every task needs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from hybridhpc.model import Work
from hybridhpc.points import Points
from hybridhpc.script.checkpoint import Signal
from hybridhpc.script.launcher import Launch
from hybridhpc.script.points import filled, reading
from hybridhpc.script.quote import assignment, heredoc_end, shell_word
from hybridhpc.script.secret import reading_lines
from hybridhpc.values import dataclass

_PER_TASK = "export NODE_RANK=${SLURM_NODEID:-0}"
# A shell that waits for a command hears TERM when that has ended: it must not go on to the next one.
_STOP = "trap 'hpc_code=$?; exit $((hpc_code ? hpc_code : 143))' TERM"


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFile:
    """One file, with a word that ends its heredoc."""

    name: str
    text: str
    end: str


def env_file(env: Iterable[tuple[str, str]], points: Points | None = None) -> TaskFile:
    """Return what every task sets first: its point of a sweep, and exact values, in which only parameters are replaced.

    Raises ValueError for a name that cannot be set.
    """
    lines = [_PER_TASK]
    if points is not None:
        for name in points.names:
            assignment(name, "")
        lines += reading(points)
    for name, value in env:
        plain = assignment(name, value)
        lines.append(f"export {f'{name}={filled(points, value)}' if points and points.mentioned(value) else plain}")
    return _file("env.sh", lines)


def secrets_file(names: Iterable[str]) -> TaskFile:
    """Return what brings the values of secrets into a task; nothing of the script outside the tasks reads it."""
    return _file("secrets.sh", reading_lines(names))


def setup_file(work: Work, library_path: Iterable[str]) -> TaskFile:
    """Return what runs once on each node before the payload. Raises ValueError for NUL."""
    return _file("setup.sh", [*_head(work, library_path), _STOP, work.setup.strip("\n")])


def run_file(work: Work, launch: Launch, library_path: Iterable[str], signal: Signal | None) -> TaskFile:
    """Return the shell text of one task. Raises ValueError for NUL."""
    lines = _head(work, library_path)
    if launch.exec:
        # torchrun itself would die of the signal; its workers catch it, and before they do it must not end them.
        lines += [f"trap '' {signal.name}"] if signal else []
        return _file("run.sh", [*lines, f"exec {launch.text}"])
    if signal and (launch.words or work.image is not None):
        # srun and apptainer hand the signal to this shell too.
        lines.append(f"trap : {signal.name}")
    return _file("run.sh", [*lines, _STOP, launch.text.strip("\n")])


def digest_of(files: Iterable[TaskFile]) -> str:
    """Return a short digest of the files' names and texts: other texts, other directory."""
    whole = "\0".join(f"{file.name}\0{file.text}" for file in files)
    return hashlib.sha256(whole.encode()).hexdigest()[:12]


def _head(work: Work, library_path: Iterable[str]) -> list[str]:
    """Apptainer and its images rewrite LD_LIBRARY_PATH and more, so it is set inside, before the person's own `env`."""
    folders = ":".join(library_path)
    library = f"export LD_LIBRARY_PATH={shell_word(folders)}${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}"
    files = ["env.sh", "secrets.sh"] if work.secrets else ["env.sh"]
    return [*([library] if folders else []), *(f'. "${{0%/*}}/{file}"' for file in files)]


def _file(name: str, lines: list[str]) -> TaskFile:
    text = "\n".join(lines)
    return TaskFile(name=name, text=text, end=heredoc_end(text))

"""Daemons as recorded processes: started detached, known again by pid and start time, stopped by exactly that.

What the daemons are does not belong here.
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.lab.install import SYSTEM_ENVIRONMENT, BrokenError
from tests.lab.machine_files import MARK

# The process writes its own record before it becomes the daemon, so that no moment exists in which it runs unrecorded;
# pid and start time stay the same through exec.
RECORD_THEN_EXEC = 'cat "/proc/$$/stat" > "$1.new" && mv "$1.new" "$1" && shift && exec "$@"'

_started: list[subprocess.Popen[bytes]] = []


def start(
    record: Path, log: Path, argv: Iterable[str], lab: Path, environment: Mapping[str, str] | None = None
) -> None:
    """Start argv detached, in a session of its own; return once its record names it."""
    record.unlink(missing_ok=True)
    with log.open("ab") as output:
        child = subprocess.Popen(  # it outlives this program, which waits for it in _await alone
            ["/bin/sh", "-c", RECORD_THEN_EXEC, "sh", str(record), *argv],
            cwd="/",
            env={**SYSTEM_ENVIRONMENT, MARK: str(lab), **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    _started.append(child)
    while not record.exists() and child.poll() is None:
        time.sleep(0.001)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stat:
    """What /proc/PID/stat says that matters here; `started` is in clock ticks since boot (field 22 of proc(5))."""

    pid: int
    state: str
    group: int
    started: int


def read_stat(path: Path) -> Stat | None:
    """Read a /proc/PID/stat or a copy of one; None when it is not there or not whole."""
    try:
        head, _, tail = path.read_text().rpartition(")")
        fields = tail.split()
        return Stat(pid=int(head.split()[0]), state=fields[0], group=int(fields[2]), started=int(fields[19]))
    except (OSError, ValueError, IndexError):
        return None


def running(record: Path) -> int | None:
    """Return the pid of the recorded process, or None when it is gone. A zombie is gone: PID 1 may never reap it."""
    recorded = read_stat(record)
    now = read_stat(Path(f"/proc/{recorded.pid}/stat")) if recorded else None
    if not recorded or not now or now.state in "ZX":
        return None
    return now.pid if now.started == recorded.started else None


def send(record: Path, number: signal.Signals, *, group: bool = False) -> int | None:
    """Send a signal to the recorded process, or to its whole group. Return its pid, None when it is gone."""
    pid = running(record)
    if pid is not None:
        signal_one(-pid if group else pid, number)
    return pid


def signal_one(pid: int, number: signal.Signals) -> None:
    """Send a signal to a process that may be gone."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def await_end(records: Iterable[Path], seconds: float) -> None:
    """Wait until the recorded processes are gone, or so many seconds have passed."""
    _await(lambda: all(running(record) is None for record in records), seconds)


def kill(records: Iterable[Path]) -> None:
    """SIGKILL the recorded processes with their groups, wait until all of them are gone, remove the records.

    A node's namespace empties before its first process ends, and that one is in the group: then its ports are free.
    """
    records = tuple(records)
    groups = {send(record, signal.SIGKILL, group=True) for record in records} - {None}
    if not _await(lambda: not groups or not any(process.group in groups for process in _living()), 10):
        raise BrokenError(f"these processes do not die: {', '.join(str(record) for record in records)}")
    for record in records:
        record.unlink(missing_ok=True)


def _living() -> Iterator[Stat]:
    for path in Path("/proc").glob("[0-9]*/stat"):
        process = read_stat(path)
        if process and process.state not in "ZX":
            yield process


def _await(happened: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while True:
        # Daemons that this very program started, and nobody else's children.
        _started[:] = [child for child in _started if child.poll() is None]
        if happened() or time.monotonic() > deadline:
            return happened()
        time.sleep(0.01)

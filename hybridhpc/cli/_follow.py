"""Following a job to its end: its output as it comes, and a line when its state changes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial

from hybridhpc.cli._output import called, end_words, live_reason, state_word, tell
from hybridhpc.cli._pace import QUICK, Pace
from hybridhpc.cli._streams import check_printed
from hybridhpc.cli._terminal import OutputOfJobs, clean
from hybridhpc.client import Client
from hybridhpc.clock import pause
from hybridhpc.errors import JobFailed
from hybridhpc.ledger.base import Phase, Record
from hybridhpc.model import JobState

GLANCE = 0.01
"""Seconds between looks for an exit marker, which makes the next question come at once."""


OUTPUT_EVERY = 2.0
FIRST_OUTPUT_EVERY = 10.0
"""Seconds between looks at the output of a job behind ssh, while it runs and before."""
MOST_AT_ONCE = 4 * 1024 * 1024
"""Bytes of an output read at once: however much there is, no more is held."""
REPEAT = "remove the cause, then submit it anew"
_for_a_terminal = OutputOfJobs()

Heard = Callable[[Sequence[Record], Sequence[bool]], None]
"""Is called with the jobs as they are now, and which of them are over."""


def write(content: bytes) -> None:
    """Print a job's output: byte by byte as it is, but a terminal gets nothing that could steer it.

    Raises Unprinted where nobody reads on: there is nothing else to do.
    """
    if sys.stdout.isatty():
        content = _for_a_terminal.shown(content).encode(sys.stdout.encoding, sys.stdout.errors or "strict")
    sys.stdout.buffer.write(content)
    check_printed()


def follow(client: Client, record: Record, *, task: int | None = None) -> Record:
    """Print output and changes of state until the job is final; return it as it is then."""
    said = ""
    passed: dict[str, int] = {}
    hurry = GLANCE
    pace = Pace(client)
    while True:
        if (line := _line(record)) != said:
            # A progress bar ends no line, and on a terminal ours would stand behind it.
            tell(f"\n{line}" if _for_a_terminal.in_a_line and sys.stderr.isatty() else line)
            said, _for_a_terminal.in_a_line = line, False
        pass_on(client, record, passed, task)
        if record.state.final:
            if client.over([record])[0]:
                return record
            pause(QUICK)
            (record,) = client.latest([record])
        elif client.is_local(record) and client.has_ended(record):
            # Its scheduler learns of that any moment: asked soon, then less and less often.
            pause(hurry)
            hurry = min(2 * hurry, QUICK)
            (record,) = client.refresh([record])
        else:
            _nap(client, record, pace.rest([record]), partial(pass_on, client, record, passed, task))
            (record,) = client.latest(pace.refresh([record]))


def _nap(client: Client, record: Record, rest: float, look: Callable[[], None]) -> None:
    """Wait before the next question; shorter if the job is seen to end meanwhile.

    Behind ssh what the job has written is looked at meanwhile: that asks no scheduler. One that was pending when its
    scheduler was asked last may have begun since.
    """
    local = client.is_local(record)
    step = GLANCE if local else OUTPUT_EVERY if record.state is JobState.RUNNING else FIRST_OUTPUT_EVERY
    while rest > 0 and not (local and client.has_ended(record)):
        pause(min(step, rest))
        rest -= step
        if rest > 0 and not local:
            look()


def wait_for(
    client: Client, records: tuple[Record, ...], *, any_one: bool, until: float | None, told: Heard | None = None
) -> tuple[Record, ...]:
    """Wait until all (or any one) are final, or the time has come; return them as they are then.

    When the time has come all are asked once more: what was heard last may be older than what `told` shows.
    """
    pace = Pace(client)
    said: dict[str, str] = {}
    while True:
        late = until is not None and client.clock() >= until
        records = client.latest(client.refresh(records) if late else pace.refresh(records))
        _say_unknown(records, said)
        done = client.over(records)
        if told:
            told(records, done)
        if late or all(done) or (any_one and any(done)):
            return records
        rest = QUICK if all(record.state.final for record in records) else pace.rest(records)
        pause(rest if until is None else min(rest, max(0.0, until - client.clock())))


def _say_unknown(records: tuple[Record, ...], said: dict[str, str]) -> None:
    """Say why nothing is known of jobs at a site: once, and again if the reason is another. `said`: it, by site."""
    now = {record.site: record.reason for record in records if record.state is JobState.UNKNOWN and record.reason}
    for site, reason in now.items():
        if said.get(site) != reason:
            tell(clean(f"{site}: {reason}"))
    said.clear()
    said.update(now)


def judge(record: Record, more: str = "") -> None:
    """Raise JobFailed unless the job COMPLETED. `more`: what is to be said besides."""
    if record.state is JobState.COMPLETED:
        return
    words = "".join(f", {word}" for word in end_words(record))
    if record.phase is Phase.REFUSED:
        raise JobFailed(f"{called(record)} was never submitted: {record.site} REFUSED it{words}{more}", hint=REPEAT)
    hint = f"`hpc why {record.ref}` says why, `hpc logs {record.ref}` what it wrote"
    raise JobFailed(f"{record.ref} ended {record.state.value}{words}{more}", hint=hint)


def _line(record: Record) -> str:
    reason = live_reason(record.reason)
    return f"{called(record)} {clean(record.name)}: {state_word(record)}" + (f" ({clean(reason)})" if reason else "")


def pass_on(client: Client, record: Record, passed: dict[str, int], task: int | None) -> None:
    """Print what is new in a job's outputs. `passed`: bytes printed of each; of several, each is headed by its name."""
    paths = client.log_files(record, task)
    for path in paths:
        while content := client.read_log(record, path, offset=passed.get(path, 0), limit=MOST_AT_ONCE):
            if "%a" in record.log and task is None and (path not in passed or len(paths) > 1):
                write(f"==> {clean(path)} <==\n".encode())
            write(content)
            passed[path] = passed.get(path, 0) + len(content)

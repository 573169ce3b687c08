"""How results are shown: a table, JSON, or one line. Results go to stdout, progress and errors to stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

import click

from hybridhpc.cli._screen import lay_out, width_of, wrapped
from hybridhpc.cli._terminal import cell, clean, clean_lines
from hybridhpc.ledger.base import Phase, Record
from hybridhpc.model import JobState
from hybridhpc.schedulers.words import exit_words, has_begun, reason_words
from hybridhpc.units import format_duration


def say(text: str = "") -> None:
    """Print a result. Lines are the caller's: text from elsewhere goes through `clean` or `table` first."""
    click.echo(clean_lines(text), file=sys.stdout)


def tell(text: str) -> None:
    """Print progress or a remark, to stderr. Lines are the caller's, as with `say`."""
    click.echo(clean_lines(text), file=sys.stderr)


def show_json(value: object) -> None:
    """Print the result as JSON. A command prints one document: an error that follows it goes to stderr alone."""
    if not _shown:
        click.echo(json.dumps(value, indent=2, default=str), file=sys.stdout)
    _shown.append(value)


_shown: list[object] = []


def one_or_all(answers: Sequence[object]) -> object:
    """Return what JSON of several files is: a list, and for a single file no list of one."""
    return answers[0] if len(answers) == 1 else list(answers)


def table(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    right: frozenset[int] = frozenset(),
    to_stderr: bool = False,
) -> str:
    """Lay out rows under a header, for the screen it is meant for; columns in `right` are aligned to the right."""
    lines = [[cell(text) for text in row] for row in (header, *rows)]
    return lay_out(lines, right, width_of(sys.stderr if to_stderr else sys.stdout))


def prose(text: str, *, to_stderr: bool = False) -> str:
    """Lay out a line that is no table, for the screen it is meant for."""
    return wrapped(clean(text), width_of(sys.stderr if to_stderr else sys.stdout))


def money(usd: float) -> str:
    """Spell dollars."""
    return f"${usd:,.2f}"


def record_json(record: Record, now: float) -> dict[str, object]:
    """Return the stable keys of `hpc status --json`."""
    return {
        "token": record.token,
        "ref": record.ref,
        "site": record.site,
        "partition": record.partition,
        "state": record.state.value,
        "native_state": record.native_state,
        "reason": record.reason,
        "submitted_at": record.submitted_at,
        "started_at": None if waits_for_boot(record) else record.started_at,
        "ended_at": record.ended_at,
        "elapsed_s": round(record.elapsed(now), 3),
        "exit_code": record.exit_code,
        "signal": record.signal,
        "cost_usd": round(record.cost(now), 4),
        "attempt": record.attempt,
        "name": record.name,
    }


def submit_json(record: Record) -> dict[str, object]:
    """Return the stable keys of `hpc submit --json`."""
    return {
        "token": record.token,
        "ref": record.ref,
        "site": record.site,
        "partition": record.partition,
        "job_id": record.job_id,
        "state": record.state.value,
    }


REFUSED = "REFUSED"
"""What stands for the state of a job that its scheduler refused: it never was one."""
NO_REASON = "None"
"""Slurm's word (squeue(1), JOB REASON CODES) for a job of which nothing is to be said."""


def end_words(record: Record) -> tuple[str, ...]:
    """Return in a few words how a job ended that did not complete: its script's own end, and its scheduler's reason."""
    words = exit_words(record.state, record.exit_code, record.signal)
    return tuple(filter(None, (words, reason_words(record.reason))))


def _reason(record: Record) -> str:
    if record.state.final and record.state is not JobState.COMPLETED:
        return ", ".join(end_words(record))
    return live_reason(record.reason)


def live_reason(reason: str) -> str:
    """Return why a job waits, without the word for no reason; of an array how many of its tasks are in which state."""
    return reason.removeprefix(NO_REASON).strip(" ()") if reason.partition(" ")[0] == NO_REASON else reason


def called(record: Record) -> str:
    """Return what a person names a job by: its ref, or the beginning of its token if no scheduler gave it an id."""
    return record.ref or record.token[:8]


CONFIGURING = "CONFIGURING"
"""What stands for RUNNING where nodes still boot: Slurm's word (squeue(1), JOB STATE CODES). They are paid for."""


def state_word(record: Record) -> str:
    """Return a job's state as a person reads it."""
    return REFUSED if record.phase is Phase.REFUSED else live_word(record.state, record.native_state)


def live_word(state: JobState, native: str) -> str:
    """Return a state as a person reads it: a job whose nodes boot has not begun to run."""
    return CONFIGURING if state is JobState.RUNNING and has_begun(state, native) is False else state.value


def waits_for_boot(record: Record) -> bool:
    """Whether a job has nodes that boot, or never did: then it has not started."""
    return record.started_at is not None and has_begun(record.state, record.native_state) is False


def record_row(record: Record, now: float) -> list[str]:
    """Return a line of `hpc status`."""
    return [
        called(record),
        record.name,
        state_word(record),
        format_duration(record.elapsed(now)) if record.started_at and not waits_for_boot(record) else "-",
        money(record.cost(now)),
        _reason(record),
    ]

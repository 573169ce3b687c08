"""hpc events: what was done with a job and why, attempt by attempt."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import click

from hybridhpc.cli._context import chosen_one, json_option, new_client, split_task
from hybridhpc.cli._output import money, say, show_json, state_word, table, tell
from hybridhpc.cli._terminal import clean
from hybridhpc.ledger.base import Event, Record
from hybridhpc.schedulers.words import has_begun


@click.command()
@click.argument("job")
@json_option
def command(job: str, as_json: bool) -> None:
    """Show what was done with JOB (a ref, a token or a name), by the agent and by its sites, and why.

    Of a task, such as onprem:12_3, it shows what was done with its array.

    Example: hpc events onprem:1234
    """
    client = new_client()
    whole, task = split_task(job)
    (record,) = client.refresh([chosen_one(client, whole)])
    attempts = client.ledger.attempts(record.token)
    now = client.clock()
    found = sorted([*_history(attempts, now), *client.ledger.events(record.token)], key=lambda event: event.at)
    if as_json:
        show_json(
            {
                "token": record.token,
                "cost_usd": round(record.cost(now), 4),
                "attempts": [_attempt_json(attempt, now) for attempt in attempts],
                "events": [event_json(event) for event in found],
            }
        )
        return
    rows = [[utc(event.at), str(event.attempt), event.kind, event.text] for event in found]
    say(table(("TIME (UTC)", "ATTEMPT", "EVENT", "WHY"), rows))
    tell(f"{clean(record.name)}: {state_word(record)}, attempt {record.attempt}, {money(record.cost(now))} in all")
    if task is not None:
        tell(f"this is about {whole} as a whole; `hpc why {job}` tells of the task")


def event_json(event: Event) -> dict[str, object]:
    """Return an event with its stable keys; `hpc agent --json` prints the same."""
    return {
        "at": round(event.at, 3),
        "token": event.token,
        "attempt": event.attempt,
        "event": event.kind,
        "why": event.text,
    }


def _attempt_json(attempt: Record, now: float) -> dict[str, object]:
    return {
        "attempt": attempt.attempt,
        "ref": attempt.ref,
        "site": attempt.site,
        "partition": attempt.partition,
        "state": attempt.state.value,
        "elapsed_s": round(attempt.elapsed(now), 3),
        "cost_usd": round(attempt.run_cost(now), 4),
    }


def _history(attempts: Sequence[Record], now: float) -> Iterator[Event]:
    """Yield what the ledger knows of each attempt itself: when it was submitted, began and ended, by our clock."""
    for record in attempts:
        place = f"{record.site}/{record.partition}"
        facts = (
            (record.submitted_at, "pending", f"at {place}, as {record.job_id}"),
            (record.started_at, *_start(record, place)),
            (record.ended_at, "ended", f"{record.state.value}, after {money(record.run_cost(now))}"),
        )
        for at, kind, text in facts:
            if at is not None:
                yield Event(token=record.token, attempt=record.attempt, at=at - record.ahead, kind=kind, text=text)


def _start(record: Record, place: str) -> tuple[str, str]:
    """Return what is known of the moment from which a job has had its nodes."""
    begun = has_begun(record.state, record.native_state)
    if begun:
        return "started", f"at {place}"
    return "allocated", f"nodes at {place}, " + ("which boot" if begun is False else "which need not have booted")


def utc(at: float) -> str:
    """Spell a moment."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S")

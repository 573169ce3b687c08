"""hpc agent: look after jobs while nobody is typing."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import click

from hybridhpc.agent import Agent, Memory
from hybridhpc.cli._context import new_client
from hybridhpc.cli._output import called, say, tell
from hybridhpc.cli._terminal import clean
from hybridhpc.cli.events import event_json, utc
from hybridhpc.client import Client
from hybridhpc.clock import pause
from hybridhpc.config import settings
from hybridhpc.errors import HpcError, LedgerError
from hybridhpc.ledger.base import Event, Ledger
from hybridhpc.model import Move
from hybridhpc.spec.flags import parse_move

TICK = 2.0
"""Seconds between two looks at what is due; each site is asked at its own interval (`poll_interval`)."""
AFTER_TROUBLE = 30.0
"""Seconds of rest after the ledger could not be read or written."""


@click.command()
@click.option("--once", is_flag=True, help="Do what is due now, and end: for cron.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object for each event, one a line.")
def command(once: bool, as_json: bool) -> None:
    """Look after your jobs: carry on what was interrupted, make new attempts, place anew what waits too long.

    It runs in the foreground until it is told to end, may be killed at any moment, and prints what it does. Of several
    one leads; the others wait. docs/agent.md has a systemd unit and a crontab line.

    Example: hpc agent
    """
    memory = Memory(owner=f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    client = new_client()
    report = _as_json if as_json else partial(_as_line, client.ledger)
    try:
        while True:
            led = _pass(client, memory, report, once=once)
            if once and not led:
                tell("another agent looks after your jobs")
            if once:
                return
            pause(TICK)
            # Site files and settings may have changed; the ledger, whose locks are held, stays the same.
            client = client.anew()
    finally:
        with suppress(HpcError):
            Agent(client, memory, report, Move.OFF).resign()


def _pass(client: Client, memory: Memory, report: Callable[[Event], None], *, once: bool) -> bool:
    try:
        return Agent(client, memory, report, _moving(client)).run_pass()
    except LedgerError as error:
        if once:
            raise
        tell(f"hpc: {clean(error.message)}; tried again in {AFTER_TROUBLE:g} s")
        pause(AFTER_TROUBLE)
        return False


def _moving(client: Client) -> Move:
    found = settings(client.paths, client.env)["move"]
    return parse_move(found.value, found.source)


def _as_json(event: Event) -> None:
    say(json.dumps(event_json(event)))


def _as_line(ledger: Ledger, event: Event) -> None:
    (job,) = ledger.current([event.token])
    say(clean(f"{utc(event.at)}  {called(job)} {job.name} #{event.attempt}  {event.kind}: {event.text}"))

"""What every verb begins with: a client for this person, and the options that mean the same everywhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from hybridhpc.client import Client
from hybridhpc.config import environment, working_directory
from hybridhpc.ledger.base import Record

Verb = TypeVar("Verb", bound=Callable[..., Any])

json_option: Callable[[Verb], Verb] = click.option(
    "--json", "as_json", is_flag=True, help="Print JSON with stable keys."
)
dry_run_option: Callable[[Verb], Verb] = click.option(
    "--dry-run", is_flag=True, help="Say what would happen; do nothing."
)


def new_client() -> Client:
    """Return a client for the environment and directory of this process."""
    return Client(environment(), working_directory())


def chosen(client: Client, jobs: Sequence[str]) -> tuple[Record, ...]:
    """Return the jobs named on the command line. Raises NotFound."""
    found = {record.token: record for record in (client.ledger.find(word) for word in jobs)}
    return tuple(found.values())

"""What every verb begins with: a client for this person, and the options that mean the same everywhere."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from hybridhpc.cli._output import called, tell
from hybridhpc.cli._terminal import clean
from hybridhpc.client import Client
from hybridhpc.config import environment
from hybridhpc.errors import UsageError
from hybridhpc.ledger.base import Record
from hybridhpc.sites.plugins import PluginOptions, of_any

Verb = TypeVar("Verb", bound=Callable[..., Any])

json_option: Callable[[Verb], Verb] = click.option(
    "--json", "as_json", is_flag=True, help="Print JSON with stable keys."
)
dry_run_option: Callable[[Verb], Verb] = click.option(
    "--dry-run", is_flag=True, help="Say what would happen; do nothing."
)


def new_client() -> Client:
    """Return a client for the environment and directory of this process."""
    return Client(environment())


def plugin_options(client: Client) -> PluginOptions:
    """Return the options that plugins of any site add to sbatch."""
    return of_any(site.plugin_options for site in client.usable_sites)


def chosen(client: Client, jobs: Sequence[str]) -> tuple[Record, ...]:
    """Return the jobs named on the command line, of a sweep all. Raises NotFound."""
    found = {record.token: record for word in jobs for record in meant_by(client, word)}
    return tuple(found.values())


def meant_by(client: Client, word: str) -> tuple[Record, ...]:
    """Return the job, or those of the sweep, that a word means; of several of a name the newest, which is said.

    Raises NotFound.
    """
    found = client.ledger.find_all(word)
    by_name = word == found[0].name or (found[0].sweep.startswith(f"{word}-") and word != found[0].sweep)
    if by_name and (bearers := client.ledger.bearers(word)) > 1:
        name = found[0].sweep if len(found) > 1 else called(found[0])
        tell(clean(f"note: {bearers:,} are called {word}; this is the newest, {name}"))
    return found


def split_task(word: str) -> tuple[str, int | None]:
    """Return the job and the task that a word means: `onprem:12_3` is task 3 of `onprem:12`."""
    match = re.fullmatch(r"(.+:\d+)_(\d{1,9})", word)
    return (match[1], int(match[2])) if match else (word, None)


def check_task(record: Record, task: int | None) -> None:
    """Raise UsageError for a task of a job that has none."""
    spec = record.plan.spec
    if task is not None and record.tasks == 1 and spec is not None and spec.array is None:
        raise UsageError(f"{called(record)} is no array: it has no task {task}", hint=f"name it {called(record)}")


def chosen_one(client: Client, job: str) -> Record:
    """Return the job that is named. Raises NotFound, and UsageError for a sweep of many jobs."""
    return the_one(job, chosen(client, [job]))


def the_one(job: str, found: Sequence[Record]) -> Record:
    """Return the job, of those that a word means. Raises UsageError if they are the many of a sweep."""
    if len(found) > 1:
        refs = ", ".join(record.ref or record.token for record in found[:3])
        raise UsageError(f"{job} is a sweep of {len(found):,} jobs: {refs} ...", hint="name one of them")
    return found[0]

"""What became of the tasks of arrays, one by one. Nobody waits long for what a site would only add to what is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from hybridhpc import registry
from hybridhpc.at_once import AtOnce
from hybridhpc.errors import HpcError
from hybridhpc.following import ask_scheduler, read_exits, tasks_of
from hybridhpc.ledger.base import Record
from hybridhpc.model import JobState, JobStatus
from hybridhpc.sites.site import InvalidSite, Site
from hybridhpc.values import dataclass

SHORT = 2.0
"""Seconds for questions about arrays that have ended, or that nothing was told of a moment ago."""
_STEPS = 3
"""Questions that follow each other at most, each within a site's deadline."""
LIVING = (JobState.PENDING, JobState.RUNNING, JobState.SUSPENDED)
"""States of which a scheduler that answers has more to tell soon."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrayTasks:
    """What is known: by the array's token and the task's index; and by site, why its scheduler did not tell."""

    known: Mapping[str, Mapping[int, JobStatus]]
    silent: Mapping[str, str]


def ask_array_tasks(
    arrays: Sequence[Record], sites: Sequence[Site | InvalidSite], env: Mapping[str, str]
) -> ArrayTasks:
    """Ask all sites at once, their schedulers and for the exit markers: those are there where nobody answers."""
    by_site: dict[str, list[Record]] = {}
    for record in arrays:
        by_site.setdefault(record.site, []).append(record)
    limits = {name: _limit(name, asked, sites) for name, asked in by_site.items()}
    patience = max((within for within, _ in limits.values()), default=0.0)
    asked = {name: (name, arrays, limits[name][1], sites, env) for name, arrays in by_site.items()}
    told = AtOnce({name: partial(_ask, *words) for name, words in asked.items()}, patience)
    marked = AtOnce({name: partial(_read_markers, *words) for name, words in asked.items()}, patience)
    answers, exits = told.answers(), marked.answers()
    known: dict[str, dict[int, JobStatus]] = {}
    silent: dict[str, str] = {}
    for name, of_site in by_site.items():
        answer = answers.get(name, f"gave no answer within {limits[name][0]:g} s")
        if isinstance(answer, str):
            silent[name], answer = answer, {}
        for record in of_site:
            known[record.token] = _by_index({**exits.get(name, {}).get(record.token, {}), **tasks_of(record, answer)})
    return ArrayTasks(known=known, silent=silent)


def _limit(name: str, asked: Sequence[Record], sites: Sequence[Site | InvalidSite]) -> tuple[float, float]:
    """Return within how many seconds a site is to be done, and within how many with each question."""
    deadline = next((site.probe_deadline for site in sites if isinstance(site, Site) and site.name == name), SHORT)
    if any(record.state in LIVING for record in asked):
        return _STEPS * float(deadline), float(deadline)
    return min(SHORT, deadline), min(SHORT, deadline)


def _ask(
    name: str, arrays: Sequence[Record], within: float, sites: Sequence[Site | InvalidSite], env: Mapping[str, str]
) -> Mapping[str, JobStatus] | str:
    """Return what a scheduler says, or why it says nothing."""
    try:
        site = registry.site_named(tuple(sites), name)
        scheduler, transport = registry.scheduler(site.scheduler), registry.transport(site, env)
        return ask_scheduler(site, scheduler, transport, arrays, within=within)
    except HpcError as error:
        return error.message


def _read_markers(
    name: str, arrays: Sequence[Record], within: float, sites: Sequence[Site | InvalidSite], env: Mapping[str, str]
) -> Mapping[str, Mapping[str, JobStatus]]:
    try:
        transport = registry.transport(registry.site_named(tuple(sites), name), env)
        return read_exits(transport, arrays, {}, within=within)
    except HpcError:
        return {}


def _by_index(tasks: Mapping[str, JobStatus]) -> dict[int, JobStatus]:
    indices = ((job_id.partition("_")[2], status) for job_id, status in tasks.items())
    return {int(index): status for index, status in indices if index.isdecimal()}

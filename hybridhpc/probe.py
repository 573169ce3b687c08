"""Ask every site at once, within a deadline. A silent site costs one line, not the run."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from hybridhpc import registry
from hybridhpc.clock import Clock
from hybridhpc.command import Command, CommandResult
from hybridhpc.errors import HpcError
from hybridhpc.sites.site import Site
from hybridhpc.sites.snapshot import Silence, Snapshot
from hybridhpc.transports.base import Transport

Answer = TypeVar("Answer")


def survey(sites: Sequence[Site], env: Mapping[str, str], clock: Clock) -> dict[str, Snapshot | Silence]:
    """Return, by site name, what each answered. Takes as long as the slowest site, never more than its deadline."""
    asked: dict[str, Callable[[], Snapshot | Silence]] = {}
    for site in sites:
        asked[site.name] = lambda site=site: _survey_one(site, env, clock)  # type: ignore[misc]
    deadline = max((site.probe_deadline for site in sites), default=0)
    answers = at_once(asked, deadline)
    return {site.name: answers.get(site.name) or _silent(site) for site in sites}


def _silent(site: Site) -> Silence:
    return Silence(site=site.name, why=f"gave no answer within {site.probe_deadline} s")


def _survey_one(site: Site, env: Mapping[str, str], clock: Clock) -> Snapshot | Silence:
    try:
        dialect = registry.scheduler(site.scheduler)
        questions = dialect.survey_commands(site)
        answers = run_all(registry.transport(site, env), questions, site.probe_deadline)
        return dialect.parse_survey(site, answers, now=clock())
    except HpcError as error:
        return Silence(site=site.name, why=error.message.splitlines()[0])


def run_all(transport: Transport, commands: Sequence[Command], deadline: float) -> tuple[CommandResult, ...]:
    """Run commands side by side and return the answers in their order. Raises the first error among them."""
    if len(commands) == 1:
        return (transport.run(commands[0]),)
    asked: dict[str, Callable[[], CommandResult | HpcError]] = {}
    for number, command in enumerate(commands):
        asked[str(number)] = lambda command=command: answer(transport, command)  # type: ignore[misc]
    answers = at_once(asked, deadline)
    found: list[CommandResult] = []
    for number, command in enumerate(commands):
        told = answers.get(str(number)) or HpcError(f"{command.argv[0]} gave no answer within {deadline} s")
        if isinstance(told, HpcError):
            raise told
        found.append(told)
    return tuple(found)


def answer(transport: Transport, command: Command) -> CommandResult | HpcError:
    """Run a command; what went wrong is a value, as a thread must give one back."""
    try:
        return transport.run(command)
    except HpcError as error:
        return error


def at_once(calls: Mapping[str, Callable[[], Answer]], deadline: float) -> dict[str, Answer]:
    """Call everything in threads of its own and return what came back before the deadline (seconds)."""
    answers: dict[str, Answer] = {}
    threads = [
        threading.Thread(target=lambda key=key, call=call: answers.__setitem__(key, call()), daemon=True)
        for key, call in calls.items()
    ]
    for thread in threads:
        thread.start()
    until = time.monotonic() + deadline
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
    return dict(answers)

"""Ask every site at once, within a deadline. A silent site costs one line, not the run."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Generic, TypeVar

from hybridhpc import registry
from hybridhpc.clock import Clock
from hybridhpc.command import Command, CommandResult
from hybridhpc.errors import HpcError
from hybridhpc.sites.site import Site
from hybridhpc.sites.snapshot import Silence, Snapshot
from hybridhpc.transports.base import Transport

Answer = TypeVar("Answer")


class Survey:
    """A question to every site, asked when it is made; the answers are collected when they are wanted."""

    def __init__(self, sites: Sequence[Site], env: Mapping[str, str], clock: Clock) -> None:
        self._sites = sites
        calls = {site.name: partial(_survey_one, site, env, clock) for site in sites}
        self._asked = AtOnce(calls, max((site.probe_deadline for site in sites), default=0))

    def answers(self) -> dict[str, Snapshot | Silence]:
        """Return, by site name, what each answered. Takes as long as the slowest, never more than its deadline."""
        answers = self._asked.answers()
        return {site.name: answers.get(site.name) or _silent(site) for site in self._sites}


def survey(sites: Sequence[Site], env: Mapping[str, str], clock: Clock) -> dict[str, Snapshot | Silence]:
    """Ask every site and wait for the answers: see Survey."""
    return Survey(sites, env, clock).answers()


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
    except Exception as error:
        # A thread has nobody to catch this, and one site's odd answer must not end the run.
        return Silence(site=site.name, why=f"gave an answer that hybridhpc fails on ({type(error).__name__}: {error})")


def run_all(transport: Transport, commands: Sequence[Command], deadline: float) -> tuple[CommandResult, ...]:
    """Run commands side by side and return the answers in their order. Raises the first error among them."""
    if len(commands) == 1:
        return (transport.run(commands[0]),)
    asked = {str(number): partial(answer, transport, command) for number, command in enumerate(commands)}
    answers = AtOnce(asked, deadline).answers()
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


class AtOnce(Generic[Answer]):
    """Calls made at once, each in a thread of its own; what comes back before the deadline (seconds) counts."""

    def __init__(self, calls: Mapping[str, Callable[[], Answer]], deadline: float) -> None:
        self._until = time.monotonic() + deadline
        self._answers: dict[str, Answer] = {}
        self._threads = [
            threading.Thread(target=self._call, args=(key, call), daemon=True) for key, call in calls.items()
        ]
        for thread in self._threads:
            thread.start()

    def _call(self, key: str, call: Callable[[], Answer]) -> None:
        self._answers[key] = call()

    def answers(self) -> dict[str, Answer]:
        """Wait, at most until the deadline, and return the answers by key."""
        for thread in self._threads:
            thread.join(max(0.0, self._until - time.monotonic()))
        return dict(self._answers)

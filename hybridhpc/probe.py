"""Ask every site at once, within a deadline. A silent site costs one line, not the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from hybridhpc import registry
from hybridhpc.at_once import AtOnce
from hybridhpc.clock import Clock
from hybridhpc.command import Command, CommandResult, Errand
from hybridhpc.errors import HpcError
from hybridhpc.sites.site import Site
from hybridhpc.sites.snapshot import Silence, Snapshot
from hybridhpc.transports.base import Transport

IN_TIME = 0.9
"""The share of a site's deadline within which its scheduler must answer: what is said of one that does not (it is
reached, and its controller is frozen) still comes in time, in every verb."""
_ALIVE = "is it up, and its scheduler alive? `hpc check` looks"


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
    return Silence(site=site.name, why=f"gave no answer within {site.probe_deadline} s", fix=_ALIVE)


def _survey_one(site: Site, env: Mapping[str, str], clock: Clock) -> Snapshot | Silence:
    try:
        dialect = registry.scheduler(site.scheduler)
        questions = dialect.survey_commands(site)
        answers = run_all(registry.transport(site, env), questions, IN_TIME * site.probe_deadline)
        return dialect.parse_survey(site, answers, now=clock())
    except HpcError as error:
        return Silence(site=site.name, why=error.message.splitlines()[0], fix=error.hint)
    except Exception as error:
        # A thread has nobody to catch this, and one site's odd answer must not end the run.
        return Silence(site=site.name, why=f"gave an answer that hybridhpc fails on ({type(error).__name__}: {error})")


def run_all(transport: Transport, commands: Sequence[Command], deadline: float) -> tuple[CommandResult, ...]:
    """Ask a site several questions at once and return the answers in their order. Raises the first error among them."""
    found: list[CommandResult] = []
    for told in transport.run_all([Errand(command=command) for command in commands], within=deadline):
        if isinstance(told, HpcError):
            raise told
        found.append(told)
    return tuple(found)

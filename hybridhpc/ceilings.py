"""What accounting lets a job of an account and QOS ask for: asked for jobs that name one, once per site and command.

Slurm takes a job that asks for more, and never starts it (QOSMaxWallDurationPerJobLimit; seen: 22.05), and
`sbatch --test-only` says nothing of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from hybridhpc import registry
from hybridhpc.at_once import AtOnce
from hybridhpc.command import Command, CommandResult
from hybridhpc.decide.candidate import Candidate
from hybridhpc.errors import HpcError
from hybridhpc.model import JobSpec
from hybridhpc.schedulers.base import Scheduler
from hybridhpc.script.make import Draft
from hybridhpc.sites.site import Site
from hybridhpc.units import format_walltime


class Ceilings:
    """The answers of sites; one that gave none has no ceiling."""

    def __init__(self, dialects: Mapping[str, Scheduler], env: Mapping[str, str]) -> None:
        self._dialects, self._env = dialects, env
        self._answers: dict[str, CommandResult | None] = {}

    def refusals(self, spec: JobSpec, candidates: Sequence[Candidate], drafts: Mapping[str, Draft]) -> dict[str, str]:
        """Return why a job would wait for ever where accounting allows less than it asks for.

        By the site's name if the job itself names account or QOS: then it is so in all partitions. Else, if the site
        file does, by Candidate.key.
        """
        named = [each for each in candidates if each.key in drafts and any(_names(spec, drafts[each.key]))]
        self._ask({each.site.name: each.site for each in named})
        everywhere = bool(spec.native.account or spec.native.qos)
        told = {each: self._refusal(spec, each, drafts[each.key]) for each in named}
        return {each.site.name if everywhere else each.key: why for each, why in told.items() if why}

    def _refusal(self, spec: JobSpec, candidate: Candidate, made: Draft) -> str:
        answer, asked = self._answers.get(candidate.site.name), spec.resources.walltime
        if answer is None or asked is None:
            return ""
        ceiling = self._dialects[candidate.site.name].parse_ceiling(answer, *_names(spec, made))
        if ceiling is None or asked <= ceiling.walltime:
            return ""
        most = format_walltime(ceiling.walltime)
        return f"walltime {format_walltime(asked)} is over the limit of {most} of {ceiling.whose}"

    def _ask(self, sites: Mapping[str, Site]) -> None:
        """Ask all sites at once that have not been asked before."""
        unasked = {name: site for name, site in sites.items() if name not in self._answers}
        questions = {name: self._dialects[name].room_command(site) for name, site in unasked.items()}
        calls = {name: partial(self._ask_one, unasked[name], command) for name, command in questions.items() if command}
        deadline = max((site.probe_deadline for site in unasked.values()), default=0)
        self._answers |= dict.fromkeys(unasked) | AtOnce(calls, deadline).answers()

    def _ask_one(self, site: Site, question: Command) -> CommandResult | None:
        try:
            return registry.transport(site, self._env).run(question)
        except HpcError:
            return None


def _names(spec: JobSpec, made: Draft) -> tuple[str | None, str | None]:
    """Return the account and the QOS that a job asks for; None: the person's default."""
    return _option(made, "account") or spec.native.account, _option(made, "qos") or spec.native.qos


def _option(made: Draft, name: str) -> str | None:
    said = [option for option in made.options if option.startswith(f"--{name}=")]
    return said[-1].partition("=")[2] if said else None

"""From a wish to a Plan: look at the sites, decide, draft. Asks sites through probe; decides nothing itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hybridhpc import probe, registry
from hybridhpc.clock import Clock
from hybridhpc.decide.candidate import Ranking
from hybridhpc.decide.route import candidates_that_fit, decide
from hybridhpc.errors import HpcError, NoCandidate
from hybridhpc.model import JobSpec
from hybridhpc.schedulers.base import Scheduler
from hybridhpc.script.make import Draft
from hybridhpc.script.plan import Plan
from hybridhpc.sites.site import InvalidSite, Site
from hybridhpc.sites.snapshot import PastJob, Silence, Snapshot

MOST_ESTIMATES = 8
"""Start estimates asked per site and decision: each costs the scheduler a job id (sbatch --test-only)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a person asked for, and what it depends on. `request` is the same if the same is asked again."""

    spec: JobSpec
    request: str
    cwd: str
    dependencies: tuple[tuple[str, str, str], ...] = ()
    """Kind (ok, any ...), site and job id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """The decision and, if any site will do, exactly what would be submitted."""

    ranking: Ranking
    plan: Plan | None

    def chosen(self) -> Plan:
        """Return the plan. Raises NoCandidate with every refusal."""
        if self.plan is not None:
            return self.plan
        lines = [f"{choice.candidate.name}: {choice.refused}" for choice in self.ranking.choices]
        lines += [f"{site}: {why}" for site, why in self.ranking.silent]
        near = [choice.would_admit for choice in self.ranking.choices if choice.would_admit]
        hint = f"it would fit with {near[0]}" if near else "`hpc sites` shows what there is"
        raise NoCandidate("\n  ".join(["no site can run this job", *lines]), hint=hint)


class Planner:
    """Plans one wish after another over sites that were asked once."""

    def __init__(self, sites: Sequence[Site | InvalidSite], env: Mapping[str, str], clock: Clock) -> None:
        self._env = env
        self._clock = clock
        self._sites = sites
        usable = [site for site in sites if isinstance(site, Site)]
        self._dialects: dict[str, Scheduler] = {site.name: registry.scheduler(site.scheduler) for site in usable}
        self._seen = probe.survey(usable, env, clock)

    def plan(self, wish: Wish, history: Sequence[PastJob]) -> Planned:
        """Decide where a wish is met and draft it."""
        found: list[tuple[Site | InvalidSite, Snapshot | Silence | None]] = []
        for site in self._sites:
            found.append((site, self._seen.get(site.name) if isinstance(site, Site) else None))
        spec = wish.spec
        drafts: dict[str, Draft] = {}
        refusals: dict[str, str] = {}
        for candidate in candidates_that_fit(spec, found):
            try:
                drafts[candidate.key] = self._draft(wish, candidate)
            except HpcError as error:
                refusals[candidate.key] = error.message
        estimates = self._estimates(candidates_that_fit(spec, found), drafts)
        ranking = decide(spec, found, estimates=estimates, refusals=refusals, history=history, now=self._clock())
        return Planned(ranking=ranking, plan=self._make(wish, ranking.winner, drafts))

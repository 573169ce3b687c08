"""What is known at one moment, for all decisions of one command: each site's future is worked out once. Pure.

A Moment remembers what it was told to place: of many jobs of one command each stands behind those before it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, tzinfo
from functools import cached_property

from hybridhpc.decide.fit import Fit, fits
from hybridhpc.decide.learned import learned_fraction, lessons
from hybridhpc.decide.outlook import Outlook, outlook
from hybridhpc.decide.policy import Policy
from hybridhpc.decide.promise import Outcome
from hybridhpc.model import AT_ONCE, JobSpec, Quantiles
from hybridhpc.sites.site import Site
from hybridhpc.sites.snapshot import PastJob, Snapshot


class View:
    """A site's future, with what was placed there so far."""

    def __init__(self, future: Outlook) -> None:
        self.future = future
        self.placed = 0
        """Jobs that stand there since the site was looked at: its scheduler's estimates do not know them."""

    @cached_property
    def queued(self) -> dict[str, int]:
        """How many tasks wait in each partition, and may begin."""
        found: dict[str, int] = {}
        seen = self.future.turns
        for line, tasks in (*((job.line, max(1, job.line.tasks)) for job in seen.first), *seen.rest):
            for name in line.partition.split(","):
                found[name] = found.get(name, 0) + tasks
        return found


class Moment:
    """History, outcomes (latest first) and policy, `now` in seconds since the epoch, in the `zone` of this machine."""

    def __init__(
        self,
        *,
        history: Sequence[PastJob] = (),
        outcomes: Sequence[Outcome] = (),
        policy: Policy | None = None,
        zone: tzinfo = UTC,
        now: float,
    ) -> None:
        self.now = now
        self.zone = zone
        self.policy = policy or Policy()
        self.history = [job for job in history if _sound(job)]
        self.fraction = learned_fraction(self.history, self.policy)
        self.lessons = lessons(outcomes, self.policy)
        self._views: dict[str, tuple[Snapshot, View]] = {}
        self._fits: dict[tuple[int, str], tuple[JobSpec, Snapshot, list[Fit]]] = {}

    def view(self, site: Site, snapshot: Snapshot) -> View:
        """Return a site's future; its queue is planned when this is first asked."""
        known = self._views.get(site.name)
        if known is not None and known[0] is snapshot:
            return known[1]
        boots = {listed.name: self.lessons.boot(site, listed.name) for listed in snapshot.partitions}
        made = View(outlook(snapshot, boots, self.fraction, self.policy, self.now + snapshot.ahead))
        self._views[site.name] = snapshot, made
        return made

    def fits(self, spec: JobSpec, site: Site, snapshot: Snapshot) -> list[Fit]:
        """Judge every candidate of a site; of the same job at the same site once."""
        key = id(spec), site.name
        known = self._fits.get(key)
        if known is None or known[0] is not spec or known[1] is not snapshot:
            known = self._fits[key] = spec, snapshot, fits(spec, site, snapshot)
        return known[2]

    def place(self, fit: Fit, snapshot: Snapshot, tasks: int, after: Quantiles = AT_ONCE) -> None:
        """Let so many equal jobs, or tasks of one, stand before all that is decided later; none starts before `after`.

        As many as the policy plans one by one are given their nodes, the others only add their work.
        """
        view = self.view(fit.candidate.site, snapshot)
        alone = min(tasks, max(0, self.policy.planning_depth - view.placed))
        view.placed += tasks
        limit = float(fit.walltime or self.policy.assumed_walltime)
        likely, limits = view.future.likely, view.future.limits
        for profile, lasts, soonest in (
            (likely, max(1.0, limit * self.fraction), after.p50),
            (limits, limit, after.p90),
        ):
            profile.take(fit.need, fit.partition.name, lasts, alone, tasks - alone, soonest)


def _sound(job: PastJob) -> bool:
    """Whether a past job's times can be calculated with."""
    return 0.0 <= job.started_at - job.submitted_at < math.inf and 0.0 < job.ended_at - job.started_at < math.inf

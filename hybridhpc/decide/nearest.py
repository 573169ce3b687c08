"""What would admit a job that a place refuses: the fewest changes with which nothing is left to refuse. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace

from hybridhpc.decide.candidate import Candidate, Effort
from hybridhpc.decide.cost import is_surely_too_dear
from hybridhpc.decide.fit import Fit, judge
from hybridhpc.decide.refusal import OF_PLACES, Change
from hybridhpc.model import JobSpec
from hybridhpc.sites.snapshot import Snapshot
from hybridhpc.values import dataclass

MOST_CHANGES = 3
"""With more it is another job."""
MOST_TRIED = 4
"""Sets of changes that are gone on from; each judged costs a look at all nodes of the partition."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Near:
    """Changes that admit a job, in words, and how much they change."""

    words: str
    effort: Effort


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tried:
    own: JobSpec
    """As the person wrote it."""
    spec: JobSpec
    candidate: Candidate
    fit: Fit
    made: Mapping[str, Change]

    @property
    def near(self) -> Near:
        words = " and ".join(change.words for change in self.made.values())
        return Near(words=words, effort=(self.kinds, distance(self.own, self.spec)))

    @property
    def kinds(self) -> int:
        """Of what kinds the changes are, as one figure: of those of places a single one outweighs all others."""
        return sum(change.effort for change in self.made.values())


def nearest(spec: JobSpec, fit: Fit, snapshot: Snapshot) -> Near | None:
    """Return what would admit a job to a place that refuses it; None if nothing we know of would.

    Every set of changes is made and judged as the job itself was: what is proposed is admitted. For a place where the
    person does not want to go, or whose file would have to change, the job is not changed as well.
    """
    tried = [_Tried(own=spec, spec=spec, candidate=fit.candidate, fit=fit, made={})]
    for _ in range(MOST_CHANGES):
        further = [step for each in tried[:MOST_TRIED] for step in _steps(each, snapshot)]
        alone = [step for step in further if len(step.made) == 1 or step.kinds < OF_PLACES]
        admitted = [
            step.near for step in alone if not step.fit.refusals and not is_surely_too_dear(step.spec, step.fit)
        ]
        if admitted:
            return min(admitted, key=lambda near: near.effort)
        tried = [step for step in further if step.fit.refusals and step.kinds < OF_PLACES]
    return None


def _steps(tried: _Tried, snapshot: Snapshot) -> Iterator[_Tried]:
    """Yield what comes of each way to remove the first reason: all of them must go."""
    for change in tried.fit.refusals[0].ways:
        candidate = _changed(tried, change)
        found, made = judge(change.spec, candidate, snapshot), {**tried.made, change.what: change}
        yield _Tried(own=tried.own, spec=change.spec, candidate=candidate, fit=found, made=made)


def _changed(tried: _Tried, change: Change) -> Candidate:
    own, asked = tried.candidate, change.spec.resources.gpus
    gpus = own.gpus if asked == tried.spec.resources.gpus or not asked else asked[0]
    return replace(own, site=change.site or own.site, gpus=gpus)


def distance(asked: JobSpec, changed: JobSpec) -> float:
    """Return how far the figures of a job were moved: the sum of |log(new / old)|, so that half is as far as twice.

    What was not asked for, and so was the site's to choose, counts nothing.
    """
    pairs = zip(_figures(asked), _figures(changed), strict=True)
    return sum(abs(math.log(new / old)) for old, new in pairs if old and new and new / old > 0)


def _figures(spec: JobSpec) -> tuple[float | None, ...]:
    asked = spec.resources
    tasks = spec.array.tasks if spec.array else None
    ceiling = spec.goal.max_cost if spec.goal else None
    return asked.nodes, asked.gpus_per_node, asked.cpus, asked.memory, asked.walltime, tasks, ceiling

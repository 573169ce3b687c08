"""Which of the jobs of one command come after which: waves, one after the other, and chains, one beside the other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from hybridhpc.model import JobSpec
from hybridhpc.spec.dependencies import meant


class Order:
    """Jobs known by their numbers, each behind those that it comes after."""

    def __init__(self, specs: Sequence[JobSpec]) -> None:
        self.after = [_after(spec, specs) for spec in specs]
        """What each comes after: how, what that is called, and its number if it is one of these."""
        self.before = [frozenset(other for _, _, other in after if other is not None) for after in self.after]
        self.waves = self._waves()
        self.chain_of = {number: chain for chain in self.chains() for number in chain}
        """Of all jobs, the chain that each belongs to."""

    def _waves(self) -> list[list[int]]:
        """Return first those that wait for none of the others, then those that wait for them ..."""
        level: list[int] = []
        for before in self.before:
            level.append(max((level[other] + 1 for other in before), default=0))
        return [[n for n, own in enumerate(level) if own == depth] for depth in range(max(level, default=0) + 1)]

    def chains(self, numbers: Iterable[int] | None = None) -> list[list[int]]:
        """Divide jobs (all, if none are named) into those that are joined by coming after each other."""
        left = dict.fromkeys(range(len(self.before)) if numbers is None else numbers)
        joined: dict[int, list[int]] = {number: [number] for number in left}
        for number in left:
            for other in self.before[number]:
                if other in left and joined[other] is not joined[number]:
                    longer, shorter = sorted((joined[other], joined[number]), key=len, reverse=True)
                    longer += shorter
                    joined |= dict.fromkeys(shorter, longer)
        return [sorted(chain) for chain in {id(chain): chain for chain in joined.values()}.values()]


def _after(spec: JobSpec, specs: Sequence[JobSpec]) -> list[tuple[str, str, int | None]]:
    named = [(after.kind, job) for after in spec.after for job in after.jobs]
    return [(kind, job, next(iter(meant(job, spec, specs)), None)) for kind, job in named]

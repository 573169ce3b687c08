"""The count: from Slurm's own records, from what the jobs wrote themselves, and from the queue that is left."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

from tests.torture.world import World

_FIELD = re.compile(r"(\w+)=(\S+)")


@dataclass(frozen=True)
class Verdict:
    """Names of jobs, by what is wrong with them."""

    lost: tuple[str, ...]
    twice: tuple[str, ...]
    leaked: tuple[str, ...]

    @property
    def good(self) -> bool:
        return not (self.lost or self.twice or self.leaked)


def judge(world: World, wanted: set[str], unwanted: set[str], *, rerun: set[str]) -> Verdict:
    """`wanted` must have ended well once, `unwanted` at most once; `rerun` may begin again after a node was lost."""
    slurm = completed_by_slurm(world)
    begun, done = written_by_jobs(world)
    lost = {name for name in wanted if slurm[name] == 0 or done[name] == 0}
    twice = {name for name in wanted | unwanted if slurm[name] > 1 or done[name] > 1}
    twice |= {name for name in (wanted | unwanted) - rerun if begun[name] > 1}
    leaked = [line for line in world.queue() if "filler" not in line]
    return Verdict(lost=tuple(sorted(lost)), twice=tuple(sorted(twice)), leaked=tuple(leaked))


def completed_by_slurm(world: World) -> Counter[str]:
    """Return how many jobs of each name Slurm saw complete (jobcomp/filetxt: a line for every run that ended)."""
    with world.completions.open() as file:
        file.seek(world.completed_before)
        lines = [dict(_FIELD.findall(line)) for line in file]
    return Counter(line["Name"] for line in lines if line.get("JobState") == "COMPLETED")


def written_by_jobs(world: World) -> tuple[Counter[str], Counter[str]]:
    """Return how often each job began and ended, by its own account."""
    words = [line.split() for line in world.counter.read_text().splitlines()]
    return Counter(w[1] for w in words if w[0] == "begin"), Counter(w[1] for w in words if w[0] == "done")

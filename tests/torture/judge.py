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


def judge(world: World, wanted: set[str], unwanted: set[str], *, rerun: set[str], by_results: bool = False) -> Verdict:
    """`wanted` must have ended well once, `unwanted` at most once; `rerun` may begin again after a node was lost.

    `by_results`: a controller that was killed forgets what it saw, so that only what the jobs wrote is counted.
    """
    begun, done = written_by_jobs(world.counter.read_text())
    slurm = done if by_results else completed_by_slurm(world.new_completions())
    return count(wanted, unwanted, slurm, begun, done, leaked=world.of_jobs(), rerun=rerun)


def count(
    wanted: set[str],
    unwanted: set[str],
    slurm: Counter[str],
    begun: Counter[str],
    done: Counter[str],
    *,
    leaked: list[str],
    rerun: set[str],
) -> Verdict:
    """Compare what was wanted with what Slurm saw complete and what the jobs wrote themselves."""
    lost = {name for name in wanted if slurm[name] == 0 or done[name] == 0}
    twice = {name for name in wanted | unwanted if slurm[name] > 1 or done[name] > 1}
    twice |= {name for name in (wanted | unwanted) - rerun if begun[name] > 1}
    return Verdict(lost=tuple(sorted(lost)), twice=tuple(sorted(twice)), leaked=tuple(leaked))


def completed_by_slurm(lines: list[str]) -> Counter[str]:
    """Return how many jobs of each name Slurm saw complete (jobcomp/filetxt: a line for every run that ended)."""
    records = [dict(_FIELD.findall(line)) for line in lines]
    return Counter(record["Name"] for record in records if record.get("JobState") == "COMPLETED")


def written_by_jobs(text: str) -> tuple[Counter[str], Counter[str]]:
    """Return how often each job began and ended, by its own account."""
    words = [line.split() for line in text.splitlines()]
    return Counter(w[1] for w in words if w[0] == "begin"), Counter(w[1] for w in words if w[0] == "done")

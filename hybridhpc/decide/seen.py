"""What a site answered, with what follows from it and from the person's own jobs. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

from hybridhpc.schedulers.words import waits_for_limit
from hybridhpc.sites.site import InvalidSite, Site
from hybridhpc.sites.snapshot import Silence, Snapshot


def with_limits(answer: Snapshot | Silence, own_jobs: Callable[[], frozenset[str]]) -> Snapshot | Silence:
    """Say where the person's own jobs (by ref) wait for a limit of theirs, and let them stand before a new one."""
    if isinstance(answer, Silence):
        return answer
    waiting = {job.job_id for job in answer.jobs if job.line.blocked and waits_for_limit(job.line.reason)}
    own = {each for each in waiting if f"{answer.site}:{re.split('[_+]', each)[0]}" in own_jobs()}
    limited = {name for job in answer.jobs if job.job_id in own for name in job.line.partition.split(",")}
    jobs = tuple(
        replace(job, line=replace(job.line, blocked=False)) if job.job_id in own else job for job in answer.jobs
    )
    return replace(answer, jobs=jobs, limited=tuple(sorted(limited))) if own else answer


def with_own_gpu_words(site: Site | InvalidSite, answer: Snapshot | Silence | None) -> Site | InvalidSite:
    """Let a site's GPU types be asked for by their own names: Slurm tells `H100` from `h100`, people do not."""
    if not isinstance(site, Site) or not isinstance(answer, Snapshot):
        return site
    kinds = sorted({node.gpu_kind for node in answer.nodes if node.gpu_kind})
    return replace(site, gres=(*site.gres, *((kind, kind) for kind in kinds)))

"""A JobSpec and its placement become a Plan: which script, which options, from where. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hybridhpc.decide.candidate import Candidate
from hybridhpc.model import JobSpec, Retries, Script
from hybridhpc.schedulers.base import Scheduler
from hybridhpc.script.plan import Plan
from hybridhpc.script.points import points_file
from hybridhpc.script.render import render_script
from hybridhpc.sites.site import Site
from hybridhpc.sites.snapshot import Snapshot
from hybridhpc.values import dataclass

RETRIES_BY_AGENT = "`retries` beyond Slurm's own requeue are made by `hpc agent`: let it run"


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """Script and options for one candidate: enough to ask a scheduler for a start estimate."""

    script: bytes
    options: tuple[str, ...]


def at_home(spec: JobSpec, site: Site) -> bool:
    """Whether an sbatch script is submitted from its own place, untouched: a Slurm that this machine speaks to."""
    return isinstance(spec.payload, Script) and site.is_slurm and site.transport == "local"


def script_refusal(spec: JobSpec, candidate: Candidate, snapshot: Snapshot) -> str:
    """Say why an sbatch script is not sent to a candidate; empty if it may be.

    Plain sbatch would send a script that names no partition to the default one: only `--where` sends it elsewhere.
    """
    site = candidate.site
    if isinstance(spec.payload, Script) and spec.payload.calls_slurm and not site.is_slurm:
        return f"the script calls {spec.payload.calls_slurm}, which only a Slurm has"
    place = f"{site.name}/{candidate.partition}"
    if not _chooses_partition(spec, candidate, snapshot) or place in spec.where:
        return ""
    return f"the script names no partition, and this is not the default one; --where {place} sends it here"


def _chooses_partition(spec: JobSpec, candidate: Candidate, snapshot: Snapshot) -> bool:
    """Whether a script would need an option of ours to reach this partition."""
    partition = snapshot.partition(candidate.partition)
    is_script = isinstance(spec.payload, Script) and candidate.site.is_slurm
    return is_script and spec.native.partition is None and not (partition is not None and partition.default)


def draft(
    spec: JobSpec, candidate: Candidate, scheduler: Scheduler, snapshot: Snapshot, dependencies: tuple[str, ...]
) -> Draft:
    """Return what would be submitted to a candidate. An sbatch script keeps its bytes and gets the person's flags."""
    site = candidate.site
    options = (*scheduler.directives(spec, site, candidate.partition, candidate.gpus), *dependencies)
    if isinstance(spec.payload, Script):
        if not site.is_slurm:
            return Draft(script=spec.payload.content, options=(*options, *_own_places(spec.payload)))
        partition = (f"--partition={candidate.partition}",) if _chooses_partition(spec, candidate, snapshot) else ()
        return Draft(script=spec.payload.content, options=(*spec.payload.flags, *partition, *options))
    script = render_script(spec, site, candidate.partition, candidate.gpus, scheduler.name, options)
    return Draft(script=script, options=options)


def dependency_option(dependencies: Sequence[tuple[str, str, str]]) -> tuple[str, ...]:
    """Return one option for all that a job comes after (kind, site, id): of several Slurm keeps the last (22.05)."""
    words = {"start": "after"}
    jobs = ",".join(f"{words.get(kind, f'after{kind}')}:{job_id}" for kind, _, job_id in dependencies)
    return (f"--dependency={jobs}",) if jobs else ()


def _own_places(script: Script) -> tuple[str, ...]:
    """Return the options for where a script writes and works, which only sbatch reads from the script itself."""
    said = {"output": script.output, "error": script.error, "chdir": script.chdir}
    return tuple(f"--{name}={value}" for name, value in said.items() if value)


def _working_directory(script: Script, site: Site, cwd: str) -> str:
    """Return where a script is submitted from: as with sbatch the person's directory, which another machine need not
    have; there it is the one that the script or the person names for the job.
    """
    named = script.chdir or ""
    return named if site.transport != "local" and named.startswith("/") else cwd


def make_plan(spec: JobSpec, candidate: Candidate, made: Draft, usd_per_hour: float, cwd: str) -> Plan:
    """Return the Plan for a placement. `cwd` is the person's working directory, which an sbatch script keeps."""
    payload = spec.payload
    plan = Plan(
        name=spec.name,
        site=candidate.site.name,
        partition=candidate.partition,
        resources=replace(spec.resources, gpus=(candidate.gpus,) if candidate.gpus else ()),
        usd_per_hour=usd_per_hour,
        script=made.script,
        options=made.options,
        tasks=spec.array.tasks if spec.array else 1,
        spec=spec,
    )
    if isinstance(payload, Script):
        home = at_home(spec, candidate.site)
        return replace(
            plan,
            args=payload.args,
            cwd=_working_directory(payload, candidate.site, cwd),
            hold=payload.hold,
            waits=payload.waits,
            script_path=payload.path if home else None,
            marker="session" if home else "path",
        )
    notes = (RETRIES_BY_AGENT,) if payload.retries != Retries() else ()
    staged = (points_file(spec.points),) if spec.points else ()
    plan = replace(plan, notes=notes, staged=staged)
    return replace(plan, workdir=payload.workdir, outputs=payload.outputs, secrets=payload.secrets)

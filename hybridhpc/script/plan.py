"""Plan: exactly what would be submitted. The only thing client.submit accepts; printing it shows everything."""

from __future__ import annotations

from dataclasses import field

from hybridhpc.command import StagedFile
from hybridhpc.decide.promise import Promise
from hybridhpc.decide.waits import asked_of
from hybridhpc.model import JobSpec, Resources
from hybridhpc.values import dataclass

_WAITS_ELSE = ("--begin", "--dependency")
"""Options of ours that make a job wait for something else than its turn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is submitted, where and with which options. It holds no token: the same wish gives the same Plan."""

    name: str
    site: str
    partition: str
    resources: Resources
    """With the GPU alternative that was chosen, as the only one."""
    usd_per_hour: float
    """What the whole job costs per hour of running."""
    script: bytes
    """The job script, byte for byte."""
    options: tuple[str, ...]
    """The scheduler's command-line options, in order (for sbatch: before the script)."""
    args: tuple[str, ...] = ()
    """Arguments of the script."""
    script_path: str | None = None
    """Where the script lies if it is submitted from its own place (an sbatch script at home); None: staged."""
    cwd: str | None = None
    """Working directory of the submission; None: the job's own directory."""
    workdir: str | None = None
    """Local directory that is shipped to `work/` in the job's directory; None: nothing."""
    tasks: int = 1
    """How many tasks its array has."""
    outputs: tuple[str, ...] = ()
    """What `hpc fetch` brings back, relative to the directory the job runs in."""
    hold: bool = False
    """The person asked for a held job."""
    waits: bool = False
    """The person asked to wait for its end (sbatch --wait)."""
    marker: str = "path"
    """How the job is found if its id was lost: see schedulers.base.Submission."""
    staged: tuple[StagedFile, ...] = ()
    secrets: tuple[tuple[str, str], ...] = ()
    """Name and reference; a value is read when the job is sent, and is no part of the plan."""
    notes: tuple[str, ...] = ()
    """What a person should know, in sentences."""
    spec: JobSpec | None = None
    """What it was drafted from, and a new attempt is; None in ledgers of before there were new attempts."""
    promise: Promise | None = field(default=None, compare=False)
    """What was forecast for it, for the ledger; no part of what is submitted. None if its outcome would not compare."""


_OWN = ("--job-name=", "--output=", "--error=")
"""Options that two jobs may differ in and still ask for the same."""


def demand(plan: Plan) -> object:
    """Return what a job asks of its scheduler: of two that ask for the same, it accepts both or none."""
    lines = [line for line in plan.script.split(b"\n") if line.startswith(b"#SBATCH")]
    own = tuple(b"#SBATCH " + name.encode() for name in _OWN)
    return (
        plan.site,
        tuple(line for line in lines if not line.startswith(own)),
        tuple(option for option in plan.options if not option.startswith(_OWN)),
    )


def asked_for(plan: Plan, name: str) -> str | None:
    """Return the account, QOS ... that a job asks for at its site; None: the person's default there."""
    said = [option for option in plan.options if option.startswith(f"--{name}=")]
    if said:
        return said[-1].partition("=")[2]
    return getattr(plan.spec.native, name) if plan.spec else None


def is_comparable(plan: Plan) -> bool:
    """Whether a job's start can be compared with its forecast: it is not held, dependent or to begin at some time."""
    if plan.hold or (plan.spec is not None and asked_of(plan.spec).anything):
        return False
    return not any(option.startswith(_WAITS_ELSE) for option in plan.options)

"""Submitting once, alone or with others: commands for on_site/submit-once.sh and the reading of its answers. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain

from hybridhpc.command import Command, CommandResult
from hybridhpc.errors import HpcError, SchedulerError, Undecided, Unreached
from hybridhpc.schedulers import slurm_readback
from hybridhpc.schedulers.base import Submission, Submitted
from hybridhpc.schedulers.slurm_text import own_words, split_job_id

PROGRAM = "submit-once.sh"
PATIENCE = 180.0
"""Seconds for a submission: a frozen controller lets each of sbatch's, squeue's and scontrol's calls run into its own
time limit, and a second one of us waits for the first."""
_REFUSED, _UNREACHED = 65, 69
"""Exit codes of submit-once.sh that mean: nothing was submitted."""

Said = Mapping[str, Sequence[str]]
"""The lines of an answer by key."""


def command(submissions: Sequence[Submission]) -> Command:
    """Submit one job, or several; the program lies in the directory of the first."""
    first = submissions[0]
    program = ("sh", f"{first.job_dir}/{PROGRAM}")
    if len(submissions) == 1:
        how = "hold" if first.hold else "release"
        argv = (*program, first.marker, how, *_words(first))
        return Command(argv=argv, env=(("HPC_JOB_DIR", first.job_dir),), timeout=PATIENCE)
    parts = [(each.job_dir, each.marker, "trust" if each.trusted else "test", *_words(each)) for each in submissions]
    words = chain.from_iterable((str(len(part)), *part) for part in parts)
    return Command(argv=(*program, "lot", *words), timeout=PATIENCE)


def _words(wanted: Submission) -> tuple[str, ...]:
    return (wanted.cwd, wanted.script, *wanted.options, wanted.script, *wanted.args)


def parse(answer: CommandResult, submissions: Sequence[Submission]) -> tuple[Submitted | HpcError | None, ...]:
    """Read what became of each."""
    if len(submissions) > 1:
        return _lot(answer, submissions)
    try:
        job_id, said = _accepted(slurm_readback.read(answer.text), answer.exit_code, answer.complaint)
    except HpcError as error:
        return (error,)
    return (slurm_readback.submitted(job_id, said, submissions[0].options),)


def _lot(answer: CommandResult, submissions: Sequence[Submission]) -> tuple[Submitted | HpcError | None, ...]:
    told, _, shown = answer.text.partition("\nreadback\n")
    shown, _, missing_directories = shown.partition("\nmissing\n")
    parts = list(_parts(told))
    missing: tuple[Said, int] = ({}, answer.exit_code or 1)
    parts += [missing] * (len(submissions) - len(parts))
    jobs = slurm_readback.by_job(shown)
    unreached = any("unreached" in said for said, _ in parts)
    found = (
        _of_lot(said, code, wanted, jobs, unreached=unreached, complaint=answer.complaint)
        for (said, code), wanted in zip(parts, submissions, strict=False)
    )
    return tuple(_with_directory(each, missing_directories.splitlines()) for each in found)


def _with_directory(found: Submitted | HpcError | None, missing: Sequence[str]) -> Submitted | HpcError | None:
    """Add what one job alone says of the directory of its output: nothing can be written where there is none."""
    directory = found.log.rpartition("/")[0] if isinstance(found, Submitted) else ""
    if not isinstance(found, Submitted) or not directory or directory not in missing:
        return found
    return replace(found, notes=(*found.notes, f"the directory of its output does not exist here: {directory}"))


def _parts(text: str) -> Iterator[tuple[Said, int]]:
    """Yield the answer to each job, and its exit code."""
    lines: list[str] = []
    for line in text.splitlines():
        code = line.removeprefix("end=")
        if code == line:
            lines.append(line)
            continue
        yield slurm_readback.read("\n".join(lines)), int(code) if code.isdecimal() else 1
        lines = []


def _of_lot(
    said: Said, code: int, wanted: Submission, jobs: Mapping[str, list[str]], *, unreached: bool, complaint: str
) -> Submitted | HpcError | None:
    """Read what became of one of several; None if it was accepted, but not seen to be free."""
    try:
        job_id, said = _accepted(said, code, complaint)
    except HpcError as error:
        return error
    lines = jobs.get(job_id, [])
    if "held" not in said:
        return slurm_readback.submitted(job_id, said, wanted.options)
    if lines and " Reason=JobHeld" not in lines[-1]:
        return slurm_readback.submitted(job_id, {**said, "readback": lines}, wanted.options)
    if unreached:
        return Undecided(
            f"job {job_id} is submitted, but not released: the controller was not reached",
            hint="repeat the command: it releases it",
        )
    return None


def _accepted(said: Said, code: int, complaint: str) -> tuple[str, Said]:
    """Return the id of a job that was accepted. Raises SchedulerError if it was not, Undecided if that is not known."""
    words = own_words(" ".join(said.get("words", ()))) or complaint
    if code == _UNREACHED:
        raise Unreached(f"sbatch: {words}", hint="nothing was submitted: the controller was not reached")
    if code == _REFUSED:
        raise SchedulerError(f"sbatch: {words}", hint="nothing was submitted")
    job_id = split_job_id("".join(said.get("job_id", ())))
    if code or "done" not in said or job_id is None:
        why = words or f"{PROGRAM} ended with {code} and said nothing"
        raise Undecided(f"whether the job was submitted is not known: {why}", hint="repeat the command: it finds out")
    return job_id[0], said

"""Slurm's dialect, 20.11 to 26.05: commands and the reading of their answers. Pure; the promises are in docs/slurm.md.

The parts: slurm_survey (what the site has), slurm_status (what became of jobs), slurm_options (what is asked for),
slurm_states (the words), slurm_text (the spelling). Submitting once happens at the site: on_site/submit-once.sh.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping, Sequence

from hybridhpc.command import Command, CommandResult
from hybridhpc.errors import SchedulerError, Undecided
from hybridhpc.model import Gpus, JobSpec, JobStatus
from hybridhpc.schedulers import slurm_options, slurm_readback, slurm_status, slurm_survey
from hybridhpc.schedulers.base import Submission, Submitted, Taken, Withdrawal
from hybridhpc.schedulers.slurm_text import (
    SEPARATOR,
    answered,
    fields_of,
    is_unreachable,
    long_format,
    parse_time,
    split_job_id,
)
from hybridhpc.sites.site import Site
from hybridhpc.sites.snapshot import Snapshot, StartEstimate

SUBMIT_ONCE = "submit-once.sh"
WITHDRAW = "withdraw.sh"
_PATIENCE = 180.0
"""Seconds for a submission: a frozen controller lets each of sbatch's, squeue's and scontrol's calls run into its own
time limit, and a second one of us waits for the first."""
_REFUSED, _UNREACHED = 65, 69
"""Exit codes of submit-once.sh that mean: nothing was submitted."""

_RELEASE = 'sync "$@" 2>/dev/null || sync; exec scontrol --oneliner'
"""Before jobs are released their ids are brought to the disk, of all in one go. $@: their directories."""

_REMIND = """\
seen=$(scontrol --oneliner show job "$1") || exit
case $seen in
*' Reason=JobHeldUser Dependency=(null) '*' EligibleTime=Unknown '*) scontrol release "$1" && echo released ;;
esac"""
"""A job that was submitted held and never released was never eligible; one that a person holds later was (22.05 to
26.05), unless it was not looked at yet, waits for others, or has a time before which it does not begin."""

_START = re.compile(r"Job \d+ to start at (\S+)")
_LABEL = re.compile(r"\b(?:sbatch|srun|salloc): (?:error: )?|allocation failure: |Batch job submission failed: ")
_FIND_FIELDS = ("JobArrayID", "Command")


class SlurmScheduler:
    """See Scheduler. Stateless; every question is asked in a scrubbed environment."""

    name = "slurm"
    on_site: tuple[str, ...] = (SUBMIT_ONCE,)
    to_withdraw: tuple[str, ...] = (WITHDRAW,)

    def survey_commands(self, site: Site) -> tuple[Command, ...]:
        """See Scheduler.survey_commands: three commands, independent of each other."""
        return slurm_survey.survey_commands()

    def parse_survey(self, site: Site, answers: Sequence[CommandResult], *, now: float) -> Snapshot:
        """See Scheduler.parse_survey."""
        return slurm_survey.parse_survey(site.name, answers, now)

    def directives(self, spec: JobSpec, site: Site, partition: str, gpus: Gpus | None) -> tuple[str, ...]:
        """See Scheduler.directives; for an sbatch script, the differences that the site needs."""
        return slurm_options.directives(spec, site, partition, gpus)

    def start_estimate_command(self, site: Site, options: Sequence[str], script: bytes) -> Command | None:
        """See Scheduler.start_estimate_command. Consumes a job id at the site (all versions)."""
        return Command(argv=("sbatch", "--test-only", *options), stdin=script)

    def parse_start_estimate(self, answer: CommandResult) -> StartEstimate:
        """Read `sbatch: Job 4 to start at TIME using ...` (from 25.05 `TIME a using ...`) on standard error.

        An unreachable controller refuses nothing: then neither a time nor a refusal is known.
        """
        words = answer.stderr.decode("utf-8", "replace")
        if not answer.ok:
            unknown = is_unreachable(words)
            return StartEstimate(start=None, refusal="" if unknown else _own_words(words) or "sbatch refused it")
        match = _START.search(words)
        return StartEstimate(start=parse_time(match.group(1)) if match else None)

    def submit_command(self, site: Site, submission: Submission) -> Command:
        """See Scheduler.submit_command. To be run in the submission's cwd, with the person's own environment."""
        wanted = submission
        return Command(
            argv=(
                "sh",
                f"{wanted.job_dir}/{SUBMIT_ONCE}",
                wanted.marker,
                "hold" if wanted.hold else "trust" if wanted.trusted else "release",
                wanted.cwd,
                wanted.script,
                *wanted.options,
                wanted.script,
                *wanted.args,
            ),
            env=(("HPC_JOB_DIR", wanted.job_dir),),
            timeout=_PATIENCE,
        )

    def parse_submit(self, answer: CommandResult) -> Submitted:
        """See Scheduler.parse_submit."""
        said = slurm_readback.read(answer.text)
        words = _own_words(" ".join(said.get("words", ()))) or answer.complaint
        if answer.exit_code == _UNREACHED:
            raise SchedulerError(f"sbatch: {words}", hint="nothing was submitted: the controller was not reached")
        if answer.exit_code == _REFUSED:
            raise SchedulerError(f"sbatch: {words}", hint="nothing was submitted")
        job_id = split_job_id("".join(said.get("job_id", ())))
        if not answer.ok or "done" not in said or job_id is None:
            why = words or f"submit-once.sh ended with {answer.exit_code} and said nothing"
            raise Undecided(
                f"whether the job was submitted is not known: {why}", hint="repeat the command: it finds out"
            )
        return slurm_readback.submitted(job_id[0], said, _sbatch_options(answer.argv))

    def release_command(self, site: Site, answers: Sequence[CommandResult]) -> Command | None:
        """See Scheduler.release_command: one sync, then one scontrol, which releases each job and reads it back."""
        held = {job_id: answer.argv[1] for answer in answers if (job_id := _trusted_id(answer))}
        if not held:
            return None
        lines = "".join(f"release {job_id}\nshow job {job_id}\n" for job_id in held)
        argv = ("sh", "-c", _RELEASE, "sh", *map(posixpath.dirname, held.values()))
        return Command(argv=argv, stdin=lines.encode(), timeout=_PATIENCE)

    def parse_released(self, answer: CommandResult, answers: Sequence[CommandResult]) -> tuple[Submitted | None, ...]:
        """See Scheduler.parse_released. Only what was seen to be no longer held is released."""
        seen = slurm_readback.by_job(answer.text)
        found: list[Submitted | None] = []
        for each in answers:
            job_id = _trusted_id(each)
            lines = seen.get(job_id, [])
            free = bool(lines) and " Reason=JobHeld" not in lines[-1]
            said = {**slurm_readback.read(each.text), "readback": lines}
            found.append(slurm_readback.submitted(job_id, said, _sbatch_options(each.argv)) if free else None)
        return tuple(found)

    def status_commands(self, site: Site, job_ids: Sequence[str]) -> tuple[Command, ...]:
        """See Scheduler.status_commands: one squeue."""
        return slurm_status.status_commands(job_ids)

    def parse_status(self, answers: Sequence[CommandResult]) -> Mapping[str, JobStatus]:
        """See Scheduler.parse_status. Holds each task (`11_0`, `12+1`) and the whole (`11`)."""
        return slurm_status.parse_status(answers)

    def last_words_commands(self, site: Site, job_ids: Sequence[str]) -> tuple[Command, ...]:
        """See Scheduler.last_words_commands: sacct."""
        return slurm_status.last_words_commands(job_ids)

    def parse_last_words(
        self, answers: Sequence[CommandResult], submitted: Mapping[str, float]
    ) -> Mapping[str, JobStatus]:
        """See Scheduler.parse_last_words. Without accounting nothing is remembered."""
        return slurm_status.parse_last_words(answers, submitted)

    def cancel_command(self, site: Site, job_ids: Sequence[str]) -> Command:
        """See Scheduler.cancel_command."""
        return Command(argv=("scancel", *job_ids))

    def parse_cancel(self, answer: CommandResult) -> None:
        """See Scheduler.parse_cancel. scancel is silent and content about a job it does not know or that has ended."""
        answered(answer)

    def withdraw_command(self, site: Site, job_id: str, job_dir: str, restarts: int) -> Command:
        """See Scheduler.withdraw_command. `scancel --state=PENDING` filters at the client, and races (22.05)."""
        return Command(argv=("sh", f"{job_dir}/{WITHDRAW}", job_id, str(restarts)), timeout=_PATIENCE)

    def parse_withdraw(self, answer: CommandResult) -> Withdrawal:
        """See Scheduler.parse_withdraw."""
        word, _, why = answer.text.partition("\n")[0].partition(" ")
        if answer.ok and word in {each.value for each in Taken}:
            return Withdrawal(taken=Taken(word), why=why.strip())
        words = why.strip() if word == "unknown" else answer.complaint
        raise Undecided(f"whether it was taken back is not known: {words or 'no answer'}", hint="it is tried again")

    def remind_command(self, site: Site, job_id: str) -> Command | None:
        """See Scheduler.remind_command."""
        return Command(argv=("sh", "-c", _REMIND, "sh", job_id))

    def parse_remind(self, answer: CommandResult) -> bool:
        """See Scheduler.parse_remind."""
        return answered(answer).text.strip() == "released"

    def find_command(self, site: Site) -> Command:
        """See Scheduler.find_command. Only my own jobs: a token identifies, it never authorises."""
        argv = (
            "squeue",
            "--me",
            "--all",
            "--local",
            "--noheader",
            "--states=all",
            f"--Format={long_format(_FIND_FIELDS)}",
        )
        return Command(argv=argv)

    def parse_find(self, answer: CommandResult, token: str) -> tuple[str, ...]:
        """See Scheduler.parse_find.

        The command path is `JOB_ROOT/TOKEN/ATTEMPT/...`; on 22.05 it carries the arguments, too, so that a token in an
        argument must not count: a job root has no blanks in it.
        """
        mine = re.compile(rf"/\S*/{re.escape(token)}/\d+/")
        found = []
        for job, command in fields_of(answered(answer).text, len(_FIND_FIELDS)):
            job_id = split_job_id(job)
            if job_id and token and mine.match(command):
                found.append(job_id[0])
        return tuple(dict.fromkeys(found))


def _trusted_id(answer: CommandResult) -> str:
    """Return the id of a job that was submitted to the cluster that was asked; empty if there is none."""
    said = slurm_readback.read(answer.text)
    job_id = split_job_id("".join(said.get("job_id", ())))
    return job_id[0] if job_id and answer.ok and "done" in said and "cluster" not in said else ""


def _sbatch_options(argv: Sequence[str]) -> tuple[str, ...]:
    """Return the options in the arguments of submit-once.sh: what stands between its own four and the script."""
    script, rest = argv[5:6], argv[6:]
    return tuple(rest[: rest.index(script[0])]) if script and script[0] in rest else ()


def _own_words(text: str) -> str:
    """Return Slurm's words without the labels it puts before each line."""
    return " ".join(_LABEL.sub("", text.replace(SEPARATOR, " ")).split())

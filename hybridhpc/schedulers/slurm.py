"""Slurm's dialect, 20.11 to 26.05: commands and the reading of their answers. Pure; the promises are in docs/slurm.md.

The parts: slurm_survey (what the site has), slurm_submit (submitting once), slurm_status (what became of jobs),
slurm_options (what is asked for), slurm_room (how many more may be submitted), slurm_states (the words), slurm_text
(the spelling).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from hybridhpc.command import Command, CommandResult
from hybridhpc.errors import HpcError, Undecided
from hybridhpc.model import Gpus, JobSpec, JobStatus
from hybridhpc.schedulers import slurm_options, slurm_plugins, slurm_room, slurm_status, slurm_submit, slurm_survey
from hybridhpc.schedulers.base import Ceiling, Room, Submission, Submitted, Taken, Withdrawal
from hybridhpc.schedulers.slurm_text import (
    answered,
    fields_of,
    is_unreachable,
    long_format,
    own_words,
    parse_time,
    split_job_id,
)
from hybridhpc.sites.plugins import PluginOptions
from hybridhpc.sites.site import Site
from hybridhpc.sites.snapshot import Snapshot, StartEstimate

WITHDRAW = "withdraw.sh"

_REMIND = """\
seen=$(scontrol --oneliner show job "$1") || exit
case $seen in
*' Reason=JobHeldUser Dependency=(null) '*' EligibleTime=Unknown '*) scontrol release "$1" && echo released ;;
esac"""
"""A job that was submitted held and never released was never eligible; one that a person holds later was (22.05 to
26.05), unless it was not looked at yet, waits for others, or has a time before which it does not begin."""

_START = re.compile(r"Job \d+ to start at (\S+)")
_FIND_FIELDS = ("JobArrayID", "Command")


class SlurmScheduler:
    """See Scheduler. Stateless; every question is asked in a scrubbed environment."""

    name = "slurm"
    lot = 32
    on_site: tuple[str, ...] = (slurm_submit.PROGRAM,)
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
        """See Scheduler.start_estimate_command. Consumes a job id at the site (all versions).

        In the site's own zone: a time of the day in --begin is of that.
        """
        return Command(argv=("env", "-u", "TZ", "sbatch", "--test-only", *options), stdin=script)

    def parse_start_estimate(self, answer: CommandResult) -> StartEstimate:
        """Read `sbatch: Job 4 to start at TIME using ...` (from 25.05 `TIME a using ...`) on standard error.

        An unreachable controller refuses nothing: then neither a time nor a refusal is known.
        """
        words = answer.stderr.decode("utf-8", "replace")
        if not answer.ok:
            unknown = is_unreachable(words)
            return StartEstimate(start=None, refusal="" if unknown else own_words(words) or "sbatch refused it")
        match = _START.search(words)
        return StartEstimate(start=parse_time(match.group(1)) if match else None)

    def submit_command(self, site: Site, submissions: Sequence[Submission]) -> Command:
        """See Scheduler.submit_command. To be run with the person's own environment; one alone in its cwd."""
        return slurm_submit.command(submissions)

    def parse_submit(
        self, answer: CommandResult, submissions: Sequence[Submission]
    ) -> tuple[Submitted | HpcError | None, ...]:
        """See Scheduler.parse_submit."""
        return slurm_submit.parse(answer, submissions)

    def status_commands(self, site: Site, job_ids: Sequence[str]) -> tuple[Command, ...]:
        """See Scheduler.status_commands: one squeue."""
        return slurm_status.status_commands(job_ids)

    def parse_status(self, answers: Sequence[CommandResult]) -> Mapping[str, JobStatus]:
        """See Scheduler.parse_status. Holds each task (`11_0`, `12+1`) and the whole (`11`)."""
        return slurm_status.parse_status(answers)

    def clock_command(self, site: Site) -> Command | None:
        """See Scheduler.clock_command: the login node's clock, by which squeue counts TIME, too. At home it is ours."""
        return None if site.transport == "local" else Command(argv=("date", "+%s"))

    def parse_clock(self, answer: CommandResult) -> float | None:
        """See Scheduler.parse_clock."""
        return parse_time(answer.text.strip()) if answer.ok else None

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
        return Command(argv=("sh", f"{job_dir}/{WITHDRAW}", job_id, str(restarts)), timeout=slurm_submit.PATIENCE)

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

    def room_command(self, site: Site) -> Command | None:
        """See Scheduler.room_command."""
        return slurm_room.COMMAND

    def parse_room(self, answer: CommandResult, account: str | None, qos: str | None) -> Room | None:
        """See Scheduler.parse_room."""
        return slurm_room.parse_room(answer, account, qos)

    def parse_ceiling(self, answer: CommandResult, account: str | None, qos: str | None) -> Ceiling | None:
        """See Scheduler.parse_ceiling."""
        return slurm_room.parse_ceiling(answer, account, qos)

    def plugins_command(self, site: Site) -> Command | None:
        """See Scheduler.plugins_command."""
        return slurm_plugins.COMMAND

    def parse_plugins(self, answer: CommandResult) -> PluginOptions | None:
        """See Scheduler.parse_plugins."""
        return slurm_plugins.parse_plugin_options(answer.text) if answer.ok else None

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

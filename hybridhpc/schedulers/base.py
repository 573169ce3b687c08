"""The agreement a scheduler keeps: pairs of a command and the parser of its answer. Nothing here starts a process.

To add one: write a class with these methods in one file, register it in the entry-point group `hybridhpc.schedulers`,
pass tests/contract/test_scheduler.py. They are called in this order:

    survey_commands -> parse_survey       everything routing needs, in few questions (one Snapshot)
    start_estimate_command -> parse_...   the scheduler's own opinion about one job, where it has one
    directives                            the options of the job script for a spec in a partition
    submit_command -> parse_submit        submit once: repeated with the same job directory it makes no second job
    status_commands -> parse_status       all jobs of one person in one question
    clock_command -> parse_clock          by which clock those times are
    cancel_command -> parse_cancel        pending or running
    withdraw_command -> parse_withdraw    only what never began: it is held, read back, and then cancelled or let go
    find_command -> parse_find            the ids of my jobs that carry a token

A parser never raises for one bad line: that job is UNKNOWN, or absent, and the others are right. A job that is absent
from an answer is not finished: it is absent, and whoever asked must look elsewhere (`last_words_commands`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Protocol

from hybridhpc.command import Command, CommandResult
from hybridhpc.errors import HpcError
from hybridhpc.model import Gpus, JobSpec, JobStatus, Seconds
from hybridhpc.sites.plugins import PluginOptions
from hybridhpc.sites.site import Site
from hybridhpc.sites.snapshot import Snapshot, StartEstimate
from hybridhpc.values import dataclass

SAME_CLOCK = 10.0
"""Seconds by which two clocks may seem to differ for the time that an answer takes."""
SAME_MOMENT = 1.5
"""Seconds by which a scheduler may tell the moment of a submission differently: it counts whole ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """What a scheduler needs to submit a Plan whose files lie in the job's directory already. Absolute paths."""

    token: str
    job_dir: str
    """`job_root/TOKEN/ATTEMPT`, 0700; in the job's environment as HPC_JOB_DIR."""
    script: str
    options: tuple[str, ...]
    args: tuple[str, ...]
    cwd: str
    hold: bool = False
    """The person wants it held: it is not released."""
    trusted: bool = False
    """One that asks for the same was just accepted: the scheduler's opinion need not be asked first."""
    marker: str = "path"
    """How it is found if its id was lost: `path` (the script lies in the job's directory) or `session` (sbatch led a
    session of its own, whose id was recorded before)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Submitted:
    """What the scheduler made of a Submission."""

    job_id: str
    log: str = ""
    """Path pattern of its output in Slurm's spelling, absolute; may hold %j, %A, %a."""
    notes: tuple[str, ...] = ()
    """What the site changed or could not promise, in sentences."""
    submitted_at: float | None = None
    """By the site's clock, which may differ from ours: with it a job is told from a later one of the same id."""


class Taken(Enum):
    """What became of the wish to take a pending job back."""

    BACK = "taken"
    """It is cancelled now, and nothing of it ever began."""
    EARLIER = "earlier"
    """It was cancelled before, and nothing of it ever began."""
    STAYS = "stays"
    """It has begun, and goes on."""
    ABSENT = "absent"
    """The scheduler does not know it."""
    UNABLE = "unable"
    """This site has no way to do that safely: it stays."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdrawal:
    """What became of it, and why, in the site's words."""

    taken: Taken
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """How many more jobs a scheduler lets a person submit now, tasks of an array counted, and by which limit."""

    jobs: int
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceiling:
    """The longest walltime that accounting allows a job, and whose limit that is."""

    walltime: Seconds
    whose: str


class Scheduler(Protocol):
    """A dialect."""

    name: str
    """Whose job scripts its jobs have: `slurm` or `here`. Site files know it by the name of its entry point."""
    lot: int
    """How many jobs one submit command may submit."""
    on_site: tuple[str, ...]
    """Files of hybridhpc/on_site/ that its submit command needs in the job's directory."""
    to_withdraw: tuple[str, ...]
    """Those that its withdraw command needs there."""

    def survey_commands(self, site: Site) -> tuple[Command, ...]:
        """Return the questions whose answers make a Snapshot."""
        ...

    def parse_survey(self, site: Site, answers: Sequence[CommandResult], *, now: float) -> Snapshot:
        """Read the answers, in the order of the questions. Raises SchedulerError if the scheduler cannot be asked."""
        ...

    def directives(self, spec: JobSpec, site: Site, partition: str, gpus: Gpus | None) -> tuple[str, ...]:
        """Return the options of the job script (`--nodes=2` ...) for a YAML spec."""
        ...

    def start_estimate_command(self, site: Site, options: Sequence[str], script: bytes) -> Command | None:
        """Ask when such a job would start; None if the scheduler has no such question."""
        ...

    def parse_start_estimate(self, answer: CommandResult) -> StartEstimate:
        """Read that answer; a refusal is a value, not an error."""
        ...

    def submit_command(self, site: Site, submissions: Sequence[Submission]) -> Command:
        """Submit once: hold, record the id durably, read back, release. Repeating it is harmless.

        Several at a time, up to `lot`, must be fresh.
        """
        ...

    def parse_submit(
        self, answer: CommandResult, submissions: Sequence[Submission]
    ) -> tuple[Submitted | HpcError | None, ...]:
        """Read what became of each.

        SchedulerError: the scheduler refused it, nothing was submitted. Undecided: that cannot be known. None, of
        several: it is to be submitted again by itself, which is harmless and finds out.
        """
        ...

    def status_commands(self, site: Site, job_ids: Sequence[str]) -> tuple[Command, ...]:
        """Ask for these jobs, in as few commands as the scheduler allows."""
        ...

    def parse_status(self, answers: Sequence[CommandResult]) -> Mapping[str, JobStatus]:
        """Read what is known; a job that is not in the answer is not in the mapping."""
        ...

    def clock_command(self, site: Site) -> Command | None:
        """Ask what time it is where these jobs' times are told; None: this machine's own clock tells them."""
        ...

    def parse_clock(self, answer: CommandResult) -> float | None:
        """Read it, in seconds since the epoch; None if that is no time."""
        ...

    def last_words_commands(self, site: Site, job_ids: Sequence[str]) -> tuple[Command, ...]:
        """Ask where finished jobs are remembered (accounting), for jobs that `status` no longer knows."""
        ...

    def parse_last_words(
        self, answers: Sequence[CommandResult], submitted: Mapping[str, float]
    ) -> Mapping[str, JobStatus]:
        """Read what is remembered."""
        ...

    def cancel_command(self, site: Site, job_ids: Sequence[str]) -> Command:
        """Cancel jobs, whether pending or running."""
        ...

    def parse_cancel(self, answer: CommandResult) -> None:
        """Raises SchedulerError with the scheduler's own words if it refused."""
        ...

    def withdraw_command(self, site: Site, job_id: str, job_dir: str, restarts: int) -> Command:
        """Take a pending job back if nothing of it ever began. Repeating it is harmless, wherever it was cut.

        `restarts`: how often its scheduler had requeued it when that was decided.
        """
        ...

    def parse_withdraw(self, answer: CommandResult) -> Withdrawal:
        """Read what became of it. Raises Undecided if that cannot be known now: till it is repeated it may be held."""
        ...

    def remind_command(self, site: Site, job_id: str) -> Command | None:
        """Release a job that was released and is held, if its scheduler has forgotten that; None: this one never does.

        It is not released if a person may have held it since.
        """
        ...

    def parse_remind(self, answer: CommandResult) -> bool:
        """Return whether it was released."""
        ...

    def room_command(self, site: Site) -> Command | None:
        """Ask how many more jobs the person may submit; None: nothing limits that."""
        ...

    def parse_room(self, answer: CommandResult, account: str | None, qos: str | None) -> Room | None:
        """Read what is left for jobs of an account and QOS (None: the person's default); None: no limit is known."""
        ...

    def parse_ceiling(self, answer: CommandResult, account: str | None, qos: str | None) -> Ceiling | None:
        """Read from the answer to `room_command` what a job may ask for; None: no limit is known."""
        ...

    def plugins_command(self, site: Site) -> Command | None:
        """Ask which options plugins add to what submits; None if this scheduler has no plugins."""
        ...

    def parse_plugins(self, answer: CommandResult) -> PluginOptions | None:
        """Read them; None if the answer is none."""
        ...

    def find_command(self, site: Site) -> Command:
        """List my jobs with what could carry a token (the path of the script)."""
        ...

    def parse_find(self, answer: CommandResult, token: str) -> tuple[str, ...]:
        """Return the ids of the jobs that carry the token. Raises SchedulerError if it could not be asked."""
        ...

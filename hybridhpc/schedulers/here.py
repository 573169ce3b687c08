"""The dialect of the embedded site: commands for hybridhpc.here on this machine and the reading of its JSON. PURE."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from hybridhpc.command import Command, CommandResult
from hybridhpc.errors import HpcError, SchedulerError, Undecided
from hybridhpc.model import Gpus, JobSpec, JobState, JobStatus, Mebibytes, Seconds, Work
from hybridhpc.schedulers.base import Submission, Submitted, Taken, Withdrawal
from hybridhpc.schedulers.fold import fold
from hybridhpc.schedulers.words import stuck
from hybridhpc.sites.plugins import PluginOptions
from hybridhpc.sites.site import Site
from hybridhpc.sites.snapshot import Node, QueuedJob, QueueLine, QueuePartition, Snapshot, StartEstimate

PARTITION = "local"
COMMAND = (sys.executable, "-P", "-m", "hybridhpc.here")
"""What every command begins with."""
_MAX_ARRAY_SIZE = 10_001
_REFUSED = 3
_PATTERNS = {True: ("%j.log", "%A_%a.log"), False: ("slurm-%j.out", "slurm-%A_%a.out")}
_MAY_BE_STUCK = {JobState.PENDING.value, JobState.CANCELLED.value}
_TAKEN = {
    Taken.BACK: "it was cancelled before it began",
    Taken.EARLIER: "it was cancelled before it began",
    Taken.STAYS: "it has begun",
    Taken.ABSENT: "it is unknown here",
    Taken.UNABLE: "",
}
_PASSED_ON = ("error", "output", "signal")


class HereScheduler:
    """The embedded site. Its commands are quick, repair what they find broken, and may be repeated."""

    name = "here"
    lot = 1
    on_site: tuple[str, ...] = ()
    to_withdraw: tuple[str, ...] = ()

    def survey_commands(self, site: Site) -> tuple[Command, ...]:
        """Ask for the machine and its queue at once."""
        return (_command(site, "survey"),)

    def parse_survey(self, site: Site, answers: Sequence[CommandResult], *, now: float) -> Snapshot:
        """Read the machine as one node of the partition `local`. Raises SchedulerError."""
        facts = _object(answers[0])
        try:
            node = _node(facts)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise SchedulerError(f"the survey of this machine cannot be read: {error!r}") from error
        partition = QueuePartition(
            name=PARTITION,
            default=True,
            default_memory_per_cpu=Mebibytes(node.memory // max(node.cpus, 1)),
        )
        return Snapshot(
            site=site.name,
            taken_at=now,
            version=str(facts.get("version", "")),
            partitions=(partition,),
            nodes=(node,),
            jobs=tuple(job for job in map(_queued, facts.get("jobs", ())) if job),
            max_array_size=_MAX_ARRAY_SIZE,
        )

    def directives(self, spec: JobSpec, site: Site, partition: str, gpus: Gpus | None) -> tuple[str, ...]:
        """Spell a spec as options of `submit`. Dependencies are added by whoever knows the job ids."""
        asked = spec.resources
        wanted: list[tuple[str, object]] = [
            ("name", spec.name),
            ("cpus", asked.cpus),
            ("memory", asked.memory),
            ("gpus", _gpus(site, gpus)),
            ("walltime", asked.walltime),
            ("array", spec.array.text if spec.array else None),
            ("output", _PATTERNS[isinstance(spec.payload, Work)][spec.array is not None]),
        ]
        if isinstance(spec.payload, Work):
            wanted += _work_options(spec.payload)
        options = tuple(f"--{name}={value}" for name, value in wanted if value is not None)
        return (*options, "--exclusive") if asked.whole_nodes else options

    def start_estimate_command(self, site: Site, options: Sequence[str], script: bytes) -> Command | None:
        """Return None: our own backfill over the snapshot knows as much."""
        return None

    def parse_start_estimate(self, answer: CommandResult) -> StartEstimate:
        """Return that nothing is known."""
        return StartEstimate(start=None)

    def submit_command(self, site: Site, submissions: Sequence[Submission]) -> Command:
        """Submit one; token and attempt make it the same job if repeated."""
        (submission,) = submissions
        options = (
            f"--token={submission.token}",
            f"--attempt={submission.job_dir.rstrip('/').rpartition('/')[2]}",
            f"--job-dir={submission.job_dir}",
            f"--chdir={submission.cwd}",
            *submission.options,
            *(("--hold",) if submission.hold else ()),
        )
        return _command(site, "submit", *options, "--", submission.script, *submission.args)

    def parse_submit(self, answer: CommandResult, submissions: Sequence[Submission]) -> tuple[Submitted | HpcError]:
        """Read the job's id."""
        if answer.exit_code == _REFUSED:
            return (SchedulerError(answer.complaint),)
        try:
            facts = _object(answer)
            return (Submitted(job_id=str(facts["job_id"]), log=str(facts["log"])),)
        except (SchedulerError, KeyError):
            return (
                Undecided(
                    f"whether the job was submitted here is not known: {answer.complaint or 'no answer'}",
                    hint="submit again: that is harmless, the same job is found by its token",
                ),
            )

    def status_commands(self, site: Site, job_ids: Sequence[str]) -> tuple[Command, ...]:
        """Ask for all of these jobs at once."""
        return (_command(site, "status", *job_ids),) if job_ids else ()

    def parse_status(self, answers: Sequence[CommandResult]) -> Mapping[str, JobStatus]:
        """Read the jobs; an array is there as `12_0`, `12_1` ... and folded as `12`."""
        found: dict[str, JobStatus] = {}
        for answer in answers:
            for asked, rows in _object(answer).items():
                tasks = [_status(row, asked) for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
                found.update({task.job_id: task for task in tasks})
                if asked not in found:
                    unread = JobStatus(job_id=asked, state=JobState.UNKNOWN, native_state="")
                    found[asked] = fold(tasks) or unread
        return found

    def clock_command(self, site: Site) -> None:
        """See Scheduler.clock_command: it is this machine."""

    def parse_clock(self, answer: CommandResult) -> None:
        """See Scheduler.parse_clock."""

    def last_words_commands(self, site: Site, job_ids: Sequence[str]) -> tuple[Command, ...]:
        """Return none: nothing is forgotten here."""
        return ()

    def parse_last_words(
        self, answers: Sequence[CommandResult], submitted: Mapping[str, float]
    ) -> Mapping[str, JobStatus]:
        """Return nothing."""
        return {}

    def cancel_command(self, site: Site, job_ids: Sequence[str]) -> Command:
        """Cancel jobs, arrays (`12`) or single tasks (`12_3`)."""
        return _command(site, "cancel", *job_ids)

    def parse_cancel(self, answer: CommandResult) -> None:
        """Raise SchedulerError if a job is unknown."""
        _object(answer)

    def withdraw_command(self, site: Site, job_id: str, job_dir: str, restarts: int) -> Command:
        """See Scheduler.withdraw_command: one transaction of the slot keeper."""
        return _command(site, "withdraw", job_id)

    def parse_withdraw(self, answer: CommandResult) -> Withdrawal:
        """See Scheduler.parse_withdraw."""
        try:
            taken = Taken(_object(answer).get("taken"))
        except (SchedulerError, ValueError) as error:
            raise Undecided(f"whether it was taken back is not known: {error}", hint="it is tried again") from error
        return Withdrawal(taken=taken, why=_TAKEN[taken])

    def remind_command(self, site: Site, job_id: str) -> None:
        """See Scheduler.remind_command: what is released here is on the disk."""

    def parse_remind(self, answer: CommandResult) -> bool:
        """See Scheduler.parse_remind."""
        return False

    def room_command(self, site: Site) -> None:
        """See Scheduler.room_command: nothing limits it."""

    def parse_room(self, answer: CommandResult, account: str | None, qos: str | None) -> None:
        """See Scheduler.parse_room."""

    def parse_ceiling(self, answer: CommandResult, account: str | None, qos: str | None) -> None:
        """See Scheduler.parse_ceiling."""

    def plugins_command(self, site: Site) -> None:
        """See Scheduler.plugins_command: there are none."""

    def parse_plugins(self, answer: CommandResult) -> PluginOptions:
        """See Scheduler.parse_plugins."""
        return ()

    def find_command(self, site: Site) -> Command:
        """Ask for the token of every job."""
        return _command(site, "find")

    def parse_find(self, answer: CommandResult, token: str) -> tuple[str, ...]:
        """Read the ids of the jobs with a token. Raises SchedulerError."""
        tokens = _object(answer).get("tokens")
        if not isinstance(tokens, dict):
            raise SchedulerError(f"the answer of `here` cannot be read: {answer.text[:200]}")
        return tuple(job for job, found in tokens.items() if found == token)


def _command(site: Site, verb: str, *words: str) -> Command:
    return Command(argv=(*COMMAND, verb, f"--root={site.job_root}", *words))


def _object(answer: CommandResult) -> dict[str, Any]:
    """Return the JSON object of an answer. Raises SchedulerError with the complaint if there is none."""
    if not answer.ok:
        raise SchedulerError(answer.complaint or f"`here` ended with exit code {answer.exit_code}")
    try:
        facts = json.loads(answer.text)
    except (ValueError, RecursionError):
        facts = None
    if not isinstance(facts, dict):
        raise SchedulerError(f"the answer of `here` cannot be read: {answer.text[:200]!r}")
    return facts


def _gpus(site: Site, gpus: Gpus | None) -> str | None:
    if gpus is None or gpus.count == 0:
        return None
    return f"{site.native_gpu(gpus.kind)}:{gpus.count}" if gpus.kind else str(gpus.count)


def _work_options(work: Work) -> list[tuple[str, object]]:
    """Spell what only a YAML spec says; native options win, since the last of equal options does."""
    native = [(name, value) for name, value in work.slurm if name in _PASSED_ON]
    warning = f"B:{work.checkpoint.signal}@{work.checkpoint.grace}" if work.checkpoint else None
    return [("ntasks", work.tasks_per_node), ("signal", warning), *native]


def _node(facts: Mapping[str, Any]) -> Node:
    kinds = [str(kind) for kind in facts["gpus"]]
    return Node(
        name=str(facts["host"]),
        partitions=(PARTITION,),
        native_state="up",
        usable=True,
        cpus=int(facts["cpus"]),
        cpus_alloc=int(facts["cpus_taken"]),
        memory=Mebibytes(int(facts["memory"])),
        memory_alloc=Mebibytes(int(facts["memory_taken"])),
        gpu_kind=kinds[0] if len(set(kinds)) == 1 else None,
        gpus=len(kinds),
        gpus_alloc=int(facts["gpus_taken"]),
    )


def _queued(row: Mapping[str, Any]) -> QueuedJob | None:
    """Read one job of the survey; None if it cannot be read."""
    try:
        return QueuedJob(
            job_id=str(row["id"]),
            line=QueueLine(
                partition=PARTITION,
                state=JobState(row["state"]),
                cpus=int(row["cpus"]),
                memory=Mebibytes(int(row["memory"])),
                gpus=int(row["gpus"]),
                gpu_kind=row["gpu_kind"],
                walltime=None if row["walltime"] is None else Seconds(int(row["walltime"])),
                started_at=row["started_at"],
                node_names=(str(row["node"]),) if row["node"] else (),
                reason=str(row["reason"]),
                tasks=int(row["tasks"]),
                blocked=bool(row["blocked"]),
            ),
        )
    except (KeyError, TypeError, ValueError, OverflowError):
        return None


def _status(row: Mapping[str, Any], asked: str) -> JobStatus:
    """Read one task; UNKNOWN if it cannot be read."""
    try:
        return JobStatus(
            job_id=str(row["id"]),
            state=JobState(row["state"]),
            native_state=str(row["state"]),
            reason=str(row["reason"]),
            submitted_at=row["submitted_at"],
            started_at=row["started_at"],
            ended_at=row["ended_at"],
            exit_code=row["exit_code"],
            signal=row["signal"],
            nodes=str(row["node"]),
            stuck=stuck(str(row["reason"])) if row["state"] in _MAY_BE_STUCK else None,
        )
    except (KeyError, TypeError, ValueError, OverflowError):
        native = str(row.get("state", ""))
        return JobStatus(job_id=str(row.get("id", asked)), state=JobState.UNKNOWN, native_state=native)

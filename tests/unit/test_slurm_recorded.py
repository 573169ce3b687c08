"""What real Slurms answered (tests/recorded/slurm, recorded by record.sh): every version is read alike."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from hybridhpc.command import CommandResult
from hybridhpc.model import JobState, JobStatus
from hybridhpc.schedulers import slurm_status, slurm_survey
from hybridhpc.schedulers.base import Submission, Submitted
from hybridhpc.schedulers.slurm import SlurmScheduler
from hybridhpc.schedulers.slurm_text import long_format
from hybridhpc.sites.site import Site
from hybridhpc.sites.snapshot import Snapshot

FOLDER = Path(__file__).parents[1] / "recorded"
NAMES = (
    "timeout", "three", "killed", "fine", "again", "array", "het", "cancelled", "never", "evil", "throttled", "stepped",
    "split", "per_node", "per_task", "per_job", "gres", "dependent", "hopeless", "later", "either", "suspended",
)  # fmt: skip
DIALECT = SlurmScheduler()
SITE = Site(name="lab", file=None, scheduler="slurm", transport="local")
SUBMISSION = Submission(
    token="t" * 20, job_dir="/jobs/t/1", script="/jobs/t/1/script", options=(), args=(), cwd="/jobs/t/1"
)


@dataclass(frozen=True)
class Recording:
    """The answers of one version by question, and the job ids of record.sh by name."""

    version: str
    jobs: dict[str, str]
    answers: dict[str, CommandResult]

    def __getitem__(self, question: str) -> CommandResult:
        return self.answers[question]

    def status(self) -> dict[str, JobStatus]:
        return dict(DIALECT.parse_status([self["status"]]))

    def survey(self, nodes: str = "survey-nodes") -> Snapshot:
        return DIALECT.parse_survey(SITE, [self["survey-jobs"], self[nodes], self["survey-limits"]], now=0.0)


def load(path: Path) -> Recording:
    first, *parts = re.split(r"^#### (\S+) (\d+)\n", path.read_text(), flags=re.MULTILINE)
    ids = dict(zip(NAMES, first.partition("jobs:")[2].split(), strict=True))
    answers = {}
    for name, code, text in zip(parts[::3], parts[1::3], parts[2::3], strict=True):
        out, err = re.split(r"^####\n", text, maxsplit=1, flags=re.MULTILINE)
        answers[name] = CommandResult(argv=(name,), exit_code=int(code), stdout=out.encode(), stderr=err.encode())
    return Recording(version=path.stem, jobs=ids, answers=answers)


RECORDINGS = [load(path) for path in sorted((FOLDER / "slurm").glob("*.txt"))]


@pytest.fixture(params=RECORDINGS, ids=lambda recording: recording.version)
def recorded(request: pytest.FixtureRequest) -> Recording:
    return request.param  # type: ignore[no-any-return]


def test_the_questions_recorded_are_the_questions_asked() -> None:
    script = (FOLDER / "record.sh").read_text().replace("$US", "\x1f")
    for names in (slurm_survey.JOB_FIELDS, slurm_survey.NODE_FIELDS, slurm_status.MEMORY_FIELDS):
        assert long_format(names) in script
    assert f"--format={','.join(slurm_status.HISTORY_FIELDS)}" in script
    assert DIALECT.find_command(SITE).argv[-1].removeprefix("--Format=") in script
    asked = [*DIALECT.survey_commands(SITE), *DIALECT.status_commands(SITE, ["1"]), DIALECT.find_command(SITE)]
    for command in asked[:2] + asked[3:]:
        words = [word for word in command.argv if "ormat=" not in word and not word.startswith("--jobs=")]
        assert " ".join(words) in script.replace(' --jobs="$all"', "")


def test_states_in_memory(recorded: Recording) -> None:
    found, jobs = recorded.status(), recorded.jobs
    states = {name: found[job].state for name, job in jobs.items()}
    assert states == {
        "timeout": JobState.TIMEOUT, "three": JobState.FAILED, "killed": JobState.FAILED, "fine": JobState.COMPLETED,
        "again": JobState.RUNNING, "array": JobState.FAILED, "het": JobState.FAILED, "cancelled": JobState.CANCELLED,
        "never": JobState.CANCELLED, "evil": JobState.RUNNING, "throttled": JobState.RUNNING,
        "stepped": JobState.PENDING, "split": JobState.RUNNING, "per_node": JobState.PENDING,
        "per_task": JobState.RUNNING, "per_job": JobState.PENDING, "gres": JobState.PENDING,
        "dependent": JobState.PENDING, "hopeless": JobState.PENDING, "later": JobState.PENDING,
        "either": JobState.PENDING, "suspended": JobState.SUSPENDED,
    }  # fmt: skip


def test_ends_in_memory(recorded: Recording) -> None:
    found, jobs = recorded.status(), recorded.jobs
    assert (found[jobs["three"]].exit_code, found[jobs["three"]].signal) == (3, None)
    assert (found[jobs["killed"]].exit_code, found[jobs["killed"]].signal) == (None, 9)
    assert (found[jobs["fine"]].exit_code, found[jobs["fine"]].signal) == (0, None)
    assert found[jobs["again"]].restarts == 1
    never = found[jobs["never"]]
    assert never.started_at is None and never.ended_at is not None
    ran = found[jobs["cancelled"]]
    assert ran.started_at is not None and ran.ended_at is not None and ran.submitted_at is not None
    assert ran.submitted_at <= ran.started_at <= ran.ended_at
    assert found[f"{jobs['array']}_2"].exit_code == 3 and found[f"{jobs['het']}+1"].exit_code == 3
    assert found[jobs["evil"]].nodes and found[jobs["evil"]].reason == ""
    assert [found[f"{jobs['throttled']}_{n}"].state for n in (0, 2, 5)] == [JobState.RUNNING, *[JobState.PENDING] * 2]
    assert sum(job.startswith(f"{jobs['stepped']}_") for job in found) == 100


def test_unknown_jobs_are_absent(recorded: Recording) -> None:
    assert DIALECT.parse_status([recorded["status-unknown"]]) == {}
    assert DIALECT.parse_status([recorded["status-two-unknown"]]) == {}
    assert DIALECT.parse_last_words([recorded["last-words-unknown"]], {}) == {}
    DIALECT.parse_cancel(recorded["cancel-unknown"])


def test_accounting_remembers_the_same(recorded: Recording) -> None:
    memory, history = recorded.status(), DIALECT.parse_last_words([recorded["last-words"]], {})
    for name, job in recorded.jobs.items():
        assert history[job].state is memory[job].state, name
        assert history[job].submitted_at == memory[job].submitted_at, name
        if name not in ("timeout", "cancelled"):
            # Of those two squeue knows the signal they were sent, and sacct how the script ended.
            assert (history[job].exit_code, history[job].signal) == (memory[job].exit_code, memory[job].signal), name


def test_the_queue(recorded: Recording) -> None:
    names = {job: name for name, job in recorded.jobs.items()}
    snapshot = recorded.survey()
    queue = {names[job.job_id.partition("_")[0]]: job for job in snapshot.jobs if "_1" not in job.job_id[-2:]}
    assert {name: job.line.gpus for name, job in queue.items() if job.line.gpus} == {
        "per_node": 4, "per_task": 6, "per_job": 3, "gres": 4,
    }  # fmt: skip
    assert queue["per_node"].line.gpu_kind == "h100" and queue["per_node"].line.nodes == 2
    assert queue["per_task"].line.cpus == 24 and queue["gres"].line.memory == 20
    tasks = {names[job.job_id.partition("_")[0]]: job.line.tasks for job in snapshot.jobs if job.line.tasks > 1}
    assert tasks == {"throttled": 4, "stepped": 100, "split": 2}
    blocked = {name for name, job in queue.items() if job.line.blocked}
    assert blocked >= {"per_node", "per_job", "gres", "dependent", "hopeless", "later", "either", "stepped"}
    assert not blocked & {"evil", "per_task", "again"}
    assert queue["either"].line.partition == "batch,all"
    assert queue["suspended"].line.state is JobState.SUSPENDED
    assert [name for name, job in queue.items() if job.line.whole] == ["later"]
    assert all(job.line.walltime == 3600 for job in snapshot.jobs)
    runs = [job.line for job in snapshot.jobs if job.line.state is JobState.RUNNING]
    assert runs and all(line.node_names and line.started_at for line in runs)


def test_the_nodes_and_partitions(recorded: Recording) -> None:
    snapshot = recorded.survey()
    assert [node.name for node in snapshot.nodes] == ["dgx1", "dgx2"]
    assert all((node.gpu_kind, node.gpus, node.cpus) == ("h100", 8, 112) and node.usable for node in snapshot.nodes)
    assert sum(node.gpus_alloc for node in snapshot.nodes) == 6
    assert all(node.features == ("nvlink", "ib") for node in snapshot.nodes)
    assert all(set(node.partitions) == {"batch", "all"} for node in snapshot.nodes)
    batch, every = sorted(snapshot.partitions, key=lambda partition: not partition.default)
    assert (batch.name, batch.max_walltime, batch.default_walltime, batch.exclusive) == ("batch", 604800, 3600, False)
    assert (every.max_nodes, every.exclusive, every.allowed_accounts) == (3, True, ("ml", "proj"))
    assert (snapshot.version, snapshot.max_array_size, snapshot.unseen) == (recorded.version, 10001, ())


def test_drained_and_down_nodes_cannot_be_used(recorded: Recording) -> None:
    for question in ("drained-nodes", "down-nodes"):
        states = {node.name: (node.usable, node.native_state) for node in recorded.survey(question).nodes}
        assert states["dgx1"][0] and not states["dgx2"][0], (question, states)


def test_estimates(recorded: Recording) -> None:
    assert (DIALECT.parse_start_estimate(recorded["estimate"]).start or 0) > 1.7e9
    refused = DIALECT.parse_start_estimate(recorded["estimate-refused"])
    assert (refused.start, refused.refusal) == (None, "Requested node configuration is not available")
    nowhere = DIALECT.parse_start_estimate(recorded["estimate-no-partition"])
    assert nowhere.start is None and "nvalid partition" in nowhere.refusal


def test_finding_reads_what_every_version_says_of_the_command(recorded: Recording) -> None:
    found = recorded["find"].text
    assert f"{recorded.jobs['three']}\x1f" in found and "/three.sh" in found
    token = found.split("/three.sh")[0].rsplit("/", 1)[1]
    assert DIALECT.parse_find(recorded["find"], token) == ()
    lines = recorded["find"].stdout.replace(b"/tmp/", b"/jobs/").replace(b"/three.sh", b"/1/three.sh")
    moved = CommandResult(argv=("squeue",), exit_code=0, stdout=lines, stderr=b"")
    assert recorded.jobs["three"] in DIALECT.parse_find(moved, token)


def test_a_job_is_read_back(recorded: Recording) -> None:
    lines = "".join(f"readback={line}\n" for line in recorded["readback"].text.splitlines())
    answer = CommandResult(
        argv=(), exit_code=0, stdout=f"job_id={recorded.jobs['split']}\n{lines}done\n".encode(), stderr=b""
    )
    (submitted,) = DIALECT.parse_submit(answer, [SUBMISSION])
    assert isinstance(submitted, Submitted)
    assert submitted.job_id == recorded.jobs["split"] and submitted.notes == ()
    assert submitted.log.endswith((f"/slurm-{submitted.job_id}_%a.out", f"/slurm-{submitted.job_id}_2.out"))

"""Submitting once, on a real Slurm: the person's job unchanged, one job however often and wherever it was killed."""

from __future__ import annotations

import os
import random
import re
import secrets
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from hybridhpc.command import CommandResult
from hybridhpc.errors import SchedulerError, Undecided, Unreached
from hybridhpc.model import JobState
from hybridhpc.schedulers.base import Submission, Submitted
from hybridhpc.schedulers.slurm import SlurmScheduler
from hybridhpc.schedulers.slurm_submit import PROGRAM
from hybridhpc.sites.site import Site
from hybridhpc.transports.local import LocalTransport
from tests.lab.lab import Lab
from tests.lab.running import wait

pytestmark = pytest.mark.lab

DIALECT = SlurmScheduler()
SOURCE = Path(__file__).parents[2] / "hybridhpc" / "on_site" / PROGRAM
SMALL = ("--mem=1M", "--time=5")
MARKERS = ("path", "session")
SHELLS = [shell for shell in (["dash"], ["bash"], ["busybox", "sh"]) if shutil.which(shell[0])] or [["sh"]]
KILLS = 60
RAN = '#!/bin/sh\necho ran >>"$HPC_JOB_DIR/ran"\n'
SLEEPS = "#!/bin/sh\nsleep 300\n"


class Desk:
    """A person at the head node: their working directory, their job directories, their environment."""

    def __init__(self, lab: Lab, home: Path) -> None:
        self.lab, self.home = lab, home
        self.site = Site(
            name="lab", file=None, scheduler="slurm", transport="local", slurm_conf=str(lab.cluster.slurm_conf)
        )
        self.env = {"PATH": os.environ["PATH"], "HOME": str(home), "SLURM_CONF": str(lab.cluster.slurm_conf)}
        self.ids: list[str] = []

    def prepare(self, script: str, *options: str, marker: str = "path", hold: bool = False) -> Submission:
        """Stage a job as the client does; with `path` its script lies in the job's directory, else in the person's."""
        token = secrets.token_hex(8)
        job_dir = self.home / "jobs" / token / "1"
        job_dir.mkdir(parents=True)
        shutil.copy(SOURCE, job_dir / PROGRAM)
        place = job_dir if marker == "path" else self.home / token
        place.mkdir(exist_ok=True)
        (place / "job.sh").write_text(script)
        return Submission(
            token=token,
            job_dir=str(job_dir),
            script=str(place / "job.sh"),
            options=options,
            args=(),
            cwd=str(place),
            hold=hold,
            marker=marker,
        )

    def run(self, submission: Submission, **env: str) -> CommandResult:
        """Run submit-once as the client does, and answer what it answered."""
        transport = LocalTransport(self.site, {**self.env, **env})
        return transport.run(DIALECT.submit_command(self.site, [submission]), cwd=submission.cwd, scrubbed=False)

    def read(self, answer: CommandResult, submission: Submission) -> Submitted:
        """What became of it, or its error."""
        (told,) = DIALECT.parse_submit(answer, [submission])
        if isinstance(told, Submitted):
            return told
        assert told is not None
        raise told

    def submit(self, submission: Submission, **env: str) -> Submitted:
        """Submit, and remember the id for the clearing away."""
        submitted = self.read(self.run(submission, **env), submission)
        self.ids.append(submitted.job_id)
        return submitted

    def slurm(self, *argv: str, check: bool = True) -> str:
        """Run one of Slurm's commands."""
        return self.lab.run(*argv, check=check)

    def copies(self, submission: Submission) -> dict[str, str]:
        """The jobs of this script that were not cancelled: id and state."""
        lines = self.slurm("squeue", "-h", "-t", "all", "-o", "%F|%T|%o").splitlines()
        found = (line.split("|", 2) for line in lines)
        return {job: state for job, state, command in found if command == submission.script and state != "CANCELLED"}

    def state(self, job_id: str) -> str:
        """A job's state and reason as Slurm says them."""
        return self.slurm("squeue", "-h", "-t", "all", "-j", job_id, "-o", "%T %r").strip()

    def show(self, job_id: str) -> list[str]:
        """All that Slurm knows of a job, less what must differ: id, times, and the session it was sent from."""
        text = self.slurm("scontrol", "--oneliner", "show", "job", job_id)
        text = re.sub(rf"(?<=JobId=|slurm-){job_id}\b", "ID", text)
        text = re.sub(r"(\w*Time|LastSchedEval)=\S+", "", text)
        return re.sub(r"AllocNode:Sid=\S+", "", text).split()

    def clear(self) -> None:
        """Cancel what was submitted here."""
        if self.ids:
            self.slurm("scancel", *self.ids, check=False)


@pytest.fixture
def desk(lab: Lab) -> Iterator[Desk]:
    home = Path(lab.cluster.job_root) / f"desk-{secrets.token_hex(4)}"
    home.mkdir()
    desk = Desk(lab, home)
    yield desk
    desk.clear()
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def fake(desk: Desk) -> Callable[[str], dict[str, str]]:
    """Put an sbatch of our own before the real one; `$real` is the real one, a --test-only goes straight to it."""

    def make(body: str) -> dict[str, str]:
        folder = desk.home / "bin"
        folder.mkdir(exist_ok=True)
        real = shutil.which("sbatch")
        text = f'#!/bin/sh\nreal={real}\ncase "$*" in *--test-only*) exec $real "$@" ;; esac\n{body}\n'
        (folder / "sbatch").write_text(text)
        (folder / "sbatch").chmod(0o755)
        return {"PATH": f"{folder}:{desk.env['PATH']}"}

    return make


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: shell[0])
def test_a_job_gets_the_persons_directory_umask_and_environment(desk: Desk, shell: list[str]) -> None:
    script = "#!/bin/sh\ncat /proc/$$/environ >environ.new\numask >umask\nmv environ.new environ\n"
    theirs = {
        "A.B": "1",
        "BASH_FUNC_module%%": "() {  echo hi\n}",
        "LINES_": "a\nb\n\n",
        "token": "t",
        "so_job": "mine",
    }
    submission = desk.prepare(script, *SMALL, marker="session")
    umask = os.umask(0o027)
    try:
        command = DIALECT.submit_command(desk.site, [submission])
        subprocess.run(
            [*shell, *command.argv[1:]],
            cwd=submission.cwd,
            env={**desk.env, **theirs, **dict(command.env)},
            check=True,
            capture_output=True,
        )
    finally:
        os.umask(umask)
    place = Path(submission.cwd)
    wait((place / "environ").exists, 20, "the job does not run")
    assert (place / "umask").read_text().strip() == "0027"
    pairs = (pair.partition("=") for pair in (place / "environ").read_text().split("\0"))
    got = {name: value for name, _, value in pairs}
    assert {name: got.get(name) for name in theirs} == theirs
    added = {name for name in got if not name.startswith(("SLURM", "ENVIRONMENT", "HOSTNAME", "TMPDIR"))}
    assert added == {*theirs, "PATH", "HOME", "HPC_JOB_DIR", ""}


@pytest.mark.parametrize("marker", MARKERS)
def test_repeating_a_submission_answers_the_same_job(desk: Desk, marker: str) -> None:
    submission = desk.prepare(RAN, *SMALL, marker=marker)
    first = desk.submit(submission)
    assert desk.submit(submission) == first
    assert list(desk.copies(submission)) == [first.job_id]
    wait((Path(submission.job_dir) / "ran").exists, 20, "the job does not run")


def test_a_held_job_is_what_plain_sbatch_would_have_made_of_it(desk: Desk) -> None:
    submission = desk.prepare(SLEEPS, "--hold", "--gpus-per-node=h100:2", marker="session", hold=True)
    argv = ["sbatch", "--parsable", *submission.options, submission.script]
    plain = subprocess.run(argv, cwd=submission.cwd, env=desk.env, check=True, capture_output=True, text=True)
    desk.ids.append(plain.stdout.strip())
    ours = desk.submit(submission)
    assert desk.show(ours.job_id) == desk.show(plain.stdout.strip())
    assert desk.state(ours.job_id) == "PENDING JobHeldUser"


def test_a_refused_job_is_not_submitted(desk: Desk) -> None:
    for options in (("--partition=nosuch",), ("--gpus-per-node=h100:9",), ("--array=0-99999999",)):
        submission = desk.prepare(SLEEPS, *options)
        with pytest.raises(
            SchedulerError, match=r"(?i)invalid partition|configuration is not available|array spec"
        ) as caught:
            desk.submit(submission)
        assert "nothing was submitted" in caught.value.hint
        assert desk.copies(submission) == {}
    away = replace(desk.prepare(SLEEPS), cwd=str(desk.home / "missing"))
    transport = LocalTransport(desk.site, desk.env)
    with pytest.raises(SchedulerError, match="working directory does not exist"):
        desk.read(transport.run(DIALECT.submit_command(desk.site, [away]), scrubbed=False), away)


def test_an_sbatch_that_is_killed_while_it_asks_has_not_refused(desk: Desk) -> None:
    folder = desk.home / "bin"
    folder.mkdir()
    (folder / "sbatch").write_text("#!/bin/sh\nkill -9 $$\n")
    (folder / "sbatch").chmod(0o755)
    submission = desk.prepare(RAN, *SMALL)
    with pytest.raises(Unreached, match="ended with 137"):
        desk.submit(submission, PATH=f"{folder}:{desk.env['PATH']}")
    assert desk.copies(submission) == {}
    assert desk.submit(submission).job_id


def test_a_script_that_only_tests_submits_nothing_and_says_so(desk: Desk) -> None:
    submission = desk.prepare("#!/bin/sh\n#SBATCH --test-only\ntrue\n", *SMALL)
    with pytest.raises(SchedulerError, match=r"sbatch submitted nothing: Job .* to start"):
        desk.submit(submission)


def test_a_job_for_drained_nodes_is_accepted_and_waits_as_with_sbatch(desk: Desk) -> None:
    desk.slurm("scontrol", "update", "nodename=cpu[1-4]", "state=drain", "reason=test")
    try:
        submitted = desk.submit(desk.prepare(SLEEPS, *SMALL, "--partition=cpu"))
        assert "down or drained" in submitted.notes[0]
        assert desk.state(submitted.job_id).startswith("PENDING")
    finally:
        desk.slurm("scontrol", "update", "nodename=cpu[1-4]", "state=resume")


def test_arrays_and_heterogeneous_jobs_are_released_whole(desk: Desk) -> None:
    array = desk.submit(desk.prepare(RAN, *SMALL, "--array=1-3", "--output=%A_%a-%x.log"))
    script = f"{RAN.splitlines()[0]}\n#SBATCH --mem=1M\n#SBATCH hetjob\n#SBATCH --mem=1M -n2\ntrue\n"
    het = desk.submit(desk.prepare(script, marker="session"))
    assert array.log.endswith(f"/{array.job_id}_%a-job.sh.log")
    for job_id in (array.job_id, het.job_id):
        wait(lambda job_id=job_id: "PENDING" not in desk.state(job_id), 20, "not all of it starts")


def test_the_site_s_changes_and_a_missing_output_directory_are_said(desk: Desk) -> None:
    script = "#!/bin/sh\n#SBATCH -t 10 --output=/nonexistent/dir/%j.log\ntrue\n"
    submitted = desk.submit(desk.prepare(script, "--hold", "--mem=1M", hold=True))
    assert submitted.notes == ("the directory of its output does not exist here: /nonexistent/dir",)
    assert submitted.log == f"/nonexistent/dir/{submitted.job_id}.log"


def test_a_script_with_wait_is_submitted_and_not_waited_for(desk: Desk) -> None:
    for script, env in ((f"{SLEEPS.splitlines()[0]}\n#SBATCH -W\nsleep 300\n", {}), (SLEEPS, {"SBATCH_WAIT": "1"})):
        submission = desk.prepare(script, *SMALL)
        submitted = desk.submit(submission, **env)
        assert list(desk.copies(submission)) == [submitted.job_id]
        sender = next(Path(submission.job_dir).glob("won.1:*")).name.split(":")[2]
        assert not Path("/proc", sender, "environ").exists()


def test_two_processes_that_submit_the_same_job_make_one(desk: Desk) -> None:
    submission = desk.prepare(RAN, *SMALL)
    answers: list[CommandResult] = []
    threads = [threading.Thread(target=lambda: answers.append(desk.run(submission))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ids = {desk.read(answer, submission).job_id for answer in answers}
    assert len(ids) == 1 and set(desk.copies(submission)) == ids


@pytest.mark.parametrize("marker", MARKERS)
def test_a_job_whose_id_was_lost_is_found_by_its_mark(
    desk: Desk, fake: Callable[[str], dict[str, str]], marker: str
) -> None:
    decoy = desk.submit(desk.prepare(SLEEPS, "--hold", *SMALL, hold=True))
    submission = desk.prepare(RAN, *SMALL, marker=marker)
    submitted = desk.submit(submission, **fake('$real "$@" >/dev/null\nkill -9 $$'))
    assert submitted.job_id != decoy.job_id
    assert "its id was lost and has been found again" in submitted.notes
    assert list(desk.copies(submission)) == [submitted.job_id]
    wait((Path(submission.job_dir) / "ran").exists, 20, "the job does not run")


def test_an_answer_that_never_came_leaves_one_job_after_the_repetition(
    desk: Desk, fake: Callable[[str], dict[str, str]]
) -> None:
    submission = desk.prepare(RAN, *SMALL)
    pid = desk.lab.pid("slurmctld")
    late = fake(f'kill -STOP {pid}\n$real "$@"')
    try:
        with pytest.raises(Undecided, match=r"repeat|cannot be asked|imed out|contact"):
            desk.submit(submission, **late)
    finally:
        desk.lab.thaw()
    submitted = desk.submit(submission)
    wait(lambda: "COMPLETED" in desk.state(submitted.job_id), 30, "the job does not run")
    wait(lambda: list(desk.copies(submission)) == [submitted.job_id], 20, "a copy stays")
    assert (Path(submission.job_dir) / "ran").read_text() == "ran\n"


def test_killed_anywhere_and_repeated_it_makes_exactly_one_job(
    desk: Desk, fake: Callable[[str], dict[str, str]]
) -> None:
    chance = random.Random(20261120)
    # A slow sbatch is still at work when the repetition begins.
    slow = fake('sleep 0.1\nexec $real "$@"')
    lines = _traced(desk, [desk.prepare(RAN, *SMALL)], SHELLS[0], None, "", {})
    made: list[tuple[str, Submission, Submitted]] = []
    for number in range(KILLS):
        shell, marker = SHELLS[number % len(SHELLS)], MARKERS[number // 3 % 2]
        whom = ("shell", "shell and sbatch", "whole group")[number // 6 % 3]
        submission = desk.prepare(RAN, *SMALL, marker=marker)
        env = slow if number % 4 else {}
        for _ in range(1 + number % 2):
            if chance.random() < 0.5:
                _traced(desk, [submission], shell, chance.randint(1, lines), whom, env)
            else:
                _timed(desk, [submission], shell, chance.uniform(0, 0.25), whom, env)
        what = f"kill {number} of the {whom} in {shell[0]} with marker {marker}"
        made.append((what, submission, desk.submit(submission)))
    _judge(desk, made)


def test_several_at_once_killed_anywhere_and_repeated_one_by_one_are_one_job_each(
    desk: Desk, fake: Callable[[str], dict[str, str]]
) -> None:
    chance = random.Random(20261125)
    slow = fake('sleep 0.05\nexec $real "$@"')
    together = [desk.prepare(RAN, *SMALL) for _ in range(4)]
    lines = _traced(desk, together, SHELLS[0], None, "", {})
    made = [("all of a lot", submission, desk.submit(submission)) for submission in together]
    for number in range(KILLS // 4):
        shell, marker = SHELLS[number % len(SHELLS)], MARKERS[number // 3 % 2]
        whom = ("shell", "shell and sbatch", "whole group")[number % 3]
        together = [desk.prepare(RAN, *SMALL, marker=marker) for _ in range(4)]
        if number % 2:
            _traced(desk, together, shell, chance.randint(1, lines), whom, slow if number % 4 else {})
        else:
            _timed(desk, together, shell, chance.uniform(0, 0.4), whom, slow)
        what = f"kill {number} of the {whom} in {shell[0]} with marker {marker}"
        made += [(what, submission, desk.submit(submission)) for submission in together]
    _judge(desk, made)


def _judge(desk: Desk, made: list[tuple[str, Submission, Submitted]]) -> None:
    """Each ran once, and Slurm knows no other copy of it."""
    for what, submission, submitted in made:
        ran = Path(submission.job_dir) / "ran"
        wait(ran.exists, 30, f"{what}: the job does not run")
        assert ran.read_text() == "ran\n", what
        assert list(desk.copies(submission)) == [submitted.job_id], what


def _traced(
    desk: Desk, submissions: list[Submission], shell: list[str], kill_at: int | None, whom: str, env: dict[str, str]
) -> int:
    """Run submit-once under `sh -x`, kill it when so many lines were traced, and return how many were."""
    command = DIALECT.submit_command(desk.site, submissions)
    process = subprocess.Popen(
        [*shell, "-x", *command.argv[1:]],
        cwd=submissions[0].cwd,
        env={**desk.env, **env, **dict(command.env)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stderr is not None
    seen = 0
    for _ in process.stderr:
        seen += 1
        if seen == kill_at:
            _kill(process.pid, submissions, whom)
            break
    process.stderr.close()
    process.wait()
    return seen


def _timed(
    desk: Desk, submissions: list[Submission], shell: list[str], seconds: float, whom: str, env: dict[str, str]
) -> None:
    """Run submit-once and kill it after so many seconds: mostly while it waits for something."""
    command = DIALECT.submit_command(desk.site, submissions)
    process = subprocess.Popen(
        [*shell, *command.argv[1:]],
        cwd=submissions[0].cwd,
        env={**desk.env, **env, **dict(command.env)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    with suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
        return
    _kill(process.pid, submissions, whom)
    process.wait()


def _kill(pid: int, submissions: list[Submission], whom: str) -> None:
    (os.killpg if whom == "whole group" else os.kill)(pid, signal.SIGKILL)
    if whom != "shell":
        for won in (won for submission in submissions for won in Path(submission.job_dir).glob("won.*")):
            sender = int(won.name.split(":")[2])
            if Path(f"/proc/{sender}").exists():
                os.kill(sender, signal.SIGKILL)


def test_what_a_job_became_is_read_from_the_real_thing(desk: Desk) -> None:
    script = "#!/bin/sh\ncase $SLURM_ARRAY_TASK_ID in 1) exit 3 ;; 2) kill -9 $$ ;; 3) sleep 300 ;; esac\n"
    job_id = desk.submit(desk.prepare(script, *SMALL, "--array=0-3")).job_id
    transport = LocalTransport(desk.site, desk.env)

    def ask() -> dict[str, tuple[JobState, int | None, int | None]]:
        answers = [transport.run(command) for command in DIALECT.status_commands(desk.site, [job_id])]
        found = DIALECT.parse_status(answers)
        return {key: (status.state, status.exit_code, status.signal) for key, status in found.items()}

    wait(lambda: sum(state.final for state, _, _ in ask().values()) == 3, 30, "the tasks do not end")
    assert ask() == {
        f"{job_id}_0": (JobState.COMPLETED, 0, None),
        f"{job_id}_1": (JobState.FAILED, 3, None),
        f"{job_id}_2": (JobState.FAILED, None, 9),
        f"{job_id}_3": (JobState.RUNNING, None, None),
        job_id: (JobState.RUNNING, None, None),
    }
    DIALECT.parse_cancel(transport.run(DIALECT.cancel_command(desk.site, [job_id])))
    wait(lambda: ask()[job_id][0] is JobState.FAILED, 30, "the last task is not cancelled")


def test_the_lab_is_surveyed_as_it_is(desk: Desk) -> None:
    desk.submit(desk.prepare(SLEEPS, *SMALL, "--nodes=2", "--gpus-per-node=h100:3"))
    wait(lambda: "RUNNING" in desk.state(desk.ids[-1]), 20, "the job does not run")
    transport = LocalTransport(desk.site, desk.env)
    answers = [transport.run(command) for command in DIALECT.survey_commands(desk.site)]
    snapshot = DIALECT.parse_survey(desk.site, answers, now=0.0)
    assert {partition.name: partition.default for partition in snapshot.partitions} == {
        "batch": True,
        "ada": False,
        "cpu": False,
    }
    batch = snapshot.nodes_of("batch")
    assert [(node.name, node.gpu_kind, node.gpus) for node in batch] == [(f"dgx{n}", "h100", 8) for n in range(1, 13)]
    (job,) = (job.line for job in snapshot.jobs if job.job_id == desk.ids[-1])
    assert (job.nodes, job.gpus, job.gpu_kind, job.state) == (2, 6, "h100", JobState.RUNNING)
    assert sum(node.gpus_alloc for node in batch if node.name in job.node_names) >= 6
    assert snapshot.max_array_size and snapshot.version.startswith(("2", "3"))

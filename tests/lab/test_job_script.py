"""Rendered scripts on a real Slurm: what sbatch reads from their #SBATCH lines, and what they do on two nodes."""

from __future__ import annotations

from pathlib import Path

import pytest

from hybridhpc.model import Checkpoint, Launcher
from tests.job_scripts import render
from tests.lab.lab import Lab
from tests.lab.running import wait

pytestmark = pytest.mark.lab

COMMENTS = [
    "plain", "with space", "tab\there", "it's", 'say "x"', "back\\slash", "end\\", "hash#tag", " #lead", "$(touch x)",
    "`id`", "$HOME", "-dash", "日本", "a=b", "*?[x]{1..3}", "semi;amp&pipe|", "~home", "'\"both\\'\"", "trail ", '\\"',
    "<in>", "a,b:c", "%j", "(x)", "#", ": colon", "\x01", "x" * 500,
]  # fmt: skip


class SlurmJob:
    """A rendered script submitted to the lab, in a directory of its own."""

    def __init__(self, lab: Lab, name: str, *options: str, **keys) -> None:
        self.lab = lab
        self.path = Path(lab.run("mktemp", "-d", str(lab.cluster.job_root / f"{name}.XXXXXX")).strip())
        options = (*options, "--mem=100", f"--chdir={self.path}", f"--output={self.path}/log")
        (self.path / "script").write_bytes(render(scheduler="slurm", options=options, **keys))
        export = f"--export=ALL,HPC_JOB_DIR={self.path}"
        self.id = lab.run("sbatch", "--parsable", export, str(self.path / "script")).strip()

    @property
    def log(self) -> str:
        """What the job has written so far."""
        log = self.path / "log"
        return log.read_text() if log.exists() else ""

    def await_log(self, text: str, count: int = 1) -> None:
        """Wait until the job has written something."""
        wait(lambda: self.log.count(text) >= count, 30, f"{text!r} does not appear in the log")

    def exit_code(self) -> str:
        """Wait for the exit marker and return the code in it."""
        marker = self.path / "exit.-.0"
        wait(marker.exists, 30, "there is no exit marker")
        return marker.read_text().split()[0]


@pytest.mark.parametrize("comment", COMMENTS)
def test_sbatch_reads_back_what_stands_on_a_rendered_line(lab: Lab, comment: str, tmp_path: Path) -> None:
    (tmp_path / "script").write_bytes(render(scheduler="slurm", options=(f"--comment={comment}", "--mem=100")))
    job = lab.run("sbatch", "--hold", "--parsable", str(tmp_path / "script")).strip()
    try:
        assert lab.run("squeue", "--noheader", "-j", job, "-o", "%k|") == f"{comment}|\n"
    finally:
        lab.run("scancel", job)


def test_setup_runs_once_per_node_and_every_task_knows_its_node(lab: Lab) -> None:
    run = 'echo "task $SLURM_PROCID on $NODE_RANK of $NNODES $MASTER_ADDR $X"\nexit $((SLURM_PROCID * 3))'
    keys = {"nodes": 2, "launcher": Launcher.SRUN, "tasks_per_node": 2, "env": (("X", "it's"),), "run": run}
    setup = 'echo "setup on $NODE_RANK"'
    job = SlurmJob(lab, "srun", "--nodes=2", "--ntasks-per-node=2", "--nodelist=dgx[2-3]", setup=setup, **keys)
    assert job.exit_code() == "9"
    said = sorted(line for line in job.log.splitlines() if line.startswith(("setup", "task")))
    tasks = [f"task {task} on {task // 2} of 2 dgx2 it's" for task in range(4)]
    assert said == ["setup on 0", "setup on 1", *tasks]


def test_the_checkpoint_signal_reaches_the_tasks_of_all_nodes(lab: Lab) -> None:
    run = "trap 'echo saved $NODE_RANK; exit 0' USR1; echo ready; for _ in {1..200}; do sleep 0.1; done; exit 1"
    keys = {"launcher": Launcher.SRUN, "tasks_per_node": 1, "checkpoint": Checkpoint(directory="ckpt"), "run": run}
    job = SlurmJob(lab, "usr1", "--nodes=2", nodes=2, **keys)
    job.await_log("ready", 2)
    lab.run("scancel", "--batch", "--signal=USR1", job.id)
    assert job.exit_code() == "0"
    assert sorted(line for line in job.log.splitlines() if "saved" in line) == ["saved 0", "saved 1"]


def test_a_cancelled_job_is_told_once_and_its_exit_code_is_kept(lab: Lab) -> None:
    run = "trap 'echo told' TERM; echo ready; sleep 60; sleep 0.5; exit 5"
    job = SlurmJob(lab, "term", "--nodes=1", run=run)
    job.await_log("ready")
    lab.run("scancel", job.id)
    assert job.exit_code() == "5"
    assert job.log.splitlines().count("told") == 1


def test_steps_that_srun_cancelled_do_not_count_as_completed(lab: Lab) -> None:
    keys = {"launcher": Launcher.SRUN, "tasks_per_node": 1, "run": "echo ready; sleep 60"}
    job = SlurmJob(lab, "steps", "--nodes=2", nodes=2, **keys)
    job.await_log("ready", 2)
    lab.run("scancel", job.id)
    assert job.exit_code() != "0"

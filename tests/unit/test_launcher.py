"""Launchers: how many tasks, which words before them, and how a training command gets torchrun before it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridhpc.errors import SpecError
from hybridhpc.model import Checkpoint, Gpus, Launcher, Resources, Work
from hybridhpc.script.launcher import launch, torchrun_text
from tests.job_scripts import JobDir, render

EIGHT = Gpus(kind="H100", count=8)
ONE_NODE = "--standalone --local-addr=127.0.0.1 --nproc-per-node=2"
PYTHON = f"python -m torch.distributed.run {ONE_NODE}"
FAKE_TORCHRUN = """
import os, signal, sys
print([os.environ.get("NODE_RANK"), signal.getsignal(signal.SIGUSR1).name, *sys.argv[1:]])
"""


@pytest.mark.parametrize(
    ("launcher", "gpus", "cpus", "written", "tasks"),
    [
        (Launcher.NONE, EIGHT, 104, None, 1),
        (Launcher.TORCHRUN, EIGHT, 104, None, 8),
        (Launcher.TORCHRUN, None, 104, None, 1),
        (Launcher.SRUN, EIGHT, 104, None, 8),
        (Launcher.SRUN, None, 104, None, 104),
        (Launcher.MPIRUN, None, None, None, 1),
        (Launcher.TORCHRUN, EIGHT, 104, 2, 2),
        (Launcher.NONE, None, 4, 3, 3),
    ],
)
def test_tasks_per_node_follow_the_gpus_then_the_cpus(launcher, gpus, cpus, written, tasks):
    work = Work(run=":", launcher=launcher, tasks_per_node=written)
    assert work.tasks_on_node(gpus, cpus) == tasks


def words(launcher, *, nodes=1, tasks=8, cpus=None, scheduler="slurm", mpi=None, run="python train.py"):
    work = Work(run=run, launcher=launcher)
    return " ".join(launch(work, Resources(nodes=nodes, cpus=cpus), tasks, scheduler=scheduler, mpi=mpi).words)


def test_without_a_launcher_the_text_runs_once():
    assert words(Launcher.NONE, nodes=4) == ""


def test_srun_starts_every_task_with_its_share_of_the_cpus():
    expected = "srun --nodes=2 --ntasks=16 --ntasks-per-node=8 --cpus-per-task=13 --mpi=pmix --export=ALL --kill-on-bad"
    assert words(Launcher.SRUN, nodes=2, cpus=104, mpi="pmix").startswith(expected)


def test_mpirun_starts_all_tasks_of_all_nodes():
    assert words(Launcher.MPIRUN, nodes=2) == "mpirun -n 16"


def test_torchrun_starts_directly_on_one_node_and_once_per_node_on_several():
    assert words(Launcher.TORCHRUN) == ""
    assert "srun --cpu-bind=none --nodes=3 --ntasks=3 --ntasks-per-node=1 " in words(Launcher.TORCHRUN, nodes=3)


def test_where_there_is_no_srun_one_task_runs_directly_and_several_are_refused():
    assert words(Launcher.SRUN, tasks=1, scheduler="here") == ""
    assert words(Launcher.MPIRUN, tasks=4, scheduler="here") == "mpirun -n 4"
    with pytest.raises(SpecError, match="launcher: there is no srun to start 4 tasks"):
        render(launcher=Launcher.SRUN, tasks_per_node=4, scheduler="here")


@pytest.mark.parametrize(
    ("run", "text"),
    [
        ("python train.py --data /data", f"{PYTHON} train.py --data /data"),
        ("python3.11 train.py", f"python3.11 -m torch.distributed.run {ONE_NODE} train.py"),
        ("/opt/v/bin/python train.py", f"/opt/v/bin/python -m torch.distributed.run {ONE_NODE} train.py"),
        ('"$VENV/bin/python" train.py', f'"$VENV/bin/python" -m torch.distributed.run {ONE_NODE} train.py'),
        ("torchrun train.py", f"torchrun {ONE_NODE} train.py"),
        ("torchrun --max-restarts=3 train.py", f"torchrun {ONE_NODE} --max-restarts=3 train.py"),
        ("torchrun train.py --nnodes 3", f"torchrun {ONE_NODE} train.py --nnodes 3"),
        ("train.py -x", f"python3 -m torch.distributed.run {ONE_NODE} train.py -x"),
        ("./my/train.py", f"python3 -m torch.distributed.run {ONE_NODE} ./my/train.py"),
        ("python -u train.py", f"{PYTHON} train.py"),
        ("python -m pkg.train --lr 1", f"{PYTHON} -m pkg.train --lr 1"),
        ("python -u -m pkg.train", f"{PYTHON} -m pkg.train"),
        ("\n# a remark; with signs\n\n  python train.py\n", f"{PYTHON} train.py"),
        ("python train.py \\\n  --a 1 \\\n  --b 2\n", f"{PYTHON} train.py \\\n  --a 1 \\\n  --b 2"),
        ("python train.py --name 'a; b' \"c & d\" e\\;f", f"{PYTHON} train.py --name 'a; b' \"c & d\" e\\;f"),
        ('python train.py "$HPC_NAME" $((1 + 2))', f'{PYTHON} train.py "$HPC_NAME" $((1 + 2))'),
        ("python train.py $(date +%s; id) `id`", f"{PYTHON} train.py $(date +%s; id) `id`"),
        ("python train.py >log 2>&1 &>all", f"{PYTHON} train.py >log 2>&1 &>all"),
        ("python train.py # then ; nothing", f"{PYTHON} train.py # then ; nothing"),
    ],
)
def test_torchrun_takes_the_place_of_the_first_word_only(run, text):
    assert torchrun_text(run, 1, 2) == text


@pytest.mark.parametrize(
    "run",
    [
        "cd src && python train.py", "python a.py; python b.py", "python a.py\npython b.py", "python train.py &",
        "python train.py | tee log", "(python train.py)", "A=1 python train.py", "if true; then python train.py; fi",
        "python", "python  ", "train", "bash x.sh", "python -c 'print(1)'", "python -O train.py", "python 'train.py",
        'python "x', "python train.py <<EOF\nx\nEOF", "python train.py `id", "# nothing\n", "$(python train.py)",
        "\\python train.py", "torchrun --nnodes=2 train.py", "torchrun \\\n --nproc_per_node 8 train.py",
        "torchrun --rdzv-backend=c10d a.py", "torchrun --standalone train.py", "exec python train.py",
        "srun python train.py",
    ],
)  # fmt: skip
def test_what_is_no_single_training_command_is_refused_with_a_way_out(run):
    with pytest.raises(ValueError, match=r"launcher: none|leave out") as refused:
        torchrun_text(run, 1, 2)
    assert len(str(refused.value)) < 300


@given(st.text(alphabet="python tra.-m\"'\\$`();&|#\n{}<>=", max_size=60))
def test_any_text_is_either_refused_or_keeps_what_follows_its_first_word(run):
    try:
        text = torchrun_text(f"python {run}", 1, 2)
    except ValueError:
        return
    assert text.startswith(f"{PYTHON} ") or text.startswith(f"{PYTHON}\\\n")
    assert run.removeprefix("-u").split()[-1] in text


def test_several_nodes_meet_on_the_first_one_by_the_exported_variables():
    options = '--nnodes=2 --node-rank="$NODE_RANK" --master-addr="$MASTER_ADDR" --master-port="$MASTER_PORT"'
    assert torchrun_text("train.py", 2, 8) == f"python3 -m torch.distributed.run {options} --nproc-per-node=8 train.py"


def test_arguments_arrive_as_the_shell_reads_them_and_the_checkpoint_signal_cannot_end_torchrun(tmp_path: Path):
    package = tmp_path / "fake/torch/distributed"
    package.mkdir(parents=True)
    (package / "run.py").write_text(FAKE_TORCHRUN)
    job = JobDir(tmp_path / "job", PYTHONPATH=str(tmp_path / "fake"))
    run = "python3 -u train.py \"$HPC_NAME\" 'a  b' $((40 + 2))"
    keys = {"launcher": Launcher.TORCHRUN, "tasks_per_node": 2, "checkpoint": Checkpoint(directory="ckpt")}
    assert job.run(render(name="it's me", run=run, **keys)) == 0
    expected = ["0", "SIG_IGN", *ONE_NODE.split(), "train.py", "it's me", "a  b", "42"]
    assert job.log.strip() == str(expected)


@pytest.mark.parametrize("signal", ["TERM", "HUP", "INT", "ALRM"])
def test_a_signal_at_which_srun_would_kill_its_tasks_is_refused(signal):
    checkpoint = Checkpoint(directory="ckpt", signal=signal)
    with pytest.raises(SpecError, match=r"checkpoint: .* write USR1 or USR2"):
        render(launcher=Launcher.SRUN, tasks_per_node=1, scheduler="slurm", checkpoint=checkpoint)


def test_a_signal_that_does_not_exist_is_refused():
    with pytest.raises(SpecError, match="'KILL' is no signal"):
        render(checkpoint=Checkpoint(directory="ckpt", signal="KILL"))

"""One script per template and site profile, kept beside this file. HPC_UPDATE_GOLDEN=1 writes them anew."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from hybridhpc.model import Bind, Checkpoint, Gpus, Launcher
from hybridhpc.script.fabric import FABRICS
from tests.job_scripts import render

HERE = Path(__file__).parent
H100 = Gpus(kind="H100", count=8)
OPTIONS = ("--job-name=train e2e", "--nodes=2", "--gpus-per-node=h100:8", "--time=12:00:00", "--signal=B:USR1@120")
TRAIN = {
    "scheduler": "slurm",
    "name": "train e2e",
    "options": OPTIONS,
    "nodes": 2,
    "cpus": 104,
    "gpus": H100,
    "launcher": Launcher.TORCHRUN,
    "run": "python train.py --data /data\n",
    "setup": "pip install -r requirements.txt\n",
    "env": (("NCCL_DEBUG", "WARN"), ("NOTE", "it's\n$HOME")),
    "workdir": "/home/me/project",
    "checkpoint": Checkpoint(directory="/home/me/project/ckpt"),
}
IMAGE = {
    "image": "docker://nvcr.io/nvidia/pytorch:25.10-py3",
    "binds": (Bind(source="/data", target="/data", read_only=True),),
}
MODULES = "module purge\nmodule load cuda/12.8\n"
CASES = {
    "here-none": {"run": "python count.py\n"},
    "here-torchrun": {"launcher": Launcher.TORCHRUN, "tasks_per_node": 2, "cpus": 2, "run": "python train.py"},
    "here-image-built": {"run": "./work.sh", "image": "/home/me/my.def"},
    "onprem-none": {"scheduler": "slurm", "options": ("--nodes=1",), "run": "./work.sh\n"},
    "onprem-srun": TRAIN | {"site": {"mpi": "pmix", "preamble": MODULES}, "launcher": Launcher.SRUN, "run": "./solve"},
    "onprem-secrets": TRAIN
    | {"secrets": (("TOKEN", "secret://env/TOKEN"), ("KEY", "secret://site-file/~/my keys/wandb")), "workdir": None}
    | {"options": (*OPTIONS, "--requeue"), "launcher": Launcher.SRUN, "run": "./solve"},
    "onprem-mpirun": TRAIN | {"launcher": Launcher.MPIRUN, "run": "./solve\n", "setup": "", "workdir": None},
    "dgx-h100": TRAIN | IMAGE | {"site": {"fabric": "ib-dgx-h100", "image_dir": "/lustre/images"}},
    "parallelcluster-p5": TRAIN | IMAGE | {"site": {"fabric": "efa", "image_dir": "/fsx/images", "preamble": MODULES}},
    "cyclecloud-ndh100v5": TRAIN | IMAGE | {"site": {"fabric": "ib-ndv5", "container_runtime": "singularity"}},
    "slurm-gcp-a3": TRAIN | IMAGE | {"site": {"fabric": "tcpx", "image_dir": "~/images"}},
    "slurm-gcp-a3mega": TRAIN | IMAGE | {"site": {"fabric": "tcpxo", "image_dir": "/gcs/images"}},
    "slurm-gcp-a3ultra": TRAIN | {"site": {"fabric": "gib"}},
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_the_script_is_the_one_that_was_approved(name):
    file = HERE / f"{name}.sh"
    script = render(**CASES[name])
    if os.environ.get("HPC_UPDATE_GOLDEN"):
        file.write_bytes(script)
    assert script.decode() == file.read_text()


@pytest.mark.parametrize("name", CASES)
def test_bash_can_parse_it(name):
    check = subprocess.run(["bash", "-n", HERE / f"{name}.sh"], capture_output=True, text=True)
    assert (check.returncode, check.stderr) == (0, "")


@pytest.mark.skipif(not shutil.which("shellcheck"), reason="shellcheck is not installed")
def test_shellcheck_has_nothing_to_say():
    check = subprocess.run(["shellcheck", *(HERE / f"{name}.sh" for name in CASES)], capture_output=True, text=True)
    assert check.stdout == ""


def test_nothing_is_kept_that_no_case_renders():
    assert {file.stem for file in HERE.glob("*.sh")} == set(CASES)


def test_every_fabric_that_sets_something_has_its_case():
    used = {case.get("site", {}).get("fabric") for case in CASES.values()}
    assert {name for name, fabric in FABRICS.items() if fabric.env} <= used


def test_options_of_a_site_without_slurm_stay_outside_the_script():
    assert b"--cpus" not in render(scheduler="here", options=("--cpus=2",))

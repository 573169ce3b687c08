"""The options of sbatch: everything for a spec, only the differences for a script."""

from __future__ import annotations

from typing import Any

import pytest

from hybridhpc.model import (
    Array,
    Checkpoint,
    Gpus,
    JobSpec,
    Launcher,
    Mebibytes,
    Native,
    Resources,
    Retries,
    Script,
    Seconds,
    Work,
)
from hybridhpc.schedulers.slurm_options import directives
from hybridhpc.sites.site import Partition, Site

H100 = Gpus(count=8, kind="H100")


def site(**fields: Any) -> Site:
    return Site(**{"name": "aws", "file": None, "scheduler": "slurm", "transport": "ssh", **fields})


def work(resources: Resources | None = None, array: Array | None = None, **fields: Any) -> JobSpec:
    payload = Work(**{"run": "true", **fields})
    return JobSpec(
        name="train", file="/s.yaml", digest="0", resources=resources or Resources(), payload=payload, array=array
    )


def script(text: str = "#!/bin/sh\n", native: Native | None = None, flags: tuple[str, ...] = ()) -> JobSpec:
    payload = Script(content=text.encode(), path="/home/a/job.sbatch", flags=flags)
    return JobSpec(
        name="job",
        file="/home/a/job.sbatch",
        digest="0",
        resources=Resources(),
        payload=payload,
        native=native or Native(),
    )


def test_a_spec_becomes_all_its_options_in_order() -> None:
    spec = work(
        Resources(
            nodes=2, gpus=(H100,), cpus=104, memory=Mebibytes(1843200), walltime=Seconds(43201), whole_nodes=True
        ),
        Array(text="0-99%10", tasks=100, throttle=10),
        launcher=Launcher.TORCHRUN,
        checkpoint=Checkpoint(directory="ckpt", signal="SIGUSR1", grace=Seconds(120)),
        retries=Retries(preempted=20),
        slurm=(("constraint", "ib"),),
    )
    place = site(gres=(("h100", "nvidia_h100_80gb_hbm3"),), account="ml", qos="high")
    assert directives(spec, place, "p5", H100) == (
        "--job-name=train", "--partition=p5", "--nodes=2", "--ntasks-per-node=1", "--cpus-per-task=104",
        "--mem=1843200M", "--exclusive", "--gpus-per-node=nvidia_h100_80gb_hbm3:8", "--time=12:01:00",
        "--array=0-99%10", "--account=ml",
        "--qos=high", "--signal=B:USR1@120", "--requeue", "--open-mode=append", "--output=%A_%a.log", "--export=ALL",
        "--constraint=ib",
    )  # fmt: skip


def test_a_bare_spec_asks_for_little_and_forbids_requeueing() -> None:
    assert directives(work(), site(), "cpu", None) == (
        "--job-name=train", "--partition=cpu", "--nodes=1", "--ntasks-per-node=1", "--no-requeue", "--open-mode=append",
        "--output=%j.log", "--export=ALL",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("launcher", "tasks", "gpus", "cpus", "wanted"),
    [
        (Launcher.TORCHRUN, None, H100, 104, (1, 104)),
        (Launcher.NONE, None, None, 16, (1, 16)),
        (Launcher.SRUN, None, H100, 104, (8, 13)),
        (Launcher.MPIRUN, None, None, 16, (16, 1)),
        (Launcher.SRUN, 3, H100, 16, (3, 5)),
        (Launcher.SRUN, 8, None, 4, (8, 1)),
        (Launcher.SRUN, None, None, None, (1, None)),
    ],
)
def test_the_cpus_of_a_node_are_divided_among_its_tasks(
    launcher: Launcher, tasks: int | None, gpus: Gpus | None, cpus: int | None, wanted: tuple[int, int | None]
) -> None:
    options = directives(work(Resources(cpus=cpus), launcher=launcher, tasks_per_node=tasks), site(), "p", gpus)
    assert f"--ntasks-per-node={wanted[0]}" in options
    assert [option for option in options if "cpus-per" in option] == (
        [f"--cpus-per-task={wanted[1]}"] if wanted[1] else []
    )


def test_gpus_of_any_kind_are_asked_without_a_type() -> None:
    assert "--gpus-per-node=4" in directives(work(), site(), "p", Gpus(count=4))
    assert not any("gpus" in option for option in directives(work(), site(), "p", Gpus(count=0)))


def test_native_options_are_merged_site_then_partition_then_spec() -> None:
    place = site(
        slurm=(("mail-type", "END"), ("account", "site"), ("spread-job", None)),
        partitions=(Partition(name="p", slurm=(("account", "part"), ("reservation", "r1"))),),
        names=(("account", "ml", "proj-42"),),
    )
    spec = work(slurm=(("account", "ml"), ("requeue", None), ("partition", "elsewhere")))
    options = directives(spec, place, "p", None)
    assert "--account=proj-42" in options and "--reservation=r1" in options and "--mail-type=END" in options
    assert "--spread-job" in options and "--requeue" in options and "--no-requeue" not in options
    assert [option for option in options if option.startswith("--partition")] == ["--partition=p"]
    assert len({option.partition("=")[0] for option in options}) == len(options)


def test_a_script_at_home_gets_nothing() -> None:
    home = site(transport="local", account="ml", slurm=(("mail-type", "END"),))
    assert directives(script("#!/bin/sh\n#SBATCH --gres=gpu:H100:8\n"), home, "batch", H100) == ()


def test_a_script_elsewhere_gets_only_what_is_called_differently_there() -> None:
    names = (("account", "ml", "proj-42"), ("constraint", "a100", "gpu_a100"), ("cluster", "onprem", "aws"))
    native = Native(partition="batch", account="ml", qos="high", constraint="a100&ib", cluster="onprem")
    place = site(names=names, gres=(("H100", "nvidia_h100"),))
    text = "#!/bin/sh\n#SBATCH --gres=gpu:h100:8,nic:1 -t 10\n#SBATCH -G H100:8\nsrun --gpus=h100:1 x\n"
    assert directives(script(text, native), place, "p5", H100) == (
        "--partition=p5",
        "--account=proj-42",
        "--constraint=gpu_a100&ib",
        "--clusters=aws",
        "--gres=gpu:nvidia_h100:8,nic:1",
        "--gpus=nvidia_h100:8",
    )
    assert directives(script("#!/bin/sh\n", Native(partition="p5")), place, "p5", None) == ()
    defaults = site(account="acc", qos="q")
    assert directives(script(), defaults, "p", None) == ("--partition=p", "--account=acc", "--qos=q")


def test_gpu_flags_of_the_command_line_are_renamed_too() -> None:
    place = site(gres=(("h100", "nvidia_h100"),))
    made = directives(script("#!/bin/sh\n", flags=("--gpus-per-node", "h100:4")), place, "p", None)
    assert made == ("--partition=p", "--gpus-per-node=nvidia_h100:4")

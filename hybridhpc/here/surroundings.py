"""What a job finds around itself: the submitter's environment, limits and file mask, and Slurm's variables."""

from __future__ import annotations

import os
import pwd
import resource
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from hybridhpc.here.queue import Machine
from hybridhpc.here.request import name_values
from hybridhpc.here.slots import Claim
from hybridhpc.here.watch import MARK, SUPERVISOR

_NOT_INHERITED = ("SLURM_", "SBATCH_", "SLURMD_", "HPC_HERE_", "CUDA_DEVICE_ORDER")
_KEPT = "SLURM_CONF"
_LIMITS = ("AS", "CORE", "CPU", "DATA", "FSIZE", "MEMLOCK", "NOFILE", "NPROC", "STACK")


def capture(environ: Mapping[str, str]) -> dict[str, Any]:
    """Return what of its caller, with this environment, a job will inherit, as JSON can hold it.

    Slurm's variables of a job that submits this one are left out: they would speak of another job.
    """
    kept = {name: value for name, value in environ.items() if name == _KEPT or not name.startswith(_NOT_INHERITED)}
    kept.pop("HPC_JOB_DIR", None)
    limits = {name: resource.getrlimit(getattr(resource, f"RLIMIT_{name}"))[0] for name in _LIMITS}
    return {"environ": kept, "umask": _file_mask(), "limits": limits}


def _file_mask() -> int:
    """Return the mask of new files. Linux before 4.7 tells it only to whoever sets it."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("Umask:"):
            return int(line.split()[1], 8)
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def restore(surroundings: Mapping[str, Any]) -> None:
    """Give this process the limits and the file mask of a submission, as far as its own hard limits allow."""
    os.umask(surroundings["umask"])
    for name, soft in surroundings["limits"].items():
        kind = getattr(resource, f"RLIMIT_{name}")
        hard = resource.getrlimit(kind)[1]
        above = hard != resource.RLIM_INFINITY and (soft == resource.RLIM_INFINITY or soft > hard)
        resource.setrlimit(kind, (hard if above else soft, hard))


def user_name() -> str:
    """Return the login name, or the number of a user without one."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def log_names(claim: Claim, machine: Machine) -> dict[str, str]:
    """Return the letters of the file name patterns for a task."""
    task = claim.task
    return name_values(
        claim.request, job=task.job, task=task.id, index=task.array_index, host=machine.host, user=user_name()
    )


def mark(claim: Claim) -> str:
    """Return what tells the task's processes from all others; the job's directory cannot be guessed."""
    return f"{claim.request.job_dir}:{claim.task.id}"


def supervisor_environment(environ: Mapping[str, str], root: str) -> dict[str, str]:
    """Return the environment of a supervisor, which is no process of the job that may have submitted it."""
    kept = {name: value for name, value in environ.items() if name not in (MARK, "HPC_JOB_DIR")}
    return {**kept, SUPERVISOR: root}


def environment(claim: Claim, machine: Machine) -> dict[str, str]:
    """Return the whole environment of a task's script (sbatch(1), OUTPUT ENVIRONMENT VARIABLES, 25.11)."""
    request, task = claim.request, claim.task
    variables = {
        **claim.surroundings["environ"],
        "PWD": request.cwd,
        "HPC_JOB_DIR": request.job_dir,
        MARK: mark(claim),
        "SLURM_JOB_ID": str(task.id),
        "SLURM_JOBID": str(task.id),
        "SLURM_JOB_NAME": request.name,
        "SLURM_JOB_PARTITION": "local",
        "SLURM_JOB_USER": user_name(),
        "SLURM_JOB_UID": str(os.geteuid()),
        "SLURM_SUBMIT_DIR": request.cwd,
        "SLURM_SUBMIT_HOST": machine.host,
        **_node(machine.host),
        "SLURM_CPUS_ON_NODE": str(request.cpus),
        "SLURM_JOB_CPUS_PER_NODE": str(request.cpus),
        "SLURM_MEM_PER_NODE": str(request.memory),
        "SLURM_NTASKS": str(request.ntasks),
        "SLURM_NPROCS": str(request.ntasks),
        "SLURM_TASKS_PER_NODE": str(request.ntasks),
        **_gpus(claim, machine),
        **_array(claim),
    }
    if request.cpus_per_task:
        variables["SLURM_CPUS_PER_TASK"] = str(request.cpus_per_task)
    return variables


def _node(host: str) -> dict[str, str]:
    one = dict.fromkeys(("SLURM_JOB_NUM_NODES", "SLURM_NNODES"), "1")
    first = dict.fromkeys(("SLURM_NODEID", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_GTIDS"), "0")
    return one | first | dict.fromkeys(("SLURM_JOB_NODELIST", "SLURM_NODELIST", "SLURMD_NODENAME"), host)


def _gpus(claim: Claim, machine: Machine) -> dict[str, str]:
    """Show the task its GPUs alone; by PCI address, since CUDA's own order is by speed."""
    if not machine.gpus:
        return {}
    indices = ",".join(str(index) for index in claim.gpus)
    shown = {"CUDA_VISIBLE_DEVICES": indices, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    return {**shown, "SLURM_JOB_GPUS": indices, "SLURM_GPUS_ON_NODE": str(len(claim.gpus))} if claim.gpus else shown


def _array(claim: Claim) -> dict[str, str]:
    indices = claim.request.indices
    if indices is None:
        return {}
    steps = {after - before for before, after in pairwise(indices)}
    return {
        "SLURM_ARRAY_JOB_ID": str(claim.task.job),
        "SLURM_ARRAY_TASK_ID": str(claim.task.array_index),
        "SLURM_ARRAY_TASK_COUNT": str(len(indices)),
        "SLURM_ARRAY_TASK_MIN": str(indices[0]),
        "SLURM_ARRAY_TASK_MAX": str(indices[-1]),
        "SLURM_ARRAY_TASK_STEP": str(steps.pop() if len(steps) == 1 else 1),
    }

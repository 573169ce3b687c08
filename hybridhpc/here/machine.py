"""What this machine lends to jobs: CPUs, memory and GPUs, as far as this person may use them. Changes nothing."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from hybridhpc.here.cgroup import PROC, lineage
from hybridhpc.here.queue import Machine
from hybridhpc.here.request import Refusal

_MIB = 1024 * 1024
_RESERVE = 512
"""MiB kept for the person and the system, or a twentieth of the memory if that is more."""
_MAKERS = frozenset({"nvidia", "tesla", "geforce", "quadro"})
_UNLIMITED = 2**60


def this_machine(environ: Mapping[str, str], proc: Path = PROC) -> Machine:
    """Look at the machine. HPC_HERE_CPUS and HPC_HERE_MEMORY (MiB) override what is found. Raises Refusal."""
    memory = _override(environ, "HPC_HERE_MEMORY") or lendable(total_memory(proc))
    cpus, cpu_ids = _cpus(_override(environ, "HPC_HERE_CPUS"), proc)
    return Machine(os.uname().nodename, cpus, cpu_ids, memory, gpu_kinds(proc))


def boot_id(proc: Path = PROC) -> str:
    """Return the kernel's name for the time since it was started."""
    return (proc / "sys/kernel/random/boot_id").read_text().strip()


def lendable(total: int) -> int:
    """Return the memory lent to jobs out of a total, both in MiB."""
    return max(1, total - max(_RESERVE, total // 20))


def total_memory(proc: Path = PROC) -> int:
    """Return the memory in MiB: the machine's, or the control group's limit if that is less."""
    facts = dict(line.partition(":")[::2] for line in (proc / "meminfo").read_text().splitlines())
    limits = [int(facts["MemTotal"].split()[0]) * 1024]
    for directory in lineage("memory", proc).directories:
        limits += [_limit(directory / name) for name in ("memory.max", "memory.limit_in_bytes")]
    return min(limits) // _MIB


def cpu_quota(proc: Path = PROC) -> float:
    """Return how many CPUs the control groups allow at once; infinite if they set no quota."""
    quotas = [_quota(directory) for directory in lineage("cpu", proc).directories]
    return min(quotas, default=float("inf"))


def gpu_kinds(proc: Path = PROC) -> tuple[str, ...]:
    """Return the kind of each NVIDIA GPU in the order of PCI addresses; those the driver excludes do not count."""
    kinds = []
    for card in sorted((proc / "driver/nvidia/gpus").glob("*/information")):
        facts = dict(line.partition(":")[::2] for line in card.read_text(errors="replace").splitlines())
        if facts.get("GPU Excluded", "").strip() != "Yes":
            kinds.append(gpu_kind(facts.get("Model", "")))
    return tuple(kinds)


def gpu_kind(model: str) -> str:
    """Shorten a model name to the word people use: NVIDIA H100 80GB HBM3 is h100, NVIDIA GeForce RTX 4090 rtx4090."""
    words = [word for word in model.lower().split() if word not in _MAKERS]
    if words[:1] in (["rtx"], ["gtx"]) and len(words) > 1:
        words = [words[0] + words[1] if words[1][0].isdecimal() else words[1]]
    return words[0].partition("-")[0] if words else "gpu"


def _cpus(override: int | None, proc: Path) -> tuple[int, tuple[int, ...]]:
    """Return the number of CPU slots and the CPUs to pin to: none under a quota, where another container may have
    the same quota and would choose the same CPUs.
    """
    ids = tuple(sorted(os.sched_getaffinity(0)))
    quota = cpu_quota(proc)
    if override is not None:
        return override, ids[:override] if override <= len(ids) else ()
    return (len(ids), ids) if quota >= len(ids) else (max(1, int(quota)), ())


def _override(environ: Mapping[str, str], name: str) -> int | None:
    text = environ.get(name)
    if not text:
        return None
    if not re.fullmatch(r"[1-9][0-9]{0,8}", text):
        raise Refusal(f"{name}={text} must be a whole number above 0")
    return int(text)


def _limit(path: Path) -> int:
    text = _text(path)
    return int(text) if text.isdecimal() else _UNLIMITED


def _quota(directory: Path) -> float:
    quota, period = (*_text(directory / "cpu.max").split(), "", "")[:2]
    if not quota:
        quota, period = _text(directory / "cpu.cfs_quota_us"), _text(directory / "cpu.cfs_period_us")
    return int(quota) / int(period) if quota.isdecimal() and period.isdecimal() and int(period) else float("inf")


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""

"""What a GPU is, how it is doing, and how long something takes on it."""

from __future__ import annotations

import platform
import statistics
import subprocess
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

STATE = ("clocks.sm", "clocks.mem", "power.draw", "temperature.gpu", "clocks_event_reasons.active")
PACKAGES = ("torch", "triton", "cuda-tile", "nvidia-cuda-tileiras", "numpy")
WARM_UP = 2  # calls, after the first two
LONG = 1000.0  # milliseconds: what takes longer is warm after one call and is not run often


def present() -> bool:
    """Return whether there is a GPU that torch can use."""
    return torch.cuda.is_available()


def arch() -> str:
    """Return sm_90 and the like."""
    major, minor = torch.cuda.get_device_capability(0)
    return f"sm_{major}{minor}"


def installed(package: str) -> str | None:
    """Return the version of a package, None if it is not there."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def ask(fields: tuple[str, ...]) -> dict[str, str]:
    """Return what nvidia-smi says about the first GPU, nothing where it does not answer."""
    command = ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader", "--id=0"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return {}
    return dict(zip(fields, (value.strip() for value in done.stdout.split(",")), strict=False))


def machine() -> dict[str, Any]:
    """Return what a result needs to be understood later."""
    found: dict[str, Any] = {
        "python": platform.python_version(),
        "machine": platform.machine(),
        **{package: installed(package) for package in PACKAGES},
        "gpu": None,
    }
    if present():
        properties = torch.cuda.get_device_properties(0)
        found |= {
            "gpu": properties.name,
            "arch": arch(),
            "multiprocessors": properties.multi_processor_count,
            "memory_bytes": properties.total_memory,
            "cuda": torch.version.cuda,
            **ask(("driver_version", "power.limit", "clocks.max.sm")),
        }
    return found


def captured(work: Callable[[], object]) -> torch.cuda.CUDAGraph:
    """Return a CUDA graph of one call, so that the time to start its kernels does not count."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return graph


def once(work: Callable[[], object]) -> float:
    """Return the milliseconds of one call."""
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    begin.record()
    work()
    end.record()
    end.synchronize()
    return float(begin.elapsed_time(end))


def milliseconds(work: Callable[[], object], *, repeats: int) -> dict[str, Any]:
    """Return how long one call takes on the GPU: all runs and their median, after a warm-up, as a CUDA graph."""
    work()
    if once(work) > LONG:
        runs = [once(work)]
    else:
        for _ in range(WARM_UP):
            work()
        torch.cuda.synchronize()
        graph = captured(work)
        graph.replay()
        runs = [once(graph.replay) for _ in range(repeats)]
    return {"milliseconds": statistics.median(runs), "runs": runs, **ask(STATE)}


def median(work: Callable[[], object]) -> float:
    """Return how many milliseconds one call takes, from few runs: to tell fast from slow."""
    return float(milliseconds(work, repeats=3)["milliseconds"])

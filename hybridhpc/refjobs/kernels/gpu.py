"""What a GPU is, how it is doing, and how long something takes on it."""

from __future__ import annotations

import platform
import statistics
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from . import driver

STATE = ("clocks.sm", "clocks.mem", "power.draw", "temperature.gpu", "clocks_event_reasons.active")
PACKAGES = ("torch", "triton", "cuda-tile", "nvidia-cuda-tileiras", "numpy")
WARM_UP = 2  # calls, after the first two
LONG = 1000.0  # milliseconds: what takes longer is warm after one call and is not run often
FLUSHED = 1 << 28  # bytes written before each run; or twice the L2, where that is more


def present() -> bool:
    """Return whether there is a GPU that torch can use."""
    return torch.cuda.is_available()


def arch() -> str:
    """Return sm_90 and the like."""
    major, minor = torch.cuda.get_device_capability(0)
    return f"sm_{major}{minor}"


def free_bytes(device: torch.device) -> int:
    """Return how much memory of a GPU new tensors can take: what the driver has, and what torch keeps for them."""
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(torch.cuda.mem_get_info(device)[0]) + kept


def installed(package: str) -> str | None:
    """Return the version of a package, None if it is not there."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def ask(fields: tuple[str, ...], uuid: str) -> dict[str, str]:
    """Return what nvidia-smi says about a GPU, nothing where it does not answer.

    It numbers GPUs otherwise than CUDA does, so the one is found by its UUID; where there is but one, that is it.
    """
    command = ["nvidia-smi", f"--query-gpu=uuid,{','.join(fields)}", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return {}
    lines = [[value.strip() for value in line.split(",")] for line in done.stdout.splitlines()]
    ours = [line for line in lines if line[0] == f"GPU-{uuid}"] or lines
    return dict(zip(fields, ours[0][1:], strict=False)) if len(ours) == 1 else {}


def uuid() -> str:
    """Return the UUID of the GPU in use."""
    return str(getattr(torch.cuda.get_device_properties(0), "uuid", ""))


def machine() -> dict[str, Any]:
    """Return what a result needs to be understood later."""
    found: dict[str, Any] = {
        "python": platform.python_version(),
        "machine": platform.machine(),
        **{package: installed(package) for package in PACKAGES},
        "tileiras": driver.tileiras(),
        "gpu": None,
    }
    if present():
        properties = torch.cuda.get_device_properties(0)
        found |= {
            "gpu": properties.name,
            "arch": arch(),
            "multiprocessors": properties.multi_processor_count,
            "memory_bytes": properties.total_memory,
            "l2_bytes": properties.L2_cache_size,
            "cuda": torch.version.cuda,
            **driver.libraries(),
            **ask(("driver_version", "power.limit", "clocks.max.sm"), uuid()),
        }
    return found


def captured(work: Callable[[], object]) -> Callable[[], object] | None:
    """Return a CUDA graph of one call, so that the time to start its kernels does not count; None if there can be none.

    What a language does when it starts a kernel may be forbidden in a graph: then it is timed without.
    """
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            work()
    except Exception as failure:
        print(f"no CUDA graph: {type(failure).__name__}: {failure}", file=sys.stderr, flush=True)
        torch.cuda.synchronize()
        return None
    return graph.replay


def once(work: Callable[[], object], flush: Callable[[], object] = lambda: None) -> float:
    """Return the milliseconds of one call, after something else took its place in the L2."""
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    flush()
    begin.record()
    work()
    end.record()
    end.synchronize()
    return float(begin.elapsed_time(end))


def flusher(*, wait: bool) -> Callable[[], object]:
    """Return what fills the L2 with other data: on small matrices, a GPU that finds them there is too fast.

    Without `wait`, the GPU is still at it while the host starts what comes next; a caller's own time counts with it.
    """
    size = max(FLUSHED, 2 * torch.cuda.get_device_properties(0).L2_cache_size)
    other = torch.empty(size, dtype=torch.int8, device="cuda")

    def flush() -> None:
        other.zero_()
        if wait:
            torch.cuda.synchronize()

    return flush


def repeated(run: Callable[[], float], *, least: int, state: Future[dict[str, str]] | None) -> list[float]:
    """Run at least so often, and on until what the GPU does meanwhile has been asked."""
    runs: list[float] = []
    while len(runs) < least or (state is not None and not state.done()):
        runs.append(run())
    return runs


def milliseconds(work: Callable[[], object], *, repeats: int, graph: bool = True, watch: bool = True) -> dict[str, Any]:
    """Return how long one call takes on the GPU: the median of many, after a warm-up, each with a cold L2.

    graph: as a CUDA graph; without, all that a caller waits for counts. watch: also ask for clocks, power and
    temperature while it runs.
    """
    work()
    flush = flusher(wait=not graph)
    long = once(work) > LONG
    for _ in range(0 if long else WARM_UP):
        work()
    torch.cuda.synchronize()
    replay = captured(work) if graph and not long else None
    call = replay or work
    if replay:
        replay()
    with ThreadPoolExecutor(1) as aside:
        state = aside.submit(ask, STATE, uuid()) if watch else None
        runs = repeated(lambda: once(call, flush), least=1 if long else repeats, state=state)
    found = {"milliseconds": statistics.median(runs), "runs": len(runs), "fastest": min(runs), "slowest": max(runs)}
    return found | {"graph": replay is not None} | (state.result() if state else {})


def median(work: Callable[[], object]) -> float:
    """Return how many milliseconds one call takes, from few runs: to tell fast from slow."""
    return float(milliseconds(work, repeats=3, watch=False)["milliseconds"])

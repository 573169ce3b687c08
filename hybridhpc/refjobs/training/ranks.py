"""The processes that train together: how they meet, agree, fail together, and hear that they are to stop."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist

STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
# What torchrun would have set, for a run without it.
ALONE = dict(RANK="0", WORLD_SIZE="1", LOCAL_RANK="0", LOCAL_WORLD_SIZE="1", MASTER_ADDR="127.0.0.1", MASTER_PORT="0")

Answer = TypeVar("Answer")


class TrainingError(Exception):
    """Something the person can put right. All ranks raise it together; rank 0 prints its text and nothing else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where this process stands among the ranks, and what it computes on."""

    rank: int
    world: int
    device: torch.device
    backend: str

    def say(self, text: str) -> None:
        """Print a line of progress, once for all ranks and without delay."""
        if self.rank == 0:
            print(text, flush=True)


def listen_for_stop() -> Callable[[], bool]:
    """Return a question: did a signal ask to stop, or did torchrun die? The next run must not find this one writing."""
    received: list[int] = []
    for number in STOP_SIGNALS:
        signal.signal(number, lambda number, _frame: received.append(number))
    parent, launched = os.getppid(), "RANK" in os.environ
    return lambda: bool(received) or (launched and os.getppid() != parent)


def join_ranks() -> Place:
    """Meet the other ranks and take a GPU, if need be a shared one, or some of the cores."""
    os.environ.update({} if "RANK" in os.environ else ALONE)
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    rank, world, local_rank, local_world = (int(os.environ[name]) for name in names)
    gpus = torch.cuda.device_count()
    device = torch.device("cuda", local_rank % gpus) if gpus else torch.device("cpu")
    if gpus:
        torch.cuda.set_device(device)
    torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // local_world))
    backend = "nccl" if gpus >= local_world else "gloo"
    dist.init_process_group(backend)
    return Place(rank=rank, world=world, device=device, backend=backend)


def on_rank_0(work: Callable[[], Answer], place: Place) -> Answer:
    """Have rank 0 do something with files and give its answer to all ranks, or raise its failure on all of them."""
    answer: list[Any] = [None, None]
    if place.rank == 0:
        try:
            answer = [work(), None]
        except OSError as error:
            answer = [None, str(error)]
    dist.broadcast_object_list(answer)
    if answer[1]:
        raise TrainingError(answer[1])
    result: Answer = answer[0]
    return result

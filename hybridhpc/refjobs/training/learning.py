"""The network, its data, and one step of learning: seed, step and rank decide what is drawn at random."""

from __future__ import annotations

import math
import os
import zlib
from dataclasses import dataclass, field

import torch
import torch.distributed as dist
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

from .options import Options
from .ranks import Place

Images = tuple[Tensor, Tensor]  # pixels from 0 to 1 (count, 1, 8, 8), and which digit each image is (count)
Data = tuple[Images, Images]  # to learn from, held out


@dataclass(slots=True, kw_only=True)
class Training:
    """All that changes from step to step, and therefore what a checkpoint holds."""

    model: DistributedDataParallel
    optimizer: torch.optim.Optimizer
    losses: list[float] = field(default_factory=list)  # of every step since the very beginning, mean over the ranks
    epochs: list[dict[str, float]] = field(default_factory=list)  # those that are finished

    @property
    def step(self) -> int:
        """Return the number of steps done."""
        return len(self.losses)

    def end_epoch(self, steps: int, val_accuracy: float) -> None:
        """Note the epoch that the last `steps` steps were."""
        epoch, loss = len(self.epochs) + 1, math.fsum(self.losses[-steps:]) / steps
        self.epochs.append({"epoch": epoch, "step": self.step, "loss": loss, "val_accuracy": val_accuracy})


def read_images(device: torch.device) -> Data:
    """Return the images to learn from and those held out: the same split in every run, whatever the seed."""
    data = load_digits()
    split = train_test_split(data.images, data.target, test_size=0.2, stratify=data.target, random_state=0)
    pixels, held_pixels, digits, held_digits = (torch.as_tensor(part, device=device) for part in split)
    return (pixels[:, None].float() / 16, digits), (held_pixels[:, None].float() / 16, held_digits)


def fixed_seed(*parts: object) -> int:
    """Return a seed that these parts alone decide: random numbers drawn from it can be drawn again after a resume."""
    return zlib.crc32(repr(parts).encode())


def start_training(options: Options, place: Place) -> Training:
    """Build the network, alike on all ranks, and have every sum done in the same order each time."""
    # cuBLAS heeds this only if it is set before its first use.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.manual_seed(fixed_seed("weights", options.seed))
    network = nn.Sequential(
        *(nn.Conv2d(1, 32, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(32, 64, 3, padding=1, stride=2), nn.ReLU()),
        *(nn.Conv2d(64, 128, 3, padding=1, stride=2), nn.ReLU()),
        *(nn.Flatten(), nn.Dropout(0.3), nn.Linear(128 * 2 * 2, 10)),
    )
    model = DistributedDataParallel(network.to(place.device))
    # DDP regroups the gradients after its first pass, so that three ranks or more then add them in another order. Let
    # it do so before the first step, lest the first step after a resume differ in its last bits.
    torch.autograd.backward(model(torch.zeros(1, 1, 8, 8, device=place.device)).sum())
    return Training(model=model, optimizer=torch.optim.AdamW(model.parameters(), lr=options.lr))


def batch(images: Images, step: int, options: Options, place: Place) -> Images:
    """Return the images that this rank sees in a step. Seed and step alone decide, so the order needs no saving."""
    pixels, digits = images
    epoch, position = divmod(step, len(digits) // options.batch_size)
    shuffle = torch.Generator().manual_seed(fixed_seed("order", options.seed, epoch))
    start = position * options.batch_size
    whole = torch.randperm(len(digits), generator=shuffle)[start : start + options.batch_size]
    mine = whole[place.rank :: place.world].to(place.device)
    return pixels[mine], digits[mine]


def learn(training: Training, images: Images, seed: int) -> Tensor:
    """Do one step, the dropout drawn from the seed, and return its loss on this rank."""
    pixels, digits = images
    torch.manual_seed(seed)
    training.model.module.train()
    loss: Tensor = cross_entropy(training.model(pixels), digits)
    training.optimizer.zero_grad()
    torch.autograd.backward(loss)
    training.optimizer.step()
    return loss.detach()


def agree(loss: Tensor, stop: bool, place: Place) -> tuple[float, bool]:
    """Return the mean loss, and whether any rank is to stop: a signal need not reach all ranks in the same step."""
    both = torch.stack([loss, torch.full_like(loss, float(stop))])
    dist.all_reduce(both)
    total, votes = both.tolist()
    return total / place.world, votes > 0


def accuracy(training: Training, held_out: Images) -> float:
    """Return the share of held-out images that are read correctly. They are few: every rank looks at all of them."""
    pixels, digits = held_out
    training.model.module.eval()
    with torch.no_grad():
        return float((training.model.module(pixels).argmax(dim=1) == digits).float().mean())

"""The command line of the training job."""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The command line."""

    out: Path
    checkpoint_dir: Path
    epochs: int
    batch_size: int
    lr: float
    target_accuracy: float
    checkpoint_every: int
    seed: int
    step_delay: float

    def settings(self) -> dict[str, float]:
        """Return what a checkpoint is bound to: with other values its step number would mean something else."""
        return {"batch_size": self.batch_size, "lr": self.lr, "seed": self.seed}


def parse_options() -> Options:
    """Read the command line; a wrong one ends the process with exit code 2."""
    described = "A small network learns to read handwritten digits, on every rank that torchrun started."
    parser = argparse.ArgumentParser(
        description=described, formatter_class=argparse.ArgumentDefaultsHelpFormatter, allow_abbrev=False
    )
    option = parser.add_argument
    option("--out", type=Path, default=Path(), help="folder for metrics.json and loss.png")
    option("--checkpoint-dir", type=Path, default=Path("ckpt"), help="folder of the checkpoints, to go on from too")
    option("--epochs", type=int, default=12, help="how often every image is seen")
    option("--batch-size", type=int, default=32, help="images per step, all ranks together")
    option("--lr", type=float, default=2e-3, help="learning rate")
    option("--target-accuracy", type=float, default=0.9, help="held-out accuracy below which the job fails")
    option("--checkpoint-every", type=int, default=20, help="steps between two checkpoints")
    option("--seed", type=int, default=0, help="decides the first weights, the order and the dropout")
    option(
        "--step-delay", type=float, default=0.0, help="seconds to wait after each step, for tests and demonstrations"
    )
    options = Options(**vars(parser.parse_args()))
    if min(options.epochs, options.batch_size, options.checkpoint_every) < 1:
        parser.error("--epochs, --batch-size and --checkpoint-every must be 1 or more")
    if not (0 < options.lr < math.inf and 0 <= options.target_accuracy <= 1 and 0 <= options.step_delay <= 60):
        parser.error("--lr must be above 0, --target-accuracy from 0 to 1, --step-delay from 0 to 60")
    return options

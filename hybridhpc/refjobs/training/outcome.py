"""What a run leaves for people: metrics.json, loss.png, an exit code and a line."""

from __future__ import annotations

import io
import json
from pathlib import Path

import torch
from matplotlib.figure import Figure

from .checkpoints import write_atomically
from .learning import Training
from .options import Options
from .ranks import Place

REACHED, MISSED, STOPPED = 0, 3, 75


def write_plot(training: Training, path: Path, resumed_from: int) -> None:
    """Draw the loss of every step and the held-out accuracy of every epoch. Raises OSError."""
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    left = figure.add_subplot(xlabel="step", ylabel="loss", title="Reading handwritten digits")
    left.plot(range(1, training.step + 1), training.losses, linewidth=0.8, label="loss")
    if resumed_from:
        left.axvline(resumed_from, color="gray", linestyle="--", label=f"resumed from step {resumed_from}")
    right = left.twinx()
    right.set(ylabel="held-out accuracy", ylim=(0, 1.02))
    ends, accuracies = [[epoch[key] for epoch in training.epochs] for key in ("step", "val_accuracy")]
    right.plot(ends, accuracies, "o-", color="tab:orange", markersize=3, label="held-out accuracy")
    figure.legend(loc="outside lower center", ncols=3)
    picture = io.BytesIO()
    figure.savefig(picture)
    write_atomically(path, picture.getvalue())


def write_metrics(training: Training, options: Options, place: Place, outcome: dict[str, object]) -> None:
    """Write metrics.json: how the run ended, what it ran on, and all losses since step 0. Raises OSError."""
    metrics = outcome | {
        "val_accuracy": training.epochs[-1]["val_accuracy"] if training.epochs else None,
        "target_accuracy": options.target_accuracy,
        "steps": training.step,
        "world_size": place.world,
        "device": torch.cuda.get_device_name(place.device) if place.device.type == "cuda" else "cpu",
        "backend": place.backend,
        "torch_version": str(torch.__version__),
        "settings": options.settings(),
        "epochs": training.epochs,
        "losses": training.losses,
    }
    write_atomically(options.out / "metrics.json", (json.dumps(metrics, indent=2) + "\n").encode())


def conclude(training: Training, options: Options, finished: bool) -> tuple[int, str, str]:
    """Return how the run ended: exit code, the word for it in metrics.json, and the line for the person."""
    if not finished:
        line = f"asked to stop: checkpoint of step {training.step} written, run the same command to go on"
        return STOPPED, "stopped", line
    reached, target = training.epochs[-1]["val_accuracy"], options.target_accuracy
    if reached < target:
        return MISSED, "missed", f"held-out accuracy {reached:.4f} is below the target of {target}: try more --epochs"
    return REACHED, "reached", f"held-out accuracy {reached:.4f} reaches the target of {target}"

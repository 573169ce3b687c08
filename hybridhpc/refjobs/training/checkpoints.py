"""Checkpoints that are never half written, and an exact resume from the newest that can be read."""

from __future__ import annotations

import io
import os
import zlib
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from .learning import Training
from .options import Options
from .ranks import Place, TrainingError, on_rank_0

CHECKPOINTS_KEPT = 2
# An OSError is none of these: it speaks of the disk or of permissions, and ends the job.
UNREADABLE = (ValueError, UnpicklingError, RuntimeError)


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file that appears under its name complete and on disk, or not at all."""
    unfinished = path.with_name("unfinished.tmp")
    with unfinished.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)


def checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints in a folder, newest first."""
    return sorted(folder.glob("step-*.pt"), reverse=True)


def write_checkpoint(training: Training, options: Options) -> None:
    """Write a checkpoint and remove the oldest. Raises OSError."""
    content = {
        "settings": options.settings(),
        "model": training.model.module.state_dict(),
        "optimizer": training.optimizer.state_dict(),
        "losses": training.losses,
        "epochs": training.epochs,
    }
    buffer = io.BytesIO()
    torch.save(content, buffer)
    # The name carries the checksum: torch.load by itself notices little of what a disk can do to a file.
    name = f"step-{training.step:09d}-{zlib.crc32(buffer.getvalue()):08x}.pt"
    write_atomically(options.checkpoint_dir / name, buffer.getvalue())
    for old in checkpoints(options.checkpoint_dir)[CHECKPOINTS_KEPT:]:
        old.unlink()


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Return what a checkpoint holds. Raises one of UNREADABLE when it is damaged or not ours, or OSError."""
    whole = path.read_bytes()
    if f"{zlib.crc32(whole):08x}" != path.stem.rpartition("-")[2]:
        raise ValueError("its content does not match the checksum in its name")
    content: dict[str, Any] = torch.load(io.BytesIO(whole), map_location="cpu", weights_only=True)
    if set(content) != {"settings", "model", "optimizer", "losses", "epochs"}:
        raise ValueError("it was not written by this job")
    return content


def newest_checkpoint(folder: Path) -> dict[str, Any] | None:
    """Return the newest checkpoint that can be read. Damaged ones are set aside, so that they do not count as kept."""
    for path in checkpoints(folder):
        try:
            return read_checkpoint(path)
        except UNREADABLE as error:
            aside = path.replace(path.with_suffix(".damaged"))
            print(f"{path} is damaged ({error}): set aside as {aside.name}, trying the one before", flush=True)
    return None


def resume(training: Training, options: Options, place: Place) -> int:
    """Go on where the newest readable checkpoint stands and return its step, 0 when there is none."""
    # Rank 0 reads for all: the others may not see its disk, or see it a moment later.
    content = on_rank_0(lambda: newest_checkpoint(options.checkpoint_dir), place)
    if content is None:
        place.say(f"no checkpoint in {options.checkpoint_dir}: starting at step 0")
        return 0
    if content["settings"] != options.settings():
        raise TrainingError(
            f"the checkpoint in {options.checkpoint_dir} was made with {content['settings']} and this run has "
            f"{options.settings()}: give the same values, or another --checkpoint-dir"
        )
    training.model.module.load_state_dict(content["model"])
    training.optimizer.load_state_dict(content["optimizer"])
    training.losses, training.epochs = content["losses"], content["epochs"]
    place.say(f"resumed from the checkpoint of step {training.step}")
    return training.step

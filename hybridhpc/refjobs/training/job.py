"""The training job from its command line to its exit code."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable

import torch
import torch.distributed as dist

from .checkpoints import resume, write_checkpoint
from .learning import Data, Training, accuracy, agree, batch, fixed_seed, learn, read_images, start_training
from .options import Options, parse_options
from .outcome import conclude, write_metrics, write_plot
from .ranks import Place, TrainingError, join_ranks, listen_for_stop, on_rank_0

FAILED = 1
STEPS_PER_LINE = 10


def train(training: Training, data: Data, options: Options, place: Place, stop: Callable[[], bool]) -> bool:
    """Train to the end of the last epoch and return True, or False if asked to stop before; leaves a checkpoint."""
    learn_from, held_out = data
    per_epoch = len(learn_from[1]) // options.batch_size
    last, stopping = options.epochs * per_epoch, False
    while training.step < last and not stopping:
        images = batch(learn_from, training.step, options, place)
        loss = learn(training, images, fixed_seed("dropout", options.seed, training.step, place.rank))
        mean, stopping = agree(loss, stop(), place)
        if not math.isfinite(mean):
            raise TrainingError(f"the loss became {mean} in step {training.step + 1}: try --lr below {options.lr}")
        training.losses.append(mean)
        if training.step % per_epoch == 0:
            training.end_epoch(per_epoch, accuracy(training, held_out))
        report(training, per_epoch, last, place)
        if stopping or training.step == last or training.step % options.checkpoint_every == 0:
            on_rank_0(lambda: write_checkpoint(training, options), place)
        time.sleep(options.step_delay)
    return training.step >= last


def report(training: Training, per_epoch: int, last: int, place: Place) -> None:
    """Say how far the training is: every few steps, and at the end of an epoch with the accuracy."""
    step, mid_epoch = training.step, training.step % per_epoch
    if mid_epoch and step % STEPS_PER_LINE:
        return
    where = f"epoch {math.ceil(step / per_epoch):2d}/{last // per_epoch}  step {step:4d}/{last}"
    held_out = "" if mid_epoch else f"  held-out accuracy {training.epochs[-1]['val_accuracy']:.4f}"
    place.say(f"{where}  loss {training.losses[-1]:.4f}{held_out}")


def run(options: Options, stop: Callable[[], bool]) -> int:
    """Do the whole job and return its exit code. Raises TrainingError or OSError."""
    started = time.monotonic()
    for folder in (options.out, options.checkpoint_dir):
        folder.mkdir(parents=True, exist_ok=True)
    place = join_ranks()
    data = read_images(place.device)
    learn_from, held_out = (len(digits) for _, digits in data)
    if options.batch_size % place.world or options.batch_size > learn_from:
        raise TrainingError(f"--batch-size must be a multiple of the {place.world} ranks and at most {learn_from}")
    place.say(
        f"{learn_from} images to learn from, {held_out} held out; ranks: {place.world}, on {place.device.type} over "
        f"{place.backend}, threads of each: {torch.get_num_threads()}; torch {torch.__version__}"
    )
    training = start_training(options, place)
    resumed_from = resume(training, options, place)
    finished = train(training, data, options, place, stop)
    code, state, line = conclude(training, options, finished)
    seconds = round(time.monotonic() - started, 2)
    outcome: dict[str, object] = {"state": state, "resumed_from_step": resumed_from, "seconds": seconds}
    on_rank_0(lambda: write_metrics(training, options, place, outcome), place)
    on_rank_0(lambda: write_plot(training, options.out / "loss.png", resumed_from), place)
    place.say(f"{line} (see {options.out / 'metrics.json'} and {options.out / 'loss.png'})")
    dist.destroy_process_group()
    return code


def main() -> int:
    """Run the job by itself or as one rank of torchrun; faults that a person can put right are one line of text."""
    stop = listen_for_stop()
    try:
        return run(parse_options(), stop)
    except (TrainingError, OSError) as error:
        if isinstance(error, OSError) or os.environ["RANK"] == "0":
            print(f"train.py: {error}", file=sys.stderr, flush=True)
        return FAILED


def leave(code: int) -> None:
    """End the process at once. All is on disk by now, and gloo's threads can abort an ordinary exit (torch 2.13)."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)

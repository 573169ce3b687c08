"""The reference training job: a small network learns to read handwritten digits, on every rank that torchrun started.

It shows what a job must do to survive an interruption: checkpoints that are never half written, an exact resume in
mid-epoch, a clean stop when a signal asks for it. Exit codes of a rank: 0 target reached, 1 failed, 2 wrong command
line, 3 target missed, 75 stopped after a checkpoint because a signal asked (the same command goes on from there).
"""

from __future__ import annotations

import argparse
import io
import json
import math
import os
import signal
import sys
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, TypeVar

try:
    import torch
    import torch.distributed as dist
    from matplotlib.figure import Figure
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split
    from torch import Tensor, nn
    from torch.nn.functional import cross_entropy
    from torch.nn.parallel import DistributedDataParallel
except ImportError as missing:
    sys.exit(f"train.py: {missing}; what it needs: pip install torch==2.13.0 numpy scikit-learn matplotlib")

REACHED, FAILED, MISSED, STOPPED = 0, 1, 3, 75
STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
# What torchrun would have set, for a run without it.
ALONE = dict(RANK="0", WORLD_SIZE="1", LOCAL_RANK="0", LOCAL_WORLD_SIZE="1", MASTER_ADDR="127.0.0.1", MASTER_PORT="0")
CHECKPOINTS_KEPT = 2
STEPS_PER_LINE = 10
# An OSError is none of these: it speaks of the disk or of permissions, and ends the job.
UNREADABLE = (ValueError, UnpicklingError, RuntimeError)

Answer = TypeVar("Answer")
Images = tuple[Tensor, Tensor]  # pixels from 0 to 1 (count, 1, 8, 8), and which digit each image is (count)
Data = tuple[Images, Images]  # to learn from, held out


class TrainingError(Exception):
    """Something the person can put right. All ranks raise it together; rank 0 prints its text and nothing else."""


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


def parse_options() -> Options:
    """Read the command line; a wrong one ends the process with exit code 2."""
    described = (__doc__ or "").split("\n")[0]
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


if __name__ == "__main__":
    leave(main())

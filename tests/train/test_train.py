"""The reference training job, run as its spec says: real torchrun, real kills. Slow parts share one whole run."""

from __future__ import annotations

import json
import os
import pickle
import shlex
import shutil
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

torch = pytest.importorskip("torch", reason="torch is missing: pip install 'hybridhpc[train]'")
pytest.importorskip("sklearn", reason="scikit-learn is missing: pip install 'hybridhpc[train]'")
pytest.importorskip("matplotlib", reason="matplotlib is missing: pip install 'hybridhpc[train]'")

from hybridhpc.refjobs import train  # noqa: E402
from hybridhpc.refjobs.training import checkpoints, learning, ranks  # noqa: E402
from hybridhpc.refjobs.training.options import Options, parse_options  # noqa: E402

pytestmark = pytest.mark.train

SPEC_FILE = Path(__file__).parents[2] / "configs" / "jobs" / "train.yaml"
SPEC = yaml.safe_load(SPEC_FILE.read_text())
SHORT = ("--epochs", "4")
STEPS_PER_EPOCH = 1437 // 32
SLOW = (*SHORT, "--step-delay", "0.05")


class Run:
    """One run of the job in its own copy of the workdir; `args` are added to those of the spec."""

    def __init__(self, folder: Path, *args: str) -> None:
        shutil.copytree(SPEC_FILE.parent / SPEC["workdir"], folder, dirs_exist_ok=True)
        torchrun = ("-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={SPEC['tasks_per_node']}")
        payload = shlex.split(SPEC["run"].removeprefix("python "))
        self.folder, self.log = folder, folder / "log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, *torchrun, *payload, *args],
                cwd=folder,
                # What the rendered job script does otherwise: torchrun itself is to survive SIGUSR1.
                env=os.environ | SPEC["env"] | {"PET_SIGNALS_TO_HANDLE": "SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1"},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait(self) -> int:
        return self.process.wait(timeout=120)

    def ranks(self) -> list[int]:
        return [
            int(pid) for pid in Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        ]

    def await_step(self, step: int) -> None:
        """Wait for the checkpoint of a step: all ranks are then in the middle of their training."""
        until(lambda: steps_kept(self.folder)[:1] >= [step], self)

    def metrics(self) -> dict[str, Any]:
        return json.loads((self.folder / "metrics.json").read_text())

    def kill_all(self) -> None:
        for pid in (self.process.pid, *self.ranks()):
            os.kill(pid, signal.SIGKILL)
        self.process.wait()


def until(condition: Callable[[], bool], run: Run, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, run.log.read_text()
        time.sleep(0.02)


def steps_kept(folder: Path) -> list[int]:
    return [int(path.name.split("-")[1]) for path in checkpoints.checkpoints(folder / "ckpt")]


def newest(folder: Path) -> dict[str, Any]:
    return checkpoints.read_checkpoint(checkpoints.checkpoints(folder / "ckpt")[0])


def same(left: object, right: object) -> bool:
    """Whether two checkpoints hold the same values, tensors bit for bit."""
    if isinstance(left, torch.Tensor):
        return torch.equal(left, right)
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list):
        return len(left) == len(right) and all(map(same, left, right))
    return left == right


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = Run(tmp_path_factory.mktemp("uninterrupted"), *SHORT)
    assert run.wait() == 0, run.log.read_text()
    return run


@pytest.fixture
def slow_run(tmp_path: Path) -> Iterator[Run]:
    run = Run(tmp_path, *SLOW)
    yield run
    if run.process.poll() is None:
        run.kill_all()


@pytest.fixture
def kept(uninterrupted: Run, tmp_path: Path) -> Path:
    """A copy of the two checkpoints that the uninterrupted run left."""
    return shutil.copytree(uninterrupted.folder / "ckpt", tmp_path / "ckpt")


def test_the_job_learns_and_leaves_every_output_that_its_spec_names(uninterrupted: Run) -> None:
    metrics = uninterrupted.metrics()
    assert all((uninterrupted.folder / output).exists() for output in SPEC["outputs"])
    assert (uninterrupted.folder / "loss.png").read_bytes().startswith(b"\x89PNG\r\n")
    assert metrics["state"] == "reached"
    assert metrics["val_accuracy"] >= 0.9
    assert metrics["world_size"] == SPEC["tasks_per_node"]
    assert metrics["steps"] == len(metrics["losses"]) == 4 * STEPS_PER_EPOCH
    assert metrics["resumed_from_step"] == 0
    assert metrics["epochs"][-1]["loss"] < metrics["epochs"][0]["loss"] / 5


def test_the_log_tells_how_far_the_job_is(uninterrupted: Run) -> None:
    log = uninterrupted.log.read_text()
    assert "epoch  1/4  step   10/176  loss " in log
    assert log.count("held-out accuracy 0.") == 4 + 1
    assert "reaches the target of 0.9" in log


def test_two_checkpoints_are_kept(uninterrupted: Run) -> None:
    assert steps_kept(uninterrupted.folder) == [176, 160]


def test_a_run_killed_in_mid_epoch_ends_with_the_very_weights_of_an_uninterrupted_one(
    slow_run: Run, uninterrupted: Run
) -> None:
    slow_run.await_step(60)
    slow_run.kill_all()
    stood_at = steps_kept(slow_run.folder)[0]
    assert stood_at % STEPS_PER_EPOCH

    resumed = Run(slow_run.folder, *SHORT)

    assert resumed.wait() == 0, resumed.log.read_text()
    assert resumed.metrics()["resumed_from_step"] == stood_at
    assert f"resumed from the checkpoint of step {stood_at}" in resumed.log.read_text()
    assert same(newest(resumed.folder), newest(uninterrupted.folder))


def test_a_signal_to_torchrun_stops_all_ranks_after_a_checkpoint(slow_run: Run) -> None:
    slow_run.await_step(20)
    os.kill(slow_run.process.pid, signal.SIGUSR1)

    slow_run.wait()

    metrics = slow_run.metrics()
    assert metrics["state"] == "stopped"
    assert 20 < metrics["steps"] < 176
    assert steps_kept(slow_run.folder)[0] == metrics["steps"]
    assert "run the same command to go on" in slow_run.log.read_text()


def test_a_signal_to_one_rank_stops_the_others_at_the_same_step_and_exits_75(slow_run: Run) -> None:
    slow_run.await_step(20)
    os.kill(slow_run.ranks()[1], signal.SIGTERM)

    assert slow_run.wait() != 0

    assert "exitcode  : 75" in slow_run.log.read_text()
    assert steps_kept(slow_run.folder)[0] == slow_run.metrics()["steps"]


def test_ranks_whose_torchrun_was_killed_write_a_checkpoint_and_end(slow_run: Run) -> None:
    slow_run.await_step(20)
    ranks = slow_run.ranks()
    slow_run.process.kill()
    slow_run.process.wait()

    until(lambda: (slow_run.folder / "metrics.json").exists(), slow_run)
    assert slow_run.metrics()["state"] == "stopped"
    until(lambda: not any(alive(pid) for pid in ranks), slow_run)


def alive(pid: int) -> bool:
    """Whether a process still runs; one that nobody has waited for yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture
def main_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., int]]:
    """Run the job in this process, as a rank without siblings, and put everything it changes back."""
    before = {number: signal.getsignal(number) for number in ranks.STOP_SIGNALS}
    threads = torch.get_num_threads()
    for name, value in ranks.ALONE.items():
        monkeypatch.setenv(name, value)

    def main_in(folder: Path, *args: str) -> int:
        folders = ("--out", str(folder), "--checkpoint-dir", str(folder / "ckpt"))
        monkeypatch.setattr(sys, "argv", ["train.py", *folders, *SHORT, *args])
        return train.main()

    yield main_in
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(threads)
    for number, taken in before.items():
        signal.signal(number, taken)


def test_a_missed_target_is_one_clear_line_and_exit_code_3(
    main_in: Callable[..., int], kept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main_in(kept.parent, "--target-accuracy", "1") == 3
    assert "is below the target of 1.0" in capsys.readouterr().out.splitlines()[-1]
    assert json.loads((kept.parent / "metrics.json").read_text())["state"] == "missed"


def test_a_finished_run_that_is_repeated_trains_no_more(main_in: Callable[..., int], kept: Path) -> None:
    assert main_in(kept.parent) == 0
    assert json.loads((kept.parent / "metrics.json").read_text())["resumed_from_step"] == 176


@pytest.mark.parametrize("other", [("--lr", "0.5"), ("--batch-size", "64"), ("--seed", "7")])
def test_a_checkpoint_made_with_other_settings_is_refused_in_one_line(
    main_in: Callable[..., int], kept: Path, capsys: pytest.CaptureFixture[str], other: tuple[str, str]
) -> None:
    assert main_in(kept.parent, *other) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "'lr': 0.002" in line and "another --checkpoint-dir" in line


def test_a_loss_that_is_no_number_ends_the_run_in_one_line(
    main_in: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main_in(tmp_path, "--lr", "1e30") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "try --lr below 1e+30" in line


def test_a_checkpoint_folder_that_cannot_be_written_ends_the_run_in_one_line(
    main_in: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ckpt" / "unfinished.tmp").mkdir(parents=True)
    assert main_in(tmp_path, "--checkpoint-every", "1") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "unfinished.tmp" in line


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip_one_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [truncate, flip_one_bit, empty])
def test_a_damaged_checkpoint_is_named_set_aside_and_the_one_before_taken(
    damage: Callable[[Path], None], kept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    last = checkpoints.checkpoints(kept)[0]
    damage(last)

    found = checkpoints.newest_checkpoint(kept)

    assert found is not None and len(found["losses"]) == 160
    assert f"{last} is damaged" in capsys.readouterr().out
    assert last.with_suffix(".damaged").exists() and not last.exists()


def test_without_any_readable_checkpoint_the_run_starts_anew(kept: Path) -> None:
    for path in checkpoints.checkpoints(kept):
        truncate(path)
    assert checkpoints.newest_checkpoint(kept) is None


def test_a_checkpoint_cannot_bring_code_along(tmp_path: Path) -> None:
    content = pickle.dumps(print, protocol=2)
    path = tmp_path / f"step-000000001-{zlib.crc32(content):08x}.pt"
    path.write_bytes(content)
    assert checkpoints.newest_checkpoint(tmp_path) is None


def options(**changed: object) -> Options:
    values = {"out": Path(), "checkpoint_dir": Path(), "epochs": 1, "batch_size": 32, "lr": 1e-3, "seed": 0}
    values |= {"target_accuracy": 0.9, "checkpoint_every": 20, "step_delay": 0.0}
    return Options(**values | changed)


def seen(step: int, world: int, **changed: object) -> list[int]:
    numbers = torch.arange(1437)
    places = [ranks.Place(rank=rank, world=world, device=torch.device("cpu"), backend="gloo") for rank in range(world)]
    parts = [learning.batch((numbers, numbers), step, options(**changed), place)[1].tolist() for place in places]
    return sorted(number for part in parts for number in part)


def test_in_one_epoch_no_image_is_seen_twice() -> None:
    numbers = [number for step in range(STEPS_PER_EPOCH) for number in seen(step, world=2)]
    assert len(numbers) == len(set(numbers)) == STEPS_PER_EPOCH * 32


@pytest.mark.parametrize("step", [0, 43, 44, 100])
def test_all_ranks_together_see_the_same_images_however_many_they_are(step: int) -> None:
    assert seen(step, world=1) == seen(step, world=2) == seen(step, world=4)


def test_order_changes_with_the_epoch_and_with_the_seed() -> None:
    assert seen(0, world=1) != seen(STEPS_PER_EPOCH, world=1)
    assert seen(0, world=1) != seen(0, world=1, seed=1)


@pytest.mark.parametrize(
    "wrong", [("--epochs", "0"), ("--lr", "nan"), ("--step-delay", "-1"), ("--target-accuracy", "97")]
)
def test_a_senseless_option_is_a_usage_error(
    wrong: tuple[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py", *wrong])
    with pytest.raises(SystemExit) as ended:
        parse_options()
    assert ended.value.code == 2
    assert wrong[0] in capsys.readouterr().err.splitlines()[-1]

"""What `make bench-gpu` does around the measuring: that itself needs a GPU."""

from __future__ import annotations

import fcntl
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="torch is missing: pip install 'hybridhpc[train]'")

from hybridhpc.refjobs.kernels import bench, gpu, matmul

TIMED = {"measured": True, "clocks.sm": "1980 MHz", "power.draw": "690 W", "verdict": "right", "error": 1e-17}
GEMM = {"type": "bf16", "m": 8, "n": 8, "k": 8, "by": "cutile", "milliseconds": 1.0, "tflops": 700.0} | TIMED
MACHINE = {"gpu": "NVIDIA H200"}
ENDED = {"exit_code": 0, "stopped": False}
STEPS = {"measure": 1.0, "split": 2.0, "products": 80.0, "reconstruct": 3.0}
NATIVE = {"n": 16384, "method": "native", "by": "torch", "tflops": 60.0} | TIMED
OZAKI = {"n": 16384, "method": "ozaki2 N=15", "by": "cutile", "tflops": 90.0, "steps": STEPS} | TIMED


@pytest.mark.skipif(gpu.present(), reason="there is a GPU: this is about machines without one")
def test_without_a_gpu_nothing_is_measured_and_nothing_is_written(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", bench.__name__, "--docs", str(tmp_path / "docs")], capture_output=True, text=True
    )
    assert done.returncode == 3
    assert "nothing was measured" in done.stderr
    assert not (tmp_path / "docs").exists()


def test_the_page_has_all_figures_and_says_whose_kernels_they_are_of(tmp_path: Path) -> None:
    gemm: dict[str, Any] = {"rows": [GEMM], "command": ["python", "gemm.py", "--by", "cutile"]}
    fp64: dict[str, Any] = {"rows": [NATIVE, OZAKI], "command": ["python", "fp64.py"]}
    families = {"rows": [OZAKI | {"family": "wide 4"}], "command": ["python", "fp64.py", "--families"]}
    ran = {job: one | ENDED for job, one in (("gemm", gemm), ("fp64", fp64), ("families", families))}
    page = bench.report({"gpu": "NVIDIA H200"}, "failed: CUresult 221", "triton", ran, "nvidia-h200-20260101")
    for expected in (
        "# NVIDIA H200, 20260101",
        "CUresult 221",
        "triton's",
        "700",
        "1980 MHz",
        "690 W",
        "gemm.py --by",
        "wide 4",
    ):
        assert expected in page
    (line,) = [line for line in page.splitlines() if "ozaki2" in line and "1.5" in line]
    assert "90" in line
    assert "| 80 " in page
    bench.keep(tmp_path, tmp_path / "docs", "x", page, {"gemm": gemm})
    assert (tmp_path / "docs" / "x.md").read_text() == page


def test_the_first_kernel_decides_between_cutile_and_triton() -> None:
    refused = GEMM | {"verdict": "failed: x", "failure": "x, and all that the driver says"}
    for rows, wanted in (([GEMM], "cutile"), ([refused], "triton"), ([], "triton")):
        by, tried = bench.language({"rows": rows, "exit_code": -11})
        assert by == wanted
        assert rows != [refused] or "all that the driver says" in tried


@pytest.mark.parametrize(("ended", "wanted"), [(0, 0), (1, 1), (3, 1), (-11, 1)])
@pytest.mark.parametrize(("first", "by"), [("right", "cutile"), ("failed: CUresult 221", "triton")])
def test_what_the_driver_refused_is_not_run_again_and_a_job_that_crashed_is_no_success(
    first: str, by: str, ended: int, wanted: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, ...]] = []

    def run(job: str, out: Path, *words: str, **_: object) -> dict[str, Any]:
        asked.append((job, *words))
        if out.name == "first":
            return {"rows": [GEMM | {"verdict": first}], "machine": MACHINE} | ENDED
        return {"rows": [], "command": ["python", f"{job}.py"], "exit_code": ended, "stopped": False}

    monkeypatch.setattr(bench, "run", run)
    assert measured(tmp_path, monkeypatch) == wanted
    assert all(by in words for words in asked[1:]) and ("cutile" in asked[-1]) == (by == "cutile")
    (page,) = tmp_path.glob("*.md")
    assert first in page.read_text()
    assert (f"gemm ended with exit code {ended}" in page.read_text()) == bool(ended)


def measured(folder: Path, monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    """Run the whole bench as if there were a GPU."""
    monkeypatch.setattr(gpu, "present", lambda: True)
    monkeypatch.setattr("sys.argv", ["bench", "--out", str(folder / "out"), "--docs", str(folder), *words])
    return bench.main()


def test_the_page_is_there_after_every_job_and_time_that_is_short_is_shared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits: list[float] = []

    def run(job: str, out: Path, *words: str, seconds: float) -> dict[str, Any]:
        if out.name == "first":
            return {"rows": [GEMM], "machine": MACHINE} | ENDED
        limits.append(seconds)
        assert len(list(tmp_path.glob("*.md"))) == (len(limits) > 1)
        rows = [GEMM if job == "gemm" else OZAKI | {"family": "randn"}]
        return {"rows": rows, "command": ["python", f"{job}.py"], "exit_code": -15, "stopped": True}

    monkeypatch.setattr(bench, "run", run)
    assert measured(tmp_path, monkeypatch, "--minutes", "10") == 0
    (page,) = tmp_path.glob("*.md")
    assert page.read_text().count("was stopped when its time was over") == 3 and "700" in page.read_text()
    assert limits[0] < 100 < 250 < limits[1] < limits[2] < 600


def test_a_wrong_result_of_a_job_that_was_stopped_is_a_failure() -> None:
    stopped = {"exit_code": -15, "stopped": True}
    assert bench.wrong(stopped | {"rows": [GEMM | {"verdict": "WRONG"}]})
    assert not bench.wrong(stopped | {"rows": [GEMM]})


def test_a_job_whose_time_is_over_ends_with_all_that_it_started(tmp_path: Path) -> None:
    alive = tmp_path / "alive"
    alive.touch()
    with (alive).open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        script = "sleep 60 & sleep 60"
        job = subprocess.Popen(["sh", "-c", script], start_new_session=True, pass_fds=(held.fileno(),))
    assert bench.wait(job, 0.2) == (-signal.SIGTERM, True)
    with alive.open() as again:
        fcntl.flock(again, fcntl.LOCK_EX)  # nobody has it any more
    assert bench.wait(subprocess.Popen(["true"], start_new_session=True), None) == (0, False)


def test_the_lowest_and_the_highest_power_are_numbers_and_not_words() -> None:
    rows = [NATIVE | {"power.draw": drawn} for drawn in ("99.50 W", "690.12 W", "[N/A]", "350.00 W")]
    ran = {job: {"rows": rows if job == "fp64" else [], "command": []} | ENDED for job in ("gemm", "fp64", "families")}
    page = bench.report({"gpu": "G"}, "right", "cutile", ran, "g-20260101")
    assert "lowest and highest: [N/A] and 690.12 W" not in page
    assert "lowest and highest: 99.50 W and 690.12 W" in page


def test_a_job_that_crashes_leaves_no_figures_of_an_earlier_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gemm.json").write_text(json.dumps({"rows": [GEMM], "measured": True}))
    (tmp_path / "speeds.json").write_text("{}")
    monkeypatch.setattr(bench, "JOBS", tmp_path / "nowhere")
    found = bench.run("gemm", tmp_path)
    assert found["rows"] == [] and found["measured"] is False and found["exit_code"] != 0
    assert not (tmp_path / "speeds.json").exists()


def test_auto_learns_what_was_measured_and_forgets_no_other_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "known.json"
    file.write_text('{"another": []}')
    monkeypatch.setattr(matmul, "SPEEDS", file)
    (tmp_path / "speeds.json").write_text('{"NVIDIA H200": [1]}')
    bench.learn(tmp_path)
    assert json.loads(file.read_text()) == {"another": [], "NVIDIA H200": [1]}

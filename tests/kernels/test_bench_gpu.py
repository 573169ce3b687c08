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

from hybridhpc.refjobs.kernels import bench, gpu, matmul, page

TIMED = {"measured": True, "clocks.sm": "1980 MHz", "power.draw": "690 W", "verdict": "right", "error": 1e-17}
GEMM = {"type": "bf16", "m": 8, "n": 8, "k": 8, "by": "cutile", "milliseconds": 1.0, "tflops": 700.0} | TIMED
MACHINE = {"gpu": "NVIDIA H200"}
ENDED = {"exit_code": 0, "stopped": False}
STEPS = {"measure": 1.0, "split": 2.0, "products": 80.0, "reconstruct": 3.0}
PRODUCT = {"m": 16384, "n": 16384, "k": 16384, "family": "randn"}
NATIVE = PRODUCT | {"method": "native", "by": "torch", "tflops": 60.0} | TIMED
OZAKI = PRODUCT | {"method": "ozaki2 N=15", "by": "cutile", "tflops": 90.0, "steps": STEPS} | TIMED


@pytest.mark.skipif(gpu.present(), reason="there is a GPU: this is about machines without one")
def test_without_a_gpu_nothing_is_measured_and_nothing_is_written(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", bench.__name__, "--docs", str(tmp_path / "docs")], capture_output=True, text=True
    )
    assert done.returncode == 3
    assert "nothing was measured" in done.stderr
    assert not (tmp_path / "docs").exists()


def content(**jobs: Any) -> dict[str, Any]:
    """What a page is made of, the jobs that are not given without rows."""
    empty = {job: {"rows": [], "command": []} | ENDED for job in page.JOBS}
    return {"machine": MACHINE, "first_cutile_kernel": "right", "by": "cutile"} | empty | jobs


def test_the_page_has_all_figures_and_says_whose_kernels_they_are_of(tmp_path: Path) -> None:
    found = content(
        gemm={"rows": [GEMM], "command": ["python", "gemm.py", "--by", "cutile"]} | ENDED,
        fp64={"rows": [NATIVE, OZAKI], "command": ["python", "fp64.py"]} | ENDED,
        families={"rows": [OZAKI | {"family": "wide 4"}], "command": ["python", "fp64.py", "--families"]} | ENDED,
    )
    found |= {"first_cutile_kernel": "RuntimeError: CUresult 221\nand the rest of it", "by": "triton"}
    page.write(tmp_path, "nvidia-h200-20260101", found)
    text = (tmp_path / "nvidia-h200-20260101.md").read_text()
    expected = ("# NVIDIA H200, 20260101", "CUresult 221", "and the rest of it", "triton's", "700", "1980 MHz", "690 W")
    for word in (*expected, "gemm.py --by", "wide 4"):
        assert word in text
    (line,) = [line for line in text.splitlines() if "ozaki2" in line and "1.5" in line]
    assert "90" in line
    assert "| 80 " in text
    for picture in ("nvidia-h200-20260101-gemm.png", "nvidia-h200-20260101-fp64.png"):
        assert picture in text and (tmp_path / picture).read_bytes().startswith(b"\x89PNG")


def test_a_page_is_written_anew_from_its_figures_where_there_is_no_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A GPU machine may have no matplotlib: the pictures are then drawn elsewhere."""
    page.write(tmp_path, "g-20260101", content(gemm={"rows": [GEMM], "command": []} | ENDED))
    text = (tmp_path / "g-20260101.md").read_text()
    (tmp_path / "g-20260101.md").unlink()
    (tmp_path / "g-20260101-gemm.png").unlink()
    monkeypatch.setattr("sys.argv", ["bench", "--page", str(tmp_path / "g-20260101.json")])
    assert bench.main() == 0
    assert (tmp_path / "g-20260101.md").read_text() == text and (tmp_path / "g-20260101-gemm.png").exists()


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
    assert all(by in words for words in asked[1:4]) and ("cutile" in asked[3]) == (by == "cutile")
    (written,) = tmp_path.glob("*.md")
    assert first in written.read_text()
    assert (f"gemm ended with exit code {ended}" in written.read_text()) == bool(ended)


def measured(folder: Path, monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    """Run the whole bench as if there were a GPU."""
    (folder / "known.json").write_text("{}")
    monkeypatch.setattr(matmul, "SPEEDS", folder / "known.json")
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
        rows = [GEMM if job == "gemm" else OZAKI | {"scheme": None, "call": 2.0}]
        return {"rows": rows, "command": ["python", f"{job}.py"], "exit_code": -15, "stopped": True}

    monkeypatch.setattr(bench, "run", run)
    assert measured(tmp_path, monkeypatch, "--minutes", "10") == 0
    (written,) = tmp_path.glob("*.md")
    assert written.read_text().count("was stopped when its time was over") == 4 and "700" in written.read_text()
    assert limits[0] < 100 < 250 < limits[1] < limits[2] < limits[3] < 600
    (speed, *_) = json.loads((tmp_path / "known.json").read_text())["NVIDIA H200"]
    assert speed["tflops"] == pytest.approx(2e-9 * 16384**3 / 2.0)


def test_a_wrong_result_of_a_job_that_was_stopped_is_a_failure() -> None:
    stopped = {"exit_code": -15, "stopped": True}
    assert page.wrong(stopped | {"rows": [GEMM | {"verdict": "WRONG"}]})
    assert not page.wrong(stopped | {"rows": [GEMM]})


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


def test_a_bench_that_is_ended_ends_its_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs have process groups of their own: Ctrl-C at the terminal reaches the bench alone."""
    job = subprocess.Popen(["sleep", "60"], start_new_session=True)

    def interrupted(_: float | None) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(job, "wait", interrupted)
        with pytest.raises(KeyboardInterrupt):
            bench.wait(job, None)
    assert job.wait(10) == -signal.SIGKILL


def test_the_lowest_and_the_highest_power_are_numbers_and_not_words() -> None:
    rows = [NATIVE | {"power.draw": drawn} for drawn in ("99.50 W", "690.12 W", "[N/A]", "350.00 W")]
    text = page.report("g-20260101", content(fp64={"rows": rows, "command": []} | ENDED))
    assert "lowest and highest: [N/A] and 690.12 W" not in text
    assert "lowest and highest: 99.50 W and 690.12 W" in text


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
    """Also from figures that were measured on another machine: those of one that forgets all."""
    file = tmp_path / "known.json"
    file.write_text('{"another": []}')
    monkeypatch.setattr(matmul, "SPEEDS", file)
    row = OZAKI | {"scheme": {"method": "ozaki2", "moduli": 15}, "call": 100.0}
    figures = tmp_path / "g-20260101.json"
    figures.write_text(json.dumps(content(fp64={"rows": [row], "command": []} | ENDED)))
    monkeypatch.setattr("sys.argv", ["bench", "--page", str(figures)])
    assert bench.main() == 0
    assert set(json.loads(file.read_text())) == {"another", "NVIDIA H200"}
    (speed,) = matmul.speeds_of("NVIDIA H200", file)
    assert speed.size == 16384 and speed.tflops == pytest.approx(2e-9 * 16384**3 / 100)
    file.write_text("{}")
    bench.learn(content())
    assert file.read_text() == "{}", "nothing measured, nothing known"

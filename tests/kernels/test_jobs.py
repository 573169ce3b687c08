"""The jobs gemm and fp64 as a site runs them without a GPU: plain files, by path, with nothing of hybridhpc near."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

pytest.importorskip("torch", reason="torch is missing: pip install 'hybridhpc[train]'")
pytest.importorskip("matplotlib", reason="matplotlib is missing: pip install 'hybridhpc[train]'")

from hybridhpc.refjobs.kernels import emulation, fp64_job, gemm_job, gpu, matmul, results, tuning
from tests.people import Person

JOBS = Path(__file__).parents[2] / "configs" / "jobs"
SHORT = {
    "gemm": ("--sizes", "64", "96x32x160"),
    "fp64": ("--sizes", "32x32x64", "--families", "randn", "rescaled 20", "--depths", "5", "--moduli", "15"),
}
needs_no_gpu = pytest.mark.skipif(gpu.present(), reason="there is a GPU: these tests are about machines without one")


def run(name: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command of a spec in a copy of its workdir."""
    spec = yaml.safe_load((JOBS / f"{name}.yaml").read_text())
    work = shutil.copytree(JOBS / spec["workdir"], folder / "work", ignore=shutil.ignore_patterns("__pycache__"))
    program, *rest = shlex.split(spec["run"].removeprefix("python "))
    return subprocess.run(
        [sys.executable, program, *rest, *arguments],
        cwd=work,
        env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | spec["env"],
        capture_output=True,
        text=True,
        timeout=200,
    )


@needs_no_gpu
@pytest.mark.parametrize("name", ["gemm", "fp64"])
def test_without_a_gpu_a_job_checks_its_results_and_says_that_it_measured_no_speed(name: str, tmp_path: Path) -> None:
    done = run(name, tmp_path, *SHORT[name])
    assert done.returncode == 0, done.stderr
    assert results.NOTHING_MEASURED in done.stdout
    folder = tmp_path / "work" / "results"
    assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    content = json.loads((folder / f"{name}.json").read_text(), parse_constant=lambda text: pytest.fail(text))
    assert content["measured"] is False and content["machine"]["gpu"] is None
    assert content["rows"] and content["finished"] is True
    assert not list(folder.glob("*.tmp"))
    for row in content["rows"]:
        assert row["measured"] is False and "tflops" not in row and "milliseconds" not in row
        assert row["verdict"] in ("right", "nothing was promised")
    assert not (folder / "speeds.json").exists()


@pytest.mark.parametrize("name", ["gemm", "fp64", "train"])
def test_a_job_is_a_plain_file_for_a_python_that_trusts_no_folder(name: str, tmp_path: Path) -> None:
    folder = shutil.copytree(Path(gemm_job.__file__).parents[1], tmp_path / "plain")
    asked = [sys.executable, "-I", folder / f"{name}.py", "--help"]
    done = subprocess.run(asked, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@needs_no_gpu
def test_hpc_runs_the_job_on_this_machine(person: Person) -> None:
    spec = yaml.safe_load((JOBS / "fp64.yaml").read_text())
    spec["workdir"] = str((JOBS / spec["workdir"]).resolve())
    spec["run"] += " --methods ozaki2 --moduli 15 --sizes 64 --families randn"
    printed = person.hpc("submit", person.spec(yaml.safe_dump(spec)), "--where", "auto", "--follow")
    assert "ozaki2 N=15" in printed and results.NOTHING_MEASURED in printed
    assert "gemm" in person.hpc("plan", str(JOBS / "gemm.yaml"))


def test_the_payload_imports_nothing_of_hybridhpc() -> None:
    folder = Path(gemm_job.__file__).parents[1]
    files = [*folder.rglob("*.py")]
    assert len(files) > 30
    for file in files:
        lines = [line.strip() for line in file.read_text().splitlines()]
        assert not [line for line in lines if line.startswith(("import hybridhpc", "from hybridhpc"))]


@needs_no_gpu
@pytest.mark.parametrize(("family", "fault"), [("randn", 1e-9), ("integers", 2.0**-52)])
def test_a_wrong_product_fails_the_job(
    family: str, fault: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where all sums are exact, the last bit counts."""
    right = fp64_job.emulated
    monkeypatch.setattr(fp64_job, "emulated", lambda *how: right(*how) * (1 + fault))
    arguments = ["--out", str(tmp_path), "--methods", "ozaki2", "--sizes", "32", "--families", family]
    assert fp64_job.main(arguments) == 1
    assert {row["verdict"] for row in json.loads((tmp_path / "fp64.json").read_text())["rows"]} == {"WRONG"}


@needs_no_gpu
def test_a_kernel_that_fails_is_a_row_and_not_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(kind: str, *_: object) -> None:
        raise RuntimeError("CUresult 221")

    monkeypatch.setattr(gemm_job, "error", refuse)
    assert gemm_job.main(["--out", str(tmp_path), "--types", "bf16", "--sizes", "32"]) == 3
    (row,) = json.loads((tmp_path / "gemm.json").read_text())["rows"]
    assert row["verdict"] == "failed: RuntimeError: CUresult 221"


@needs_no_gpu
def test_a_language_that_is_not_installed_is_left_out_and_says_so(tmp_path: Path, clock_of_a_gpu: None) -> None:
    words = ["--out", str(tmp_path), "--by", "cutile", "--sizes", "32", "--families", "uniform", "--moduli", "15"]
    assert fp64_job.main([*words, "--methods", "native", "ozaki2"]) == 0
    native, ozaki = json.loads((tmp_path / "fp64.json").read_text())["rows"]
    assert native["verdict"] == "right" and ozaki["verdict"].startswith("left out: No module named 'cuda")


@pytest.fixture
def clock_of_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that tells the same time always, over a CPU's work: this is about what a job does with times."""

    def milliseconds(work: Callable[[], object], **_: int) -> dict[str, Any]:
        work()
        return {"milliseconds": 2.0, "runs": 1, "clocks.sm": "1980 MHz"}

    monkeypatch.setattr(gpu, "present", lambda: True)
    monkeypatch.setattr(gpu, "arch", lambda: "sm_90")
    monkeypatch.setattr(gpu, "machine", lambda: {"gpu": "GPU", "arch": "sm_90"})
    monkeypatch.setattr(gpu, "milliseconds", milliseconds)
    monkeypatch.setattr(emulation, "lack_of_memory", lambda *_: None)
    for job in (gemm_job, fp64_job):
        parse = job.parse
        monkeypatch.setattr(job, "parse", lambda words, parse=parse: on_the_cpu(parse(words)))


def on_the_cpu(options: argparse.Namespace) -> argparse.Namespace:
    options.device = "cpu"
    return options


@needs_no_gpu
def test_what_is_timed_has_its_tflops_its_steps_and_its_place_among_the_speeds(
    tmp_path: Path, clock_of_a_gpu: None
) -> None:
    words = ["--out", str(tmp_path), "--by", "torch", "--sizes", "64", "--families", "uniform", "--moduli", "15"]
    assert fp64_job.main([*words, "--methods", "native", "ozaki2", "ozaki1", "--depths", "7"]) == 0
    rows = json.loads((tmp_path / "fp64.json").read_text())["rows"]
    assert {row["method"] for row in rows} == {
        *("native", "ozaki2 N=15", "ozaki1 7 bits 7 slices d=7", "ozaki1 8 bits 7 slices d=7")
    }
    for row in rows:
        assert row["measured"] and row["tflops"] == pytest.approx(2 * 64**3 / 2e-3 / 1e12)
    (steps,) = [row["steps"] for row in rows if "steps" in row]
    assert list(steps) == ["measure", "split", "products", "reconstruct"]
    speeds = matmul.speeds_of("GPU", tmp_path / "speeds.json")
    assert len(speeds) == 4 and speeds[0].scheme is None and speeds[0].size == 64


@needs_no_gpu
def test_plain_products_that_are_timed_are_compared_with_cublas(tmp_path: Path, clock_of_a_gpu: None) -> None:
    assert gemm_job.main(["--out", str(tmp_path), "--by", "torch", "--types", "fp64", "--sizes", "32"]) == 0
    (row,) = json.loads((tmp_path / "gemm.json").read_text())["rows"]
    assert row["percent_of_torch"] == 100 and row["measured"] and row["how"] == "cuBLAS"


@needs_no_gpu
def test_tune_tries_configurations_of_a_type_once_and_at_a_large_square(
    tmp_path: Path, clock_of_a_gpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[tuple[int, ...]] = []
    best = tuning.Config(tile=(64, 64, 64), group=4)
    language = SimpleNamespace(gemm=lambda a, b, out, *, kind, how: out.copy_(a.double() @ b.double().T))

    def search(by: str, known: tuning.Config, run: Callable[[tuning.Config], float]) -> tuning.Config:
        tried.append((run(known) > 0,))
        return best

    monkeypatch.setattr(gemm_job, "import_module", lambda *_: language)
    monkeypatch.setattr(tuning, "best", search)
    words = ["--out", str(tmp_path), "--by", "cutile", "--types", "fp16", "--tune", "--sizes", "16", "64", "256x16x16"]
    assert gemm_job.main(words) == 0
    rows = json.loads((tmp_path / "gemm.json").read_text())["rows"]
    assert len(tried) == 1 and (rows[0]["m"], rows[0]["n"]) == (64, 64)
    assert {row["how"] for row in rows} == {best.text}
    assert json.loads((tmp_path / "gemm-tuning.json").read_text()) == {
        "cutile": {"gemm fp16": {"sm_90": tuning.to_json(best)}}
    }


@needs_no_gpu
def test_what_tune_finds_for_one_language_is_kept_before_the_next_and_used(
    tmp_path: Path, clock_of_a_gpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    best = tuning.to_json(tuning.Config(tile=(64, 64, 64), group=4))
    kept: list[list[str]] = []

    def tune(by: str, _: argparse.Namespace) -> dict[str, Any]:
        file = tmp_path / "fp64-tuning.json"
        kept.append(list(json.loads(file.read_text())) if file.exists() else [])
        return {"multiply_slices": {"sm_90": best}}

    monkeypatch.setattr(fp64_job, "tune", tune)
    words = ["--out", str(tmp_path), "--by", "cutile", "triton", "--tune", "--sizes", "32", "--methods", "native"]
    try:
        assert fp64_job.main([*words, "--families", "uniform"]) == 0
        assert kept == [[], ["cutile"]]
        for by in ("cutile", "triton"):
            assert tuning.config(by, "multiply_slices", "sm_90").tile == (64, 64, 64)
    finally:
        tuning.use(tuning.FILE)


@pytest.mark.parametrize(
    ("job", "arguments"),
    [
        (gemm_job, ["--sizes", "100"]),
        (gemm_job, ["--sizes", "64x64"]),
        (gemm_job, ["--types", "fp7"]),
        (fp64_job, ["--moduli", "40"]),
        (fp64_job, ["--depths", "0"]),
    ],
)
def test_a_wrong_command_line_is_refused(job: Any, arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as refusal:
        job.main(arguments)
    assert refusal.value.code == 2


def test_what_a_caller_waits_for_is_the_look_at_the_matrices_too(
    tmp_path: Path, clock_of_a_gpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The product itself is timed as a CUDA graph; the call, with its bound and its waiting for the GPU, cannot be."""
    timed: list[tuple[bool, bool]] = []
    bounded: list[object] = []
    bound = matmul.bound
    monkeypatch.setattr(matmul, "bound", lambda *words: bounded.append(words) or bound(*words))

    def milliseconds(work: Callable[[], object], *, graph: bool = True, **_: object) -> dict[str, Any]:
        bounded.clear()
        work()
        timed.append((graph, bool(bounded)))
        return {"milliseconds": 2.0 if graph else 3.0}

    monkeypatch.setattr(gpu, "milliseconds", milliseconds)
    words = ["--out", str(tmp_path), "--by", "torch", "--sizes", "64", "--families", "uniform", "--moduli", "15"]
    assert fp64_job.main([*words, "--methods", "ozaki2"]) == 0
    assert timed[:2] == [(True, False), (False, True)] and set(timed[2:]) == {(True, False)}
    (row,) = json.loads((tmp_path / "fp64.json").read_text())["rows"]
    assert row["call"] == 3.0 and row["milliseconds"] == 2.0


@needs_no_gpu
@pytest.mark.parametrize("name", ["gemm", "fp64"])
def test_a_job_that_is_killed_leaves_what_it_had(name: str, tmp_path: Path) -> None:
    """As at the end of a walltime, with nothing told beforehand: the file is whole, and says that it is not all."""
    program, found = Path(gemm_job.__file__).parents[1] / f"{name}.py", tmp_path / f"{name}.json"
    words = ["--out", tmp_path, "--sizes", *(str(size) for size in range(32, 1600, 16))]
    job = subprocess.Popen([sys.executable, program, *words], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert job.stderr is not None
    for _ in job.stderr:
        if found.exists() and len(json.loads(found.read_text())["rows"]) >= 3:
            break
    job.kill()
    job.wait()
    job.stderr.close()
    content = json.loads(found.read_text())
    assert content["finished"] is False and content["measured"] is False
    assert len(content["rows"]) >= 3
    assert {row["verdict"] for row in content["rows"]} <= {"right", "nothing was promised"}


def test_speeds_come_from_right_and_timed_rows_only() -> None:
    row = {"scheme": None, "by": "torch", "m": 1000, "n": 1000, "k": 1000, "tflops": 2.0, "method": "native"}
    good = row | {"milliseconds": 1.0, "call": 4.0, "verdict": "right"}
    rows = [
        good,
        good | {"verdict": "WRONG"},
        good | {"method": "cublas-emulated"},
        row | {"measured": False, "verdict": "right"},
    ]
    (found,) = fp64_job.speeds(rows)
    assert found.pop("tflops") == pytest.approx(0.5), "all that a caller waits for counts"
    assert found == {"scheme": None, "by": "torch", "size": 1000}


def test_percentages_are_of_cublas_in_the_same_run() -> None:
    base = {"type": "bf16", "m": 1, "n": 1, "k": 1}
    rows = [base | {"by": "torch", "tflops": 400.0}, base | {"by": "cutile", "tflops": 300.0}, base | {"by": "triton"}]
    gemm_job.compare(rows)
    assert [row["percent_of_torch"] for row in rows] == [100, 75, None]


def test_tables_are_read_by_people_and_by_markdown() -> None:
    rows = [{"a": 1, "b": 1.25e-17}, {"a": None, "b": 812.3456}]
    assert results.table(rows, ["a", "b"]) == "a  b\n1  1.2e-17\n-  812.3"
    assert results.table(rows, ["a", "b"], markdown=True).splitlines()[1].replace("-", "") == "|  |  |"


def test_what_the_tuning_file_names_exists() -> None:
    known = tuning.read(tuning.FILE)
    assert set(known) == {"cutile", "triton"}
    assert set(known["cutile"]) == set(known["triton"])

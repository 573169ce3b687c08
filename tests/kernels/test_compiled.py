"""The kernels without a GPU: Triton's run in its interpreter, all are compiled ahead of time where compilers are."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from itertools import product
from pathlib import Path

import pytest

from hybridhpc.refjobs.kernels import aot, kit, layouts, tuning

GOOD = aot.Build(
    by="cutile",
    kernel="gemm int8",
    arch="sm_90",
    layout="rows",
    how="",
    registers=168,
    stack=0,
    spills=0,
    shared=0,
    instructions=900,
    tensor=("IGMMA.64x256x32.S8.S8.SAT",),
)
COMPILERS = Path(sys.prefix) / "kernels" / "bin" / "python"  # the environment of `make kernels-aot`
INTERPRETED = """
import contextlib, sys, numpy as np, torch
sys.path += sys.argv[2:]  # after torch's own folder
from hybridhpc.refjobs.kernels import emulation, gemm_job
from hybridhpc.refjobs.kernels.emulation import Scheme
from hybridhpc.refjobs.kernels.families import FAMILIES
ours, theirs = emulation.steps("triton"), emulation.steps("torch")
on = []
torch.cuda.device_of = lambda tensor: on.append(tensor) or contextlib.nullcontext()
for family, m, k, n, scheme in (
    ("graded", 5, 1100, 7, Scheme(method="ozaki1", depth=3)),
    ("wide 4", 9, 300, 18, Scheme(method="ozaki2", moduli=9)),
    ("randn", 1, 1, 1, Scheme(method="ozaki1")),
    ("randn", 1, 1, 1, Scheme(method="ozaki2")),
    ("integers", 131, 129, 3, Scheme(method="ozaki2", moduli=8)),
):
    a, b = map(torch.tensor, FAMILIES[family](np.random.default_rng(2), m, k, n))
    for left, right in ((a, b), (a[::2, 1:], b[1:, ::3])) if k > 1 else ((a, b),):
        products = [emulation.multiply(emulation.measure(left, right, by), scheme, by) for by in (ours, theirs)]
        assert torch.equal(*products), (family, scheme.name)
assert len(on) == 3 * 5 + 5 * 6, len(on)  # every launch of 3 and 5 products looks where its matrix lies
assert gemm_job.main(["--by", "triton", "--sizes", "48x80x64", "--out", sys.argv[1]]) == 0
"""


TRITON = sorted(
    Path(sys.prefix).glob("kernels/lib/python*/site-packages/triton-*.dist-info")
)  # of the same environment


def triton_interprets() -> bool:
    """Whether there is a Triton whose interpreter works with the NumPy of these tests."""
    if TRITON:
        return True
    try:
        return tuple(map(int, version("triton").split(".")[:2])) >= (3, 9)
    except PackageNotFoundError:
        return False


def test_a_kernel_passes_only_without_spills_and_with_its_tensor_instruction() -> None:
    assert GOOD.faults == []
    assert replace(GOOD, stack=8, spills=3).faults == ["stack of 8 bytes", "3 spills"]
    assert replace(GOOD, tensor=("IMMA.16832.S8.S8.SAT",)).faults == ["no IGMMA instruction"]
    assert replace(GOOD, shared=300_000).faults == ["300000 bytes of shared memory"]
    assert replace(GOOD, kernel="reconstruct", tensor=()).faults == []


def test_a_line_of_the_table_says_what_was_compiled_and_what_is_wrong_with_it() -> None:
    line = replace(GOOD, layout="odd columns", stack=8).line
    assert "odd columns" in line and "IGMMA" in line and "stack of 8 bytes" in line


def test_matrices_are_compiled_for_as_they_come_and_results_as_they_are_made() -> None:
    """Of an ordinary a @ b, A is read by rows and B by columns: both are among what is compiled."""
    for kernel in layouts.READ_BY_ROWS:
        assert set(layouts.layouts_of(kernel)) == set(layouts.LAYOUTS) >= {"rows", "columns", "any strides"}
    for kernel in layouts.WRITE_PRODUCTS:
        assert layouts.layouts_of(kernel) == layouts.RESULTS
    for layout in layouts.LAYOUTS.values():
        rows, columns = layout.shape
        assert layout.aligned == (rows % 16 == columns % 16 == 0) or 1 in layout.shape or 0 in layout.strides


def test_what_is_compiled_ahead_of_time_is_never_called_measured() -> None:
    assert GOOD.measured is False


@pytest.mark.parametrize(("by", "kernel"), list(product(("cutile", "triton"), aot.TENSOR)))
def test_every_kernel_is_tuned_for_hopper(by: str, kernel: str) -> None:
    assert tuning.config(by, kernel, "sm_90").tile


def test_an_architecture_takes_the_tuning_of_the_newest_older_one_if_there_is_one() -> None:
    assert tuning.config("cutile", "gemm bf16", "sm_103") == tuning.config("cutile", "gemm bf16", "sm_100")
    for by, kernel, arch in (("cutile", "gemm e4m3", "sm_89"), ("triton", "gemm fp64", "sm_103")):
        with pytest.raises(tuning.Untuned, match=f"{by} has no {kernel} kernel for {arch}"):
            tuning.config(by, kernel, arch)


@pytest.mark.parametrize("by", ["cutile", "triton"])
def test_tuning_tries_the_neighbours_of_what_is_known_and_keeps_the_fastest_that_runs(by: str) -> None:
    known = tuning.config(by, "gemm bf16", "sm_90")
    tried = tuning.neighbours(by, known)
    assert known in tried and len(tried) == len({one.text for one in tried})
    assert {name for one in tried for name in one.hints} == set(tuning.HINTS[by])

    def run(how: tuning.Config) -> float:
        if how.tile[0] > 128:
            raise RuntimeError("too much shared memory")
        return (1.0 if how.tile[1] == 128 else 2.0) - (0.1 if how.group == 4 else 0)

    best = tuning.best(by, known, run)
    assert best.tile[1] == 128 and best.group == 4
    assert tuning.from_json(tuning.to_json(best)) == best
    assert tuning.best(by, known, lambda _: 1 / 0) == known


def test_a_file_of_tune_replaces_what_it_names_and_nothing_else(tmp_path: Path) -> None:
    tuned = tuning.Config(tile=(64, 64, 64), group=4)
    file = tmp_path / "tuning.json"
    file.write_text(json.dumps({"cutile": {"gemm bf16": {"sm_90": tuning.to_json(tuned)}}}))
    before = tuning.config("cutile", "gemm fp16", "sm_90")
    tuning.use(file)
    try:
        assert tuning.config("cutile", "gemm bf16", "sm_90") == tuned
        assert tuning.config("cutile", "gemm fp16", "sm_90") == before
        assert tuning.config("cutile", "gemm bf16", "sm_80") != tuned
    finally:
        tuning.use(tuning.FILE)


@pytest.mark.skipif(
    not triton_interprets(),
    reason="Triton 3.9 or later is missing: make kernels-aot brings it (older ones cannot interpret with NumPy 2.4)",
)
def test_tritons_kernels_give_the_bits_of_the_specification_in_its_interpreter(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERPRETED, str(tmp_path), *(str(found.parent) for found in TRITON)],
        env=os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "gemm.json").read_text())["rows"]
    assert {row["type"] for row in rows if row["verdict"] == "right"} == {"fp16", "tf32", "int8", "fp64"}
    assert all("interpreter" in row["verdict"] for row in rows if row["verdict"] != "right")


@pytest.mark.skipif(not COMPILERS.exists(), reason="the compilers are missing: make kernels-aot installs them")
def test_kernels_compile_without_spills_for_matrices_by_rows_and_by_columns() -> None:
    """The rest, in `make kernels-aot`. Splitting a transposed matrix is where registers are scarcest."""
    asked = {"--arch": ("sm_80", "sm_90"), "--kernel": ("gemm bf16", "split_rows", "multiply_residues")}
    words = [word for option, values in asked.items() for value in values for word in (option, value)]
    done = subprocess.run(
        [COMPILERS, "-m", aot.__name__, *words, "--layout", "rows", "--layout", "columns"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("16 of 16 kernels pass. They were compiled, not run: no speed was measured.\n")
    assert sum("columns" in line for line in done.stdout.splitlines()) == 4


def test_the_kit_for_a_machine_without_a_network_has_the_compiler_where_it_looks_for_its_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    compiler = tmp_path / "nvidia" / "cu13"
    for name in kit.COMPILER:
        (compiler / name).parent.mkdir(parents=True, exist_ok=True)
        (compiler / name).write_text(name)

    def packages(folder: Path, python: str) -> None:
        (folder / "cuda" / "__pycache__").mkdir(parents=True)
        (folder / "cuda" / "tile.py").write_text(python)
        (folder / "cuda" / "__pycache__" / "tile.pyc").write_text("")

    monkeypatch.setattr(kit, "SMALL", None)  # the strongest takes minutes and gigabytes
    monkeypatch.setattr(kit, "tool", lambda name: str(compiler / "bin" / name))
    monkeypatch.setattr(kit, "packages", packages)
    monkeypatch.setattr("sys.argv", ["kit", str(tmp_path / "dist" / "kit.tar.xz"), "--python", "3.13"])
    assert kit.main() == 0 and "MiB" in capsys.readouterr().out
    with tarfile.open(tmp_path / "dist" / "kit.tar.xz") as archive:
        archive.extractall(tmp_path / "there", filter="data")
    files = {str(path.relative_to(tmp_path / "there")) for path in (tmp_path / "there").rglob("*") if path.is_file()}
    assert files == {"cutile/cuda/tile.py", *(f"cutile/{name}" for name in kit.COMPILER)}
    monkeypatch.setattr(kit, "tool", lambda name: aot.tool("no such tool"))
    assert kit.main() == 2


def test_without_the_compilers_it_is_said_how_to_get_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["aot"])
    monkeypatch.setattr(aot, "prepare", lambda: aot.tool("no such tool"))
    assert aot.main() == 2

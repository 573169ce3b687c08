"""FP64 matrix products on a GPU: native, by cuBLAS's own emulation, and by both schemes, side by side in one run.

Every product is checked against exact entries, beside native FP64 on the same data. Without a GPU, or with --reference,
products are checked on the CPU and nothing is timed. Writes fp64.json, fp64.png and, with a GPU, speeds.json for
`matmul(method="auto")`. Exit codes: 0 all within what was promised, 1 one was not, 2 wrong command line, 3 nothing ran.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from . import emulation, exact, fitness_torch, gpu, results, tuning
from .emulation import Scheme
from .families import FAMILIES
from .gemm_job import shape
from .results import Row

METHODS = ("native", "cublas-emulated", "ozaki1", "ozaki2")
BY = ("torch", "cutile", "triton")
COLUMNS = ["family", "m", "n", "k", "method", "by", "gemms", "milliseconds", "tflops", "error", "promised", "verdict"]
REFERENCE_FAMILIES = ["randn", "uniform", "integers", "wide 1", "rescaled 12"]
# Read by cuBLAS (13.0 Update 2 and later) before its first use in a process.
EMULATED = {
    "CUBLAS_EMULATE_DOUBLE_PRECISION": "1",
    "CUBLAS_EMULATION_STRATEGY": "eager",
    "CUBLAS_FIXEDPOINT_EMULATION_MANTISSA_BIT_COUNT": "55",
}
ROUNDINGS = 2.0**-46  # what FP64 itself may round away, far above what it usually does


def schemes(options: argparse.Namespace) -> list[Scheme]:
    """Return what is asked for: scheme 1 by depth and bits, scheme 2 by the number of moduli."""
    first = [Scheme(method="ozaki1", bits=bits, depth=depth) for bits in options.bits for depth in options.depths]
    second = [Scheme(method="ozaki2", moduli=count) for count in options.moduli]
    return first * ("ozaki1" in options.methods) + second * ("ozaki2" in options.methods)


def matrices(family: str, size: tuple[int, int, int], options: argparse.Namespace) -> tuple[Tensor, Tensor]:
    """Return A and B of a family. Large random ones are made on the GPU, the others in NumPy."""
    m, n, k = size
    if family == "randn" and not options.reference:
        torch.manual_seed(options.seed)
        return tuple(torch.randn(sizes, dtype=torch.float64, device="cuda") for sizes in ((m, k), (k, n)))  # type: ignore[return-value]
    a, b = FAMILIES[family](np.random.default_rng(options.seed), m, k, n)
    return torch.from_numpy(a).to(options.device), torch.from_numpy(b).to(options.device)


def sample_of(a: Tensor, b: Tensor, options: argparse.Namespace) -> exact.Sample:
    """Return some entries of the product, exactly."""
    draw = np.random.default_rng(options.seed)
    rows, columns = (draw.integers(size, size=options.samples).tolist() for size in (a.shape[0], b.shape[1]))
    places = list(zip(rows, columns, strict=True))
    return exact.sample(places, [a[i].cpu().numpy() for i in rows], [b[:, j].cpu().numpy() for j in columns])


def error(product: Tensor, sample: exact.Sample) -> float:
    """Return the largest |E| / (|A| |B|) of a product in the sampled entries."""
    rows, columns = (list(side) for side in zip(*sample.places, strict=True))
    found: list[float] = product[rows, columns].tolist()
    return sample.error(found) if all(map(np.isfinite, found)) else float("inf")


def timed(row: Row, work: Callable[[], Tensor], options: argparse.Namespace) -> None:
    """Add to a row how long the whole product takes, if there is a GPU."""
    if not options.reference:
        row |= gpu.milliseconds(work, repeats=options.repeats)
        row |= {"tflops": 2e-9 * row["m"] * row["n"] * row["k"] / row["milliseconds"], "measured": True}


def emulated(scheme: Scheme, by: str, a: Tensor, b: Tensor) -> Tensor:
    """Return the product by a scheme, all steps."""
    steps = emulation.steps(by)
    return emulation.multiply(emulation.measure(a, b, steps), scheme, steps)


def parts(scheme: Scheme, by: str, a: Tensor, b: Tensor, repeats: int) -> dict[str, float]:
    """Return how long each step of scheme 2 takes, in milliseconds."""
    steps, count = emulation.steps(by), scheme.moduli
    pair = emulation.measure(a, b, steps)
    scales = [emulation.integer_exponents(*row, count) for row in zip(pair.exponents, pair.squares, strict=True)]
    left, right = steps.residues(pair.a, scales[0], count=count), steps.residues(pair.b, scales[1], count=count)
    products = steps.multiply_residues(left, right)
    work: dict[str, Callable[[], object]] = {
        "measure": lambda: emulation.measure(a, b, steps),
        "split": lambda: [
            steps.residues(side, scale, count=count) for side, scale in zip((pair.a, pair.b), scales, strict=True)
        ],
        "products": lambda: steps.multiply_residues(left, right),
        "reconstruct": lambda: steps.reconstruct(products, (scales[0], scales[1])),
    }
    return {name: gpu.milliseconds(step, repeats=repeats)["milliseconds"] for name, step in work.items()}


def tune(by: str, options: argparse.Namespace) -> Row:
    """Return the fastest configurations of a language's two kernels for products, at the largest size."""
    steps, arch, scheme = import_module(f".by_{by}", __package__), gpu.arch(), Scheme(method="ozaki2")
    pair = emulation.measure(*matrices("randn", max(options.sizes), options), steps)
    sides = list(zip((pair.a, pair.b), pair.exponents, pair.squares, strict=True))
    count = scheme.moduli
    remainders = [steps.residues(a, emulation.integer_exponents(e, s, count), count=count) for a, e, s in sides]
    slices = [steps.split_rows(a, e, bits=8, count=scheme.slices) for a, e, _ in sides]
    work = {
        "multiply_residues": partial(steps.multiply_residues, *remainders),
        "multiply_slices": partial(steps.multiply_slices, *slices, pair.exponents, bits=8, depth=scheme.depth),
    }
    return {
        kernel: {arch: tuning.to_json(tuning.best(by, tuning.config(by, kernel, arch), partial(took, run)))}
        for kernel, run in work.items()
    }


def took(run: Callable[..., object], how: tuning.Config) -> float:
    """Return the milliseconds of one product with a configuration."""
    return gpu.median(partial(run, how=how))


def native(base: Row, a: Tensor, b: Tensor, sample: exact.Sample, options: argparse.Namespace) -> Row:
    """Return the row of the native product, or of cuBLAS's emulation where the environment asks for it."""
    row = base | {"method": options.native_name, "by": "torch", "gemms": 1, "scheme": None, "measured": False}
    row["error"] = error(a @ b, sample)
    timed(row, partial(torch.matmul, a, b), options)
    return row | {"verdict": "right" if row["error"] <= max(ROUNDINGS, a.shape[1] * 2.0**-52) else "WRONG"}


def by_scheme(base: Row, scheme: Scheme, by: str, pair: tuple[Tensor, Tensor], known: Row) -> Row:
    """Return the row of one scheme in one language, checked against what was promised for these matrices."""
    options, sample = known["options"], known["sample"]
    row = base | {"method": scheme.name, "by": by, "gemms": scheme.gemms, "scheme": asdict(scheme), "measured": False}
    try:
        promised = fitness_torch.loss(known["sizes"], scheme)
        row["error"] = error(emulated(scheme, by, *pair), sample)
        exactly = promised == 0 and base["family"] == "integers"
        row["verdict"] = "right" if row["error"] <= (0 if exactly else promised + ROUNDINGS) else "WRONG"
        if promised == float("inf"):
            row["verdict"] = "nothing was promised"
        else:
            row["promised"] = promised
        timed(row, partial(emulated, scheme, by, *pair), options)
        if scheme.method == "ozaki2" and not options.reference:
            row["steps"] = parts(scheme, by, *pair, options.repeats)
    except Exception as failure:  # a kernel that does not start says much about a driver: all others still run
        row["verdict"] = f"failed: {type(failure).__name__}: {failure}".splitlines()[0][:200]
    return row


def cublas_emulated(options: argparse.Namespace) -> list[Row]:
    """Return the rows of cuBLAS's emulation: the native product in a process of its own, set up for it."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, sys.argv[0], "--out", folder, "--methods", "native", "--families", *options.families]
        command += ["--native-name", "cublas-emulated", "--seed", str(options.seed), "--repeats", str(options.repeats)]
        command += ["--sizes", *("x".join(map(str, size)) for size in options.sizes)]
        done = subprocess.run(command, env=os.environ | EMULATED, capture_output=True, text=True)
        if done.returncode not in (0, 1):
            print(f"cublas-emulated did not run: {done.stderr[-300:]}", file=sys.stderr)
            return []
        rows: list[Row] = json.loads((Path(folder) / "fp64.json").read_text())["rows"]
        return rows


def of_pair(family: str, size: tuple[int, int, int], options: argparse.Namespace) -> list[Row]:
    """Return the rows of all methods on the same two matrices."""
    a, b = matrices(family, size, options)
    base: Row = dict(zip("mnk", size, strict=True)) | {"family": family, "promised": None}
    sample, rows = sample_of(a, b, options), []
    if "native" in options.methods:
        rows.append(native(base, a, b, sample, options))
    wanted = schemes(options)
    if wanted:
        sizes = fitness_torch.sizes(emulation.measure(a, b, emulation.steps("torch")))
        known: Row = {"sizes": sizes, "sample": sample, "options": options}
        rows += [by_scheme(base, scheme, by, (a, b), known) for by in options.by for scheme in wanted]
    return rows


def speeds(rows: list[Row]) -> list[Row]:
    """Return what `matmul(method="auto")` needs of the rows that were timed."""
    return [
        {"scheme": row["scheme"], "by": row["by"], "size": round((row["m"] * row["n"] * row["k"]) ** (1 / 3))}
        | {"tflops": row["tflops"]}
        for row in rows
        if row["measured"] and row["verdict"] == "right" and row["method"] != "cublas-emulated"
    ]


def draw(figure: Any, rows: list[Row]) -> None:  # noqa: ANN401 (matplotlib's)
    """Draw error against speed, or against the number of products where nothing was timed."""
    timed = any(row["measured"] for row in rows)
    x, label = ("tflops", "TFLOPS") if timed else ("gemms", "products in low precision; no speed was measured")
    axes = figure.add_subplot(xlabel=label, ylabel="largest |E| / (|A||B|)", yscale="log")
    family = rows[0]["family"]
    axes.set_title(f"FP64 products, {family}")
    shown = [row for row in rows if row["family"] == family and row.get("error") and x in row]
    points = [row | {"of": f"{re.split(' N=| 7 slices', row['method'])[0]}, {row['by']}"} for row in shown]
    for name, (xs, ys) in results.lines(points, of="of", x=x, y="error").items():
        axes.plot(xs, ys, "o", label=name)
    axes.legend(fontsize=7)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line; a wrong one ends the process with exit code 2."""
    parser = argparse.ArgumentParser(prog="fp64", description=(__doc__ or "").split("\n")[0], allow_abbrev=False)
    add = parser.add_argument
    add("--out", type=Path, default=Path(), help="folder for fp64.json, fp64.png and speeds.json")
    add("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    add("--sizes", nargs="+", type=shape, metavar="N|MxNxK", help="default: 1024 to 16384; without a GPU 256")
    add(
        "--families", nargs="+", choices=list(FAMILIES), help="kinds of matrices; default: randn; without a GPU several"
    )
    add("--depths", nargs="+", type=int, default=[9, 8, 7, 6, 5], help="of ozaki1: pairs of slices with i + j < d")
    add("--bits", nargs="+", type=int, choices=(7, 8), default=[7, 8], help="of a slice of ozaki1")
    add("--moduli", nargs="+", type=int, default=[12, 13, 14, 15, 16], help="of ozaki2")
    add("--by", nargs="+", choices=BY, help="languages; default: cutile and torch; without a GPU torch")
    add("--reference", action="store_true", help="check only, on the CPU: what happens without a GPU anyway")
    add("--tune", action="store_true", help="try tiles and hints first; writes fp64-tuning.json, for --tuning")
    add("--tuning", type=Path, default=tuning.FILE, help="which tiles and hints to use")
    add("--samples", type=int, default=64, help="entries checked exactly")
    add("--repeats", type=int, default=5, help="timed runs of each product")
    add("--seed", type=int, default=0)
    add("--native-name", default="native", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    try:
        schemes(options)
    except ValueError as wrong:
        parser.error(str(wrong))
    options.reference = options.reference or not gpu.present()
    return with_defaults(options)


def with_defaults(options: argparse.Namespace) -> argparse.Namespace:
    """Fill in what depends on whether there is a GPU."""
    sizes = ("256",) if options.reference else ("1024", "2048", "4096", "8192", "16384")
    options.device = "cpu" if options.reference else "cuda"
    options.sizes = options.sizes or [shape(text) for text in sizes]
    options.families = options.families or (REFERENCE_FAMILIES if options.reference else ["randn"])
    if options.families and any(m >= k for m, _, k in options.sizes):
        options.families = [family for family in options.families if family != "cancelling"]  # needs k > m
    if options.reference:
        interpreted = {"triton"} if os.environ.get("TRITON_INTERPRET") == "1" else set()
        options.by = [by for by in options.by or ["torch"] if by in {"torch"} | interpreted]
    options.by = options.by or ["cutile", "torch"]
    return options


def main(arguments: list[str] | None = None) -> int:
    """Run the job and return its exit code."""
    options = parse(arguments)
    tuning.use(options.tuning)
    if options.tune and not options.reference:
        found = {by: tune(by, options) for by in options.by if by != "torch"}
        tuning.use(results.write(options.out, "fp64-tuning", found))
    rows = []
    for size in options.sizes:
        for family in options.families:
            print(f"{family} {'x'.join(map(str, size))} ...", file=sys.stderr, flush=True)
            rows += of_pair(family, size, options)
    if "cublas-emulated" in options.methods and not options.reference:
        rows += cublas_emulated(options)
    content = {"machine": gpu.machine(), "measured": not options.reference, "seed": options.seed, "rows": rows}
    print(results.table(rows, COLUMNS))
    if options.reference:
        print(results.NOTHING_MEASURED)
    else:
        results.write(options.out, "speeds", {content["machine"]["gpu"]: speeds(rows)})
    print(f"see {results.write(options.out, 'fp64', content)} and", end=" ")
    print(results.plot(options.out / "fp64.png", lambda figure: draw(figure, rows)))
    if any(row["verdict"] == "WRONG" for row in rows):
        return 1
    return 0 if any(row["verdict"] == "right" for row in rows) else 3

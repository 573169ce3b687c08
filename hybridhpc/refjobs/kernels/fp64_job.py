"""FP64 matrix products on a GPU: native, by cuBLAS's own emulation, and by both schemes, side by side in one run.

Every product is checked against exact entries, beside native FP64 on the same data. Without a GPU, or with --reference,
products are checked on the CPU and nothing is timed. Writes fp64.json and, with a GPU, speeds.json for
`matmul(method="auto")` after every product, so that a job that is killed leaves what it had, and fp64.png at the end.
Exit codes: 0 all within what was promised, 1 one was not, 2 wrong command line, 3 nothing ran.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from importlib import import_module
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from . import emulation, exact, fitness_torch, gpu, results, tuning
from .emulation import Scheme
from .families import FAMILIES
from .fp64_options import parse, schemes
from .matmul import matmul
from .results import Row

COLUMNS = ["family", "m", "n", "k", "method", "by", "gemms", "milliseconds", "tflops", "error", "promised", "verdict"]
# Read by cuBLAS (13.0 Update 2 and later) before its first use in a process.
EMULATED = {
    "CUBLAS_EMULATE_DOUBLE_PRECISION": "1",
    "CUBLAS_EMULATION_STRATEGY": "eager",
    "CUBLAS_FIXEDPOINT_EMULATION_MANTISSA_BIT_COUNT": "55",
    "CUBLAS_WORKSPACE_CONFIG": ":8388608:1",  # KiB, read by torch: with little room cuBLAS does not emulate
}
ROUNDINGS = 2.0**-46  # what FP64 itself may round away, far above what it usually does


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


def timed(row: Row, work: Callable[[], Tensor], call: Callable[[], Tensor], options: argparse.Namespace) -> None:
    """Add to a row, if wanted, how long the product takes, and how long a caller of `matmul` waits for it."""
    if options.timed:
        row |= gpu.milliseconds(work, repeats=options.repeats)
        row |= {"tflops": 2e-9 * row["m"] * row["n"] * row["k"] / row["milliseconds"], "measured": True}
        row["call"] = gpu.milliseconds(call, repeats=options.repeats, graph=False, watch=False)["milliseconds"]


def emulated(scheme: Scheme, by: str, a: Tensor, b: Tensor) -> Tensor:
    """Return the product by a scheme, all steps."""
    steps = emulation.steps(by)
    return emulation.multiply(emulation.measure(a, b, steps), scheme, steps)


def called(scheme: Scheme, by: str, a: Tensor, b: Tensor) -> Tensor:
    """Return the product as `matmul(method="auto")` makes it: it first bounds what will be lost."""
    how = {"depth": scheme.depth, "bits": scheme.bits, "moduli": scheme.moduli}
    return matmul(a, b, method=scheme.method, by=by, accuracy=float("inf"), **how)


def parts(scheme: Scheme, by: str, a: Tensor, b: Tensor, repeats: int) -> dict[str, float]:
    """Return how long each step of scheme 2 takes, in milliseconds. No more is kept at a time than a product needs."""
    steps, count = emulation.steps(by), scheme.moduli
    pair = emulation.measure(a, b, steps)
    scales = [emulation.integer_exponents(*row, count) for row in zip(pair.exponents, pair.squares, strict=True)]
    sides = list(zip((pair.a, pair.b), scales, strict=True))
    took = partial(gpu.milliseconds, repeats=repeats, watch=False)

    def split() -> list[Tensor]:
        return [steps.residues(side, scale, count=count) for side, scale in sides]

    found = {"measure": took(lambda: emulation.measure(a, b, steps)), "split": took(split)}
    residues = split()
    found["products"] = took(partial(steps.multiply_residues, *residues))
    products = steps.multiply_residues(*residues)
    del residues
    found["reconstruct"] = took(partial(steps.reconstruct, products, (scales[0], scales[1])))
    return {name: one["milliseconds"] for name, one in found.items()}


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
    try:
        row["error"] = error(a @ b, sample)
        row["verdict"] = "right" if row["error"] <= max(ROUNDINGS, a.shape[1] * 2.0**-52) else "WRONG"
        timed(row, partial(torch.matmul, a, b), partial(torch.matmul, a, b), options)
    except Exception as failure:  # not enough memory, say
        row |= results.failed(failure)
    return row


def by_scheme(base: Row, scheme: Scheme, by: str, pair: tuple[Tensor, Tensor], known: Row) -> Row:
    """Return the row of one scheme in one language, checked against what was promised for these matrices."""
    options, sample = known["options"], known["sample"]
    row = base | {"method": scheme.name, "by": by, "gemms": scheme.gemms, "scheme": asdict(scheme), "measured": False}
    if lack := emulation.lack_of_memory(scheme, *pair):
        return row | {"verdict": f"left out: {lack}"}
    try:
        promised = fitness_torch.loss(known["sizes"], scheme)
        row["error"] = error(emulated(scheme, by, *pair), sample)
        exactly = promised == 0 and base["family"] == "integers"
        row["verdict"] = "right" if row["error"] <= (0 if exactly else promised + ROUNDINGS) else "WRONG"
        if promised == float("inf"):
            row["verdict"] = "nothing was promised"
        else:
            row["promised"] = promised
        timed(row, partial(emulated, scheme, by, *pair), partial(called, scheme, by, *pair), options)
        if scheme.method == "ozaki2" and options.timed:
            row["steps"] = parts(scheme, by, *pair, options.repeats)
    except (tuning.Untuned, ImportError) as reason:
        row["verdict"] = f"left out: {reason}"
    except Exception as failure:  # a kernel that does not start says much about a driver: all others still run
        row |= results.failed(failure)
    return row


def cublas_emulated(options: argparse.Namespace) -> list[Row]:
    """Return the rows of cuBLAS's emulation: the native product in a process of its own, set up for it."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, sys.argv[0], "--out", folder, "--methods", "native", "--families", *options.families]
        command += ["--native-name", "cublas-emulated", "--seed", str(options.seed), "--repeats", str(options.repeats)]
        command += ["--untimed"] * options.untimed
        command += ["--sizes", *("x".join(map(str, size)) for size in options.sizes)]
        done = subprocess.run(command, env=os.environ | EMULATED, capture_output=True, text=True)
        if done.returncode not in (0, 1):
            print(f"cublas-emulated did not run: {done.stderr[-300:]}", file=sys.stderr)
            return []
        rows: list[Row] = json.loads((Path(folder) / "fp64.json").read_text())["rows"]
        return rows


def of_pair(family: str, size: tuple[int, int, int], options: argparse.Namespace) -> Iterator[Row]:
    """Yield the rows of all methods on the same two matrices, as they are done."""
    a, b = matrices(family, size, options)
    base: Row = dict(zip("mnk", size, strict=True)) | {"family": family, "promised": None}
    sample = sample_of(a, b, options)
    if "native" in options.methods:
        yield native(base, a, b, sample, options)
    if wanted := schemes(options):
        sizes = fitness_torch.sizes(emulation.measure(a, b, emulation.steps("torch")))
        known: Row = {"sizes": sizes, "sample": sample, "options": options}
        for by, scheme in product(options.by, wanted):
            yield by_scheme(base, scheme, by, (a, b), known)


def of_all(options: argparse.Namespace) -> Iterator[Row]:
    """Yield all rows. cuBLAS's emulation comes first: what it yields is of a process that ends at once."""
    if "cublas-emulated" in options.methods and not options.reference:
        yield from cublas_emulated(options)
    for size, family in product(options.sizes, options.families):
        print(f"{family} {'x'.join(map(str, size))} ...", file=sys.stderr, flush=True)
        yield from of_pair(family, size, options)


def speeds(rows: list[Row]) -> list[Row]:
    """Return what `matmul(method="auto")` needs of the rows that were timed: with all that a caller waits for."""
    return [
        {"scheme": row["scheme"], "by": row["by"], "size": round((row["m"] * row["n"] * row["k"]) ** (1 / 3))}
        | {"tflops": 2e-9 * row["m"] * row["n"] * row["k"] / row["call"]}
        for row in rows
        if "call" in row and row["verdict"] == "right" and row["method"] != "cublas-emulated"
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


def main(arguments: list[str] | None = None) -> int:
    """Run the job and return its exit code."""
    options = parse(arguments)
    tuning.use(options.tuning)
    if options.tune and not options.reference:
        found: dict[str, Row] = {}
        for by in (by for by in options.by if by != "torch"):
            found[by] = tune(by, options)
            tuning.use(results.write(options.out, "fp64-tuning", found))
    about = {"machine": gpu.machine(), "measured": options.timed, "seed": options.seed}
    record = results.Record(folder=options.out, name="fp64", about=about)
    rows = record.rows
    record.write(finished=False)
    for row in of_all(options):
        rows.append(row)
        record.write(finished=False)
        print(results.table(rows[-1:], COLUMNS).splitlines()[1], file=sys.stderr, flush=True)
        if options.timed:
            results.write(options.out, "speeds", {about["machine"]["gpu"]: speeds(rows)})
    print(results.table(rows, COLUMNS))
    if not options.timed:
        print(results.NOTHING_MEASURED)
    print(f"see {record.write(finished=True)} and", end=" ")
    print(results.plot(options.out / "fp64.png", lambda figure: draw(figure, rows)))
    if any(row["verdict"] == "WRONG" for row in rows):
        return 1
    return 0 if any(row["verdict"] == "right" for row in rows) else 3

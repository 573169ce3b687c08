"""Plain matrix products on a GPU, by kernels in cuTile and Triton and by cuBLAS, side by side in one run.

Every timed product is checked. Without a GPU, or with --reference, products are checked only and nothing is timed.
Writes gemm.json after every product, so that a job that is killed leaves what it had, and gemm.png at the end.
Exit codes: 0 all results right, 1 a wrong result, 2 wrong command line, 3 nothing ran.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from functools import partial
from importlib import import_module
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from . import gpu, results, tuning
from .results import Row

BY = ("torch", "cutile", "triton")
# What goes in, what comes out, and how far |C - C'| may be from 0 relative to |A| |B|.
KINDS: dict[str, tuple[torch.dtype, torch.dtype, float]] = {
    "bf16": (torch.bfloat16, torch.bfloat16, 2**-8),
    "fp16": (torch.float16, torch.float16, 2**-10),
    "tf32": (torch.float32, torch.float32, 2**-9),
    "e4m3": (torch.float8_e4m3fn, torch.bfloat16, 2**-6),  # the fast accumulator of Hopper keeps few bits
    "e5m2": (torch.float8_e5m2, torch.bfloat16, 2**-6),
    "int8": (torch.int8, torch.int32, 0.0),
    "fp64": (torch.float64, torch.float64, 2**-44),
}
SIZES = ["8192", "16384", "4096", "2048", "1024", "32768"]  # what matters first, should time run out
SKINNY = ["65536x128x1024", "128x65536x1024", "256x256x65536"]
REFERENCE_SIZES = ["256", "1024x64x320"]
COLUMNS = ["type", "m", "n", "k", "by", "milliseconds", "tflops", "percent_of_torch", "error", "verdict"]
CHECKED_ROWS = 16
TUNED_AT = 8192  # --tune tries configurations at the size of --sizes that is nearest to this cube


def shape(text: str) -> tuple[int, int, int]:
    """Return (M, N, K) of "512" or "512x128x1024". Raises ValueError."""
    sizes = [int(part) for part in text.split("x")]
    if len(sizes) not in (1, 3) or min(sizes) < 16 or any(size % 16 for size in sizes):
        raise argparse.ArgumentTypeError(f"{text!r}: N or MxNxK, multiples of 16")
    m, n, k = sizes * 3 if len(sizes) == 1 else sizes
    return m, n, k


def operands(kind: str, m: int, n: int, k: int, device: str) -> tuple[Tensor, Tensor, Tensor]:
    """Return A (M, K), B (N, K) and room for the result. Random: a GPU is faster on zeros than it really is."""
    dtype, out, _ = KINDS[kind]
    if kind == "int8":
        a, b = (torch.randint(-128, 128, (rows, k), dtype=dtype, device=device) for rows in (m, n))
    else:
        wide = torch.float64 if kind == "fp64" else torch.float32
        a, b = (torch.randn((rows, k), dtype=wide, device=device).to(dtype) for rows in (m, n))
    return a, b, torch.empty((m, n), dtype=out, device=device)


def error(a: Tensor, b: Tensor, out: Tensor) -> float:
    """Return the largest |C - C'| / (|A| |B|) in some rows, against FP64."""
    rows = torch.randperm(a.shape[0], device=a.device)[:CHECKED_ROWS]
    some, columns = a[rows].double(), b.double().T
    off = (out[rows].double() - some @ columns).abs() / (some.abs() @ columns.abs()).clamp(min=1e-300)
    return float(off.max()) if bool(off.isfinite().all()) else float("inf")


def one(kind: str, size: tuple[int, int, int], by: str, options: argparse.Namespace) -> Row:
    """Multiply once in one language: check the result, and time it if there is a GPU."""
    m, n, k = size
    row: Row = {"type": kind, "m": m, "n": n, "k": k, "by": by, "measured": False}
    torch.manual_seed(options.seed)
    a, b, out = operands(kind, m, n, k, options.device)
    try:
        how = {} if by == "torch" else {"how": chosen(kind, by, (a, b, out), options)}
        gemm = import_module(f".by_{by}", __package__).gemm
        gemm(a, b, out, kind=kind, **how)
        row |= {"error": error(a, b, out), "tolerance": KINDS[kind][2]}
        row["verdict"] = "right" if row["error"] <= row["tolerance"] else "WRONG"
        if not options.reference:
            row |= gpu.milliseconds(partial(gemm, a, b, out, kind=kind, **how), repeats=options.repeats)
            row |= {"tflops": 2e-9 * m * n * k / row["milliseconds"], "measured": True}
        row["how"] = how["how"].text if how else "cuBLAS"
    except (tuning.Untuned, ImportError) as reason:
        row["verdict"] = f"left out: {reason}"
    except Exception as failure:  # a kernel that does not start says much about a driver: all others still run
        row |= results.failed(failure)
    return row


def chosen(kind: str, by: str, tensors: tuple[Tensor, Tensor, Tensor], options: argparse.Namespace) -> tuning.Config:
    """Return how a kernel is to be compiled: as tuned, or by trying out with --tune. Raises Untuned."""
    arch = "sm_90" if options.reference else gpu.arch()  # Triton's interpreter takes any
    a, b, _ = tensors
    if (by, kind) == ("cutile", "fp64") and a.shape[0] * b.shape[0] * a.shape[1] > 4096**3:
        raise tuning.Untuned("without FP64 tensor cores it would take minutes")
    known = tuning.config(by, f"gemm {kind}", arch)
    if not options.tune or options.reference:
        return known
    if found := options.found.get(by, {}).get(f"gemm {kind}"):
        return tuning.from_json(found[arch])
    gemm = import_module(f".by_{by}", __package__).gemm
    run = partial(gemm, *tensors, kind=kind)
    best = tuning.best(by, known, lambda how: gpu.median(partial(run, how=how)))
    options.found.setdefault(by, {}).setdefault(f"gemm {kind}", {})[arch] = tuning.to_json(best)
    results.write(options.out, "gemm-tuning", options.found)
    return best


def compare(rows: list[Row]) -> None:
    """Add to each row how fast it is relative to cuBLAS on the same GPU in the same run."""
    key = ("type", "m", "n", "k")
    cublas = {tuple(row[part] for part in key): row.get("tflops") for row in rows if row["by"] == "torch"}
    for row in rows:
        reference = cublas.get(tuple(row[part] for part in key))
        row["percent_of_torch"] = 100 * row["tflops"] / reference if reference and row.get("tflops") else None


def draw(figure: Any, rows: list[Row]) -> None:  # noqa: ANN401 (matplotlib's)
    """Draw TFLOPS against the size, or errors where nothing was timed."""
    timed = any(row["measured"] for row in rows)
    y, title = ("tflops", "TFLOPS") if timed else ("error", "largest |E| / (|A||B|); no speed was measured")
    axes = figure.add_subplot(xlabel="cube root of M N K", ylabel=title, title="Matrix products")
    axes.set(xscale="log", yscale="linear" if timed else "log")
    points = [
        row | {"size": (row["m"] * row["n"] * row["k"]) ** (1 / 3), "of": f"{row['type']} {row['by']}"} for row in rows
    ]
    for name, (xs, ys) in results.lines(points, of="of", x="size", y=y).items():
        axes.plot(*zip(*sorted(zip(xs, ys, strict=True)), strict=True), "o-", label=name)
    if axes.lines:
        axes.legend(fontsize=7, ncols=2)


def tuned_first(options: argparse.Namespace) -> list[tuple[int, int, int]]:
    """Return the sizes as given, with --tune the one to tune at first: the others use what was found."""
    if not options.tune:
        return list(options.sizes)
    return sorted(options.sizes, key=lambda size: abs(math.log(math.prod(size) / TUNED_AT**3)))


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line; a wrong one ends the process with exit code 2."""
    parser = argparse.ArgumentParser(prog="gemm", description=(__doc__ or "").split("\n")[0], allow_abbrev=False)
    add = parser.add_argument
    add("--out", type=Path, default=Path(), help="folder for gemm.json and gemm.png")
    add("--types", nargs="+", choices=list(KINDS), default=list(KINDS))
    add("--sizes", nargs="+", type=shape, metavar="N|MxNxK", help="default: 2^10 to 2^15, and some tall and flat ones")
    add("--by", nargs="+", choices=BY, default=list(BY), help="languages; torch is cuBLAS")
    add("--reference", action="store_true", help="check only, on the CPU: what happens without a GPU anyway")
    add("--tune", action="store_true", help="try tiles and hints first; writes gemm-tuning.json, for --tuning")
    add("--tuning", type=Path, default=tuning.FILE, help="which tiles and hints to use")
    add("--repeats", type=int, default=10, help="timed runs of each product")
    add("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    options.reference = options.reference or not gpu.present()
    options.device = "cpu" if options.reference else "cuda"
    options.sizes = options.sizes or [
        shape(text) for text in (REFERENCE_SIZES if options.reference else SIZES + SKINNY)
    ]
    if options.reference:
        interpreted = {"triton"} if os.environ.get("TRITON_INTERPRET") == "1" else set()
        options.by = [by for by in options.by if by in {"torch"} | interpreted] or ["torch"]
    options.found = {}
    return options


def main(arguments: list[str] | None = None) -> int:
    """Run the job and return its exit code."""
    options = parse(arguments)
    tuning.use(options.tuning)
    about = {"machine": gpu.machine(), "measured": not options.reference, "seed": options.seed}
    record = results.Record(folder=options.out, name="gemm", about=about)
    rows = record.rows
    record.write(finished=False)
    for size, kind, by in product(tuned_first(options), options.types, options.by):
        rows.append(one(kind, size, by, options))
        compare(rows)
        record.write(finished=False)
        print(results.table(rows[-1:], COLUMNS).splitlines()[1], file=sys.stderr, flush=True)
    print(results.table(sorted(rows, key=lambda row: options.types.index(row["type"])), COLUMNS))
    if options.reference:
        print(results.NOTHING_MEASURED)
    print(f"see {record.write(finished=True)} and", end=" ")
    print(results.plot(options.out / "gemm.png", lambda figure: draw(figure, rows)))
    if options.found:
        print(f"tuned: {options.out / 'gemm-tuning.json'}")
    if any(row["verdict"] == "WRONG" for row in rows):
        return 1
    return 0 if any(row["verdict"] == "right" for row in rows) else 3

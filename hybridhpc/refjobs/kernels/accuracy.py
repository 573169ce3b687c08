"""Tables and a picture of how accurate the two schemes are, from the NumPy specification: no GPU, and no speed.

python -m hybridhpc.refjobs.kernels.accuracy [--plot FILE.png]        (`make accuracy`)
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from . import exact, fitness, ozaki1, ozaki2
from .families import FAMILIES
from .ozaki1 import Matrix

Rows = list[list[str]]
DEPTHS = (9, 8, 7, 6, 5)
COUNTS = (12, 13, 14, 15, 16)
SQUARE = 512
FLAT = (32, 4096, 32)


def pair(family: str, m: int, k: int, n: int) -> tuple[Matrix, Matrix]:
    """Return the matrices of a family, the same in every run."""
    return FAMILIES[family](np.random.default_rng(1), m, k, n)


def of_depths() -> Rows:
    """Return scheme 1's error by depth, with 7 and with 8 bits per slice."""
    a, b = pair("randn", SQUARE, SQUARE, SQUARE)
    true = exact.truth(a, b)
    rows = [["d", "GEMMs", "7 bits", "8 bits"]]
    for depth in DEPTHS:
        products = [ozaki1.multiply(a, b, bits=bits, depth=depth) for bits in (7, 8)]
        found = [f"{exact.errors(product, true)['frobenius']:.1e}" for product in products]
        rows.append([str(depth), str(ozaki1.gemm_count(depth)), *found])
    return [*rows, ["native", "-", *[f"{exact.errors(a @ b, true)['frobenius']:.1e}"] * 2]]


def of_counts() -> Rows:
    """Return scheme 2's error by number of moduli."""
    a, b = pair("randn", SQUARE, SQUARE, SQUARE)
    true = exact.truth(a, b)
    rows = [["N", "GEMMs", "entry", "Frobenius"]]
    for count in COUNTS:
        found = exact.errors(ozaki2.multiply(a, b, count=count), true)
        rows.append([str(count), str(count), f"{found['entry']:.1e}", f"{found['frobenius']:.1e}"])
    found = exact.errors(a @ b, true)
    return [*rows, ["native", "-", f"{found['entry']:.1e}", f"{found['frobenius']:.1e}"]]


def of_families() -> Rows:
    """Return the largest |E| / (|A| |B|) for every family; in brackets what was promised beforehand."""
    rows = [["family", "native", "1: 7b d9", "1: 8b d7", "1: 8b d9", "2: N14", "2: N15", "2: N16"]]
    for family in FAMILIES:
        a, b = pair(family, *FLAT)
        true = exact.truth(a, b)
        cells = [f"{exact.errors(a @ b, true)['entry']:.1e}"]
        for product, bound in both_schemes(a, b):
            cells.append(f"{exact.errors(product, true)['entry']:.1e} ({bound:.0e})")
        rows.append([family, *cells])
    return rows


def both_schemes(a: Matrix, b: Matrix) -> Iterator[tuple[Matrix, float]]:
    """Yield products and the bounds promised for them."""
    for bits, depth in ((7, 9), (8, 7), (8, 9)):
        bound = fitness.loss_of_slices(a, b, bits=bits, count=ozaki1.SLICES, depth=depth)
        yield ozaki1.multiply(a, b, bits=bits, depth=depth), bound
    for count in (14, 15, 16):
        yield ozaki2.multiply(a, b, count=count), fitness.loss_of_moduli(a, b, count=count)


def aligned(rows: Rows) -> str:
    """Return a table in columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)


def plot(path: Path) -> None:
    """Draw the error against the number of products, for a kind family and a less kind one."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), layout="constrained")
    for place, family in enumerate(("randn", "wide 1"), start=1):
        a, b = pair(family, *FLAT)
        true = exact.truth(a, b)
        axes = figure.add_subplot(1, 2, place, title=f"{family}, K = {FLAT[1]}", xlabel="products in low precision")
        axes.set(yscale="log", ylabel="largest |E| / (|A||B|)", ylim=(1e-18, 1e-6))
        for bits, mark in ((7, "s-"), (8, "o-")):
            found = [exact.errors(ozaki1.multiply(a, b, bits=bits, depth=d), true)["entry"] for d in DEPTHS]
            axes.plot([ozaki1.gemm_count(d) for d in DEPTHS], found, mark, label=f"scheme 1, BF16, {bits} bits")
        moduli = range(ozaki2.FEWEST, ozaki2.MOST + 1)
        found = [exact.errors(ozaki2.multiply(a, b, count=count), true)["entry"] for count in moduli]
        axes.plot(list(moduli), found, "^-", label="scheme 2, INT8")
        axes.axhline(exact.errors(a @ b, true)["entry"], color="gray", linestyle="--", label="native FP64")
        axes.legend(fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Software": None})


def main() -> None:
    """Print the tables, draw the picture if asked to."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0], allow_abbrev=False)
    parser.add_argument("--plot", type=Path, help="also draw the picture of docs/fp64.md into this PNG")
    options = parser.parse_args()
    titles = {
        f"Scheme 1 (BF16 slices): relative error in the Frobenius norm, randn, n = {SQUARE}": of_depths,
        f"Scheme 2 (INT8 remainders): errors, randn, n = {SQUARE}": of_counts,
        "Largest |E| / (|A| |B|) of an entry, and the bound on the loss known beforehand; "
        f"m, k, n = {FLAT}": of_families,
    }
    for title, table in titles.items():
        print(f"{title}\n{aligned(table())}\n", flush=True)
    print("Computed in NumPy on a CPU. No speed was measured.")
    if options.plot:
        plot(options.plot)


if __name__ == "__main__":
    main()

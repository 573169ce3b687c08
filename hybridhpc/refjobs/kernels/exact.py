"""The true product, and how far from it a computed one is. No FP64 product can be the truth for another."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .ozaki1 import Matrix

Extended = NDArray[np.longdouble]


def entry(row: Matrix, column: Matrix) -> Fraction:
    """Return one entry of a product exactly, by integers: any finite values, any length."""
    pairs = zip(row.tolist(), column.tolist(), strict=True)
    terms = [(x[0] * y[0], x[1] * y[1]) for x, y in ((a.as_integer_ratio(), b.as_integer_ratio()) for a, b in pairs)]
    scale = max((denominator for _, denominator in terms), default=1)  # all are powers of two
    return Fraction(sum(numerator * (scale // denominator) for numerator, denominator in terms), scale)


def product(a: Matrix, b: Matrix) -> Extended:
    """Return a @ b with at least 11 more bits than FP64. Raises RuntimeError where long double is plain double."""
    if np.finfo(np.longdouble).nmant < 63:
        raise RuntimeError("this machine's long double is plain double: use a Linux machine, or `entry`")
    return a.astype(np.longdouble) @ b.astype(np.longdouble)


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """A product and the size of what was added up for it, |A| |B|, entry by entry."""

    product: Extended
    size: Extended


def truth(a: Matrix, b: Matrix) -> Truth:
    """Return what `errors` compares with. Raises RuntimeError as `product` does."""
    return Truth(product=product(a, b), size=product(np.abs(a), np.abs(b)))


def errors(computed: Matrix, true: Truth) -> dict[str, float]:
    """Return how far off a computed product is: the largest |E| / (|A| |B|) of an entry, and the Frobenius norm of E
    relative to that of the product. An entry that must be zero, since |A| |B| is, counts as infinitely wrong if not.
    """
    off: Any = np.abs(computed - true.product)
    relative = np.divide(off, true.size, out=np.where(off > 0, np.inf, 0).astype(np.longdouble), where=true.size > 0)
    norm = np.sqrt(np.square(true.product).sum())
    frobenius = np.sqrt(np.square(off).sum()) / norm if norm else 0.0
    return {"entry": float(relative.max(initial=0)), "frobenius": float(frobenius)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Some entries of a product, exactly: for sizes at which nobody wants the whole product in extended precision."""

    places: list[tuple[int, int]]
    entries: list[Fraction]
    sizes: list[Fraction]  # |A| |B| there

    def error(self, computed: list[float]) -> float:
        """Return the largest |E| / (|A| |B|) of a product's entries at `places`."""
        off = [abs(Fraction(found) - true) for found, true in zip(computed, self.entries, strict=True)]
        ratios = [
            float(wrong / size) if size else float("inf") if wrong else 0.0
            for wrong, size in zip(off, self.sizes, strict=True)
        ]
        return max(ratios, default=0.0)


def sample(places: list[tuple[int, int]], rows: list[Matrix], columns: list[Matrix]) -> Sample:
    """Return the entries at `places`, given the row of A and the column of B of each."""
    pairs = list(zip(rows, columns, strict=True))
    return Sample(
        places=places,
        entries=[entry(row, column) for row, column in pairs],
        sizes=[entry(np.abs(row), np.abs(column)) for row, column in pairs],
    )

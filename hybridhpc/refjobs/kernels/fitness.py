"""Which products a scheme may compute: no result is silently wrong.

NaN and infinities go to native FP64. For finite inputs `loss` bounds what a scheme throws away, entry by entry, from
these very matrices. It finds what no scaling of rows and columns can cure (large and small entries in one row that
meet small and large ones in the column), and it is 0 for matrices of short integers.

It bounds |C - C'| / (|A| |B|), up to the rounding of FP64 itself, of which every scheme does less than a native
product does.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from . import ozaki1, ozaki2
from .ozaki1 import Matrix

SMALLEST = 2.0**-62  # products of two still are normal numbers in FP32
USELESS = 2.0**-7  # a larger loss is no longer worth a number
SAFETY = 1.03  # |A| |B| is computed from BF16, 2**-7 off at most; see `loss` for the rest


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """What a scheme leaves of the rows of one matrix, each row scaled to entries below 1."""

    scaled: Matrix  # |entries|
    rest: NDArray[np.float64]  # per row: the largest part of an entry that the scheme drops
    slices: tuple[NDArray[np.float64], ...] = ()  # per slice and row: its largest entry


def fit_for_fp32(
    a: Matrix, exponents: NDArray[np.int64], rest: NDArray[np.float64]
) -> tuple[Matrix, NDArray[np.float64]]:
    """Return |entries| in units of 2**exponent, raised where FP32 would lose them, which counts as being dropped."""
    scaled = np.ldexp(np.abs(a), -exponents[:, None])
    small = (a != 0) & (scaled < SMALLEST)  # it may have become 0 just now
    return np.where(small, SMALLEST, scaled), np.where(small.any(axis=1), np.maximum(rest, SMALLEST), rest)


def of_slices(a: Matrix, *, bits: int, count: int) -> Left:
    """Return what scheme 1 leaves of a matrix's rows."""
    split = ozaki1.split_rows(a, bits=bits, count=count)
    scaled, rest = fit_for_fp32(a, split.exponents, np.abs(split.rest).max(axis=1, initial=0))
    units = [2.0 ** (1 - bits * (place + 1)) for place in range(count)]
    slices = tuple(np.abs(part).max(axis=1, initial=0) * unit for part, unit in zip(split.slices, units, strict=True))
    return Left(scaled=scaled, rest=rest, slices=slices)


def of_moduli(a: Matrix, *, count: int) -> Left:
    """Return what scheme 2 leaves of a matrix's rows."""
    exponents, integers = ozaki1.row_exponents(a), ozaki2.scale_rows(a, count)
    dropped = np.ldexp(np.abs(integers.rest).max(axis=1, initial=0), -(integers.exponents + exponents))
    scaled, rest = fit_for_fp32(a, exponents, dropped)
    return Left(scaled=scaled, rest=rest)


def dropped(left: Left, right: Left, depth: int) -> Matrix:
    """Return a bound on what each entry loses, in the scaled units."""
    k = left.scaled.shape[1]
    lost: Matrix = (
        left.rest[:, None] * right.scaled.sum(axis=1)[None, :]
        + left.scaled.sum(axis=1)[:, None] * right.rest[None, :]
        + k * left.rest[:, None] * right.rest[None, :]
    )
    for i, slice_of_left in enumerate(left.slices):
        for j, slice_of_right in enumerate(right.slices):
            if i + j >= depth:
                lost += k * slice_of_left[:, None] * slice_of_right[None, :]
    return lost


def loss(left: Left, right: Left, *, depth: int = 0) -> float:
    """Return the bound on |C - C'| / (|A| |B|) over all entries; infinity beyond 2**-7. `depth` is that of scheme 1."""
    size = left.scaled @ right.scaled.T  # 0 only where every product is: such an entry is exact
    lost = dropped(left, right, depth)
    worst = float(np.divide(lost, size, out=np.zeros_like(lost), where=size > 0).max(initial=0))
    # What raising small entries added to `size` is in `lost` too, so the true ratio is below worst / (1 - worst).
    return worst * SAFETY if worst <= USELESS else float("inf")


def loss_of_slices(a: Matrix, b: Matrix, *, bits: int, count: int, depth: int) -> float:
    """Return the bound for scheme 1."""
    left, right = (of_slices(side, bits=bits, count=count) for side in (a, b.T))
    return loss(left, right, depth=depth)


def loss_of_moduli(a: Matrix, b: Matrix, *, count: int) -> float:
    """Return the bound for scheme 2."""
    left, right = (of_moduli(side, count=count) for side in (a, b.T))
    return loss(left, right)

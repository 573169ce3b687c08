"""FP64 products from BF16 pieces, after Ozaki's first scheme: the specification, in NumPy, that kernels are held to.

Every row of A (column of B) is cut into slices of small integers that share one power of two:

    A[i, :] = 2**e[i] * (q0 * 2**-7 + q1 * 2**-15 + q2 * 2**-23 + ...)        with 8 bits per slice, |q| <= 2**7

BF16 holds such integers exactly. A product of two is at most 2**14, so FP32 adds up 1024 of them without any rounding;
then the sum moves on to FP64. Rounding happens there only, in the last bits of the result.
Slices without a common unit, or an FP32 sum over more of K, would round and spoil the result at every number of slices.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]
Exponents = NDArray[np.int64]

SLICES = 7
FLUSH = 1024  # of K: 2**14 * 1024 = 2**24 is the last integer up to which FP32 holds them all


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """The rows of a matrix cut into slices."""

    slices: tuple[Matrix, ...]  # integers, the most significant slice first
    exponents: Exponents  # of each row: its entries are below 2**exponent
    rest: Matrix  # what no slice holds, in units of 2**exponent


def row_exponents(a: Matrix) -> Exponents:
    """Return for each row the smallest e with all |entries| < 2**e; 0 for a row of zeros."""
    largest = np.abs(a).max(axis=1, initial=0.0)
    exponents: Exponents = np.frexp(largest)[1].astype(np.int64)
    return exponents


def split_rows(a: Matrix, *, bits: int = 8, count: int = SLICES) -> Split:
    """Cut the rows of a finite matrix into slices of `bits` bits (7 or 8; the sign is one of them)."""
    exponents = row_exponents(a)
    rest = np.ldexp(a, -exponents[:, None])  # below 1; what vanishes here is far below the last slice
    slices = []
    rest = np.ldexp(rest, bits - 1)
    for _ in range(count):
        integers = np.rint(rest)
        slices.append(integers)
        rest = np.ldexp(rest - integers, bits)  # exact: |rest - integers| <= 1/2
    return Split(slices=tuple(slices), exponents=exponents, rest=np.ldexp(rest, 1 - bits * (count + 1)))


def levels(depth: int, count: int = SLICES) -> list[list[tuple[int, int]]]:
    """Return the pairs (slice of A, slice of B) with i + j < depth, by i + j, the least significant first.

    Pairs with i + j >= depth are left out ("fast mode"): they would change only bits that are cut off anyway.
    """
    return [
        [(i, level - i) for i in range(level + 1) if i < count and level - i < count]
        for level in reversed(range(min(depth, 2 * count - 1)))
    ]


def all_pairs(count: int, depth: int | None = None) -> list[tuple[int, int]]:
    """Return all pairs of slices, or those with i + j < depth."""
    return [pair for pairs in levels(depth or 2 * count - 1, count) for pair in pairs]


def gemm_count(depth: int, count: int = SLICES) -> int:
    """Return how many BF16 products one FP64 product takes."""
    return len(all_pairs(count, depth))


def multiply_slices(left: Split, right: Split, *, bits: int, depth: int) -> Matrix:
    """Return A @ B from the slices of A's rows and of B's columns."""
    rows, k = left.slices[0].shape
    total = np.zeros((rows, right.slices[0].shape[0]))
    for pairs in levels(depth, len(left.slices)):
        total = np.ldexp(total, -bits)
        for i, j in pairs:
            for start in range(0, k, FLUSH):
                part = slice(start, start + FLUSH)
                # Integers up to 2**24: FP64 gives here, in any order of adding, what FP32 gives on a tensor core.
                total += left.slices[i][:, part] @ right.slices[j][:, part].T
    scaled: Matrix = np.ldexp(total, left.exponents[:, None] + right.exponents[None, :] - 2 * (bits - 1))
    return scaled


def multiply(a: Matrix, b: Matrix, *, bits: int = 8, count: int = SLICES, depth: int = 7) -> Matrix:
    """Return a @ b for finite matrices. See `fitness.loss` for how far off it can be."""
    left, right = split_rows(a, bits=bits, count=count), split_rows(b.T, bits=bits, count=count)
    return multiply_slices(left, right, bits=bits, depth=depth)

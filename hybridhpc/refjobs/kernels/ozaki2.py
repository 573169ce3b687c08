"""FP64 products from INT8 products and the Chinese remainder theorem (Ozaki's second scheme): the specification.

1. Every row of A and column of B is multiplied by a power of two and rounded to integers, as large as they may be:
   2 * sum |a'| |b'| < P, the product of N pairwise coprime moduli.
2. For each modulus p, the remainders of A' and B' fit INT8. Their product is one INT8 GEMM; only its remainder counts.
3. The N remainders of an entry of A' @ B' tell the entry itself, since it lies between -P/2 and P/2.

All of this is exact, but for the rounding to integers in step 1: more moduli, larger integers, a smaller error.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, log2, prod

import numpy as np
from numpy.typing import NDArray

from .ozaki1 import Exponents, Matrix, row_exponents

MODULI = (256, 255, 253, 251, 247, 241, 239, 233, 229, 227, 223, 217, 211, 199, 197, 193)
FEWEST, MOST = 8, len(MODULI)  # with 16 moduli the integers still fit 64 bits
CHUNK = 65536  # of K: 128 * 128 * 65536 = 2**30 fits INT32 with room to spare
SLACK = 2.0**-20  # covers the rounding to integers and of the norms

Integers = NDArray[np.int64]
Residues = NDArray[np.int8]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaled:
    """The rows of a matrix as integers: row * 2**exponent, rounded."""

    integers: Matrix  # |entry| < 2**63; whole numbers, though kept as FP64
    exponents: Exponents
    rest: Matrix  # what rounding took away, in the units of the integers


@dataclass(frozen=True, slots=True, kw_only=True)
class Crt:
    """The constants that lead from remainders back to integers, in parts short enough for exact sums in FP64."""

    product: int
    inverse: float  # 1 / product
    product_parts: tuple[float, float, float]
    weights: tuple[tuple[float, float, float], ...]  # per modulus: 0 modulo the others, 1 modulo its own


def row_limit(count: int) -> float:
    """Return the log2 of the largest Euclidean norm that a row of integers may have with so many moduli."""
    return (log2(prod(MODULI[:count])) - 1) / 2 + log2(1 - SLACK)


def scale_rows(a: Matrix, count: int) -> Scaled:
    """Round the rows of a finite matrix to the largest integers that `count` moduli allow (Cauchy-Schwarz)."""
    exponents = row_exponents(a)
    fractions = np.ldexp(a, -exponents[:, None])
    norms = np.sqrt(np.square(fractions).sum(axis=1))
    shifts = np.floor(row_limit(count) - np.log2(norms, where=norms > 0, out=np.zeros_like(norms))).astype(np.int64)
    exact = np.ldexp(fractions, shifts[:, None])
    integers = np.rint(exact)
    return Scaled(integers=integers, exponents=shifts - exponents, rest=exact - integers)


def residues(integers: Matrix, modulus: int) -> Residues:
    """Return the remainders that lie nearest to zero: -128 to 127 for 256, -(p-1)/2 to (p-1)/2 for odd p."""
    remainder = np.fmod(integers, modulus)  # exact in floating point, whatever the size
    remainder = np.where(remainder > (modulus - 1) // 2, remainder - modulus, remainder)
    return np.where(remainder < -(modulus // 2), remainder + modulus, remainder).astype(np.int8)


def reciprocal(modulus: int) -> int:
    """Return the constant of `reduce`: a quotient by multiplication."""
    return 2**32 // modulus


def reduce(sums: Integers, modulus: int) -> Residues:
    """Return the symmetric remainders of INT32 sums as the kernels do: multiply high, subtract, correct once.

    Below 2**30 the quotient is off by less than 1/4 before rounding down, so the remainder lies between -p/4 and 5p/4,
    and one correction brings it to -p/2..p/2. A quotient in FP32 would be off by several from K = 16384 on: its
    remainder does not fit INT8.
    """
    quotient = (sums * reciprocal(modulus)) >> 32
    remainder = sums - quotient * modulus
    return np.where(remainder > (modulus - 1) // 2, remainder - modulus, remainder).astype(np.int8)


def multiply_residues(left: Residues, right: Residues, modulus: int) -> Residues:
    """Return the remainders of left @ right.T. K has no bound: the sums are reduced every CHUNK of it."""
    total = np.zeros((left.shape[0], right.shape[0]), np.int8)
    for start in range(0, left.shape[1], CHUNK):
        part = slice(start, start + CHUNK)
        # At most 2**30: FP64 gives here, in any order of adding, what INT32 gives on a tensor core.
        sums = left[:, part].astype(np.float64) @ right[:, part].T.astype(np.float64)
        total = reduce(sums.astype(np.int64) + total, modulus)
    return total


def crt(count: int) -> Crt:
    """Return the constants for the first `count` moduli."""
    moduli = MODULI[:count]
    product = prod(moduli)
    others = [product // p for p in moduli]
    weights = [other * pow(other, -1, p) for other, p in zip(others, moduli, strict=True)]
    part_bits = 53 - 7 - ceil(log2(count))  # |remainder| <= 2**7, `count` terms: a sum of parts fits 53 bits
    grids = [max(0, product.bit_length() - part_bits * place) for place in (1, 2)]
    return Crt(
        product=product,
        inverse=1 / product,
        product_parts=in_parts(product, grids),
        weights=tuple(in_parts(weight, grids) for weight in weights),
    )


def in_parts(number: int, grids: list[int]) -> tuple[float, float, float]:
    """Return a number as a sum of multiples of 2**grids[0], of 2**grids[1], and the remainder."""
    high = number >> grids[0] << grids[0]
    middle = (number - high) >> grids[1] << grids[1]
    return float(high), float(middle), float(number - high - middle)


def reconstruct(remainders: list[Residues], constants: Crt) -> Matrix:
    """Return the integers between -P/2 and P/2 that leave these remainders, rounded to FP64."""
    sums = [np.zeros(remainders[0].shape) for _ in range(3)]
    for remainder, weight in zip(remainders, constants.weights, strict=True):
        for place in range(3):
            sums[place] += weight[place] * remainder
    multiple = np.rint(sums[0] * constants.inverse)
    high, middle, low = (part - multiple * p for part, p in zip(sums, constants.product_parts, strict=True))
    # Everything so far is exact. Add so that the result is, too, if FP64 can hold it.
    upper = high + middle
    virtual = upper - high
    lost = (high - (upper - virtual)) + (middle - virtual)
    whole: Matrix = upper + (lost + low)
    return whole


def multiply_scaled(left: Scaled, right: Scaled, count: int) -> Matrix:
    """Return A @ B from the integers of A's rows and of B's columns."""
    remainders = [multiply_residues(residues(left.integers, p), residues(right.integers, p), p) for p in MODULI[:count]]
    whole = reconstruct(remainders, crt(count))
    scaled: Matrix = np.ldexp(whole, -(left.exponents[:, None] + right.exponents[None, :]))
    return scaled


def multiply(a: Matrix, b: Matrix, *, count: int = 15) -> Matrix:
    """Return a @ b for finite matrices. See `fitness.loss` for how far off it can be."""
    if not FEWEST <= count <= MOST:
        raise ValueError(f"{count} moduli: from {FEWEST} to {MOST} are supported")
    return multiply_scaled(scale_rows(a, count), scale_rows(b.T, count), count)

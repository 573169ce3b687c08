"""Kinds of matrices that tell good schemes from bad ones: each makes a pair (A, B), given random numbers and a size."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .ozaki1 import Matrix

Pair = tuple[Matrix, Matrix]
Family = Callable[[np.random.Generator, int, int, int], Pair]


def randn(draw: np.random.Generator, m: int, k: int, n: int) -> Pair:
    """Normal numbers, the kindest case."""
    return draw.standard_normal((m, k)), draw.standard_normal((k, n))


def uniform(draw: np.random.Generator, m: int, k: int, n: int) -> Pair:
    """Numbers from 0 to 1: sums grow with K, so sloppy accumulation shows."""
    return draw.random((m, k)), draw.random((k, n))


def integers(draw: np.random.Generator, m: int, k: int, n: int) -> Pair:
    """Integers below 2**12: every scheme must give the exact result, bit for bit."""
    return (
        draw.integers(-4095, 4096, (m, k)).astype(np.float64),
        draw.integers(-4095, 4096, (k, n)).astype(np.float64),
    )


def graded(draw: np.random.Generator, m: int, k: int, n: int) -> Pair:
    """Rows of A and columns of B of very different sizes: one scale for the whole matrix fails."""
    a, b = randn(draw, m, k, n)
    return a * np.exp2(draw.uniform(-40, 40, (m, 1))), b * np.exp2(draw.uniform(-40, 40, (1, n)))


def wide(phi: float) -> Family:
    """Return the family (u - 1/2) * exp(phi * z): the larger phi, the more the entries of a row differ in size."""

    def make(draw: np.random.Generator, m: int, k: int, n: int) -> Pair:
        """Entries (u - 1/2) * exp(phi * z)."""
        a, b = ((draw.random(shape) - 0.5) * np.exp(phi * draw.standard_normal(shape)) for shape in ((m, k), (k, n)))
        return a, b

    return make


def cancelling(draw: np.random.Generator, m: int, k: int, n: int) -> Pair:
    """Columns of B orthogonal to the rows of A: the product is nothing but rounding. Needs k > m."""
    a, b = randn(draw, m, k, n)
    basis = np.linalg.qr(a.T)[0]
    return a, b - basis @ (basis.T @ b)


def rescaled(bits: int) -> Family:
    """Return the family (A D, D^-1 B) with D from 2**-bits to 2**bits: no power of two per row or column undoes it."""

    def make(draw: np.random.Generator, m: int, k: int, n: int) -> Pair:
        """A D and D^-1 B."""
        a, b = randn(draw, m, k, n)
        scales = np.exp2(draw.uniform(-bits, bits, k))
        return a * scales[None, :], b / scales[:, None]

    return make


FAMILIES: dict[str, Family] = {
    "randn": randn,
    "uniform": uniform,
    "integers": integers,
    "graded": graded,
    "wide 1": wide(1),
    "wide 2": wide(2),
    "wide 4": wide(4),
    "cancelling": cancelling,
    "rescaled 4": rescaled(4),
    "rescaled 12": rescaled(12),
    "rescaled 20": rescaled(20),
}

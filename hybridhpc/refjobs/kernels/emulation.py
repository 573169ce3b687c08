"""Both FP64 schemes on tensors, put together from steps that cuTile, Triton or torch carries out."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Protocol

import torch
from torch import Tensor

from . import ozaki1, ozaki2
from .gpu import free_bytes
from .layouts import padded

BY = ("cutile", "triton", "torch")


class Steps(Protocol):
    """What `by_torch`, `by_cutile` and `by_triton` offer; `by_torch` says what each step does."""

    def measure_rows(self, a: Tensor) -> tuple[Tensor, Tensor]: ...  # noqa: D102
    def split_rows(self, a: Tensor, exponents: Tensor, *, bits: int, count: int) -> Tensor: ...  # noqa: D102
    def multiply_slices(  # noqa: D102
        self, a: Tensor, b: Tensor, exponents: tuple[Tensor, Tensor], *, bits: int, depth: int
    ) -> Tensor: ...
    def residues(self, a: Tensor, exponents: Tensor, *, count: int) -> Tensor: ...  # noqa: D102
    def multiply_residues(self, a: Tensor, b: Tensor) -> Tensor: ...  # noqa: D102
    def reconstruct(self, remainders: Tensor, exponents: tuple[Tensor, Tensor]) -> Tensor: ...  # noqa: D102


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheme:
    """How one FP64 product is emulated."""

    method: str  # "ozaki1" or "ozaki2"
    bits: int = 8  # of a slice: 7 or 8
    slices: int = ozaki1.SLICES
    depth: int = 7  # pairs of slices with i + j < depth are multiplied
    moduli: int = 15

    def __post_init__(self) -> None:
        """Refuse what no kernel can do. Raises ValueError."""
        if self.method not in ("ozaki1", "ozaki2"):
            raise ValueError(f"{self.method!r} is no scheme: ozaki1 or ozaki2")
        if self.bits not in (7, 8) or not 1 <= self.slices <= 16 or not 1 <= self.depth <= 2 * self.slices - 1:
            raise ValueError("ozaki1 takes 7 or 8 bits, 1 to 16 slices, and a depth from 1 to 2 * slices - 1")
        if not ozaki2.FEWEST <= self.moduli <= ozaki2.MOST:
            raise ValueError(f"ozaki2 takes {ozaki2.FEWEST} to {ozaki2.MOST} moduli, not {self.moduli}")

    @property
    def gemms(self) -> int:
        """Return the number of products in low precision."""
        return self.moduli if self.method == "ozaki2" else ozaki1.gemm_count(self.depth, self.slices)

    @property
    def name(self) -> str:
        """Return how tables and files call it."""
        if self.method == "ozaki2":
            return f"ozaki2 N={self.moduli}"
        return f"ozaki1 {self.bits} bits {self.slices} slices d={self.depth}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Two matrices and what `measure_rows` says about A's rows and B's columns."""

    a: Tensor
    b: Tensor  # transposed: (N, K)
    exponents: tuple[Tensor, Tensor]
    squares: tuple[Tensor, Tensor]

    @property
    def finite(self) -> bool:
        """Return whether no entry is NaN or infinite."""
        return all(bool(side.isfinite().all()) for side in self.squares)


def workspace(scheme: Scheme, m: int, n: int, k: int) -> int:
    """Return how many bytes a product takes at a time, beside A and B: C, and what is made of them for tensor cores."""
    if scheme.method == "ozaki1":
        return 2 * scheme.slices * (m + n) * padded(k) + 8 * m * n
    return scheme.moduli * ((m + n) * padded(k) + m * n) + 8 * m * n


def lack_of_memory(scheme: Scheme, a: Tensor, b: Tensor) -> str | None:
    """Return why the GPU of two matrices has too little memory left for a scheme, None if it has not."""
    if a.device.type != "cuda":
        return None
    needed, free = workspace(scheme, a.shape[0], b.shape[1], a.shape[1]), free_bytes(a.device)
    return f"it needs {needed / 2**30:.1f} GiB of GPU memory, {free / 2**30:.1f} are free" if needed > free else None


def steps(by: str) -> Steps:
    """Return the steps written in one of BY. Raises ImportError when what it needs is not installed."""
    module: Steps = import_module(f".by_{by}", __package__)
    return module


def measure(a: Tensor, b: Tensor, by: Steps) -> Measured:
    """Look at both matrices once: everything else follows from it."""
    exponents_a, squares_a = by.measure_rows(a)
    exponents_b, squares_b = by.measure_rows(b.T)
    return Measured(a=a, b=b.T, exponents=(exponents_a, exponents_b), squares=(squares_a, squares_b))


def integer_exponents(exponents: Tensor, squares: Tensor, count: int) -> Tensor:
    """Return by which powers of two rows become integers (`ozaki2.scale_rows`)."""
    norms = torch.where(squares > 0, squares, 1.0).sqrt()
    return (ozaki2.row_limit(count) - norms.log2()).floor().to(torch.int64) - exponents


def multiply(pair: Measured, scheme: Scheme, by: Steps) -> Tensor:
    """Return A @ B for finite matrices of at least one row, column and term."""
    if scheme.method == "ozaki1":
        left, right = (
            by.split_rows(side, exponents, bits=scheme.bits, count=scheme.slices)
            for side, exponents in zip((pair.a, pair.b), pair.exponents, strict=True)
        )
        return by.multiply_slices(left, right, pair.exponents, bits=scheme.bits, depth=scheme.depth)
    count = scheme.moduli
    scales = tuple(integer_exponents(*row, count) for row in zip(pair.exponents, pair.squares, strict=True))
    return by.reconstruct(remainders(pair, scales, count, by), (scales[0], scales[1]))


def remainders(pair: Measured, scales: tuple[Tensor, ...], count: int, by: Steps) -> Tensor:
    """Return those of the product. Those of A and B, most of the memory that is used, are gone afterwards."""
    left, right = (by.residues(side, scale, count=count) for side, scale in zip((pair.a, pair.b), scales, strict=True))
    return by.multiply_residues(left, right)

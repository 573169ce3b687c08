"""The steps of both FP64 schemes, and plain products, by kernels in cuTile. `by_torch` says what each does.

cuTile compiles them on first use, for the GPU at hand: that needs cuda-tile with its compiler, and a GPU.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import cuda.tile as ct
import torch
from torch import Tensor

from . import cutile_kernels as kernels
from .constants import crt, moduli
from .layouts import in_lines, padded
from .tuning import Config, config

FP8 = (torch.float8_e4m3fn, torch.float8_e5m2)


@cache
def arch(device: torch.device) -> str:
    """Return sm_90 and the like."""
    major, minor = torch.cuda.get_device_capability(device)
    return f"sm_{major}{minor}"


def tuned(kernel: str, like: Tensor) -> Config:
    """Return how a kernel is compiled for the GPU where a tensor lies. Raises tuning.Untuned."""
    return config("cutile", kernel, arch(like.device))


def launch(kernel: Any, hints: dict[str, int], grid: tuple[int, ...], *args: Any) -> None:  # noqa: ANN401 (cuTile's)
    """Start a kernel on the GPU where its first tensor lies, on the stream that is current there."""
    with torch.cuda.device_of(args[0]):  # type: ignore[no-untyped-call]
        ct.launch(torch.cuda.current_stream(), grid, variant(kernel, tuple(hints.items())), args)


@cache
def variant(kernel: Any, hints: tuple[tuple[str, int], ...]) -> Any:  # noqa: ANN401 (cuTile's)
    """Return a kernel with other hints: always the same one, since each is compiled once."""
    return kernel.replace_hints(**dict(hints)) if hints else kernel


def tiles(size: int, tile: int) -> int:
    """Return how many tiles cover a size."""
    return -(-size // tile)


def gemm(a: Tensor, b: Tensor, out: Tensor, *, kind: str, how: Config | None = None) -> None:
    """Write a @ b.T for a (M, K) and b (N, K); `kind` is that of `tuning.json`, such as bf16 or tf32."""
    how = how or tuned(f"gemm {kind}", a)
    (tm, tn, tk), fast = how.tile, a.dtype in FP8 and arch(a.device) == "sm_90"
    grid = (tiles(a.shape[0], tm) * tiles(b.shape[0], tn),)
    launch(kernels.gemm, how.hints, grid, a, b, out, tm, tn, tk, how.group, int(kind == "tf32"), int(fast))


def measure_rows(a: Tensor) -> tuple[Tensor, Tensor]:
    """Return each row's exponent and the sum of its squares in units of 2**exponent."""
    how = tuned("measure_rows", a)
    exponents, squares = a.new_empty(a.shape[0], dtype=torch.int64), a.new_empty(a.shape[0])
    launch(kernels.measure_rows, how.hints, (tiles(a.shape[0], how.tile[0]),), a, exponents, squares, *how.tile)
    return exponents, squares


def split_rows(a: Tensor, exponents: Tensor, *, bits: int, count: int) -> Tensor:
    """Return the slices of A (count, M, K) in BF16."""
    how = tuned("split_rows", a)
    slices = a.new_empty((count, a.shape[0], padded(a.shape[1])), dtype=torch.bfloat16)
    grid = (tiles(a.shape[0], how.tile[0]), tiles(slices.shape[2], how.tile[1]))
    launch(kernels.split_rows, how.hints, grid, a, exponents, slices, *how.tile, bits, count)
    return slices


def multiply_slices(
    a: Tensor, b: Tensor, exponents: tuple[Tensor, Tensor], *, bits: int, depth: int, how: Config | None = None
) -> Tensor:
    """Return the FP64 product from the slices of A's rows and B's columns."""
    how = how or tuned("multiply_slices", a)
    out = a.new_empty((a.shape[1], in_lines(b.shape[1])), dtype=torch.float64)
    grid = (tiles(a.shape[1], how.tile[0]) * tiles(b.shape[1], how.tile[1]),)
    args = (a, b, *exponents, out, *how.tile, how.group, bits, a.shape[0], depth)
    launch(kernels.multiply_slices, how.hints, grid, *args)
    return out[:, : b.shape[1]].contiguous()


def residues(a: Tensor, exponents: Tensor, *, count: int) -> Tensor:
    """Return the remainders (count, M, K) of round(row * 2**exponent)."""
    how = tuned("residues", a)
    out = a.new_empty((count, a.shape[0], padded(a.shape[1])), dtype=torch.int8)
    grid = (tiles(a.shape[0], how.tile[0]), tiles(out.shape[2], how.tile[1]))
    launch(kernels.residues, how.hints, grid, a, exponents, *moduli(count, a.device), out, *how.tile, count)
    return out


def multiply_residues(a: Tensor, b: Tensor, *, how: Config | None = None) -> Tensor:
    """Return the remainders (count, M, N) of the products, N padded: kernels for odd N would spill registers."""
    how, count = how or tuned("multiply_residues", a), a.shape[0]
    out = a.new_empty((count, a.shape[1], in_lines(b.shape[1])), dtype=torch.int8)
    grid = (tiles(a.shape[1], how.tile[0]) * tiles(b.shape[1], how.tile[1]), count)
    launch(kernels.multiply_residues, how.hints, grid, a, b, *moduli(count, a.device), out, *how.tile, how.group)
    return out


def reconstruct(remainders: Tensor, exponents: tuple[Tensor, Tensor]) -> Tensor:
    """Return the FP64 product from its remainders and the exponents of A's and B's integers."""
    how, (count, rows, columns) = tuned("reconstruct", remainders), remainders.shape
    out = remainders.new_empty((rows, columns), dtype=torch.float64)
    grid = (tiles(rows, how.tile[0]), tiles(columns, how.tile[1]))
    args = (remainders, *crt(count, remainders.device), *exponents, out, *how.tile, count)
    launch(kernels.reconstruct, how.hints, grid, *args)
    return out[:, : exponents[1].shape[0]].contiguous()

"""The steps of both FP64 schemes, and plain products, by kernels in Triton. `by_torch` says what each does.

With TRITON_INTERPRET=1 in the environment they run on a CPU, slowly: that is how they are tested without a GPU.
"""

from __future__ import annotations

from typing import Any

import torch
import triton.language as tl
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from . import triton_kernels as kernels
from .constants import crt, moduli
from .layouts import in_lines, padded
from .tuning import Config, Untuned, config

ACCUMULATORS = {torch.int8: tl.int32, torch.float64: tl.float64}


def tuned(kernel: str, like: Tensor) -> Config:
    """Return how a kernel is compiled for the GPU where a tensor lies. Raises tuning.Untuned."""
    if like.device.type != "cuda":
        return config("triton", kernel, "sm_90")  # the interpreter
    major, minor = torch.cuda.get_device_capability(like.device)
    return config("triton", kernel, f"sm_{major}{minor}")


def tiles(size: int, tile: int) -> int:
    """Return how many tiles cover a size."""
    return -(-size // tile)


def launch(kernel: Any, how: Config, grid: tuple[int, ...], on: Tensor, *args: Any) -> None:  # noqa: ANN401 (Triton's)
    """Start a kernel on the GPU where a tensor lies, on the stream that is current there."""
    with torch.cuda.device_of(on):  # type: ignore[no-untyped-call]
        kernel[grid](*args, **how.hints)


def tall(stack: Tensor, tile: tuple[int, ...]) -> Any:  # noqa: ANN401 (Triton's)
    """Return a descriptor of a matrix, or of a stack of them one below the other."""
    if stack.dtype == torch.bfloat16 and stack.device.type == "cpu":
        stack = stack.float()  # the interpreter (3.6, 3.9) multiplies BF16 as if it were integers
    return TensorDescriptor.from_tensor(stack.reshape(-1, stack.shape[-1]), list(tile))


def gemm(a: Tensor, b: Tensor, out: Tensor, *, kind: str, how: Config | None = None) -> None:
    """Write a @ b.T for a (M, K) and b (N, K); `kind` is that of `tuning.json`, such as bf16 or tf32."""
    if a.device.type == "cpu" and kind in ("bf16", "e4m3", "e5m2"):
        raise Untuned(f"Triton's interpreter (3.9) does not multiply {kind}")
    how = how or tuned(f"gemm {kind}", a)
    tm, tn, tk = how.tile
    operands = (tall(a, (tm, tk)), tall(b, (tn, tk)), tall(out, (tm, tn)))
    (m, k), n = a.shape, b.shape[0]
    grid = (tiles(m, tm) * tiles(n, tn),)
    accumulator = ACCUMULATORS.get(a.dtype, tl.float32)
    launch(kernels.gemm, how, grid, a, *operands, m, n, k, *how.tile, how.group, accumulator)


def measure_rows(a: Tensor) -> tuple[Tensor, Tensor]:
    """Return each row's exponent and the sum of its squares in units of 2**exponent."""
    how = tuned("measure_rows", a)
    exponents, squares = a.new_empty(a.shape[0], dtype=torch.int64), a.new_empty(a.shape[0])
    grid = (tiles(a.shape[0], how.tile[0]),)
    launch(kernels.measure_rows, how, grid, a, a, exponents, squares, *a.shape, *a.stride(), *how.tile)
    return exponents, squares


def split_rows(a: Tensor, exponents: Tensor, *, bits: int, count: int) -> Tensor:
    """Return the slices of A (count, M, K) in BF16."""
    how = tuned("split_rows", a)
    slices = a.new_empty((count, a.shape[0], padded(a.shape[1])), dtype=torch.bfloat16)
    grid = (tiles(a.shape[0], how.tile[0]), tiles(slices.shape[2], how.tile[1]))
    args = (a, exponents, slices, *a.shape, slices.shape[2], *a.stride(), *how.tile, bits, count)
    launch(kernels.split_rows, how, grid, a, *args)
    return slices


def multiply_slices(
    a: Tensor, b: Tensor, exponents: tuple[Tensor, Tensor], *, bits: int, depth: int, how: Config | None = None
) -> Tensor:
    """Return the FP64 product from the slices of A's rows and B's columns."""
    how, (count, m, k), n = how or tuned("multiply_slices", a), a.shape, b.shape[1]
    tm, tn, tk = how.tile
    out = a.new_empty((m, n), dtype=torch.float64)
    grid = (tiles(m, tm) * tiles(n, tn),)
    operands = (tall(a, (tm, tk)), tall(b, (tn, tk)))
    args = (*operands, *exponents, out, m, n, k, *how.tile, how.group, bits, count, depth)
    launch(kernels.multiply_slices, how, grid, a, *args)
    return out


def residues(a: Tensor, exponents: Tensor, *, count: int) -> Tensor:
    """Return the remainders (count, M, K) of round(row * 2**exponent)."""
    how = tuned("residues", a)
    out = a.new_empty((count, a.shape[0], padded(a.shape[1])), dtype=torch.int8)
    grid = (tiles(a.shape[0], how.tile[0]), tiles(out.shape[2], how.tile[1]))
    args = (a, exponents, *moduli(count, a.device), out, *a.shape, out.shape[2], *a.stride(), *how.tile, count)
    launch(kernels.residues, how, grid, a, *args)
    return out


def multiply_residues(a: Tensor, b: Tensor, *, how: Config | None = None) -> Tensor:
    """Return the remainders (count, M, N) of the products."""
    how, (count, m, k), n = how or tuned("multiply_residues", a), a.shape, b.shape[1]
    tm, tn, tk = how.tile
    out = a.new_empty((count, m, in_lines(n)), dtype=torch.int8)
    grid = (tiles(m, tm) * tiles(n, tn), count)
    operands = (tall(a, (tm, tk)), tall(b, (tn, tk)))
    result = TensorDescriptor.from_tensor(out, [1, tm, tn])
    args = (*operands, *moduli(count, a.device), result, m, n, k, *how.tile, how.group)
    launch(kernels.multiply_residues, how, grid, a, *args)
    return out[:, :, :n]


def reconstruct(remainders: Tensor, exponents: tuple[Tensor, Tensor]) -> Tensor:
    """Return the FP64 product from its remainders and the exponents of A's and B's integers."""
    how, (count, m, n) = tuned("reconstruct", remainders), remainders.shape
    out = remainders.new_empty((m, n), dtype=torch.float64)
    grid = (tiles(m, how.tile[0]), tiles(n, how.tile[1]))
    args = (remainders, *crt(count, remainders.device), *exponents, out, m, n, remainders.stride(1), *how.tile, count)
    launch(kernels.reconstruct, how, grid, remainders, *args)
    return out

"""The steps of both FP64 schemes in PyTorch: cuBLAS does the products on a GPU. On a CPU it serves as a check only.

`by_cutile` and `by_triton` offer the same functions. Matrices that a step makes for the next lie in memory row by row
with K padded (`layouts.padded`), as tensor cores like it; the padding is 0.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from . import ozaki1, ozaki2
from .layouts import padded
from .tuning import Untuned


def power_of_two(exponents: Tensor) -> Tensor:
    """Return 2.0**exponents for int64 exponents from -1022 to 1023."""
    return ((exponents + 1023) << 52).view(torch.float64)


def times_power_of_two(x: Tensor, exponents: Tensor) -> Tensor:
    """Return x * 2**exponents, rounded once. torch.ldexp overflows where the result would not."""
    bounded = exponents.clamp(-2044, 2046)
    half = bounded >> 1
    return x * power_of_two(half) * power_of_two(bounded - half)


def gemm(a: Tensor, b: Tensor, out: Tensor, *, kind: str) -> None:
    """Write a @ b.T for a (M, K) and b (N, K), by cuBLAS on a GPU. Raises Untuned for a type that it has not."""
    if a.device.type != "cuda":
        out.copy_(multiply_int8(a, b) if kind == "int8" else a @ b.T if kind == "fp64" else a.float() @ b.T.float())
    elif kind == "int8":
        torch._int_mm(a, b.T, out=out)
    elif kind == "e4m3":
        one = torch.ones((), device=a.device)
        torch._scaled_mm(a, b.T, one, one, out_dtype=out.dtype, use_fast_accum=True, out=out)
    elif kind == "e5m2":
        raise Untuned("cuBLAS does not multiply e5m2 by e5m2")
    else:
        torch.backends.cuda.matmul.allow_tf32 = kind == "tf32"
        torch.mm(a, b.T, out=out)


def measure_rows(a: Tensor) -> tuple[Tensor, Tensor]:
    """Return each row's exponent e (`ozaki1.row_exponents`) and the sum of its squares in units of 2**e.

    The sum is not finite where an entry of the row is not.
    """
    largest = a.abs().amax(1) if a.shape[1] else a.new_zeros(a.shape[0])
    exponents = torch.frexp(largest).exponent.to(torch.int64)
    return exponents, times_power_of_two(a, -exponents[:, None]).square().sum(1)


def split_rows(a: Tensor, exponents: Tensor, *, bits: int, count: int) -> Tensor:
    """Return the slices of A (count, M, K) in BF16 (`ozaki1.split_rows`)."""
    slices = a.new_zeros((count, a.shape[0], padded(a.shape[1])), dtype=torch.bfloat16)
    rest = times_power_of_two(a, (bits - 1 - exponents)[:, None])
    for place in range(count):
        integers = rest.round()
        slices[place, :, : a.shape[1]] = integers
        rest = (rest - integers) * 2**bits
    return slices


def multiply_bf16(a: Tensor, b: Tensor) -> Tensor:
    """Return a @ b.T, summed in FP32."""
    if a.device.type == "cuda":
        return torch.mm(a, b.T, out_dtype=torch.float32)
    return a.float() @ b.T.float()


def multiply_slices(a: Tensor, b: Tensor, exponents: tuple[Tensor, Tensor], *, bits: int, depth: int) -> Tensor:
    """Return the FP64 product from the slices of A's rows and B's columns (`ozaki1.multiply_slices`)."""
    total = a.new_zeros((a.shape[1], b.shape[1]), dtype=torch.float64)
    for pairs in ozaki1.levels(depth, a.shape[0]):
        total *= 2.0**-bits
        for i, j in pairs:
            for start in range(0, a.shape[2], ozaki1.FLUSH):
                part = slice(start, start + ozaki1.FLUSH)
                total += multiply_bf16(a[i, :, part], b[j, :, part])
    return times_power_of_two(total, exponents[0][:, None] + exponents[1][None, :] - 2 * (bits - 1))


def nearest(remainders: Tensor, modulus: int) -> Tensor:
    """Return remainders from 0 to modulus - 1 as those nearest to zero, in INT8."""
    return torch.where(remainders > (modulus - 1) // 2, remainders - modulus, remainders).to(torch.int8)


def residues(a: Tensor, exponents: Tensor, *, count: int) -> Tensor:
    """Return the remainders (count, M, K) of round(row * 2**exponent) (`ozaki2.residues`)."""
    integers = times_power_of_two(a, exponents[:, None]).round().to(torch.int64)
    remainders = a.new_zeros((count, a.shape[0], padded(a.shape[1])), dtype=torch.int8)
    for place, modulus in enumerate(ozaki2.MODULI[:count]):
        remainders[place, :, : a.shape[1]] = nearest(integers.remainder(modulus), modulus)
    return remainders


def multiply_int8(a: Tensor, b: Tensor) -> Tensor:
    """Return a @ b.T in INT32."""
    if a.device.type != "cuda":
        return (a.double() @ b.T.double()).to(torch.int32)
    # torch._int_mm wants more than 16 rows and multiples of 8.
    rows, columns = a.shape[0], b.shape[0]
    a, b = pad(a, (0, 0, 0, max(0, 32 - rows))), pad(b, (0, 0, 0, -columns % 8))
    return torch._int_mm(a.contiguous(), b.contiguous().T)[:rows, :columns]


def multiply_residues(a: Tensor, b: Tensor) -> Tensor:
    """Return the remainders (count, M, N) of the products (`ozaki2.multiply_residues`)."""
    products = a.new_zeros((a.shape[0], a.shape[1], b.shape[1]), dtype=torch.int8)
    for place, modulus in enumerate(ozaki2.MODULI[: a.shape[0]]):
        for start in range(0, a.shape[2], ozaki2.CHUNK):
            part = slice(start, start + ozaki2.CHUNK)
            sums = multiply_int8(a[place, :, part], b[place, :, part]) + products[place]
            products[place] = nearest(sums.remainder(modulus), modulus)
    return products


def reconstruct(remainders: Tensor, exponents: tuple[Tensor, Tensor]) -> Tensor:
    """Return the FP64 product from its remainders (`ozaki2.reconstruct`) and the exponents of A's and B's integers."""
    constants = ozaki2.crt(remainders.shape[0])
    sums = [remainders.new_zeros(remainders.shape[1:], dtype=torch.float64) for _ in range(3)]
    for remainder, weight in zip(remainders, constants.weights, strict=True):
        for place in range(3):
            sums[place] += remainder.double() * weight[place]
    multiple = (sums[0] * constants.inverse).round()
    high, middle, low = (part - multiple * p for part, p in zip(sums, constants.product_parts, strict=True))
    upper = high + middle
    virtual = upper - high
    lost = (high - (upper - virtual)) + (middle - virtual)
    return times_power_of_two(upper + (lost + low), -(exponents[0][:, None] + exponents[1][None, :]))

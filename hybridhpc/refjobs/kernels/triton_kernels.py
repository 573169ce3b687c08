"""The kernels in Triton: the same as in `cutile_kernels`, for drivers that refuse cuTile's binaries. Device code only.

Operands of products come as tensor descriptors (TMA on Hopper and later) of shape (rows, K), a stack of matrices as one
tall matrix; everything else as pointers. No module but `by_triton` and `aot_triton` imports this one.
"""

from __future__ import annotations

import triton
import triton.language as tl

ROUND = tl.constexpr(6755399441055744.0)  # 1.5 * 2**52: see cutile_kernels
BF16_FLUSH = tl.constexpr(1024)  # ozaki1.FLUSH
INT8_CHUNK = tl.constexpr(65536)  # ozaki2.CHUNK


@triton.jit
def power_of_two(exponent):
    """Return 2.0**exponent for int64 exponents from -1022 to 1023."""
    return ((exponent + 1023) << 52).to(tl.float64, bitcast=True)


@triton.jit
def times_power_of_two(x, exponent):
    """Return x * 2**exponent, rounded once: in two steps, since one factor may be beyond FP64."""
    bounded = tl.minimum(tl.maximum(exponent, -2044), 2046)
    half = bounded >> 1
    return x * power_of_two(half) * power_of_two(bounded - half)


@triton.jit
def exponent_of(largest):
    """Return the smallest e with largest < 2**e as int64, 0 for 0."""
    small = largest < 2.2250738585072014e-308
    bits = tl.where(small, largest * 18014398509481984.0, largest).to(tl.int64, bitcast=True)
    exponent = (bits >> 52) - 1022 - tl.where(small, 54, 0)
    return tl.where(largest > 0.0, exponent, 0)


@triton.jit
def nearest_integer(x):
    """Round half to even, at any size: from 2**52 on, every FP64 is whole."""
    unit = tl.where(x < 0, -4503599627370496.0, 4503599627370496.0)
    return tl.where(tl.abs(x) < 4503599627370496.0, (x + unit) - unit, x)


@triton.jit
def reduced(sums, modulus, reciprocal):
    """Return the remainders of int32 sums nearest to zero (`ozaki2.reduce`)."""
    factor = reciprocal.to(tl.uint32)
    high = tl.umulhi(sums.to(tl.uint32, bitcast=True), factor).to(tl.int32, bitcast=True)
    quotient = high - tl.where(sums < 0, factor.to(tl.int32, bitcast=True), 0)  # the high word of a signed product
    remainder = sums - quotient * modulus
    return tl.where(remainder > ((modulus - 1) >> 1), remainder - modulus, remainder)


@triton.jit
def swizzled(rows, columns, TM: tl.constexpr, TN: tl.constexpr, GROUP: tl.constexpr):
    """Return which tile of the result this block computes: neighbours in time share rows and columns in the L2."""
    tiles_m, tiles_n = tl.cdiv(rows, TM), tl.cdiv(columns, TN)
    block, in_group = tl.program_id(0), GROUP * tiles_n
    first = (block // in_group) * GROUP
    height = tl.minimum(tiles_m - first, GROUP)
    place = block % in_group
    return first + place % height, place // height


@triton.jit
def gemm(
    A, B, Out, M, N, K, TM: tl.constexpr, TN: tl.constexpr, TK: tl.constexpr, GROUP: tl.constexpr, ACC: tl.constexpr
):
    """Out (M, N) = A (M, K) @ B (N, K)^T, accumulated in the type ACC."""
    i, j = swizzled(M, N, TM, TN, GROUP)
    acc = tl.zeros((TM, TN), dtype=ACC)
    for k in range(0, K, TK):
        a = A.load([i * TM, k])
        b = B.load([j * TN, k])
        acc = tl.dot(a, b.T, acc, input_precision="tf32", out_dtype=ACC)
    Out.store([i * TM, j * TN], acc.to(Out.dtype))


@triton.jit
def at(pointer, rows, columns, M, K, stride_row, stride_column):
    """Return a tile of a matrix of any strides, 0 beyond its edges."""
    offsets = rows[:, None].to(tl.int64) * stride_row + columns[None, :].to(tl.int64) * stride_column
    return tl.load(pointer + offsets, mask=(rows[:, None] < M) & (columns[None, :] < K), other=0)


@triton.jit
def measure_rows(A, Exponents, Squares, M, K, stride_row, stride_column, TR: tl.constexpr, TK: tl.constexpr):
    """Write each row's exponent e and the sum of its squares in units of 2**e."""
    rows = tl.program_id(0) * TR + tl.arange(0, TR)
    largest = tl.zeros((TR,), dtype=tl.float64)
    for start in range(0, K, TK):
        a = at(A, rows, start + tl.arange(0, TK), M, K, stride_row, stride_column)
        largest = tl.maximum(largest, tl.max(tl.abs(a), axis=1))
    exponent = exponent_of(largest)
    squares = tl.zeros((TR,), dtype=tl.float64)
    for start in range(0, K, TK):
        a = at(A, rows, start + tl.arange(0, TK), M, K, stride_row, stride_column)
        scaled = times_power_of_two(a, -exponent[:, None])
        squares += tl.sum(scaled * scaled, axis=1)
    tl.store(Exponents + rows, exponent, mask=rows < M)
    tl.store(Squares + rows, squares, mask=rows < M)


@triton.jit
def split_rows(
    A,
    Exponents,
    Slices,
    M,
    K,
    PADDED,
    stride_row,
    stride_column,
    TR: tl.constexpr,
    TK: tl.constexpr,
    BITS: tl.constexpr,
    COUNT: tl.constexpr,
):
    """Write all slices (COUNT, M, PADDED) of A in one reading (`ozaki1.split_rows`)."""
    rows = tl.program_id(0) * TR + tl.arange(0, TR)
    columns = tl.program_id(1) * TK + tl.arange(0, TK)
    a = at(A, rows, columns, M, K, stride_row, stride_column)
    exponents = tl.load(Exponents + rows, mask=rows < M, other=0)
    rest = times_power_of_two(a, BITS - 1 - exponents[:, None])
    offsets = rows[:, None].to(tl.int64) * PADDED + columns[None, :]
    mask = (rows[:, None] < M) & (columns[None, :] < PADDED)
    for _ in tl.static_range(COUNT):
        integers = (rest + ROUND) - ROUND
        tl.store(Slices + offsets, integers.to(tl.float32).to(tl.bfloat16), mask=mask)
        rest = (rest - integers) * (1 << BITS)
        offsets += tl.cast(M, tl.int64) * PADDED


@triton.jit
def multiply_slices(
    A,
    B,
    ExponentsA,
    ExponentsB,
    Out,
    M,
    N,
    K,
    TM: tl.constexpr,
    TN: tl.constexpr,
    TK: tl.constexpr,
    GROUP: tl.constexpr,
    BITS: tl.constexpr,
    COUNT: tl.constexpr,
    DEPTH: tl.constexpr,
):
    """Write the FP64 product from the slices A (COUNT, M, K) and B (COUNT, N, K) (`ozaki1.multiply_slices`)."""
    i, j = swizzled(M, N, TM, TN, GROUP)
    total = tl.zeros((TM, TN), dtype=tl.float64)
    for below in range(DEPTH):
        level = DEPTH - 1 - below
        total = total * (1.0 / (1 << BITS))
        for p in range(tl.maximum(0, level - COUNT + 1), tl.minimum(level, COUNT - 1) + 1):
            for start in range(0, K, BF16_FLUSH):
                acc = tl.zeros((TM, TN), dtype=tl.float32)
                for k in range(start, tl.minimum(start + BF16_FLUSH, K), TK):
                    a = A.load([p * M + i * TM, k])
                    b = B.load([(level - p) * N + j * TN, k])
                    acc = tl.dot(a, b.T, acc)
                total += acc.to(tl.float64)
    write_scaled(Out, total, ExponentsA, ExponentsB, i, j, M, N, 1, -2 * (BITS - 1), TM, TN)


@triton.jit
def write_scaled(
    Out,
    values,
    ExponentsA,
    ExponentsB,
    i,
    j,
    M,
    N,
    SIGN: tl.constexpr,
    EXTRA: tl.constexpr,
    TM: tl.constexpr,
    TN: tl.constexpr,
):
    """Store values * 2**(SIGN * (exponent of the row + exponent of the column) + EXTRA)."""
    rows, columns = i * TM + tl.arange(0, TM), j * TN + tl.arange(0, TN)
    e = tl.load(ExponentsA + rows, mask=rows < M, other=0)[:, None]
    f = tl.load(ExponentsB + columns, mask=columns < N, other=0)[None, :]
    offsets = rows[:, None].to(tl.int64) * N + columns[None, :]
    mask = (rows[:, None] < M) & (columns[None, :] < N)
    tl.store(Out + offsets, times_power_of_two(values, SIGN * (e + f) + EXTRA), mask=mask)


@triton.jit
def residues(
    A,
    Exponents,
    Moduli,
    Reciprocals,
    Out,
    M,
    K,
    PADDED,
    stride_row,
    stride_column,
    TR: tl.constexpr,
    TK: tl.constexpr,
    COUNT: tl.constexpr,
):
    """Write the remainders (COUNT, M, PADDED) of round(row * 2**exponent) for all moduli in one reading of A."""
    rows = tl.program_id(0) * TR + tl.arange(0, TR)
    columns = tl.program_id(1) * TK + tl.arange(0, TK)
    a = at(A, rows, columns, M, K, stride_row, stride_column)
    exponents = tl.load(Exponents + rows, mask=rows < M, other=0)
    whole = nearest_integer(times_power_of_two(a, exponents[:, None])).to(tl.int64)
    # Three limbs of 21 bits: their remainders add up within int32.
    low = (whole & 0x1FFFFF).to(tl.int32)
    middle = ((whole >> 21) & 0x1FFFFF).to(tl.int32)
    high = (whole >> 42).to(tl.int32)
    offsets = rows[:, None].to(tl.int64) * PADDED + columns[None, :]
    mask = (rows[:, None] < M) & (columns[None, :] < PADDED)
    for place in range(COUNT):
        modulus, reciprocal = tl.load(Moduli + place), tl.load(Reciprocals + place)
        to_middle = reduced(modulus * 0 + (1 << 21), modulus, reciprocal)
        to_high = reduced(to_middle * to_middle, modulus, reciprocal)
        remainder = reduced(high * to_high + middle * to_middle + low, modulus, reciprocal)
        tl.store(Out + offsets, remainder.to(tl.int8), mask=mask)
        offsets += tl.cast(M, tl.int64) * PADDED


@triton.jit
def multiply_residues(
    A, B, Moduli, Reciprocals, Out, M, N, K, TM: tl.constexpr, TN: tl.constexpr, TK: tl.constexpr, GROUP: tl.constexpr
):
    """Write the remainders (COUNT, M, N) of A (COUNT, M, K) @ B (COUNT, N, K)^T (`ozaki2.multiply_residues`)."""
    i, j = swizzled(M, N, TM, TN, GROUP)
    place = tl.program_id(1)
    modulus, reciprocal = tl.load(Moduli + place), tl.load(Reciprocals + place)
    acc = tl.zeros((TM, TN), dtype=tl.int32)
    for start in range(0, K, INT8_CHUNK):
        for k in range(start, tl.minimum(start + INT8_CHUNK, K), TK):
            a = A.load([place * M + i * TM, k])
            b = B.load([place * N + j * TN, k])
            acc = tl.dot(a, b.T, acc, out_dtype=tl.int32)
        acc = reduced(acc, modulus, reciprocal)
    Out.store([place, i * TM, j * TN], tl.reshape(acc.to(tl.int8), (1, TM, TN)))


@triton.jit
def reconstruct(
    Remainders,
    Weights,
    Product,
    ExponentsA,
    ExponentsB,
    Out,
    M,
    N,
    LINE,
    TM: tl.constexpr,
    TN: tl.constexpr,
    COUNT: tl.constexpr,
):
    """Write the FP64 product from its remainders (COUNT, M, LINE), of which N columns count (`ozaki2.reconstruct`)."""
    i, j = tl.program_id(0), tl.program_id(1)
    rows, columns = i * TM + tl.arange(0, TM), j * TN + tl.arange(0, TN)
    offsets = rows[:, None].to(tl.int64) * LINE + columns[None, :]
    mask = (rows[:, None] < M) & (columns[None, :] < N)
    high = tl.zeros((TM, TN), dtype=tl.float64)
    middle = tl.zeros((TM, TN), dtype=tl.float64)
    low = tl.zeros((TM, TN), dtype=tl.float64)
    for place in range(COUNT):
        remainder = tl.load(Remainders + offsets, mask=mask, other=0).to(tl.float64)
        high += remainder * tl.load(Weights + 3 * place)
        middle += remainder * tl.load(Weights + 3 * place + 1)
        low += remainder * tl.load(Weights + 3 * place + 2)
        offsets += tl.cast(M, tl.int64) * LINE
    multiple = (high * tl.load(Product) + ROUND) - ROUND
    high -= multiple * tl.load(Product + 1)
    middle -= multiple * tl.load(Product + 2)
    low -= multiple * tl.load(Product + 3)
    upper = high + middle
    virtual = upper - high
    lost = (high - (upper - virtual)) + (middle - virtual)
    write_scaled(Out, upper + (lost + low), ExponentsA, ExponentsB, i, j, M, N, -1, 0, TM, TN)

"""The kernels in cuTile Python: plain products, and the steps of both FP64 schemes. Device code only.

They do what `ozaki1` and `ozaki2` say, bit for bit. B always comes as (N, K), with K contiguous like A's: 8-bit tensor
cores take it so, and a (K, N) operand would be transposed element by element. No module but `by_cutile` and `aot`
imports this one: cuda-tile is large.
"""

from __future__ import annotations

import cuda.tile as ct

C = ct.Constant[int]
Stack = ct.IndexedWithInt64  # several matrices: more than 2**31 entries in all
ZERO = ct.PaddingMode.ZERO
ROUND = 6755399441055744.0  # 1.5 * 2**52: adding and taking it away again rounds an FP64 below 2**51 to an integer
FIFTY_FOUR = 18014398509481984.0  # 2**54: makes the smallest numbers normal ones
BF16_FLUSH = 1024  # ozaki1.FLUSH
INT8_CHUNK = 65536  # ozaki2.CHUNK


def power_of_two(exponent):
    """Return 2.0**exponent for int64 exponents from -1022 to 1023."""
    return ct.bitcast((exponent + 1023) << 52, ct.float64)


def times_power_of_two(x, exponent):
    """Return x * 2**exponent, rounded once: in two steps, since one factor may be beyond FP64."""
    bounded = ct.minimum(ct.maximum(exponent, -2044), 2046)
    half = bounded >> 1
    return x * power_of_two(half) * power_of_two(bounded - half)


def exponent_of(largest):
    """Return the smallest e with largest < 2**e as int64, 0 for 0."""
    small = largest < 2.2250738585072014e-308
    bits = ct.bitcast(ct.where(small, largest * FIFTY_FOUR, largest), ct.int64)
    exponent = (bits >> 52) - 1022 - ct.where(small, 54, 0)
    return ct.where(largest > 0.0, exponent, 0)


def nearest_integer(x):
    """Round half to even, at any size: from 2**52 on, every FP64 is whole."""
    unit = ct.where(x < 0.0, -4503599627370496.0, 4503599627370496.0)
    return ct.where(ct.abs(x) < 4503599627370496.0, (x + unit) - unit, x)


def reduced(sums, modulus, reciprocal):
    """Return the remainders of int32 sums nearest to zero (`ozaki2.reduce`)."""
    quotient = ct.astype((ct.astype(sums, ct.int64) * reciprocal) >> 32, ct.int32)
    remainder = sums - quotient * modulus
    return ct.where(remainder > ((modulus - 1) >> 1), remainder - modulus, remainder)


def swizzled(tiles_m, tiles_n, group: C):
    """Return which tile of the result this block computes: neighbours in time share rows and columns in the L2."""
    block, in_group = ct.bid(0), group * tiles_n
    first = (block // in_group) * group
    height = min(tiles_m - first, group)
    place = block % in_group
    return first + place % height, place // height


@ct.kernel
def gemm(A, B, Out, TM: C, TN: C, TK: C, GROUP: C, TF32: C, FAST: C):
    """Out (M, N) = A (M, K) @ B (N, K)^T. The accumulator is int32 for int8, FP64 for FP64, else FP32."""
    i, j = swizzled(ct.cdiv(A.shape[0], TM), ct.cdiv(B.shape[0], TN), GROUP)
    kind = ct.int32 if A.dtype == ct.int8 else ct.float64 if A.dtype == ct.float64 else ct.float32
    acc = ct.full((TM, TN), 0, dtype=kind)
    for k in range(ct.num_tiles(A, axis=1, shape=(TM, TK))):
        a = ct.load(A, index=(i, k), shape=(TM, TK), padding_mode=ZERO)
        b = ct.load(B, index=(j, k), shape=(TN, TK), padding_mode=ZERO)
        if TF32:
            a, b = ct.astype(a, ct.tfloat32), ct.astype(b, ct.tfloat32)
        if FAST:
            acc = ct.mma(a, b.transpose(), acc, use_fast_acc=True)
        else:
            acc = ct.mma(a, b.transpose(), acc)
    ct.store(Out, index=(i, j), tile=ct.astype(acc, Out.dtype))


@ct.kernel
def measure_rows(A, Exponents, Squares, TR: C, TK: C):
    """Write each row's exponent e and the sum of its squares in units of 2**e."""
    i = ct.bid(0)
    largest = ct.full((TR, 1), 0.0, dtype=ct.float64)
    for k in range(ct.num_tiles(A, axis=1, shape=(TR, TK))):
        a = ct.load(A, index=(i, k), shape=(TR, TK), padding_mode=ZERO)
        largest = ct.maximum(largest, ct.max(ct.abs(a), axis=1, keepdims=True))
    exponent = exponent_of(largest)
    squares = ct.full((TR, 1), 0.0, dtype=ct.float64)
    for k in range(ct.num_tiles(A, axis=1, shape=(TR, TK))):
        a = ct.load(A, index=(i, k), shape=(TR, TK), padding_mode=ZERO)
        scaled = times_power_of_two(a, -exponent)
        squares = squares + ct.sum(scaled * scaled, axis=1, keepdims=True)
    ct.store(Exponents, index=(i,), tile=ct.reshape(exponent, (TR,)))
    ct.store(Squares, index=(i,), tile=ct.reshape(squares, (TR,)))


@ct.kernel
def split_rows(A, Exponents, Slices: Stack, TR: C, TK: C, BITS: C, COUNT: C):
    """Write all slices (COUNT, M, K) of A in one reading (`ozaki1.split_rows`)."""
    i, k = ct.bid(0), ct.bid(1)
    a = ct.load(A, index=(i, k), shape=(TR, TK), padding_mode=ZERO)
    exponents = ct.reshape(ct.load(Exponents, index=(i,), shape=(TR,), padding_mode=ZERO), (TR, 1))
    rest = times_power_of_two(a, BITS - 1 - exponents)
    for place in ct.static_iter(range(COUNT)):
        integers = (rest + ROUND) - ROUND
        ct.store(Slices, index=(place, i, k), tile=ct.reshape(ct.astype(integers, ct.bfloat16), (1, TR, TK)))
        rest = (rest - integers) * (1 << BITS)


@ct.kernel
def multiply_slices(
    A: Stack, B: Stack, ExponentsA, ExponentsB, Out, TM: C, TN: C, TK: C, GROUP: C, BITS: C, COUNT: C, DEPTH: C
):
    """Write the FP64 product from the slices A (COUNT, M, K) and B (COUNT, N, K) (`ozaki1.multiply_slices`)."""
    i, j = swizzled(ct.cdiv(A.shape[1], TM), ct.cdiv(B.shape[1], TN), GROUP)
    total = ct.full((TM, TN), 0.0, dtype=ct.float64)
    per_flush = BF16_FLUSH // TK
    tiles = ct.cdiv(A.shape[2], TK)
    for below in range(DEPTH):
        level = DEPTH - 1 - below
        total = total * (1.0 / (1 << BITS))
        for p in range(max(0, level - COUNT + 1), min(level, COUNT - 1) + 1):
            for start in range(0, tiles, per_flush):
                acc = ct.full((TM, TN), 0.0, dtype=ct.float32)
                for k in range(start, min(start + per_flush, tiles)):
                    a = ct.load(A, index=(p, i, k), shape=(1, TM, TK), padding_mode=ZERO)
                    b = ct.load(B, index=(level - p, j, k), shape=(1, TN, TK), padding_mode=ZERO)
                    acc = ct.mma(ct.reshape(a, (TM, TK)), ct.reshape(b, (TN, TK)).transpose(), acc)
                total = total + ct.astype(acc, ct.float64)
    e = ct.reshape(ct.load(ExponentsA, index=(i,), shape=(TM,), padding_mode=ZERO), (TM, 1))
    f = ct.reshape(ct.load(ExponentsB, index=(j,), shape=(TN,), padding_mode=ZERO), (1, TN))
    ct.store(Out, index=(i, j), tile=times_power_of_two(total, e + f - 2 * (BITS - 1)))


@ct.kernel
def residues(A, Exponents, Moduli, Reciprocals, Out: Stack, TR: C, TK: C, COUNT: C):
    """Write the remainders (COUNT, M, K) of round(row * 2**exponent) for all moduli in one reading of A."""
    i, k = ct.bid(0), ct.bid(1)
    a = ct.load(A, index=(i, k), shape=(TR, TK), padding_mode=ZERO)
    exponents = ct.reshape(ct.load(Exponents, index=(i,), shape=(TR,), padding_mode=ZERO), (TR, 1))
    whole = ct.astype(nearest_integer(times_power_of_two(a, exponents)), ct.int64)
    # Three limbs of 21 bits: their remainders add up within int32.
    low = ct.astype(whole & 0x1FFFFF, ct.int32)
    middle = ct.astype((whole >> 21) & 0x1FFFFF, ct.int32)
    high = ct.astype(whole >> 42, ct.int32)
    for place in range(COUNT):
        modulus, reciprocal = ct.load(Moduli, (place,), ()), ct.load(Reciprocals, (place,), ())
        to_middle = reduced(1 << 21, modulus, reciprocal)
        to_high = reduced(to_middle * to_middle, modulus, reciprocal)
        remainder = reduced(high * to_high + middle * to_middle + low, modulus, reciprocal)
        ct.store(Out, index=(place, i, k), tile=ct.reshape(ct.astype(remainder, ct.int8), (1, TR, TK)))


@ct.kernel
def multiply_residues(A: Stack, B: Stack, Moduli, Reciprocals, Out: Stack, TM: C, TN: C, TK: C, GROUP: C):
    """Write the remainders (COUNT, M, N) of A (COUNT, M, K) @ B (COUNT, N, K)^T (`ozaki2.multiply_residues`)."""
    i, j = swizzled(ct.cdiv(A.shape[1], TM), ct.cdiv(B.shape[1], TN), GROUP)
    place = ct.bid(1)
    modulus, reciprocal = ct.load(Moduli, (place,), ()), ct.load(Reciprocals, (place,), ())
    per_chunk = INT8_CHUNK // TK
    tiles = ct.cdiv(A.shape[2], TK)
    acc = ct.full((TM, TN), 0, dtype=ct.int32)
    for start in range(0, tiles, per_chunk):
        for k in range(start, min(start + per_chunk, tiles)):
            a = ct.load(A, index=(place, i, k), shape=(1, TM, TK), padding_mode=ZERO)
            b = ct.load(B, index=(place, j, k), shape=(1, TN, TK), padding_mode=ZERO)
            acc = ct.mma(ct.reshape(a, (TM, TK)), ct.reshape(b, (TN, TK)).transpose(), acc)
        acc = reduced(acc, modulus, reciprocal)
    ct.store(Out, index=(place, i, j), tile=ct.reshape(ct.astype(acc, ct.int8), (1, TM, TN)))


@ct.kernel
def reconstruct(Remainders: Stack, Weights, Product, ExponentsA, ExponentsB, Out, TM: C, TN: C, COUNT: C):
    """Write the FP64 product from its remainders (COUNT, M, N) (`ozaki2.reconstruct`).

    `Weights` (COUNT, 3) and `Product` (1 / P and the three parts of P) are those of `ozaki2.crt`.
    """
    i, j = ct.bid(0), ct.bid(1)
    high = ct.full((TM, TN), 0.0, dtype=ct.float64)
    middle, low = high, high
    for place in range(COUNT):
        tile = ct.reshape(ct.load(Remainders, index=(place, i, j), shape=(1, TM, TN), padding_mode=ZERO), (TM, TN))
        remainder = ct.astype(tile, ct.float64)
        high = high + remainder * ct.load(Weights, (place, 0), ())
        middle = middle + remainder * ct.load(Weights, (place, 1), ())
        low = low + remainder * ct.load(Weights, (place, 2), ())
    multiple = (high * ct.load(Product, (0,), ()) + ROUND) - ROUND
    high = high - multiple * ct.load(Product, (1,), ())
    middle = middle - multiple * ct.load(Product, (2,), ())
    low = low - multiple * ct.load(Product, (3,), ())
    upper = high + middle
    virtual = upper - high
    lost = (high - (upper - virtual)) + (middle - virtual)
    e = ct.reshape(ct.load(ExponentsA, index=(i,), shape=(TM,), padding_mode=ZERO), (TM, 1))
    f = ct.reshape(ct.load(ExponentsB, index=(j,), shape=(TN,), padding_mode=ZERO), (1, TN))
    ct.store(Out, index=(i, j), tile=times_power_of_two(upper + (lost + low), -(e + f)))

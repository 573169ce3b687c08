"""The NumPy specification of both schemes, against exact arithmetic."""

from __future__ import annotations

from fractions import Fraction
from math import gcd, log2

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hybridhpc.refjobs.kernels import exact, fitness, ozaki1, ozaki2
from hybridhpc.refjobs.kernels.families import FAMILIES
from hybridhpc.refjobs.kernels.ozaki1 import Matrix

KIND = ("randn", "uniform", "integers", "graded", "wide 1", "cancelling")
FINITE = st.floats(allow_nan=False, allow_infinity=False)
SHAPES = st.tuples(*[st.integers(0, 4)] * 3)


def pair(family: str, m: int = 16, k: int = 1200, n: int = 12) -> tuple[Matrix, Matrix]:
    return FAMILIES[family](np.random.default_rng(7), m, k, n)


def schemes(a: Matrix, b: Matrix) -> list[tuple[Matrix, float]]:
    """Products by both schemes, each with the bound on its loss."""
    return [
        *(
            (
                ozaki1.multiply(a, b, bits=bits, depth=depth),
                fitness.loss_of_slices(a, b, bits=bits, count=ozaki1.SLICES, depth=depth),
            )
            for bits, depth in ((7, 9), (8, 5), (8, 7), (8, 9))
        ),
        *((ozaki2.multiply(a, b, count=count), fitness.loss_of_moduli(a, b, count=count)) for count in (8, 14, 15, 16)),
    ]


def test_fast_mode_takes_the_products_that_the_literature_counts() -> None:
    assert [ozaki1.gemm_count(depth) for depth in (9, 8, 7, 6, 5)] == [39, 34, 28, 21, 15]
    assert ozaki1.gemm_count(13) == 49


def test_levels_start_with_the_least_significant_and_name_each_pair_once() -> None:
    levels = ozaki1.levels(9)
    assert [{i + j for i, j in pairs} for pairs in levels] == [{level} for level in range(8, -1, -1)]
    flat = [pair for pairs in levels for pair in pairs]
    assert len(set(flat)) == len(flat)


@pytest.mark.parametrize("bits", [7, 8])
def test_slices_are_integers_that_bf16_holds_and_add_up_to_the_matrix(bits: int) -> None:
    a, _ = pair("graded")
    split = ozaki1.split_rows(a, bits=bits)
    total = split.rest
    for part in split.slices:
        assert (part == np.rint(part)).all()
        assert np.abs(part).max() <= 2 ** (bits - 1)
    for place, part in reversed(list(enumerate(split.slices))):  # the small ones first: then no sum is rounded
        total = total + np.ldexp(part, 1 - bits * (place + 1))
    assert (np.ldexp(total, split.exponents[:, None]) == a).all()
    assert np.abs(split.rest).max() <= 2.0 ** -(bits * ozaki1.SLICES)


def test_fp32_adds_up_exactly_as_much_of_k_as_is_flushed_at_once() -> None:
    worst = np.float32(2**7 * 2**7)
    total = np.float32(0)
    for _ in range(ozaki1.FLUSH):
        total += worst
    assert total == 2**24
    assert total + np.float32(1) == total, "one more of K and a small term may be lost"


def test_eight_aligned_bits_reach_native_accuracy_with_28_products_and_seven_bits_do_not_with_39() -> None:
    a, b = pair("randn")
    true = exact.truth(a, b)
    native = exact.errors(a @ b, true)["frobenius"]
    assert exact.errors(ozaki1.multiply(a, b, bits=8, depth=7), true)["frobenius"] <= native
    assert exact.errors(ozaki1.multiply(a, b, bits=7, depth=9), true)["frobenius"] > 4 * native


def test_fifteen_moduli_reach_native_accuracy_and_fourteen_are_ten_times_off() -> None:
    a, b = pair("randn")
    true = exact.truth(a, b)
    found = {count: exact.errors(ozaki2.multiply(a, b, count=count), true)["entry"] for count in (13, 14, 15)}
    assert found[15] <= exact.errors(a @ b, true)["entry"]
    assert found[14] / found[15] > 5 and found[13] / found[14] > 5


@pytest.mark.parametrize("family", KIND)
def test_fifteen_moduli_are_no_worse_than_native_on_every_kind_family(family: str) -> None:
    a, b = pair(family)
    true = exact.truth(a, b)
    assert exact.errors(ozaki2.multiply(a, b), true)["entry"] <= exact.errors(a @ b, true)["entry"]


@pytest.mark.parametrize("family", FAMILIES)
def test_no_family_loses_more_than_is_known_beforehand(family: str) -> None:
    a, b = pair(family)
    true = exact.truth(a, b)
    for product, bound in schemes(a, b):
        assert exact.errors(product, true)["entry"] <= bound + 16 * 2**-53


@pytest.mark.parametrize("bits", [12, 20])
def test_what_no_scaling_cures_is_seen_beforehand(bits: int) -> None:
    a, b = pair(f"rescaled {bits}")
    assert fitness.loss_of_moduli(a, b, count=15) > 1e-12
    assert fitness.loss_of_slices(a, b, bits=8, count=7, depth=9) > 1e-12


def test_short_integers_come_out_bit_for_bit_from_every_scheme_that_is_deep_enough() -> None:
    a, b = pair("integers", k=4096)
    for product, bound in schemes(a, b):
        if bound == 0:
            assert (product == a @ b).all()
    assert sum(bound == 0 for _, bound in schemes(a, b)) >= 7


def as_promised(product: Matrix, a: Matrix, b: Matrix, loss: float) -> bool:
    """Whether all entries are within the loss, a few roundings of FP64 and half its smallest number."""
    for i, j in np.ndindex(product.shape):
        true, size = exact.entry(a[i], b[:, j]), exact.entry(np.abs(a[i]), np.abs(b[:, j]))
        if not np.isfinite(product[i, j]):
            assert abs(true) >= Fraction(2) ** 1023
        elif np.isfinite(loss):
            allowed = (Fraction(loss) + Fraction(40, 2**53)) * size + Fraction(1, 2**1073)
            assert abs(Fraction(product[i, j]) - true) <= allowed
    return True


@settings(max_examples=25, deadline=None)
@given(data=st.data(), shape=SHAPES)
def test_any_finite_matrices_of_any_shape_come_out_as_promised(
    data: st.DataObject, shape: tuple[int, int, int]
) -> None:
    m, k, n = shape
    a, b = (data.draw(arrays(np.float64, size, elements=FINITE)) for size in ((m, k), (k, n)))
    with np.errstate(over="ignore"):
        for product, bound in schemes(a, b):
            assert product.shape == (m, n)
            assert as_promised(product, a, b, bound)


def test_the_moduli_are_coprime_and_their_remainders_fit_int8() -> None:
    assert all(gcd(p, q) == 1 for p in ozaki2.MODULI for q in ozaki2.MODULI if p != q)
    values = np.concatenate([np.arange(-600.0, 600.0), [2.0**62, -(2.0**62), 2.0**62 - 2**10]])
    for p in ozaki2.MODULI:
        remainders = ozaki2.residues(values, p).astype(int)
        assert all((int(value) - int(r)) % p == 0 for value, r in zip(values, remainders, strict=True))
        assert remainders.min() >= -(p // 2) and remainders.max() <= (p - 1) // 2


@pytest.mark.parametrize("modulus", ozaki2.MODULI)
def test_sums_are_reduced_exactly_at_the_ends_and_all_over_their_range(modulus: int) -> None:
    most = 128 * 128 * ozaki2.CHUNK + 128
    near = np.arange(-1500, 1500)
    sums = np.concatenate(
        [near, most - np.abs(near), np.abs(near) - most, near * modulus, near * modulus + modulus // 2]
    )
    sums = np.concatenate([sums, np.random.default_rng(modulus).integers(-most, most, 20000)])
    remainders = ozaki2.reduce(sums, modulus).astype(np.int64)
    assert ((sums - remainders) % modulus == 0).all()
    assert remainders.min() >= -(modulus // 2) and remainders.max() <= (modulus - 1) // 2


@settings(max_examples=200, deadline=None)
@given(count=st.integers(ozaki2.FEWEST, ozaki2.MOST), data=st.data())
def test_remainders_lead_back_to_pythons_integers(count: int, data: st.DataObject) -> None:
    constants = ozaki2.crt(count)
    bound = int(constants.product * (1 - ozaki2.SLACK)) // 2
    number = data.draw(st.integers(-bound, bound) | st.integers(-(2**53), 2**53))
    remainders = [np.array([(number + p // 2) % p - p // 2], np.int8) for p in ozaki2.MODULI[:count]]
    found = ozaki2.reconstruct(remainders, constants)[0]
    if Fraction(float(number)) == number:
        assert found == number
    assert abs(Fraction(found) - number) <= Fraction(float(np.spacing(abs(float(number))))) * Fraction(51, 100)


def test_integers_of_a_row_use_all_the_room_and_never_more() -> None:
    for family in KIND:
        a, b = pair(family)
        for count in (8, 12, 16):
            left, right = ozaki2.scale_rows(a, count), ozaki2.scale_rows(b.T, count)
            largest = max(float(x) for x in (np.abs(left.integers) @ np.abs(right.integers).T).ravel())
            room = log2(ozaki2.crt(count).product) - 1 - log2(largest)
            assert 0 < room < 12


def test_k_has_no_bound() -> None:
    draw = np.random.default_rng(3)
    left = draw.integers(-128, 128, (2, 2 * ozaki2.CHUNK + 77)).astype(np.int8)
    right = np.full_like(left, -128)
    found = ozaki2.multiply_residues(left, right, 256).astype(np.int64)
    assert ((left.astype(np.int64) @ right.T.astype(np.int64) - found) % 256 == 0).all()


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ([[0.0, -0.0], [5e-324, -5e-324]], [[1e308, 1.0], [1e-308, 1.0]]),
        ([[1.0, 1e308]], [[1.0, 1e-308], [1e308, 1e-308]]),
        ([[1.0, 2.0**-100]], [[0.0], [1.0]]),
        ([[1e308, 1e-308]], [[0.0], [1e308]]),
        ([[0.0, 1.0]], [[2.0**62], [1.0]]),
        (np.eye(5), np.diag([1.0, 1e300, 3e-310, 1 / 3, 0.0])),
        (np.zeros((3, 0)), np.zeros((0, 2))),
        (np.zeros((0, 3)), np.zeros((3, 2))),
    ],
)
def test_strange_matrices(a: list[list[float]], b: list[list[float]]) -> None:
    left, right = np.array(a), np.array(b)
    with np.errstate(over="ignore"):
        for product, bound in schemes(left, right):
            assert product.shape == (left.shape[0], right.shape[1])
            assert as_promised(product, left, right, bound)


def test_an_unsupported_number_of_moduli_is_refused() -> None:
    with pytest.raises(ValueError, match="from 8 to 16"):
        ozaki2.multiply(np.eye(2), np.eye(2), count=20)


def test_a_sample_knows_the_exact_entries() -> None:
    a, b = pair("wide 1", 6, 40, 5)
    places = [(0, 0), (5, 4), (2, 3)]
    sample = exact.sample(places, [a[i] for i, _ in places], [b[:, j] for _, j in places])
    product = a @ b
    assert sample.error([float(product[place]) for place in places]) < 1e-15
    assert 1e-12 < sample.error([float(product[place]) * (1 + 1e-9) for place in places]) <= 1.1e-9
    assert exact.sample([(0, 0)], [np.zeros(3)], [np.ones(3)]).error([1e-300]) == float("inf")

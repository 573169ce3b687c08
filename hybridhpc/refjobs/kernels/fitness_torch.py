"""The bound of `fitness` on tensors: what a scheme would throw away of these very matrices. Costs one BF16 product.

For scheme 2 there is a quick bound, somewhat larger, which reads the matrices once; `bound` takes the other, of about
20 readings, only if the quick one is not good enough.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from . import ozaki1
from .by_torch import multiply_bf16, power_of_two, times_power_of_two
from .emulation import Measured, Scheme, integer_exponents
from .fitness import SAFETY, SMALLEST, USELESS


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """What the bound needs whatever the scheme: made once, used for several."""

    pair: Measured
    sums: tuple[Tensor, Tensor]  # per row of A and column of B: its |entries| added up, in units of 2**exponent
    small: tuple[Tensor, Tensor]  # per row of A and column of B: does it hold entries that were raised to SMALLEST?
    product: Tensor  # |A| |B|, in the same units


def sizes(pair: Measured) -> Sizes:
    """Return the sizes of two finite matrices."""
    sides, sums, small = [], [], []
    for side, exponents in zip((pair.a, pair.b), pair.exponents, strict=True):
        scaled = times_power_of_two(side.abs(), -exponents[:, None])
        tiny = (side != 0) & (scaled < SMALLEST)  # it may have become 0 just now
        scaled = torch.where(tiny, SMALLEST, scaled)
        sums.append(scaled.sum(1))
        small.append(tiny.any(1))
        sides.append(scaled.to(torch.bfloat16))
    product = multiply_bf16(*sides).double()
    return Sizes(pair=pair, sums=(sums[0], sums[1]), small=(small[0], small[1]), product=product)


def largest(rows: Tensor) -> Tensor:
    """Return the largest |entry| of each row."""
    return rows.abs().amax(1)


def left_by_slices(side: Tensor, exponents: Tensor, scheme: Scheme) -> tuple[Tensor, list[Tensor]]:
    """Return what scheme 1 drops of each row at most, and the largest entry of each of its slices."""
    rest, slices = times_power_of_two(side, (scheme.bits - 1 - exponents)[:, None]), []
    for place in range(scheme.slices):
        integers = rest.round()
        slices.append(largest(integers) * 2.0 ** (1 - scheme.bits * (place + 1)))
        rest = (rest - integers) * 2**scheme.bits
    return largest(rest) * 2.0 ** (1 - scheme.bits * (scheme.slices + 1)), slices


def left_by_moduli(side: Tensor, exponents: Tensor, squares: Tensor, count: int) -> Tensor:
    """Return what scheme 2 drops of each row at most."""
    scale = integer_exponents(exponents, squares, count)
    exact = times_power_of_two(side, scale[:, None])
    return times_power_of_two(largest(exact - exact.round()), -(scale + exponents))


def loss(known: Sizes, scheme: Scheme) -> float:
    """Return the bound on |C - C'| / (|A| |B|) over all entries (`fitness.loss`)."""
    pair, k = known.pair, known.pair.a.shape[1]
    rests, slices = [], []
    for place, side in enumerate((pair.a, pair.b)):
        if scheme.method == "ozaki1":
            rest, of_slices = left_by_slices(side, pair.exponents[place], scheme)
            slices.append(of_slices)
        else:
            rest = left_by_moduli(side, pair.exponents[place], pair.squares[place], scheme.moduli)
        rests.append(torch.where(known.small[place], rest.clamp(min=SMALLEST), rest))
    lost = torch.outer(rests[0], known.sums[1] + k * rests[1]) + torch.outer(known.sums[0], rests[1])
    if scheme.method == "ozaki1":
        for i, j in set(ozaki1.all_pairs(scheme.slices)) - set(ozaki1.all_pairs(scheme.slices, scheme.depth)):
            lost += k * torch.outer(slices[0][i], slices[1][j])
    worst = float(torch.where(known.product > 0, lost / known.product, 0.0).max())
    return worst * SAFETY if worst <= USELESS else float("inf")


def quick_loss(pair: Measured, scheme: Scheme) -> float | None:
    """Return a bound for scheme 2 from one reading of each matrix, None for scheme 1.

    Rounding to integers drops at most 1/2 of each entry, and the sums of |entries| are at most what Cauchy and Schwarz
    say. Entries that BF16 loses make |A| |B| too small and so the bound larger; it is infinite for a row of zeros and
    for one whose largest entry is near overflow.
    """
    if scheme.method != "ozaki2":
        return None
    k, sides, rests, sums = pair.a.shape[1], [], [], []
    for side, exponents, squares in zip((pair.a, pair.b), pair.exponents, pair.squares, strict=True):
        half = integer_exponents(exponents, squares, scheme.moduli) + exponents + 1
        rests.append(torch.where(exponents > 1022, float("inf"), power_of_two(-half)).float())
        sums.append((k * squares).sqrt().float())
        factors = power_of_two(-exponents.clamp(-1023, 1022))[:, None]
        sides.append(torch.mul(side, factors, out=torch.empty_like(side, dtype=torch.bfloat16)).abs_())
    lost = torch.outer(rests[0], sums[1] + k * rests[1]).addr_(sums[0], rests[1])
    worst = float(lost.div_(multiply_bf16(*sides)).max())
    return worst * SAFETY if worst <= USELESS else float("inf")


def bound(pair: Measured, scheme: Scheme, accuracy: float, known: Callable[[], Sizes]) -> float:
    """Return a bound on |C - C'| / (|A| |B|): the quick one if it is at most `accuracy`."""
    quick = quick_loss(pair, scheme)
    return quick if quick is not None and quick <= accuracy else loss(known(), scheme)

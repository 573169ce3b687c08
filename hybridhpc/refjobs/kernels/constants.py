"""The numbers of scheme 2 as tensors on a GPU, made once."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from . import ozaki2


@cache
def moduli(count: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the moduli and their reciprocals on the GPU."""
    numbers = ozaki2.MODULI[:count]
    reciprocals = [ozaki2.reciprocal(p) for p in numbers]
    return (
        torch.tensor(numbers, dtype=torch.int32, device=device),
        torch.tensor(reciprocals, dtype=torch.int64, device=device),
    )


@cache
def crt(count: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the weights (count, 3), and 1 / P with the three parts of P, on the GPU."""
    constants = ozaki2.crt(count)
    product = [constants.inverse, *constants.product_parts]
    return (
        torch.tensor(constants.weights, dtype=torch.float64, device=device),
        torch.tensor(product, dtype=torch.float64, device=device),
    )

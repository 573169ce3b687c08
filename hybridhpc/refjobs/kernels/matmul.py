"""`matmul(a, b)`: an FP64 product in PyTorch, emulated where that is faster and accurate enough, else native."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .emulation import Measured, Scheme, lack_of_memory, measure, multiply, steps
from .fitness_torch import bound, sizes

NOT_FINITE = "there are NaN or infinite entries"
SPEEDS = Path(__file__).with_name("speeds.json")
ACCURACY = 1e-15


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """How a product was computed, and why so."""

    scheme: Scheme | None  # None: native FP64
    by: str  # cutile, triton or torch
    why: str

    @property
    def name(self) -> str:
        """Return the method in a word or two."""
        return self.scheme.name if self.scheme else "native"


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """What a method was measured to do on this kind of GPU, with all that `matmul` does beside the product."""

    scheme: Scheme | None
    by: str
    size: int  # n of the n x n x n product
    tflops: float


def speeds_of(gpu: str, file: Path = SPEEDS) -> list[Speed]:
    """Return what was measured on a kind of GPU, by its name in torch. Empty when nothing was."""
    rows: list[dict[str, Any]] = json.loads(file.read_text()).get(gpu, [])
    return [
        Speed(scheme=Scheme(**row["scheme"]) if row["scheme"] else None, by=row["by"], **{
            key: row[key] for key in ("size", "tflops")
        })
        for row in rows
    ]  # fmt: skip


def fastest_first(speeds: list[Speed], size: float) -> list[Speed]:
    """Return each method as measured at the size nearest to `size` (on a logarithmic scale), the fastest first."""
    nearest: dict[tuple[Scheme | None, str], Speed] = {}
    for speed in sorted(speeds, key=lambda one: -abs(math.log(one.size / size))):
        nearest[speed.scheme, speed.by] = speed
    return sorted(nearest.values(), key=lambda one: -one.tflops)


def choose(a: Tensor, b: Tensor, accuracy: float, speeds: list[Speed], gpu: str) -> tuple[Choice, Measured | None]:
    """Return the fastest method whose loss on these matrices is at most `accuracy`, and the measured matrices.

    They are looked at only if something that was measured to be faster than native, that look included, can run here.
    """
    if not speeds:
        return native(f"no speed was measured on {gpu}"), None
    pair, known = None, None  # made once, when first needed
    for speed in fastest_first(speeds, (a.shape[0] * a.shape[1] * b.shape[1]) ** (1 / 3)):
        why = f"{speed.tflops:.1f} TFLOPS measured at n = {speed.size} on {gpu}"
        if speed.scheme is None:
            return native(why), None
        if not installed(speed.by) or lack_of_memory(speed.scheme, a, b):
            continue
        pair = pair or measure(a, b, steps(speed.by))
        if not pair.finite:
            return native(NOT_FINITE), None
        known = known or cache(partial(sizes, pair))
        if bound(pair, speed.scheme, accuracy, known) <= accuracy:
            return Choice(scheme=speed.scheme, by=speed.by, why=why), pair
    return native(f"no faster method runs here and loses at most {accuracy} on these matrices"), None


def native(why: str) -> Choice:
    """Return the choice of FP64 itself."""
    return Choice(scheme=None, by="torch", why=why)


@cache
def installed(by: str) -> bool:
    """Return whether what a language needs is there."""
    try:
        steps(by)
    except ImportError:
        return False
    return True


def planned(a: Tensor, b: Tensor, accuracy: float | None, scheme: Scheme, by: str) -> tuple[Choice, Measured | None]:
    """Return whether a scheme is to be used that was asked for, and the measured matrices."""
    pair = measure(a, b, steps(by))
    if not pair.finite:
        return native(NOT_FINITE), None
    if accuracy is not None and (lost := bound(pair, scheme, accuracy, partial(sizes, pair))) > accuracy:
        return native(f"{scheme.name} may lose {lost:.1e} on these matrices, more than {accuracy:.1e}"), None
    return Choice(scheme=scheme, by=by, why="it was asked for"), pair


def checked(a: Tensor, b: Tensor) -> None:
    """Refuse what is no product of two FP64 matrices. Raises TypeError or ValueError."""
    if a.dtype != torch.float64 or b.dtype != torch.float64:
        raise TypeError(f"matmul takes float64 matrices, not {a.dtype} and {b.dtype}")
    if a.dim() != 2 or b.dim() != 2 or a.shape[1] != b.shape[0]:
        raise ValueError(f"matmul takes (M, K) and (K, N), not {tuple(a.shape)} and {tuple(b.shape)}")
    if a.device != b.device:
        raise ValueError(f"matmul takes matrices on one device, not on {a.device} and {b.device}")


def scheme_of(method: str, moduli: int, depth: int, bits: int) -> Scheme | None:
    """Return the scheme that the arguments of `matmul` name; None for auto and native. Raises ValueError."""
    if method in ("auto", "native"):
        return None
    return Scheme(method=method, moduli=moduli, depth=depth, bits=bits)


def explain(
    a: Tensor,
    b: Tensor,
    *,
    accuracy: float | None = None,
    method: str = "auto",
    by: str = "torch",
    moduli: int = 15,
    depth: int = 7,
    bits: int = 8,
) -> tuple[Tensor, Choice]:
    """Return what `matmul` returns, and how and why it was computed so."""
    checked(a, b)
    scheme = scheme_of(method, moduli, depth, bits)
    left, right = a.detach(), b.detach()
    if method == "native" or 0 in (*a.shape, *b.shape):
        choice, pair = native("it was asked for" if method == "native" else "there is nothing to multiply"), None
    elif scheme is not None:
        choice, pair = planned(left, right, accuracy, scheme, by)
    else:
        gpu = torch.cuda.get_device_name(a.device) if a.device.type == "cuda" else "the CPU"
        speeds = speeds_of(gpu) if a.device.type == "cuda" else []
        choice, pair = choose(left, right, ACCURACY if accuracy is None else accuracy, speeds, gpu)
    if choice.scheme is None or pair is None:
        return a @ b, choice
    if not (a.requires_grad or b.requires_grad):
        return multiply(pair, choice.scheme, steps(choice.by)), choice
    product: Tensor = Differentiable.apply(a, b, pair, choice)  # type: ignore[no-untyped-call]
    return product, choice


def matmul(
    a: Tensor,
    b: Tensor,
    *,
    accuracy: float | None = None,
    method: str = "auto",
    by: str = "torch",
    moduli: int = 15,
    depth: int = 7,
    bits: int = 8,
) -> Tensor:
    """Return a @ b for FP64 matrices (M, K) and (K, N) of any strides.

    method: "auto", "native", "ozaki1" (`depth`, `bits`) or "ozaki2" (`moduli`). auto takes the fastest that was
    measured on this kind of GPU and is accurate enough; on a CPU, or where nothing was measured, it takes native.
    accuracy: what emulation may lose of each entry, |C - C'| <= accuracy * (|A| |B|), checked on these very matrices
    (costs one BF16 product); 1e-15 for auto. FP64's own rounding comes on top, less of it than in a native product.
    A named method with accuracy=None is not checked, except for NaN and infinities, which always go to native.
    by: "cutile", "triton" or "torch". Raises TypeError or ValueError for what is no such product.
    """
    return explain(a, b, accuracy=accuracy, method=method, by=by, moduli=moduli, depth=depth, bits=bits)[0]


class Differentiable(torch.autograd.Function):
    """The emulated product with gradients: those are native products."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, pair: Measured, choice: Choice) -> Tensor:  # noqa: ANN401 (torch's)
        """Return the product."""
        ctx.save_for_backward(a, b)
        assert choice.scheme is not None
        return multiply(pair, choice.scheme, steps(choice.by))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None]:  # noqa: ANN401 (torch's)
        """Return the gradients of both matrices."""
        a, b = ctx.saved_tensors
        return grads[0] @ b.mT, a.mT @ grads[0], None, None

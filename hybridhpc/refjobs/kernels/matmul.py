"""`matmul(a, b)`: an FP64 product in PyTorch, emulated where that is faster and accurate enough, else native."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .emulation import Measured, Scheme, measure, multiply, steps
from .fitness_torch import loss, sizes

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
    """What a method was measured to do on this kind of GPU."""

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


def choose(pair: Measured, accuracy: float, speeds: list[Speed], gpu: str) -> Choice:
    """Return the fastest method whose loss on these finite matrices is at most `accuracy`."""
    if not speeds:
        return Choice(scheme=None, by="torch", why=f"no speed was measured on {gpu}")
    (rows, k), columns = pair.a.shape, pair.b.shape[0]
    known = None
    for speed in fastest_first(speeds, (rows * k * columns) ** (1 / 3)):
        why = f"{speed.tflops:.1f} TFLOPS measured at n = {speed.size} on {gpu}"
        if speed.scheme is None:
            return Choice(scheme=None, by="torch", why=why)
        known = known or sizes(pair)
        if loss(known, speed.scheme) <= accuracy:
            return Choice(scheme=speed.scheme, by=speed.by, why=why)
    return Choice(scheme=None, by="torch", why=f"no faster method loses at most {accuracy} on these matrices")


def planned(a: Tensor, b: Tensor, accuracy: float | None, scheme: Scheme | None, by: str) -> tuple[Choice, Measured]:
    """Return how to multiply, `scheme` None meaning any, and the measured matrices."""
    gpu = torch.cuda.get_device_name(a.device) if a.device.type == "cuda" else "the CPU"
    pair = measure(a, b, steps(by))
    if not pair.finite:
        return Choice(scheme=None, by="torch", why="there are NaN or infinite entries"), pair
    if scheme is None:
        speeds = speeds_of(gpu)
        return choose(pair, ACCURACY if accuracy is None else accuracy, speeds, gpu), pair
    if accuracy is not None and (lost := loss(sizes(pair), scheme)) > accuracy:
        why = f"{scheme.name} may lose {lost:.1e} on these matrices, more than {accuracy:.1e}"
        return Choice(scheme=None, by="torch", why=why), pair
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
    """Return the scheme that the arguments of `matmul` name; None for auto. Raises ValueError."""
    if method == "auto":
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
    if method == "native":
        return a @ b, Choice(scheme=None, by="torch", why="it was asked for")
    scheme = scheme_of(method, moduli, depth, bits)
    if 0 in (*a.shape, *b.shape):
        return a @ b, Choice(scheme=None, by="torch", why="there is nothing to multiply")
    if method == "auto" and a.device.type != "cuda":
        return a @ b, Choice(scheme=None, by="torch", why="no speed was measured on the CPU")
    choice, pair = planned(a.detach(), b.detach(), accuracy, scheme, by)
    if choice.scheme is None:
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

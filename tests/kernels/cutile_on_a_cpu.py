"""A stand-in for the module cuda.tile that runs device code tile by tile on a CPU: cuTile itself has no such mode.

What it shows: that the device code, as it stands, computes the right numbers. Each block of the grid runs the real
Python source of a kernel, in turn. What a kernel says and this module does not know, or types that cuTile would not
mix, end in an error; so do a product whose INT32 sum overflows, a store that reaches no entry, and an entry that is
written twice or never.

What it does not show: that the compiler translates the source so (kernels-aot and a GPU do), anything about blocks
that run at the same time, speed, or in which order a tensor core adds: products are summed in FP64 and rounded once.
TF32 is rounded to nearest.
"""

from __future__ import annotations

import itertools
import operator
import types
from collections.abc import Callable
from typing import Any

import torch

TF32 = "tfloat32"
ACCUMULATORS = {
    torch.int8: torch.int32,
    torch.float64: torch.float64,
    **dict.fromkeys((torch.bfloat16, torch.float16, TF32, torch.float8_e4m3fn, torch.float8_e5m2), torch.float32),
}
block: list[tuple[int, ...]] = [()]


class Tile:
    """A value of device code: arithmetic of one kind of type at a time, and nothing else of a tensor."""

    def __init__(self, data: torch.Tensor, dtype: Any = None) -> None:
        self.data, self.dtype, self.shape = data, dtype or data.dtype, tuple(data.shape)

    def transpose(self) -> Tile:
        return Tile(self.data.T, self.dtype)


def operand(value: Any, like: Tile) -> torch.Tensor:
    """Return the other side of an operation: a number takes the tile's type, if it is of that kind."""
    if isinstance(value, Tile):
        if value.dtype.is_floating_point != like.dtype.is_floating_point:
            raise TypeError(f"{value.dtype} and {like.dtype} in one operation")
        return value.data
    if not isinstance(value, int | float) or (isinstance(value, float) and not like.dtype.is_floating_point):
        raise TypeError(f"{value!r} and {like.dtype} in one operation")
    return torch.tensor(value, dtype=like.dtype)


def arithmetic(of: Callable[[Any, Any], torch.Tensor]) -> tuple[Callable[..., Tile], Callable[..., Tile]]:
    """Return an operation of tiles, and the same with its sides exchanged."""
    return (lambda a, b: Tile(of(a.data, operand(b, a)))), (lambda a, b: Tile(of(operand(b, a), a.data)))


for name, of in {
    **{"add": operator.add, "sub": operator.sub, "mul": operator.mul, "and": operator.and_},
    **{"lshift": operator.lshift, "rshift": operator.rshift, "lt": operator.lt, "gt": operator.gt},
}.items():
    straight, exchanged = arithmetic(of)
    setattr(Tile, f"__{name}__", straight)
    setattr(Tile, f"__r{name}__", exchanged)
Tile.__neg__ = lambda self: Tile(-self.data)  # type: ignore[attr-defined]


class Array:
    """An argument of a kernel: it has a size and a type, and is loaded from and stored to."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor, self.shape, self.dtype = tensor, tuple(tensor.shape), tensor.dtype
        self.written = torch.zeros(tensor.shape, dtype=torch.int32)

    def window(self, index: tuple[int, ...], shape: tuple[int, ...]) -> tuple[slice, ...]:
        """Return the part of a tile that lies within."""
        firsts = [place * size for place, size in zip(index, shape, strict=True)]
        if any(first >= size for first, size in zip(firsts, self.shape, strict=True)):
            raise IndexError(f"tile {index} of {shape} lies beyond {self.shape}")
        ends = (min(first + size, end) for first, size, end in zip(firsts, shape, self.shape, strict=True))
        return tuple(map(slice, firsts, ends))


def load(array: Array, index: tuple[int, ...], shape: tuple[int, ...], padding_mode: str = "none") -> Tile:
    """Return a tile of an array; beyond the edges there is 0 if that is asked for, and an error if not."""
    if shape == ():
        return Tile(array.tensor[tuple(index)])
    inside = array.tensor[array.window(index, shape)]
    if tuple(inside.shape) != shape and padding_mode != "zero":
        raise IndexError(f"tile {index} of {shape} reaches beyond {array.shape} without padding")
    tile = torch.zeros(shape, dtype=array.dtype)
    tile[tuple(slice(0, size) for size in inside.shape)] = inside
    return Tile(tile)


def store(array: Array, index: tuple[int, ...], tile: Tile) -> None:
    """Write a tile, of the array's own type; what lies beyond the edges is dropped."""
    if tile.dtype != array.dtype:
        raise TypeError(f"{tile.dtype} stored as {array.dtype}")
    window = array.window(index, tile.shape)
    array.tensor[window] = tile.data[tuple(slice(0, part.stop - part.start) for part in window)]
    array.written[window] += 1


def mma(a: Tile, b: Tile, acc: Tile, use_fast_acc: bool = False) -> Tile:
    """Return acc + a @ b as tensor cores have it, but for the order of adding."""
    fp8 = a.dtype in (torch.float8_e4m3fn, torch.float8_e5m2)
    if a.dtype != b.dtype or ACCUMULATORS.get(a.dtype) != acc.dtype or (use_fast_acc and not fp8):
        raise TypeError(f"{a.dtype} times {b.dtype} added to {acc.dtype}")
    total = acc.data.double() + a.data.double() @ b.data.double()
    if acc.dtype == torch.int32 and total.abs().max() >= 2**31:
        raise OverflowError("a sum does not fit INT32")
    return Tile(total.to(acc.dtype))


def astype(tile: Any, dtype: Any) -> Tile:
    """Return a tile in another type."""
    data = tile.data if isinstance(tile, Tile) else torch.tensor(tile)
    if dtype != TF32:
        return Tile(data.to(dtype))
    bits = data.view(torch.int32)  # 10 of 23 bits, to nearest, ties to even
    return Tile(((bits + 0xFFF + ((bits >> 13) & 1)) & ~0x1FFF).view(torch.float32), TF32)


def where(condition: Tile, a: Any, b: Any) -> Tile:
    """Return one or the other; of two numbers, the shortest type of their kind."""
    like = next((side for side in (a, b) if isinstance(side, Tile)), None)
    if like is None:
        like = Tile(torch.tensor(0, dtype=torch.float32 if isinstance(a, float) else torch.int32))
    return Tile(torch.where(condition.data, *(operand(side, like) for side in (a, b))))


class Kernel:
    """A kernel with hints: these say nothing about its results."""

    def __init__(self, source: Callable[..., None]) -> None:
        self.source = source

    def replace_hints(self, **_: int) -> Kernel:
        return self


def launch(stream: object, grid: tuple[int, ...], kernel: Kernel, arguments: tuple[Any, ...]) -> None:
    """Run every block, and see that each entry of what was written to was written exactly once."""
    if not all(0 < size < 65536 for size in grid[1:]) or not 1 <= len(grid) <= 3 or not 0 < grid[0] < 2**31:
        raise ValueError(f"no grid: {grid}")
    known = {id(one): Array(one) for one in arguments if isinstance(one, torch.Tensor)}
    values = [known.get(id(one), one) for one in arguments]
    for place in itertools.product(*map(range, grid)):
        block[0] = (*place, 0, 0)
        kernel.source(*values)
    for array in known.values():
        if bool((array.written != array.written.max()).any()) or array.written.max() > 1:
            raise RuntimeError("entries were not written exactly once")


class Annotation:
    """`Constant[int]` and the like mean nothing here."""

    def __class_getitem__(cls, _: object) -> type:
        return cls


def module() -> types.ModuleType:
    """Return the stand-in: what is not named here, device code cannot use."""
    tile = types.ModuleType("cuda.tile")
    for name in ("int8", "int32", "int64", "float32", "float64", "bfloat16"):
        setattr(tile, name, getattr(torch, name))
    tile.tfloat32, tile.Constant, tile.IndexedWithInt64 = TF32, Annotation, Annotation
    tile.PaddingMode = types.SimpleNamespace(ZERO="zero")
    tile.kernel, tile.launch, tile.load, tile.store, tile.mma = Kernel, launch, load, store, mma
    tile.astype, tile.where, tile.static_iter = astype, where, iter
    tile.bid = lambda axis: block[0][axis]
    tile.cdiv = lambda a, b: -(-a // b)
    tile.num_tiles = lambda array, axis, shape: -(-array.shape[axis] // shape[axis])
    tile.full = lambda shape, value, dtype: Tile(torch.full(shape, value, dtype=dtype))
    tile.bitcast = lambda tile, dtype: Tile(tile.data.view(dtype))
    tile.maximum = lambda a, b: Tile(torch.maximum(a.data, operand(b, a)))
    tile.minimum = lambda a, b: Tile(torch.minimum(a.data, operand(b, a)))
    tile.abs = lambda tile: Tile(tile.data.abs())
    tile.max = lambda tile, axis, keepdims: Tile(tile.data.amax(axis, keepdim=keepdims))
    tile.sum = lambda tile, axis, keepdims: Tile(tile.data.sum(axis, keepdim=keepdims))
    tile.reshape = lambda tile, shape: Tile(tile.data.reshape(shape), tile.dtype)
    return tile

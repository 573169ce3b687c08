"""How matrices may lie in memory: compilers make another kernel for some of these ways, so each is compiled and tested.

Both compilers look at the arguments of a launch: a size or stride of 1 is compiled in, a stride of whole 16 bytes and
an address at a multiple of 16 bytes allow wide loads. In `matmul(a, b)` B is read by columns, so "columns" is what an
ordinary B comes as.
"""

from __future__ import annotations

from dataclasses import dataclass

PAD = 128
LINE = 16


def padded(k: int) -> int:
    """Return K rounded up to a whole number of PAD: so steps pad what they multiply."""
    return -(-k // PAD) * PAD


def in_lines(n: int) -> int:
    """Return how far the lines of a result lie apart: whole 16 bytes of any type, as TMA wants it."""
    return -(-n // LINE) * LINE


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """A matrix (rows, columns): strides in entries, and whether it begins at a multiple of 16 bytes."""

    shape: tuple[int, int]
    strides: tuple[int, int]
    aligned: bool = True


LAYOUTS = {
    "rows": Layout(shape=(2048, 4096), strides=(4096, 1)),
    "columns": Layout(shape=(2048, 4096), strides=(1, 2048)),
    "odd rows": Layout(shape=(2047, 4095), strides=(4097, 1), aligned=False),
    "odd columns": Layout(shape=(2047, 4095), strides=(1, 2049), aligned=False),
    "any strides": Layout(shape=(2047, 4095), strides=(12287, 3), aligned=False),
    "one row repeated": Layout(shape=(2047, 4095), strides=(0, 1)),
    "one row": Layout(shape=(1, 4095), strides=(4095, 1)),
    "one column": Layout(shape=(2047, 1), strides=(1, 1)),
}
# The steps make results of their own, row after row: only the sizes of these can be odd.
RESULTS = ("rows", "odd rows", "one row", "one column")
READ_BY_ROWS = ("measure_rows", "split_rows", "residues")  # the kernels that get the matrices as they come
WRITE_PRODUCTS = ("multiply_slices", "multiply_residues", "reconstruct")


def layouts_of(kernel: str) -> tuple[str, ...]:
    """Return the names of the layouts that a kernel meets. Plain products are of the jobs' own matrices only."""
    return tuple(LAYOUTS) if kernel in READ_BY_ROWS else RESULTS if kernel in WRITE_PRODUCTS else ("rows",)

"""How a Triton kernel is compiled without a GPU: the types of its arguments, and the compiler's call."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from . import triton_kernels as kernels
from .layouts import Layout, in_lines, padded
from .tuning import Config, number

INNER = 4096  # K of products: the steps pad it, so it is always a multiple of 128
KINDS = {
    **{"bf16": ("bf16", "bf16"), "fp16": ("fp16", "fp16"), "tf32": ("fp32", "fp32"), "fp64": ("fp64", "fp64")},
    **{"e4m3": ("fp8e4nv", "bf16"), "e5m2": ("fp8e5", "bf16"), "int8": ("i8", "i32")},
}
ALIGNED = [["tt.divisibility", 16]]


def tall(kind: str, *tile: int) -> str:
    """Return the type of a tensor descriptor."""
    return f"tensordesc<{kind}[{','.join(map(str, tile))}]>"


def arguments(kernel: str, how: Config, layout: Layout) -> list[Any]:
    """Return a kernel's arguments as `by_triton` passes them: a type instead of each tensor, numbers, constants."""
    name, _, kind = kernel.partition(" ")
    tile, group, (m, n) = how.tile, how.group, layout.shape
    tm, tn, tk = (*tile, 0, 0)[:3]
    operand, result = KINDS[kind or "fp64"]
    accumulator = {"i32": tl.int32, "fp64": tl.float64}.get(result, tl.float32)
    exponents, moduli = ["*i64", "*i64"], ["*i32", "*i64"]
    slices, remainders = ([tall(of, tm, tk), tall(of, tn, tk)] for of in ("bf16", "i8"))
    out: dict[str, list[Any]] = {
        "gemm": [
            *(tall(operand, tm, tk), tall(operand, tn, tk), tall(result, tm, tn)),
            *(m, n, INNER, *tile, group, accumulator),
        ],
        "measure_rows": ["*fp64", "*i64", "*fp64", m, n, *layout.strides, *tile],
        "split_rows": ["*fp64", "*i64", "*bf16", m, n, padded(n), *layout.strides, *tile, 8, 7],
        "multiply_slices": [*slices, *exponents, "*fp64", m, n, INNER, *tile, group, 8, 7, 7],
        "residues": ["*fp64", "*i64", *moduli, "*i8", m, n, padded(n), *layout.strides, *tile, 15],
        "multiply_residues": [*remainders, *moduli, tall("i8", 1, tm, tn), m, n, INNER, *tile, group],
        "reconstruct": ["*i8", "*fp64", "*fp64", *exponents, "*fp64", m, n, in_lines(n), *tile, 15],
    }
    return out[name]


def source(kernel: str, how: Config, layout: Layout) -> ASTSource:
    """Return what a launch would compile: numbers that are 1 are compiled in, multiples of 16 are known to be such."""
    function = getattr(kernels, kernel.partition(" ")[0])
    signature, values, aligned = {}, {}, {}
    for place, (one, value) in enumerate(zip(function.params, arguments(kernel, how, layout), strict=True)):
        constant = one.is_constexpr or value == 1
        signature[one.name] = "constexpr" if constant else "i32" if isinstance(value, int) else value
        if constant:
            values[one.name] = value
        elif value % 16 == 0 if isinstance(value, int) else value[0] == "*" and (one.name != "A" or layout.aligned):
            aligned[place,] = ALIGNED
    return ASTSource(fn=function, signature=signature, constexprs=values, attrs=aligned)


def compile_kernel(kernel: str, arch: str, how: Config, layout: Layout, path: Path) -> int:
    """Write the machine code of a kernel. Return how many bytes of shared memory it asks for at launch."""
    target = GPUTarget("cuda", number(arch), 32)
    compiled = triton.compile(source(kernel, how, layout), target=target, options=how.hints)
    path.write_bytes(compiled.asm["cubin"])
    return int(compiled.metadata.shared)

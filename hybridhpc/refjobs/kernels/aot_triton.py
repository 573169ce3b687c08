"""How a Triton kernel is compiled without a GPU: the types of its arguments, and the compiler's call."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from . import triton_kernels as kernels
from .tuning import Config, number

KINDS = {
    **{"bf16": ("bf16", "bf16"), "fp16": ("fp16", "fp16"), "tf32": ("fp32", "fp32"), "fp64": ("fp64", "fp64")},
    **{"e4m3": ("fp8e4nv", "bf16"), "e5m2": ("fp8e5", "bf16"), "int8": ("i8", "i32")},
}
ALIGNED = [["tt.divisibility", 16]]  # pointers, K and the strides of what the steps make for each other
EVEN = ("K", "PADDED", "LINE", "stride_row")


def tall(kind: str, rows: int, columns: int) -> str:
    """Return the type of a tensor descriptor."""
    return f"tensordesc<{kind}[{rows},{columns}]>"


def arguments(kernel: str, how: Config) -> tuple[list[str], list[Any]]:
    """Return the types of a kernel's leading arguments, and the values of its constants."""
    name, _, kind = kernel.partition(" ")
    tile, group = how.tile, how.group
    tm, tn, tk = (*tile, 0, 0)[:3]
    operand, result = KINDS[kind or "fp64"]
    accumulator = {"i32": tl.int32, "fp64": tl.float64}.get(result, tl.float32)
    row, moduli, sizes = ["*fp64", "*i64"], ["*i32", "*i64"], ["i32"] * 3
    strides = ["i32", "constexpr"]  # a stride of 1 is compiled in
    types: dict[str, tuple[list[str], list[Any]]] = {
        "gemm": (
            [tall(operand, tm, tk), tall(operand, tn, tk), tall(result, tm, tn), *sizes],
            [*tile, group, accumulator],
        ),
        "measure_rows": ([*row, "*fp64", "i32", "i32", *strides], [1, *tile]),
        "split_rows": ([*row, "*bf16", *sizes, *strides], [1, *tile, 8, 7]),
        "multiply_slices": (
            [tall("bf16", tm, tk), tall("bf16", tn, tk), "*i64", "*i64", "*fp64", *sizes],
            [*tile, group, 8, 7, 7],
        ),
        "residues": ([*row, *moduli, "*i8", *sizes, *strides], [1, *tile, 15]),
        "multiply_residues": (
            [tall("i8", tm, tk), tall("i8", tn, tk), *moduli, f"tensordesc<i8[1,{tm},{tn}]>", *sizes],
            [*tile, group],
        ),
        "reconstruct": (["*i8", "*fp64", "*fp64", "*i64", "*i64", "*fp64", *sizes], [*tile, 15]),
    }
    return types[name]


def compile_kernel(kernel: str, arch: str, how: Config, path: Path) -> int:
    """Write the machine code of a kernel. Return how many bytes of shared memory it asks for at launch."""
    function = getattr(kernels, kernel.partition(" ")[0])
    types, constants = arguments(kernel, how)
    leading = [kind for kind in types if kind != "constexpr"]
    names = function.arg_names
    signature = dict(zip(names, leading + ["constexpr"] * len(constants), strict=True))
    values = dict(zip(names[len(leading) :], constants, strict=True))
    aligned = {
        (place,): ALIGNED
        for place, (name, kind) in enumerate(signature.items())
        if kind.startswith("*") or (kind == "i32" and name in EVEN)
    }
    source = ASTSource(fn=function, signature=signature, constexprs=values, attrs=aligned)
    target = GPUTarget("cuda", number(arch), 32)
    compiled = triton.compile(source, target=target, options=how.hints)
    path.write_bytes(compiled.asm["cubin"])
    return int(compiled.metadata.shared)

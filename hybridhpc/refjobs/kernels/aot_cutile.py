"""How a cuTile kernel is compiled without a GPU: the types of its arguments, and the compiler's call."""

from __future__ import annotations

from itertools import accumulate
from pathlib import Path
from typing import Any

import cuda.tile as ct
from cuda.tile.compilation import ArrayConstraint, CallingConvention, KernelSignature, export_kernel

from . import cutile_kernels as kernels
from .layouts import Layout, in_lines, padded
from .tuning import Config

INNER = 4096  # K of products: the steps pad it, so it is always a multiple of 128
F64, I64, I32, I8, BF16 = ct.float64, ct.int64, ct.int32, ct.int8, ct.bfloat16
KINDS = {
    **{"bf16": (BF16, BF16), "fp16": (ct.float16, ct.float16), "tf32": (ct.float32, ct.float32)},
    **{"e4m3": (ct.float8_e4m3fn, BF16), "e5m2": (ct.float8_e5m2, BF16), "int8": (I8, I32), "fp64": (F64, F64)},
}


def array(
    dtype: Any,  # noqa: ANN401 (cuTile's)
    *shape: int,
    strides: tuple[int, ...] | None = None,
    aligned: bool = True,
) -> Any:  # noqa: ANN401 (cuTile's)
    """Return what `ct.launch` (cuda-tile 1.7.0) would assume of such a tensor, by default one stored row after row.

    Sizes and strides of 1 are compiled in; strides count if they are whole 16 bytes, sizes if multiples of 16. Stacks
    of matrices are the ones that the kernels mark as IndexedWithInt64.
    """
    of_rows = tuple(accumulate((1, *shape[:0:-1]), int.__mul__))[::-1]
    strides = strides or of_rows
    items = 128 // dtype.bitwidth
    return ArrayConstraint(
        *(dtype, len(shape)),
        index_dtype=I64 if len(shape) == 3 else I32,
        stride_lower_bound_incl=0,
        alias_groups=(),
        may_alias_internally=0 in strides,
        stride_constant=tuple(1 if stride == 1 else None for stride in strides),
        shape_constant=tuple(1 if size == 1 else None for size in shape),
        stride_divisible_by=tuple(1 if stride == 1 or stride % items else items for stride in strides),
        shape_divisible_by=tuple(1 if size % 16 else 16 for size in shape),
        base_addr_divisible_by=16 if aligned else 1,
    )


def arguments(kernel: str, how: Config, layout: Layout, arch: str) -> list[Any]:
    """Return the types of a kernel's arrays, followed by its constants, as `by_cutile` launches it."""
    name, _, kind = kernel.partition(" ")
    tile, group, (m, n) = how.tile, how.group, layout.shape
    operand, result = KINDS[kind or "fp64"]
    fast = kind in ("e4m3", "e5m2") and arch == "sm_90"
    a, rows, columns = array(F64, m, n, strides=layout.strides, aligned=layout.aligned), array(I64, m), array(I64, n)
    slices, moduli = (array(BF16, 7, m, INNER), array(BF16, 7, n, INNER)), (array(I32, 15), array(I64, 15))
    product, remainders = array(F64, m, in_lines(n)), array(I8, 15, m, in_lines(n))
    out: dict[str, tuple[Any, ...]] = {
        "gemm": (
            *(array(operand, m, INNER), array(operand, n, INNER), array(result, m, n)),
            *(*tile, group, int(kind == "tf32"), int(fast)),
        ),
        "measure_rows": (a, rows, array(F64, m), *tile),
        "split_rows": (a, rows, array(BF16, 7, m, padded(n)), *tile, 8, 7),
        "multiply_slices": (*slices, rows, columns, product, *tile, group, 8, 7, 7),
        "residues": (a, rows, *moduli, array(I8, 15, m, padded(n)), *tile, 15),
        "multiply_residues": (array(I8, 15, m, INNER), array(I8, 15, n, INNER), *moduli, remainders, *tile, group),
        "reconstruct": (remainders, array(F64, 15, 3), array(F64, 4), rows, columns, product, *tile, 15),
    }
    return list(out[name])


def compile_kernel(kernel: str, arch: str, how: Config, layout: Layout, path: Path) -> int:
    """Write the machine code of a kernel. Return 0: it asks for no shared memory at launch."""
    function = getattr(kernels, kernel.partition(" ")[0])
    function = function.replace_hints(**how.hints) if how.hints else function
    types = tuple(arguments(kernel, how, layout, arch))
    signature = KernelSignature(types, CallingConvention.cutile_python_v2(), symbol=kernel.replace(" ", "_"))
    export_kernel(function, [signature], str(path), gpu_code=arch, output_format="cubin")
    return 0

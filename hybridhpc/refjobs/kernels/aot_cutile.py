"""How a cuTile kernel is compiled without a GPU: the types of its arguments, and the compiler's call."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cuda.tile as ct
from cuda.tile.compilation import ArrayConstraint, CallingConvention, KernelSignature, export_kernel

from . import cutile_kernels as kernels
from .tuning import Config


def array(dtype: Any, rank: int) -> Any:  # noqa: ANN401 (cuTile's)
    """Return what the compiler may assume of an array: row by row, aligned to 16 bytes, so that TMA is used."""
    items = max(1, 128 // dtype.bitwidth)
    return ArrayConstraint(
        *(dtype, rank),
        index_dtype=ct.int64 if rank == 3 else ct.int32,
        stride_lower_bound_incl=0,
        alias_groups=(),
        may_alias_internally=False,
        stride_constant=(*(None,) * (rank - 1), 1),
        stride_divisible_by=(*(items,) * (rank - 1), 1),
        shape_divisible_by=(*(1,) * (rank - 1), items if rank > 1 else 1),
        base_addr_divisible_by=16,
    )


def signature(kernel: str, how: Config) -> tuple[Any, list[Any]]:
    """Return a kernel with its hints, and the types of its arrays followed by its constants."""
    name, _, kind = kernel.partition(" ")
    tile, group = how.tile, how.group
    f64, i64, i32, i8, bf16 = ct.float64, ct.int64, ct.int32, ct.int8, ct.bfloat16
    kinds = {
        **{"bf16": (bf16, bf16), "fp16": (ct.float16, ct.float16), "tf32": (ct.float32, ct.float32)},
        **{"e4m3": (ct.float8_e4m3fn, bf16), "e5m2": (ct.float8_e5m2, bf16), "int8": (i8, i32), "fp64": (f64, f64)},
    }
    operand, result = kinds[kind or "fp64"]
    moduli = ((i32, 1), (i64, 1))
    arrays, constants = {
        "gemm": (((operand, 2), (operand, 2), (result, 2)), (*tile, group, kind == "tf32", kind in ("e4m3", "e5m2"))),
        "measure_rows": (((f64, 2), (i64, 1), (f64, 1)), tile),
        "split_rows": (((f64, 2), (i64, 1), (bf16, 3)), (*tile, 8, 7)),
        "multiply_slices": (((bf16, 3), (bf16, 3), (i64, 1), (i64, 1), (f64, 2)), (*tile, group, 8, 7, 7)),
        "residues": (((f64, 2), (i64, 1), *moduli, (i8, 3)), (*tile, 15)),
        "multiply_residues": (((i8, 3), (i8, 3), *moduli, (i8, 3)), (*tile, group)),
        "reconstruct": (((i8, 3), (f64, 2), (f64, 1), (i64, 1), (i64, 1), (f64, 2)), (*tile, 15)),
    }[name]
    function = getattr(kernels, name)
    arguments = [array(dtype, rank) for dtype, rank in arrays] + [int(constant) for constant in constants]
    return (function.replace_hints(**how.hints) if how.hints else function), arguments


def compile_kernel(kernel: str, arch: str, how: Config, path: Path) -> int:
    """Write the machine code of a kernel. Return 0: it asks for no shared memory at launch."""
    function, arguments = signature(kernel, how)
    symbol = kernel.replace(" ", "_")
    signatures = [KernelSignature(tuple(arguments), CallingConvention.cutile_python_v2(), symbol=symbol)]
    export_kernel(function, signatures, str(path), gpu_code=arch, output_format="cubin")
    return 0

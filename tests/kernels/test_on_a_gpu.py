"""The kernels on a real GPU: the bits of the specification, and sums that must be exact. Nothing here is a stand-in."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is missing: pip install 'hybridhpc[train]'")

from hybridhpc.refjobs.kernels import (  # noqa: E402
    emulation,
    fitness_torch,
    gemm_job,
    layouts,
    matmul,
    ozaki1,
    ozaki2,
    tuning,
)
from hybridhpc.refjobs.kernels.emulation import Scheme  # noqa: E402
from hybridhpc.refjobs.kernels.families import FAMILIES  # noqa: E402

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
ASSUMED = (
    *("ndim", "index_dtype", "stride_lower_bound_incl", "alias_groups", "may_alias_internally", "stride_constant"),
    *("shape_constant", "stride_divisible_by", "shape_divisible_by", "base_addr_divisible_by"),
)
SHAPES = ((9, 1300, 11), (257, 4097, 130), (1, 1, 1), (128, 65536 + 640, 64))


@pytest.fixture(params=emulation.BY)
def by(request: pytest.FixtureRequest) -> Any:
    try:
        return emulation.steps(request.param)
    except ImportError as missing:
        pytest.skip(str(missing))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("family", ["randn", "graded", "wide 4", "integers"])
@pytest.mark.parametrize("scheme", [Scheme(method="ozaki1"), Scheme(method="ozaki2")], ids=lambda one: one.method)
def test_the_bits_of_the_specification(by: Any, scheme: Scheme, family: str, shape: tuple[int, int, int]) -> None:
    a, b = FAMILIES[family](np.random.default_rng(3), *shape)
    wanted = ozaki1.multiply(a, b) if scheme.method == "ozaki1" else ozaki2.multiply(a, b)
    pair = emulation.measure(torch.tensor(a, device="cuda"), torch.tensor(b, device="cuda"), by)
    assert (emulation.multiply(pair, scheme, by).cpu().numpy() == wanted).all()


def test_tensor_cores_add_integers_below_2_to_the_24_exactly(by: Any) -> None:
    k, zero = 4 * ozaki1.FLUSH, torch.zeros(64, dtype=torch.int64, device="cuda")
    a = torch.full((1, 64, k), 128.0, dtype=torch.bfloat16, device="cuda")
    b = a.clone()
    b[:, :, ::7], b[:, :, 5::11] = 1.0, -127.0
    product = by.multiply_slices(a, b, (zero, zero), bits=8, depth=1)
    assert torch.equal(product * 2.0**14, a[0].double() @ b[0].double().T)


def test_tensor_cores_add_int8_products_exactly(by: Any) -> None:
    a = torch.full((8, 64, 2 * ozaki2.CHUNK), -128, dtype=torch.int8, device="cuda")
    b = a.clone()
    b[:, :, ::3] = 127
    found = by.multiply_residues(a, b)[:, 0, 0].long().tolist()
    true = int((a[0, 0].long() * b[0, 0].long()).sum())
    assert all((true - one) % p == 0 for one, p in zip(found, ozaki2.MODULI, strict=False))


def test_what_a_product_loses_is_bounded_on_the_gpu_as_on_a_cpu(by: Any) -> None:
    a, b = map(torch.tensor, FAMILIES["randn"](np.random.default_rng(3), 130, 1300, 75))
    on_cpu = fitness_torch.quick_loss(emulation.measure(a, b, emulation.steps("torch")), Scheme(method="ozaki2"))
    found = emulation.measure(a.cuda(), b.cuda(), by)
    assert fitness_torch.quick_loss(found, Scheme(method="ozaki2")) == pytest.approx(on_cpu, rel=0.02)
    language = by.__name__.rpartition("_")[2]
    product, choice = matmul.explain(a.cuda(), b.cuda(), method="ozaki2", accuracy=1e-14, by=language)
    assert choice.name == "ozaki2 N=15" and torch.allclose(product.cpu(), a @ b, rtol=1e-12, atol=1e-12)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="there is but one GPU here")
def test_matrices_on_another_gpu_than_the_current_one(by: Any) -> None:
    a, b = (torch.tensor(side, device="cuda:1") for side in FAMILIES["randn"](np.random.default_rng(3), 33, 300, 20))
    language = by.__name__.rpartition("_")[2]
    for method in ("ozaki1", "ozaki2"):
        product = matmul.matmul(a, b, method=method, by=language)
        assert product.device == a.device and torch.allclose(product, a @ b, rtol=1e-12, atol=1e-12)


def device_array(*shape: int, kind: str, strides: tuple[int, ...] | None = None, aligned: bool = True) -> Any:
    """An array as a launch sees it: only its description is read."""
    sizes = [int(np.prod(shape[place + 1 :])) for place in range(len(shape))]
    described = {
        "shape": shape,
        "strides": tuple(int(kind[2:]) * stride for stride in strides or sizes),
        "typestr": kind,
        "data": ((1 << 24) + 8 * (not aligned), False),
        "version": 3,
    }
    return SimpleNamespace(__cuda_array_interface__=described)


@pytest.mark.parametrize("layout", layouts.LAYOUTS)
def test_what_is_compiled_ahead_of_time_is_what_a_launch_compiles(layout: str) -> None:
    """cuTile tells what it would assume of arguments; BF16 has no name there and FP16's place is the same."""
    pytest.importorskip("cuda.tile", reason="cuda-tile is missing: pip install 'hybridhpc[kernels]'")
    from cuda.tile.compilation import CallingConvention, KernelSignature

    from hybridhpc.refjobs.kernels import aot_cutile, cutile_kernels

    f64, i64, i32, i8, half, (m, n) = "<f8", "<i8", "<i4", "|i1", "<f2", layouts.LAYOUTS[layout].shape
    a = device_array(m, n, kind=f64, strides=layouts.LAYOUTS[layout].strides, aligned=layouts.LAYOUTS[layout].aligned)
    wide, k = layouts.in_lines(n), layouts.padded(n)
    per_row, per_column, moduli = (device_array(size, kind=i64) for size in (m, n, 15))
    short, remainders = device_array(15, kind=i32), device_array(15, m, wide, kind=i8)
    inner = {
        kind: [device_array(count, size, 4096, kind=kind) for size in (m, n)] for kind, count in ((half, 7), (i8, 15))
    }
    product = device_array(m, wide, kind=f64)
    launched = {
        "measure_rows": (a, per_row, device_array(m, kind=f64)),
        "split_rows": (a, per_row, device_array(7, m, k, kind=half)),
        "multiply_slices": (*inner[half], per_row, per_column, product),
        "residues": (a, per_row, short, moduli, device_array(15, m, k, kind=i8)),
        "multiply_residues": (*inner[i8], short, moduli, remainders),
        "reconstruct": (
            *(remainders, device_array(15, 3, kind=f64), device_array(4, kind=f64)),
            *(per_row, per_column, product),
        ),
    }
    for kernel, arrays in launched.items():
        how, convention = tuning.config("cutile", kernel, "sm_90"), CallingConvention.cutile_python_v2()
        ahead = aot_cutile.arguments(kernel, how, layouts.LAYOUTS[layout], "sm_90")
        constants = ahead[len(arrays) :]
        of_launch = KernelSignature.from_kernel_args(
            getattr(cutile_kernels, kernel), (*arrays, *constants), convention, symbol="kernel"
        )
        of_ours = KernelSignature(tuple(ahead), convention, symbol="kernel")
        for found, known in zip(of_launch.parameters, of_ours.parameters, strict=True):
            assert without_type(found) == without_type(known), kernel


def without_type(constraint: Any) -> Any:
    """Return what an array is assumed to be, but for its type."""
    is_array = hasattr(constraint, "stride_constant")
    return {name: getattr(constraint, name) for name in ASSUMED} if is_array else constraint


@pytest.mark.parametrize("kind", gemm_job.KINDS)
@pytest.mark.parametrize("language", gemm_job.BY)
def test_plain_products_are_right_in_every_type(kind: str, language: str) -> None:
    options = gemm_job.parse(["--by", language, "--types", kind, "--repeats", "1"])
    row = gemm_job.one(kind, (512, 256, 1024), language, options)
    if row["verdict"].startswith("left out"):
        pytest.skip(row["verdict"])
    assert row["verdict"] == "right"
    assert row["measured"] and row["tflops"] > 0

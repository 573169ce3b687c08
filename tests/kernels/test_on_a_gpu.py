"""The kernels on a real GPU: the bits of the specification, and sums that must be exact. Nothing here is a stand-in."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is missing: pip install 'hybridhpc[train]'")

from hybridhpc.refjobs.kernels import emulation, gemm_job, ozaki1, ozaki2  # noqa: E402
from hybridhpc.refjobs.kernels.emulation import Scheme  # noqa: E402
from hybridhpc.refjobs.kernels.families import FAMILIES  # noqa: E402

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
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


@pytest.mark.parametrize("kind", gemm_job.KINDS)
@pytest.mark.parametrize("language", gemm_job.BY)
def test_plain_products_are_right_in_every_type(kind: str, language: str) -> None:
    options = gemm_job.parse(["--by", language, "--types", kind, "--repeats", "1"])
    row = gemm_job.one(kind, (512, 256, 1024), language, options)
    if row["verdict"].startswith("left out"):
        pytest.skip(row["verdict"])
    assert row["verdict"] == "right"
    assert row["measured"] and row["tflops"] > 0

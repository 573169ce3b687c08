"""The device code in cuTile computes the right numbers: its source, run tile by tile on a CPU (`cutile_on_a_cpu`)."""

from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is missing: pip install 'hybridhpc[train]'")

from hybridhpc.refjobs import kernels as package  # noqa: E402
from hybridhpc.refjobs.kernels import emulation, gemm_job, ozaki2, tuning  # noqa: E402
from hybridhpc.refjobs.kernels.emulation import Scheme  # noqa: E402
from hybridhpc.refjobs.kernels.families import FAMILIES  # noqa: E402
from tests.kernels import cutile_on_a_cpu  # noqa: E402

BY_TORCH = emulation.steps("torch")
OURS = ("by_cutile", "cutile_kernels")
ARCH = {"sm_80": (8, 0), "sm_90": (9, 0), "sm_100": (10, 0), "sm_120": (12, 0)}


@pytest.fixture(scope="module")
def loaded() -> Iterator[Any]:
    """`by_cutile` with the stand-in for cuda.tile, and no trace of it afterwards."""
    cuda, tile = types.ModuleType("cuda"), cutile_on_a_cpu.module()
    cuda.tile = tile
    names = [f"{package.__name__}.{name}" for name in OURS]
    with pytest.MonkeyPatch.context() as patch:
        for name in names:
            patch.delitem(sys.modules, name, raising=False)
        patch.setitem(sys.modules, "cuda", cuda)
        patch.setitem(sys.modules, "cuda.tile", tile)
        patch.setattr(torch.cuda, "current_stream", lambda: None)
        yield importlib.import_module(names[0])
        for name in names:
            del sys.modules[name]
    for name in OURS:
        vars(package).pop(name, None)


@pytest.fixture
def by(loaded: Any, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The steps in cuTile as for some architecture: it decides on the tiles."""
    monkeypatch.setattr(loaded, "arch", lambda _: getattr(request, "param", "sm_90"))
    return loaded


def same(by: Any, left: Any, right: Any, scheme: Scheme) -> bool:
    """Whether cuTile's steps give the bits of the specification."""
    ours, theirs = (emulation.multiply(emulation.measure(left, right, one), scheme, one) for one in (by, BY_TORCH))
    return torch.equal(ours, theirs)


def pair(family: str, m: int, k: int, n: int) -> Any:
    return map(torch.tensor, FAMILIES[family](np.random.default_rng(2), m, k, n))


@pytest.mark.parametrize("by", ARCH, indirect=True)
def test_both_schemes_give_the_bits_of_the_specification_for_every_architecture(by: Any) -> None:
    a, b = pair("graded", 5, 1100, 7)
    assert same(by, a, b, Scheme(method="ozaki1", depth=2))
    assert same(by, a, b, Scheme(method="ozaki2", moduli=8))


@pytest.mark.parametrize(
    ("family", "m", "k", "n", "scheme"),
    [
        ("wide 4", 9, 300, 18, Scheme(method="ozaki1", bits=7, depth=9)),
        ("wide 4", 9, 300, 18, Scheme(method="ozaki2", moduli=15)),
        ("randn", 1, 1, 1, Scheme(method="ozaki1")),
        ("randn", 1, 1, 1, Scheme(method="ozaki2")),
        ("cancelling", 9, 300, 18, Scheme(method="ozaki2", moduli=15)),
        ("integers", 261, 130, 33, Scheme(method="ozaki1", depth=3)),
        ("integers", 141, 130, 259, Scheme(method="ozaki2", moduli=9)),
    ],
    ids=str,
)
def test_odd_sizes(by: Any, family: str, m: int, k: int, n: int, scheme: Scheme) -> None:
    assert same(by, *pair(family, m, k, n), scheme)


def test_any_strides(by: Any) -> None:
    a, b = pair("wide 1", 10, 258, 18)
    for left, right in ((a[::2, 1:], b[1:, ::3]), (a.T.contiguous().T, b.T.contiguous().T), (a[:1].expand(10, 258), b)):
        for scheme in (Scheme(method="ozaki1", depth=3), Scheme(method="ozaki2", moduli=8)):
            assert same(by, left, right, scheme)


@pytest.mark.parametrize("kind", gemm_job.KINDS)
def test_plain_products_in_every_type(by: Any, kind: str) -> None:
    for m, n, k in ((16, 16, 16), (144, 272, 144)):
        a, b, out = gemm_job.operands(kind, m, n, k, "cpu")
        by.gemm(a, b, out, kind=kind)
        assert gemm_job.error(a, b, out) <= gemm_job.KINDS[kind][2]


def test_what_an_architecture_has_not_is_said(by: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(by, "arch", lambda _: "sm_89")
    with pytest.raises(tuning.Untuned, match="sm_89"):
        by.gemm(*gemm_job.operands("e4m3", 16, 16, 16, "cpu"), kind="e4m3")


def test_nan_infinity_and_the_smallest_numbers_are_seen(by: Any) -> None:
    for bad in (float("nan"), float("inf"), float("-inf")):
        a = torch.randn(5, 40, dtype=torch.float64)
        a[3, 7] = bad
        assert not emulation.measure(a, torch.ones(40, 3, dtype=torch.float64), by).finite
    for value in (5e-324, 2.0**-1040, 1.7e308, 0.0):
        a = torch.full((3, 5), value, dtype=torch.float64)
        assert torch.equal(by.measure_rows(a)[0], BY_TORCH.measure_rows(a)[0])


def test_k_beyond_what_one_int32_sum_holds(by: Any) -> None:
    a = torch.full((2, 3, ozaki2.CHUNK + 128), -128, dtype=torch.int8)
    b = a.clone()
    b[:, :, ::3] = 127
    assert torch.equal(by.multiply_residues(a, b)[:, :, :3], BY_TORCH.multiply_residues(a, b))


def test_kernels_start_on_the_gpu_where_the_matrix_lies(by: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """With matrices on cuda:1 while cuda:0 is current, a kernel would start on the wrong one."""
    entered, started = [], []

    class DeviceOf:
        def __init__(self, tensor: Any) -> None:
            self.tensor = tensor

        def __enter__(self) -> None:
            entered.append(self.tensor)

        def __exit__(self, *_: object) -> None:
            entered.pop()

    monkeypatch.setattr(torch.cuda, "device_of", DeviceOf)
    monkeypatch.setattr(by.ct, "launch", lambda _stream, _grid, _kernel, args: started.append(entered[-1] is args[0]))
    by.measure_rows(torch.ones(3, 5, dtype=torch.float64))
    assert started == [True] and entered == []


def test_the_stand_in_refuses_what_it_does_not_know_and_what_cutile_would_not_do() -> None:
    tile, number = cutile_on_a_cpu.Tile, torch.ones(2, 2)
    with pytest.raises(AttributeError):
        cutile_on_a_cpu.module().exp(tile(number))
    with pytest.raises(AttributeError):
        tile(number).sum()
    with pytest.raises(TypeError):
        tile(number) + tile(number.int())
    with pytest.raises(TypeError):
        cutile_on_a_cpu.mma(tile(number), tile(number), tile(number))  # FP32 without rounding to TF32
    with pytest.raises(OverflowError):
        many = tile(torch.full((1, 2**18), 127, dtype=torch.int8))
        cutile_on_a_cpu.mma(many, many.transpose(), tile(torch.zeros(1, 1, dtype=torch.int32)))
    with pytest.raises(RuntimeError, match="exactly once"):
        twice = cutile_on_a_cpu.Kernel(lambda out: cutile_on_a_cpu.store(out, (0,), tile(torch.ones(4))))
        cutile_on_a_cpu.launch(None, (2,), twice, (torch.zeros(4),))

"""FP64 products of tensors: the same bits as the specification, and no input silently wrong. On a CPU, by torch."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is missing: pip install 'hybridhpc[train]'")

from hybridhpc.refjobs.kernels import emulation, exact, fitness, fitness_torch, matmul, ozaki1, ozaki2  # noqa: E402
from hybridhpc.refjobs.kernels.emulation import Scheme  # noqa: E402
from hybridhpc.refjobs.kernels.families import FAMILIES  # noqa: E402

BY_TORCH = emulation.steps("torch")
SCHEMES = [
    *(Scheme(method="ozaki1", bits=bits, depth=depth) for bits, depth in ((7, 9), (8, 5), (8, 7), (8, 9))),
    *(Scheme(method="ozaki2", moduli=moduli) for moduli in (8, 14, 15, 16)),
]


def pair(family: str, m: int = 9, k: int = 1300, n: int = 11) -> tuple[np.ndarray, np.ndarray]:
    return FAMILIES[family](np.random.default_rng(5), m, k, n)


def by_specification(a: np.ndarray, b: np.ndarray, scheme: Scheme) -> tuple[np.ndarray, float]:
    if scheme.method == "ozaki1":
        shape = {"bits": scheme.bits, "count": scheme.slices, "depth": scheme.depth}
        return ozaki1.multiply(a, b, **shape), fitness.loss_of_slices(a, b, **shape)
    return ozaki2.multiply(a, b, count=scheme.moduli), fitness.loss_of_moduli(a, b, count=scheme.moduli)


@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda scheme: scheme.name)
@pytest.mark.parametrize("family", FAMILIES)
def test_tensors_give_the_bits_and_the_bounds_of_the_specification(family: str, scheme: Scheme) -> None:
    a, b = pair(family)
    wanted, bound = by_specification(a, b, scheme)
    found = emulation.measure(torch.tensor(a), torch.tensor(b), BY_TORCH)
    assert (emulation.multiply(found, scheme, BY_TORCH).numpy() == wanted).all()
    assert fitness_torch.loss(fitness_torch.sizes(found), scheme) == pytest.approx(bound, rel=0.03, abs=1e-300)


@pytest.mark.parametrize("moduli", [8, 14, 15, 16])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_quick_bound_holds_too_and_is_not_far_from_the_other(family: str, moduli: int) -> None:
    a, b = pair(family)
    scheme = Scheme(method="ozaki2", moduli=moduli)
    found = emulation.measure(torch.tensor(a), torch.tensor(b), BY_TORCH)
    quick, other = fitness_torch.quick_loss(found, scheme), fitness_torch.loss(fitness_torch.sizes(found), scheme)
    lost = exact.errors(emulation.multiply(found, scheme, BY_TORCH).numpy(), exact.truth(a, b))["entry"]
    assert lost <= quick + 2**-50
    assert quick >= other * 0.98
    if family in ("randn", "graded", "cancelling"):
        assert quick <= other * 2


def test_the_slow_bound_is_asked_only_if_the_quick_one_is_not_good_enough() -> None:
    scheme, asked = Scheme(method="ozaki2"), []
    for family, accuracy, times in (("randn", 1e-13, 0), ("randn", 1e-18, 1), ("integers", 1e-18, 1)):
        found = emulation.measure(*map(torch.tensor, pair(family)), BY_TORCH)

        def known(found: emulation.Measured = found) -> fitness_torch.Sizes:
            asked.append(found)
            return fitness_torch.sizes(found)

        asked.clear()
        bound = fitness_torch.bound(found, scheme, accuracy, known)
        assert len(asked) == times and (bound <= accuracy) == (times == 0 or family == "integers")
    assert fitness_torch.quick_loss(found, Scheme(method="ozaki1")) is None


def test_the_quick_bound_of_numbers_near_overflow_is_infinite_and_of_the_smallest_no_smaller_than_the_other() -> None:
    scheme = Scheme(method="ozaki2")
    for value, infinite in ((1.7e308, True), (2.0**1022, True), (2.0**1021, False), (2.0**-1040, False)):
        a = torch.rand(3, 5, dtype=torch.float64) * value
        a[:, 0] = value
        found = emulation.measure(a, torch.rand(5, 2, dtype=torch.float64), BY_TORCH)
        quick = fitness_torch.quick_loss(found, scheme)
        assert quick >= fitness_torch.loss(fitness_torch.sizes(found), scheme) * 0.98
        assert (quick == float("inf")) == infinite


@pytest.mark.parametrize("value", [5e-324, 2.0**-1040, 1.7e308])
def test_the_quick_bound_of_numbers_at_the_ends_of_fp64_is_a_bound(value: float) -> None:
    a, b = torch.full((3, 5), value, dtype=torch.float64), torch.ones(5, 2, dtype=torch.float64)
    a[1], b[2] = 0.0, value
    found = emulation.measure(a, b, BY_TORCH)
    assert fitness_torch.quick_loss(found, Scheme(method="ozaki2")) == float("inf"), "a row of zeros"
    assert torch.equal(matmul.matmul(a[::2], b, method="ozaki2", accuracy=1e-15).isfinite(), (a[::2] @ b).isfinite())


def test_more_of_k_than_one_int32_sum_holds_comes_out_right() -> None:
    k = ozaki2.CHUNK + 3000
    a, b = torch.full((2, k), 127.0, dtype=torch.float64), torch.full((k, 3), -127.0, dtype=torch.float64)
    for method in ("ozaki1", "ozaki2"):
        assert torch.equal(matmul.matmul(a, b, method=method), a @ b)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("method", ["ozaki1", "ozaki2"])
def test_nan_and_infinity_go_to_native(bad: float, method: str) -> None:
    a, b = map(torch.tensor, pair("randn"))
    for place in ("a", "b"):
        left, right = a.clone(), b.clone()
        (left if place == "a" else right)[3, 2] = bad
        product, choice = matmul.explain(left, right, method=method)
        assert choice.name == "native" and "NaN" in choice.why
        assert torch.equal(product.isnan(), (left @ right).isnan())


def test_an_ill_scaled_product_is_emulated_only_where_no_accuracy_was_asked() -> None:
    a, b = map(torch.tensor, pair("rescaled 20"))
    product, choice = matmul.explain(a, b, method="ozaki2", accuracy=1e-14)
    assert choice.name == "native" and "may lose" in choice.why
    assert torch.equal(product, a @ b)
    assert matmul.explain(a, b, method="ozaki2")[1].name == "ozaki2 N=15"


@pytest.mark.parametrize(("m", "k", "n"), [(1, 1, 1), (3, 1, 2), (1, 1025, 5), (17, 129, 1), (33, 1024, 31)])
@pytest.mark.parametrize("method", ["ozaki1", "ozaki2"])
def test_odd_shapes(m: int, k: int, n: int, method: str) -> None:
    a, b = pair("randn", m, k, n)
    product = matmul.matmul(torch.tensor(a), torch.tensor(b), method=method, accuracy=1e-13)
    assert exact.errors(product.numpy(), exact.truth(a, b))["entry"] < 1e-14


@pytest.mark.parametrize("shapes", [((0, 3), (3, 2)), ((2, 0), (0, 3)), ((2, 3), (3, 0))])
def test_empty_matrices(shapes: tuple[tuple[int, int], tuple[int, int]]) -> None:
    a, b = (torch.ones(shape, dtype=torch.float64) for shape in shapes)
    assert torch.equal(matmul.matmul(a, b, method="ozaki2"), a @ b)


def test_strides_do_not_matter() -> None:
    a, b = map(torch.tensor, pair("graded", 8, 64, 6))
    wide = torch.zeros(8, 128, dtype=torch.float64)
    wide[:, ::2] = a
    for left in (a, a.T.contiguous().T, wide[:, ::2], a.flip(0).flip(0), a[:1].expand(8, 64)):
        for method in ("ozaki1", "ozaki2"):
            assert torch.equal(
                matmul.matmul(left, b, method=method), matmul.matmul(left.contiguous(), b, method=method)
            )


def test_gradients_are_those_of_a_product() -> None:
    a, b = (torch.tensor(side, requires_grad=True) for side in pair("randn", 4, 6, 3))
    matmul.matmul(a, b, method="ozaki2").square().sum().backward()
    found = [side.grad.clone() for side in (a, b)]
    a.grad = b.grad = None
    (a @ b).square().sum().backward()
    for ours, theirs in zip(found, (a.grad, b.grad), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_what_is_no_product_is_refused() -> None:
    eye = torch.eye(3, dtype=torch.float64)
    with pytest.raises(TypeError, match="float64"):
        matmul.matmul(eye.float(), eye)
    with pytest.raises(ValueError, match=r"\(M, K\) and \(K, N\)"):
        matmul.matmul(eye, eye[:2])
    with pytest.raises(ValueError, match="no scheme"):
        matmul.matmul(eye, eye, method="fast")
    with pytest.raises(ValueError, match="8 to 16 moduli"):
        matmul.matmul(eye, eye, method="ozaki2", moduli=20)


def test_auto_is_native_where_no_speed_was_measured() -> None:
    a, b = map(torch.tensor, pair("randn"))
    product, choice = matmul.explain(a, b)
    assert torch.equal(product, a @ b)
    assert choice.name == "native" and "no speed was measured" in choice.why


def speed(scheme: Scheme | None, tflops: float, size: int = 4096) -> matmul.Speed:
    return matmul.Speed(scheme=scheme, by="torch", size=size, tflops=tflops)


def test_auto_takes_the_fastest_that_is_accurate_enough() -> None:
    fourteen, sixteen = Scheme(method="ozaki2", moduli=14), Scheme(method="ozaki2", moduli=16)
    speeds = [speed(None, 60), speed(fourteen, 95), speed(sixteen, 82)]
    kind, ill = (tuple(map(torch.tensor, pair(family))) for family in ("randn", "rescaled 20"))
    assert matmul.choose(*kind, 1e-13, speeds, "a GPU")[0].scheme == fourteen
    choice, measured = matmul.choose(*kind, 1e-15, speeds, "a GPU")
    assert choice.scheme == sixteen and measured is not None
    assert matmul.choose(*ill, 1e-13, speeds, "a GPU")[0].scheme is None
    assert matmul.choose(*kind, 1e-13, [*speeds, speed(None, 99)], "a GPU")[0].scheme is None
    assert "no speed" in matmul.choose(*kind, 1e-13, [], "a GPU")[0].why


def test_auto_looks_at_the_matrices_only_where_something_faster_can_run(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = map(torch.tensor, pair("randn"))
    two = Scheme(method="ozaki2")
    monkeypatch.setattr(matmul, "measure", lambda *_: pytest.fail("a look costs time"))
    assert matmul.choose(a, b, 1e-15, [speed(None, 60), speed(two, 50)], "a GPU")[0].scheme is None
    monkeypatch.setattr(matmul, "lack_of_memory", lambda *_: "it needs 98 GiB")
    assert "no faster method runs here" in matmul.choose(a, b, 1e-15, [speed(two, 90)], "a GPU")[0].why
    monkeypatch.undo()
    elsewhere = matmul.Speed(scheme=two, by="no such language", size=4096, tflops=90)
    assert matmul.choose(a, b, 1e-15, [elsewhere], "a GPU")[0].scheme is None
    assert matmul.choose(a, b, 1e-15, [elsewhere, speed(two, 50)], "a GPU")[0].scheme == two


def test_nan_goes_to_native_whatever_was_measured() -> None:
    a, b = map(torch.tensor, pair("randn"))
    a[3, 2] = float("nan")
    choice, measured = matmul.choose(a, b, 1e-15, [speed(Scheme(method="ozaki2"), 90)], "a GPU")
    assert choice.name == "native" and "NaN" in choice.why and measured is None


def test_a_scheme_that_the_gpu_has_no_memory_for_is_known_beforehand(monkeypatch: pytest.MonkeyPatch) -> None:
    two, one = Scheme(method="ozaki2"), Scheme(method="ozaki1")
    n = 16384
    assert emulation.workspace(two, n, n, n) == 15 * 3 * n * n + 8 * n * n
    assert emulation.workspace(one, n, n, n) == 7 * 2 * 2 * n * n + 8 * n * n
    monkeypatch.setattr(emulation, "free_bytes", lambda _: 14 * 2**30)
    large = SimpleNamespace(shape=(n, n), device=SimpleNamespace(type="cuda"))
    assert emulation.lack_of_memory(two, large, large) is None
    monkeypatch.setattr(emulation, "free_bytes", lambda _: 8 * 2**30)
    assert emulation.lack_of_memory(two, large, large) == "it needs 13.2 GiB of GPU memory, 8.0 are free"
    assert emulation.lack_of_memory(two, *map(torch.tensor, pair("randn"))) is None, "a CPU's memory is not asked"


def test_a_speed_counts_at_the_size_nearest_to_the_product() -> None:
    two = Scheme(method="ozaki2")
    speeds = [speed(two, 10, 1024), speed(two, 90, 16384), speed(None, 50, 1024), speed(None, 60, 16384)]
    assert [one.tflops for one in matmul.fastest_first(speeds, 900)] == [50, 10]
    assert [one.tflops for one in matmul.fastest_first(speeds, 30000)] == [90, 60]


def test_speeds_are_read_by_the_name_of_the_gpu(tmp_path: Path) -> None:
    file = tmp_path / "speeds.json"
    row = {"scheme": {"method": "ozaki2", "moduli": 14}, "by": "cutile", "size": 8192, "tflops": 1.5}
    file.write_text(json.dumps({"NVIDIA H200": [row, row | {"scheme": None}]}))
    first, second = matmul.speeds_of("NVIDIA H200", file)
    assert first.scheme == Scheme(method="ozaki2", moduli=14) and second.scheme is None
    assert matmul.speeds_of("another", file) == []

"""What is asked of a GPU and its driver, from a stand-in for nvidia-smi and made-up files: there need be no GPU."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="torch is missing: pip install 'hybridhpc[train]'")

from hybridhpc.refjobs.kernels import driver, gpu  # noqa: E402

OURS, OTHER = "GPU-11111111-2222", "GPU-99999999-8888"


@pytest.fixture
def smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An nvidia-smi that answers as told, and writes down what it was asked."""

    def answers(*lines: str, after: float = 0) -> None:
        program = tmp_path / "nvidia-smi"
        texts = " ".join(f"'{line}'" for line in lines)
        program.write_text(f'#!/bin/sh\necho "$@" >>{tmp_path}/asked\nsleep {after}\nprintf "%s\\n" {texts}\n')
        program.chmod(0o755)

    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return answers


def test_of_several_gpus_the_one_in_use_is_asked_for(smi: Any, tmp_path: Path) -> None:
    smi(f"{OTHER}, 345 MHz, 70.1 W", f"{OURS}, 1980 MHz, 690.5 W")
    fields = ("clocks.sm", "power.draw")
    assert gpu.ask(fields, "11111111-2222") == {"clocks.sm": "1980 MHz", "power.draw": "690.5 W"}
    assert "--query-gpu=uuid,clocks.sm,power.draw" in (tmp_path / "asked").read_text()
    assert gpu.ask(fields, "") == {}, "of which of the two would be a guess"
    smi("MIG-3333, 1755 MHz, 300 W")
    assert gpu.ask(fields, "11111111-2222")["clocks.sm"] == "1755 MHz"


def test_without_an_answer_there_is_nothing(smi: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    smi()
    assert gpu.ask(("clocks.sm",), "1") == {}
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    assert gpu.ask(("clocks.sm",), "1") == {}


def test_clocks_and_power_are_asked_for_while_the_product_runs(smi: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work goes on until the answer is there, however few runs were asked for."""
    smi(f"{OURS}, 1755 MHz, 2619 MHz, 698 W, 61, 0x0000000000000004", after=0.3)
    calls: list[float] = []

    def once(work: Any, flush: Any = None) -> float:
        calls.append(time.monotonic())
        time.sleep(0.01)
        return 7.0 if len(calls) == 4 else 5.0

    monkeypatch.setattr(gpu, "once", once)
    monkeypatch.setattr(gpu, "flusher", lambda *, wait: None)
    monkeypatch.setattr(gpu, "uuid", lambda: "11111111-2222")
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    found = gpu.milliseconds(lambda: None, repeats=2, graph=False)
    assert found["milliseconds"] == 5.0 and (found["fastest"], found["slowest"]) == (5.0, 7.0)
    assert found["power.draw"] == "698 W" and found["temperature.gpu"] == "61"
    assert found["runs"] >= 5 and calls[-1] - calls[1] >= 0.25
    calls.clear()
    assert gpu.milliseconds(lambda: None, repeats=2, graph=False, watch=False)["runs"] == 2


def test_what_cannot_be_a_cuda_graph_is_timed_without(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(_: Any) -> None:
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: None)
    monkeypatch.setattr(torch.cuda, "graph", refuse)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(gpu, "once", lambda *_: 5.0)
    monkeypatch.setattr(gpu, "flusher", lambda *, wait: None)
    found = gpu.milliseconds(lambda: None, repeats=2, watch=False)
    assert found["milliseconds"] == 5.0 and found["graph"] is False
    assert "no CUDA graph: RuntimeError: operation not permitted" in capsys.readouterr().err


def test_the_libraries_of_the_driver_are_looked_for_beside_the_libcuda_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("libcuda.so.580.159.03", "libnvidia-gpucomp.so.580.159.03", "libnvidia-nvvm.so.4"):
        (tmp_path / name).write_text("no library")
    maps = tmp_path / "maps"
    maps.write_text(
        f"7f00-7f01 r-xp 00000000 08:01 42    /usr/lib/libc.so.6\n7f02 r-xp 0 0 1 {tmp_path}/libcuda.so.580.159.03\n"
    )
    monkeypatch.setattr(driver, "MAPS", maps)
    found = driver.libraries()
    assert found["libcuda"].endswith("libcuda.so.580.159.03")
    assert found["libcuda speaks CUDA"].startswith("no answer")
    assert found["libnvidia-gpucomp"] == "libnvidia-gpucomp.so.580.159.03"
    assert found["libnvidia-tileiras"] == "not there"
    maps.write_text("")
    assert driver.libraries() == {"libcuda": "not loaded"}


def test_cutiles_compiler_is_found_and_says_its_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.path", [])
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert driver.tileiras() is None
    program = tmp_path / "tileiras"
    program.write_text("#!/bin/sh\necho 'Cuda compilation tools, release 13.4, V13.4.92'\n")
    program.chmod(0o755)
    assert driver.tileiras() == f"{program} V13.4.92"

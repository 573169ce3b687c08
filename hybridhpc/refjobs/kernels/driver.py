"""What of NVIDIA's driver and compiler is there: the evidence, should the driver refuse the binaries of cuTile.

Such a binary holds host code that the driver links when it is loaded, with a library of its own: without that library
the driver answers CUDA_ERROR_JIT_COMPILER_NOT_FOUND (221), though all other kernels run.
"""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
import sys
from pathlib import Path

MAPS = Path("/proc/self/maps")
WANTED = ("nvidia-tileiras", "nvidia-gpucomp", "nvidia-ptxjitcompiler", "nvidia-nvvm")


def loaded(maps: str) -> Path | None:
    """Return which libcuda this process uses, from its memory maps: one of a compatibility package shows here."""
    found = re.search(r"\s(/\S*/libcuda\.so\S*)$", maps, re.MULTILINE)
    return Path(found[1]) if found else None


def libraries() -> dict[str, str]:
    """Return the libcuda in use, the CUDA version that it speaks, and which libraries of the driver lie beside it."""
    libcuda = loaded(MAPS.read_text())
    if libcuda is None:
        return {"libcuda": "not loaded"}
    beside = {name: ", ".join(sorted(path.name for path in libcuda.parent.glob(f"lib{name}*"))) for name in WANTED}
    return {"libcuda": str(libcuda), "libcuda speaks CUDA": speaks(libcuda)} | {
        f"lib{name}": found or "not there" for name, found in beside.items()
    }


def speaks(libcuda: Path) -> str:
    """Return the newest CUDA version that a driver knows, such as 13.0."""
    number = ctypes.c_int()
    try:
        result = ctypes.CDLL(str(libcuda)).cuDriverGetVersion(ctypes.byref(number))
    except (OSError, AttributeError) as failure:
        return f"no answer: {failure}"
    return f"{number.value // 1000}.{number.value % 1000 // 10}" if result == 0 else f"CUresult {result}"


def tileiras() -> str | None:
    """Return where cuTile's compiler is and its version, None if it is not there."""
    beside = (Path(site) / "nvidia" / "cu13" / "bin" / "tileiras" for site in sys.path)
    path = next((str(path) for path in beside if path.exists()), None) or shutil.which("tileiras")
    if path is None:
        return None
    try:
        done = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.SubprocessError) as failure:
        return f"{path}: {failure}"
    found = re.search(r"V?\d+\.\d+\.\d+", done.stdout + done.stderr)
    return f"{path} {found[0] if found else ''}".rstrip()

"""Pack cuTile and its compiler for a GPU machine without a network: python -m hybridhpc.refjobs.kernels.kit FILE.tar.xz

(`make kernels-kit`.) There: tar xf FILE.tar.xz, and put PYTHONPATH=$PWD/cutile PATH=$PWD/cutile/bin:$PATH in front of
what is to use it. It holds what `make kernels-aot` compiled with, for another Python, and pytest for the tests.
NVIDIA's compiler is proprietary: pack it for yourself and pass it on to nobody.
"""

from __future__ import annotations

import argparse
import lzma
import subprocess
import sys
import tarfile
import tempfile
from importlib.metadata import version
from pathlib import Path

from .aot import Missing, tool

COMPILER = ("bin/tileiras", "bin/ptxas", "lib/libnvvm.so.4")  # all that it opens; it looks for lib/ beside bin/
SMALL = [{"id": lzma.FILTER_X86}, {"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": 1 << 28}]


def packages(folder: Path, python: str) -> None:
    """Install cuda-tile and pytest into a folder, as for another Python. Raises CalledProcessError."""
    wanted = [f"cuda-tile=={version('cuda-tile')}", "pytest"]
    pip = [sys.executable, "-m", "pip", "install", "-q", "--target", str(folder)]
    subprocess.run([*pip, "--python-version", python, "--only-binary=:all:", *wanted], check=True)


def pack(file: Path, python: str) -> None:
    """Write the archive. Raises Missing, CalledProcessError or OSError."""
    compiler = Path(tool("tileiras")).parents[1]
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        packages(Path(folder), python)
        with lzma.open(file, "w", filters=SMALL) as small, tarfile.open(fileobj=small, mode="w") as archive:
            archive.add(folder, "cutile", filter=lambda one: None if "__pycache__" in one.name else one)
            for name in COMPILER:
                archive.add(compiler / name, f"cutile/{name}")


def main() -> int:
    """Pack, say how large it is, and return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split(":")[0], allow_abbrev=False)
    parser.add_argument("file", type=Path)
    parser.add_argument("--python", default="3.12", help="version of the GPU machine's Python (default: 3.12)")
    options = parser.parse_args()
    try:
        pack(options.file, options.python)
    except Missing as missing:
        print(f"kit: {missing}", file=sys.stderr)
        return 2
    print(f"{options.file}: {options.file.stat().st_size / 2**20:.1f} MiB")
    return 0


if __name__ == "__main__":
    sys.exit(main())

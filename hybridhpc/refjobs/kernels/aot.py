"""Compile every kernel ahead of time, without a GPU, and read the machine code: nothing is run or timed.

python -m hybridhpc.refjobs.kernels.aot [--by cutile] [--arch sm_90] [--kernel NAME] [--json FILE]  (`make kernels-aot`)

Each is compiled for every layout of its matrices for which a launch would make another one (`layouts.py`). It passes
when it has no register spills (no stack, no STL or LDL) and the tensor-core instruction of its architecture.
Needs cuda-tile with its compiler, Triton, nvdisasm and cuobjdump: pip install 'hybridhpc[kernels]', in an environment
of their own.
Exit codes: 0 all pass, 1 one does not, 2 the compiler is missing.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from importlib import import_module
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from .layouts import LAYOUTS, layouts_of
from .tuning import Config, Untuned, config

ARCHS = ("sm_80", "sm_89", "sm_90", "sm_100", "sm_120")
# What a line of `tensor` must start with, by type and architecture; nothing for kernels without products.
HALF = {"sm_80": "HMMA", "sm_89": "HMMA", "sm_90": "HGMMA", "sm_100": "UTCHMMA", "sm_120": "HMMA"}
FP8 = {"sm_90": "QGMMA", "sm_100": "UTCQMMA", "sm_120": "QMMA"}
INT8 = {"sm_80": "IMMA", "sm_89": "IMMA", "sm_90": "IGMMA", "sm_100": "UTCIMMA", "sm_120": "IMMA"}
TENSOR: dict[str, dict[str, str]] = {
    **{f"gemm {kind}": HALF for kind in ("bf16", "fp16", "tf32")},
    **{f"gemm {kind}": FP8 for kind in ("e4m3", "e5m2")},
    "gemm int8": INT8,
    "gemm fp64": {},  # cuTile has no FP64 tensor cores (1.7.0)
    "measure_rows": {},
    "split_rows": {},
    "multiply_slices": HALF,
    "residues": {},
    "multiply_residues": INT8,
    "reconstruct": {},
}
# Where Triton (3.6) compiles to something else than cuTile.
TRITON: dict[str, dict[str, str]] = {"gemm fp64": {"sm_80": "DMMA", "sm_90": "DMMA"}}
# Bytes of shared memory that a block may have (CUDA C++ Programming Guide 13.0, technical specifications).
SHARED = {"sm_80": 166912, "sm_89": 101376, "sm_90": 232448, "sm_100": 232448, "sm_120": 101376}
TENSOR_OPS = re.compile(r"\b((?:UTC)?[HQID]G?MMA[\w.]*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """One kernel compiled for one architecture."""

    by: str  # cutile or triton
    kernel: str
    arch: str
    layout: str  # how the matrices lie that it reads or writes
    how: str
    registers: int
    stack: int  # bytes per thread
    spills: int  # STL and LDL instructions
    shared: int  # bytes of shared memory asked for at launch
    instructions: int
    tensor: tuple[str, ...]  # the tensor-core instructions
    measured: bool = False

    @property
    def faults(self) -> list[str]:
        """Return what is wrong with it, nothing if it passes."""
        others = TRITON if self.by == "triton" else {}
        wanted = others.get(self.kernel, TENSOR[self.kernel]).get(self.arch)
        found = [f"stack of {self.stack} bytes"] if self.stack else []
        found += [f"{self.spills} spills"] if self.spills else []
        found += [f"{self.shared} bytes of shared memory"] if self.shared > SHARED[self.arch] else []
        if wanted and not any(op.startswith(wanted) for op in self.tensor):
            found.append(f"no {wanted} instruction")
        return found

    @property
    def line(self) -> str:
        """Return it as a line of the table."""
        where, ops = f"{self.by} {self.arch:7} {self.kernel:18} {self.layout:16}", " ".join(self.tensor) or "-"
        return f"{where} {self.registers:3} registers  {ops:32} {', '.join(self.faults) or 'pass'}  ({self.how})"


class Missing(Exception):
    """The compiler or a tool is not installed; the text says which and what to do."""


def tool(name: str) -> str:
    """Return the path of a tool of NVIDIA's packages. Raises Missing."""
    for site in (sysconfig.get_path("purelib"), *sys.path):
        path = Path(site) / "nvidia" / "cu13" / "bin" / name
        if path.exists():
            return str(path)
    raise Missing(f"{name} is missing: make kernels-aot installs it (pip install 'hybridhpc[kernels]')")


def inspect(path: Path) -> dict[str, Any]:
    """Return what the machine code in a file uses."""
    usage = subprocess.run([tool("cuobjdump"), "-res-usage", str(path)], capture_output=True, text=True, check=True)
    code = subprocess.run([tool("nvdisasm"), "-c", str(path)], capture_output=True, text=True, check=True).stdout
    registers, stack = re.findall(r"REG:(\d+) STACK:(\d+)", usage.stdout + usage.stderr)[0]
    return {
        "registers": int(registers),
        "stack": int(stack),
        "spills": len(re.findall(r"\b(?:STL|LDL)\b", code)),
        "instructions": len(re.findall(r"^\s+/\*[0-9a-f]{4,}\*/", code, re.MULTILINE)),
        "tensor": tuple(sorted(set(TENSOR_OPS.findall(code)))),
    }


def build(by: str, arch: str, kernel: str, layout: str, how: Config | None = None) -> Build:
    """Compile one kernel and inspect it. Raises Untuned where the architecture has no such kernel."""
    how = how or config(by, kernel, arch)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.cubin"
        compile_kernel = import_module(f".aot_{by}", __package__).compile_kernel
        shared = compile_kernel(kernel, arch, how, LAYOUTS[layout], path)
        return Build(by=by, kernel=kernel, arch=arch, layout=layout, how=how.text, shared=shared, **inspect(path))


def wanted(options: argparse.Namespace) -> list[tuple[str, str, str, str]]:
    """Return what to compile: language, architecture, kernel, layout. Says what an architecture has not."""
    found = []
    for by, arch, kernel in product(
        options.by or ["cutile", "triton"], options.arch or ARCHS, options.kernel or list(TENSOR)
    ):
        try:
            config(by, kernel, arch)
        except Untuned as reason:
            print(f"{by} {arch:7} {kernel:18} left out: {reason}", flush=True)
            continue
        found += [(by, arch, kernel, layout) for layout in layouts_of(kernel) if layout in (options.layout or LAYOUTS)]
    return found


def builds(asked: list[tuple[str, str, str, str]]) -> Iterator[Build]:
    """Compile on all cores, in processes that start afresh: the compilers are not made to be forked."""
    with ProcessPoolExecutor(initializer=prepare, mp_context=get_context("spawn")) as cores:
        yield from cores.map(build, *zip(*asked, strict=True))


def prepare() -> None:
    """See that the compiler can be found. Raises Missing."""
    folder = Path(tool("tileiras")).parent
    tool("nvdisasm"), tool("cuobjdump")
    os.environ["PATH"] = f"{folder}{os.pathsep}{os.environ['PATH']}"


def main() -> int:
    """Compile, print one line each, and return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0], allow_abbrev=False)
    parser.add_argument("--by", action="append", choices=("cutile", "triton"), help="only this language (repeatable)")
    parser.add_argument("--arch", action="append", choices=ARCHS, help="only this architecture (repeatable)")
    parser.add_argument("--kernel", action="append", choices=list(TENSOR), help="only this kernel (repeatable)")
    parser.add_argument("--layout", action="append", choices=list(LAYOUTS), help="only this layout (repeatable)")
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    options = parser.parse_args()
    try:
        prepare()
    except Missing as missing:
        print(f"aot: {missing}", file=sys.stderr)
        return 2
    done = []
    for one in builds(wanted(options)):
        print(one.line, flush=True)
        done.append(one)
    if options.json:
        options.json.write_text(json.dumps([asdict(one) for one in done], indent=1) + "\n")
    bad = sum(bool(one.faults) for one in done)
    print(f"{len(done) - bad} of {len(done)} kernels pass. They were compiled, not run: no speed was measured.")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())

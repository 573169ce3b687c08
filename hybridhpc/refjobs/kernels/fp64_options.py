"""The command line of the job fp64."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from . import gpu, tuning
from .emulation import Scheme
from .families import FAMILIES
from .gemm_job import shape

METHODS = ("native", "cublas-emulated", "ozaki1", "ozaki2")
BY = ("torch", "cutile", "triton")
# What matters first comes first, should time run out.
ON_A_GPU = {
    "device": "cuda",
    "sizes": [shape(text) for text in ("16384", "8192", "4096", "2048", "1024")],
    "families": ["randn"],
    "by": ["cutile", "torch"],
}
FOR_REFERENCE = {
    "device": "cpu",
    "sizes": [shape("256")],
    "families": ["randn", "uniform", "integers", "wide 1", "rescaled 12"],
    "by": ["torch"],
}


def schemes(options: argparse.Namespace) -> list[Scheme]:
    """Return what is asked for: scheme 2 by the number of moduli, scheme 1 by depth and bits."""
    second = [Scheme(method="ozaki2", moduli=count) for count in options.moduli]
    first = [Scheme(method="ozaki1", bits=bits, depth=depth) for bits in options.bits for depth in options.depths]
    return second * ("ozaki2" in options.methods) + first * ("ozaki1" in options.methods)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line; a wrong one ends the process with exit code 2."""
    described = "FP64 matrix products on a GPU: native, by cuBLAS's own emulation, and by both schemes, in one run."
    parser = argparse.ArgumentParser(prog="fp64", description=described, allow_abbrev=False)
    add = parser.add_argument
    add("--out", type=Path, default=Path(), help="folder for fp64.json, fp64.png and speeds.json")
    add("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    add("--sizes", nargs="+", type=shape, metavar="N|MxNxK", help="default: 16384 down to 1024; without a GPU 256")
    families = "kinds of matrices; default: randn; without a GPU several"
    add("--families", nargs="+", choices=list(FAMILIES), help=families)
    add("--depths", nargs="+", type=int, default=[9, 8, 7, 6, 5], help="of ozaki1: pairs of slices with i + j < d")
    add("--bits", nargs="+", type=int, choices=(7, 8), default=[7, 8], help="of a slice of ozaki1")
    add("--moduli", nargs="+", type=int, default=[15, 14, 16, 13, 12], help="of ozaki2")
    add("--by", nargs="+", choices=BY, help="languages; default: cutile and torch; without a GPU torch")
    add("--reference", action="store_true", help="check only, on the CPU: what happens without a GPU anyway")
    add("--untimed", action="store_true", help="check only, on the GPU")
    add("--tune", action="store_true", help="try tiles and hints first; writes fp64-tuning.json, for --tuning")
    add("--tuning", type=Path, default=tuning.FILE, help="which tiles and hints to use")
    add("--samples", type=int, default=64, help="entries checked exactly")
    add("--repeats", type=int, default=5, help="timed runs of each product, at least")
    add("--seed", type=int, default=0)
    add("--native-name", default="native", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    try:
        schemes(options)
    except ValueError as wrong:
        parser.error(str(wrong))
    options.reference = options.reference or not gpu.present()
    options.timed = not (options.reference or options.untimed)
    return with_defaults(options)


def with_defaults(options: argparse.Namespace) -> argparse.Namespace:
    """Fill in what depends on whether there is a GPU."""
    for name, value in (FOR_REFERENCE if options.reference else ON_A_GPU).items():
        if not getattr(options, name, None):
            setattr(options, name, value)
    if options.reference:
        options.by = [by for by in options.by if runs_on_a_cpu(by)] or ["torch"]
    if any(m >= k for m, _, k in options.sizes):
        options.families = [family for family in options.families if family != "cancelling"]  # needs k > m
    return options


def runs_on_a_cpu(by: str) -> bool:
    """Return whether a language runs without a GPU: Triton does in its interpreter, if it is told to."""
    return by == "torch" or (by == "triton" and os.environ.get("TRITON_INTERPRET") == "1")

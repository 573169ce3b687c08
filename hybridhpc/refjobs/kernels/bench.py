"""Measure everything on the GPU of this machine and write docs/benchmarks/GPU-DATE.md (`make bench-gpu`).

First the smallest cuTile kernel runs, to learn whether the driver takes its binaries: if not, Triton takes its place in
all that follows, and the report says so with the driver's own words. Then one job after the other, what matters most
first in each; the page is written anew after each, and with --minutes a job is stopped when its share of them is over:
its rows until then count. Exit codes: 0 written, 1 a result was wrong or a job did not end as it should (the page says
which), 3 there is no GPU.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from . import gpu, matmul, results
from .families import FAMILIES
from .results import Row

JOBS = Path(__file__).parents[1]
GEMM = ("type", "m", "n", "k", "by", "milliseconds", "tflops", "percent_of_torch", "error", "verdict", "how")
FP64 = ("n", "method", "by", "gemms", "milliseconds", "tflops", "times_native", "error", "promised", "verdict")
KINDS = ("family", "method", "by", "error", "promised", "verdict")
EVERY_FAMILY = ["--sizes", "1024x1024x2048", "--families", *FAMILIES, "--bits", "8", "--depths", "9", "7", "--untimed"]
STEPS = ("n", "method", "by", "measure", "split", "products", "reconstruct", "call")
SHARES = {"families": 0.15, "fp64": 0.5, "gemm": 1.0}  # of the time that is left, in this order
FIRST = ("--types", "bf16", "--sizes", "256", "--by", "cutile")
FIRST_SECONDS = 120.0  # compiling it included
NOT_YET: dict[str, Any] = {"rows": [], "command": [], "exit_code": 0, "stopped": False}
GRACE = 10.0  # seconds between asking a job to end and ending it


def run(job: str, out: Path, *arguments: str, seconds: float | None = None) -> dict[str, Any]:
    """Run a job in a process of its own and return what it wrote. A crash of the driver must not end the bench."""
    command = [sys.executable, str(JOBS / f"{job}.py"), "--out", str(out), *arguments]
    print("+", *command, file=sys.stderr, flush=True)
    found = out / f"{job}.json"
    for old in (found, out / f"{job}.png", out / "speeds.json"):
        old.unlink(missing_ok=True)  # a job that crashes must not leave us an earlier run's figures
    code, stopped = wait(subprocess.Popen(command, start_new_session=True), seconds)
    content: dict[str, Any] = json.loads(found.read_text()) if found.exists() else {"rows": [], "measured": False}
    shown = [Path(sys.executable).name, f"{job}.py", *arguments]
    return content | {"command": shown, "exit_code": code, "stopped": stopped}


def wait(job: subprocess.Popen[bytes], seconds: float | None) -> tuple[int, bool]:
    """Return how a job ended, and whether it was stopped since its time was over: with all that it had started."""
    try:
        return job.wait(seconds), False
    except subprocess.TimeoutExpired:
        os.killpg(job.pid, signal.SIGTERM)
    try:
        return job.wait(GRACE), True
    except subprocess.TimeoutExpired:
        os.killpg(job.pid, signal.SIGKILL)
        return job.wait(), True


def language(first: dict[str, Any]) -> tuple[str, str]:
    """Return whether the kernels are to be cuTile's or Triton's, and what happened when a small one was started."""
    if not first["rows"]:
        return "triton", f"the process ended with exit code {first['exit_code']}"
    row = first["rows"][0]
    return ("cutile" if row["verdict"] == "right" else "triton"), row.get("failure", row["verdict"])


def relative(rows: list[Row]) -> list[Row]:
    """Add to FP64 rows how fast they are relative to native FP64 at the same size in the same run."""
    native = {row["n"]: row["tflops"] for row in rows if row["method"] == "native" and row.get("tflops")}
    return [
        row | {"times_native": row["tflops"] / native[row["n"]] if row.get("tflops") and row["n"] in native else None}
        for row in rows
    ]


def leading_number(text: str) -> float:
    """Return 99.5 for "99.50 W", -1 where nvidia-smi has no number."""
    found = re.match(r"[0-9.]+", text)
    return float(found[0]) if found else -1.0


def ending(job: dict[str, Any]) -> str:
    """Return in what other way than well a job ended, nothing if it did."""
    if job["stopped"]:
        return "was stopped when its time was over: its rows are what it had measured until then"
    return f"ended with exit code {job['exit_code']}" if job["exit_code"] else ""


def wrong(job: dict[str, Any]) -> bool:
    """Return whether a result of a job was wrong, or it ended of itself in another way than well."""
    return any(row["verdict"] == "WRONG" for row in job["rows"]) or bool(job["exit_code"] and not job["stopped"])


def report(machine: dict[str, Any], tried: str, by: str, ran: dict[str, dict[str, Any]], name: str) -> str:
    """Return the page: what ran, on what, how, and all figures."""
    gemm, fp64, families = ran["gemm"], ran["fp64"], ran["families"]
    rows = sorted(relative(fp64["rows"]), key=lambda row: row["n"])
    steps = [row | row["steps"] for row in rows if "steps" in row]
    facts = "\n".join(f"- {key}: {value}" for key, value in machine.items())
    commands = "\n".join(" ".join(content["command"]) for content in ran.values())
    states = gemm["rows"] + fp64["rows"]
    clocks = sorted({row["clocks.sm"] for row in states if "clocks.sm" in row})
    drawn = {row["power.draw"] for row in states if "power.draw" in row}
    power = sorted((text for text in drawn if leading_number(text) >= 0), key=leading_number)
    ends = [f"- **{job} {end}**" for job, one in ran.items() if (end := ending(one))]
    return f"""# {machine["gpu"]}, {name.rpartition("-")[2]}

Written by `make bench-gpu`. TFLOPS are 2 M N K / time: the median of repeated CUDA graphs after a warm-up, random data
that is not in the L2. "percent_of_torch" is relative to cuBLAS, "times_native" to native FP64, on this GPU in this run.
Errors are the largest |E| / (|A||B|) over sampled entries. More in `{name}.json`: the number of runs, the fastest and
the slowest; clocks, power and temperature, asked while the product ran.

The smallest cuTile kernel: {tried}. The kernels below are {by}'s.

{facts}
- SM clocks seen: {", ".join(clocks) or "not told"}
- power drawn, lowest and highest: {" and ".join(power[:1] + power[-1:]) or "not told"}
{chr(10).join(ends)}

```
{commands}
```

## Plain products
![TFLOPS of plain products]({name}-gemm.png)

{results.table(sorted(gemm["rows"], key=lambda row: (row["type"], row["n"])), list(GEMM), markdown=True)}

## FP64 products
![Error against speed of FP64 products]({name}-fp64.png)

{results.table(rows, list(FP64), markdown=True)}

Milliseconds of the steps of scheme 2; "call" is what a caller of `matmul` waits for, who wants to know beforehand what
will be lost, and what `auto` goes by:

{results.table(steps, list(STEPS), markdown=True)}

## Other kinds of matrices
`integers` must come out with error 0: there the tensor cores' sums must be exact.

{results.table(families["rows"], list(KINDS), markdown=True)}
"""


def keep(out: Path, folder: Path, name: str, page: str, content: dict[str, Any]) -> None:
    """Put the page, its pictures and the raw figures beside each other."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.md").write_text(page)
    (folder / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n")
    for job in ("gemm", "fp64"):
        if (out / f"{job}.png").exists():
            shutil.copy(out / f"{job}.png", folder / f"{name}-{job}.png")


def learn(out: Path) -> None:
    """Have `matmul(method="auto")` know the speeds that were just measured."""
    if (out / "speeds.json").exists():
        known = json.loads(matmul.SPEEDS.read_text()) | json.loads((out / "speeds.json").read_text())
        matmul.SPEEDS.write_text(json.dumps(known, indent=1) + "\n")


def main() -> int:
    """Measure, write, and return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0], allow_abbrev=False)
    parser.add_argument("--docs", type=Path, default=Path("docs/benchmarks"), help="where the page goes")
    parser.add_argument("--out", type=Path, default=Path("results"), help="where the jobs write")
    parser.add_argument("--sizes", nargs="+", help="of both jobs; default: those of each job")
    parser.add_argument("--tune", action="store_true", help="try tiles and hints first (long)")
    parser.add_argument("--minutes", type=float, help="stop jobs so that all of it takes no longer (default: no limit)")
    options = parser.parse_args()
    if not gpu.present():
        print("bench: there is no GPU here, so nothing was measured and nothing written", file=sys.stderr)
        return 3
    return measure(options)


def jobs(by: str, options: argparse.Namespace) -> dict[str, tuple[str, Path, list[str]]]:
    """Return the jobs in their order: which one, where it writes, its arguments."""
    sizes = ["--sizes", *options.sizes] if options.sizes else []
    tune = ["--tune"] * options.tune
    languages = ["--by", *["cutile"] * (by == "cutile"), "torch", "triton"]  # what the driver refused may crash, too
    methods = ["--methods", "native", "ozaki1", "ozaki2"]
    return {
        "families": ("fp64", options.out / "families", ["--by", by, "torch", *EVERY_FAMILY, *methods]),
        "fp64": ("fp64", options.out, ["--by", by, "torch", *sizes, *tune]),
        "gemm": ("gemm", options.out, [*languages, *sizes, *tune]),
    }


def measure(options: argparse.Namespace) -> int:
    """Run all jobs, write the page after each, and return the exit code."""
    end = None if options.minutes is None else time.monotonic() + 60 * options.minutes
    first = run("gemm", options.out / "first", *FIRST, seconds=FIRST_SECONDS)
    by, tried = language(first)
    machine = first.get("machine") or gpu.machine()
    today = datetime.datetime.now(datetime.UTC).strftime("%Y%m%d")
    name = f"{re.sub(r'[^a-z0-9]+', '-', machine['gpu'].lower()).strip('-')}-{today}"
    ran: dict[str, dict[str, Any]] = dict.fromkeys(SHARES, NOT_YET)
    for what, (job, out, arguments) in jobs(by, options).items():
        seconds = None if end is None else max(0.0, SHARES[what] * (end - time.monotonic() - GRACE))
        ran[what] = run(job, out, *arguments, seconds=seconds)
        content = {"machine": machine, "first_cutile_kernel": tried} | ran
        keep(options.out, options.docs, name, report(machine, tried, by, ran, name), content)
        learn(options.out)
    print(f"written: {options.docs / name}.md")
    return 1 if any(map(wrong, ran.values())) else 0


if __name__ == "__main__":
    sys.exit(main())

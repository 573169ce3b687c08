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
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from . import fp64_job, gpu, matmul, page
from .families import FAMILIES

JOBS = Path(__file__).parents[1]
EVERY_FAMILY = ["--sizes", "1024x1024x2048", "--families", *FAMILIES, "--bits", "8", "--depths", "9", "7", "--untimed"]
SHARES = {"families": 0.15, "fp64": 0.5, "gemm": 0.9, "torch": 1.0}  # of the time that is left, in this order
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
    stopped = False
    try:
        for limit, last_word in ((seconds, signal.SIGTERM), (GRACE, signal.SIGKILL)):
            try:
                return job.wait(limit), stopped
            except subprocess.TimeoutExpired:
                stopped = True
                os.killpg(job.pid, last_word)
        return job.wait(), stopped
    except BaseException:  # the bench itself is ended, from a keyboard, say
        os.killpg(job.pid, signal.SIGKILL)
        raise


def language(first: dict[str, Any]) -> tuple[str, str]:
    """Return whether the kernels are to be cuTile's or Triton's, and what happened when a small one was started."""
    if not first["rows"]:
        return "triton", f"the process ended with exit code {first['exit_code']}"
    row = first["rows"][0]
    return ("cutile" if row["verdict"] == "right" else "triton"), row.get("failure", row["verdict"])


def learn(content: dict[str, Any]) -> None:
    """Have `matmul(method="auto")` know the speeds that were measured on a kind of GPU."""
    if speeds := fp64_job.speeds(content["fp64"]["rows"] + content["torch"]["rows"]):
        known = json.loads(matmul.SPEEDS.read_text()) | {content["machine"]["gpu"]: speeds}
        matmul.SPEEDS.write_text(json.dumps(known, indent=1) + "\n")


def main() -> int:
    """Measure, write, and return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0], allow_abbrev=False)
    parser.add_argument("--docs", type=Path, default=Path("docs/benchmarks"), help="where the page goes")
    parser.add_argument("--out", type=Path, default=Path("results"), help="where the jobs write")
    parser.add_argument("--sizes", nargs="+", help="of both jobs; default: those of each job")
    parser.add_argument("--tune", action="store_true", help="try tiles and hints first (long)")
    parser.add_argument("--minutes", type=float, help="stop jobs so that all of it takes no longer (default: no limit)")
    parser.add_argument(
        "--page", type=Path, metavar="FILE.json", help="only take in these figures, and write their page"
    )
    options = parser.parse_args()
    if options.page:
        content = json.loads(options.page.read_text())
        page.write(options.page.parent, options.page.stem, content)
        learn(content)
        return 0
    if not gpu.present():
        print("bench: there is no GPU here, so nothing was measured and nothing written", file=sys.stderr)
        return 3
    return measure(options)


def jobs(by: str, options: argparse.Namespace) -> dict[str, tuple[str, Path, list[str]]]:
    """Return the jobs in their order: which one, where it writes, its arguments."""
    sizes = ["--sizes", *options.sizes] if options.sizes else []
    tune = ["--tune"] * options.tune
    languages = ["--by", *["cutile"] * (by == "cutile"), "torch", "triton"]  # what the driver refused may crash, too
    methods = ["--methods", "native", "ozaki2", "ozaki1"]
    few = ["--moduli", "15", "14", "--bits", "8", "--depths", "7"]
    return {
        "families": ("fp64", options.out / "families", ["--by", by, "torch", *EVERY_FAMILY, *methods]),
        "fp64": ("fp64", options.out, ["--by", by, *sizes, *tune]),
        "gemm": ("gemm", options.out, [*languages, *sizes, *tune]),
        "torch": ("fp64", options.out / "torch", ["--by", "torch", *few, *sizes, "--methods", "ozaki2", "ozaki1"]),
    }


def measure(options: argparse.Namespace) -> int:
    """Run all jobs, write the page after each, and return the exit code."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # `wait` then ends the job, too
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
        content = {"machine": machine, "first_cutile_kernel": tried, "by": by} | ran
        page.write(options.docs, name, content)
        learn(content)
    print(f"written: {options.docs / name}.md")
    return 1 if any(map(page.wrong, ran.values())) else 0


if __name__ == "__main__":
    sys.exit(main())

"""The page of a benchmark: Markdown and pictures of the raw figures, on any machine."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any

from . import fp64_job, gemm_job, results
from .results import Row

GEMM = ("type", "m", "n", "k", "by", "milliseconds", "tflops", "percent_of_torch", "error", "verdict", "how")
FP64 = ("n", "method", "by", "gemms", "milliseconds", "tflops", "times_native", "error", "promised", "verdict")
KINDS = ("family", "method", "by", "error", "promised", "verdict")
STEPS = ("n", "method", "by", "measure", "split", "products", "reconstruct", "call")
JOBS = ("families", "fp64", "gemm", "torch")


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


def evidence(tried: str) -> str:
    """Return all that a driver said of a kernel that it refused, if that is more than a line."""
    return f"\n```\n{tried}\n```\n" if "\n" in tried else ""


def report(name: str, content: dict[str, Any]) -> str:
    """Return the page: what ran, on what, how, and all figures."""
    machine, tried, ran = content["machine"], content["first_cutile_kernel"], {job: content[job] for job in JOBS}
    gemm, fp64, families = ran["gemm"], ran["fp64"], ran["families"]
    rows = sorted(relative(fp64["rows"] + ran["torch"]["rows"]), key=lambda row: row["n"])
    steps = [row | row["steps"] for row in rows if "steps" in row]
    facts = "\n".join(f"- {key}: {value}" for key, value in machine.items())
    commands = "\n".join(" ".join(content["command"]) for content in ran.values())
    states = gemm["rows"] + rows
    clocks = sorted({row["clocks.sm"] for row in states if "clocks.sm" in row})
    drawn = {row["power.draw"] for row in states if "power.draw" in row}
    power = sorted((text for text in drawn if leading_number(text) >= 0), key=leading_number)
    ends = [f"- **{job} {end}**" for job, one in ran.items() if (end := ending(one))]
    return f"""# {machine["gpu"]}, {name.rpartition("-")[2]}

Written by `make bench-gpu`. TFLOPS are 2 M N K / time: the median of repeated CUDA graphs after a warm-up, random data
that is not in the L2. "percent_of_torch" is relative to cuBLAS, "times_native" to native FP64, on this GPU in this run.
Errors are the largest |E| / (|A||B|) over sampled entries. More in `{name}.json`: the number of runs, the fastest and
the slowest; clocks, power and temperature, asked while the product ran; and whether it could be timed as a graph.

The smallest cuTile kernel: {tried.splitlines()[0]}. The kernels of FP64 below are {content["by"]}'s.
{evidence(tried)}
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


def pictures(folder: Path, name: str, content: dict[str, Any]) -> None:
    """Draw what was measured, also by jobs that were stopped before they could."""
    fp64 = content["fp64"]["rows"] + content["torch"]["rows"]
    for job, draw, rows in (("gemm", gemm_job.draw, content["gemm"]["rows"]), ("fp64", fp64_job.draw, fp64)):
        if rows:
            results.plot(folder / f"{name}-{job}.png", partial(draw, rows=rows))


def write(folder: Path, name: str, content: dict[str, Any]) -> None:
    """Put the page, its pictures and the raw figures beside each other."""
    folder.mkdir(parents=True, exist_ok=True)
    results.write(folder, name, content)
    (folder / f"{name}.md").write_text(report(name, content))
    pictures(folder, name, content)

"""Measure the budgets and print a table. Times are medians of whole processes; read the ratios, not the figures.

usage: python -m tests.bench [--runs N] [--many] [--json FILE] [--page FILE]

With a lab up (`make lab`), submissions to a real Slurm are measured beside raw sbatch and submitit.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import distribution, requires
from pathlib import Path

from tests.bench import many

BIN = Path(sys.executable).parent
HPC = str(BIN / "hpc")
LAB = Path(os.environ.get("HPC_LAB_DIR", Path(__file__).parents[2] / ".lab"))
HELLO = "name: hello\nresources: {cpus: 1, memory: 100MiB}\ntime: 1m\nrun: 'true'\n"
SUBMITIT = """
import submitit, sys
e = submitit.SlurmExecutor(folder=sys.argv[1], max_num_timeout=0)
e.update_parameters(time=1, mem="100MB")
print(e.submit(int, 1).job_id)
"""


def median_of(runs: int, call: Callable[[], object]) -> float:
    """Return the median seconds of a call, after one that warms the caches."""
    call()
    return statistics.median(timed(call) for _ in range(runs))


def timed(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def interleaved(runs: int, calls: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Return medians of calls that take turns, so that other work on the machine meets all alike."""
    for call in calls.values():
        call()
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(runs):
        for name, call in calls.items():
            seconds[name].append(timed(call))
    return {name: statistics.median(times) for name, times in seconds.items()}


def run(*argv: str, env: dict[str, str] | None = None, cwd: Path | None = None) -> str:
    done = subprocess.run(argv, env=env, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(argv)} failed with {done.returncode}:\n{done.stderr}")
    return done.stdout


def peak_mib(*argv: str) -> float:
    """Return the peak resident memory of a command in MiB, asked from a process that runs nothing else."""
    program = "import resource, subprocess, sys; subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=True); "
    program += "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    return int(run(sys.executable, "-c", program, *argv)) / 1024


class Bench:
    """Runs the measurements in a scratch directory with a ledger of its own."""

    def __init__(self, scratch: Path, runs: int) -> None:
        self.scratch = scratch
        self.runs = runs
        self.rows: list[dict[str, str]] = []
        self.env = {**os.environ, "HPC_STATE_DIR": str(scratch / "state"), "HPC_CONFIG_DIR": str(scratch / "config")}
        (scratch / "job.yaml").write_text(HELLO)
        (scratch / "job.sbatch").write_text("#!/bin/bash\n#SBATCH --mem=100M -t 1\ntrue\n")

    def note(self, what: str, measured: str, beside: str, budget: str, held: bool) -> None:
        verdict = "held" if held else "MISSED"
        self.rows.append({"what": what, "measured": measured, "beside": beside, "budget": budget, "verdict": verdict})
        print(f"{what:42} {measured:>12}  {beside:44} {budget:32} {verdict}", flush=True)

    def hpc(self, *words: str) -> str:
        return run(HPC, *words, env=self.env, cwd=self.scratch)

    def start_up(self) -> None:
        bare = median_of(self.runs, lambda: run(sys.executable, "-c", "pass"))
        beside = f"python -c pass {bare * 1000:.0f} ms"
        seconds = median_of(self.runs, lambda: run(HPC, "--help"))
        self.note("hpc --help", f"{seconds * 1000:.0f} ms", beside, "<= 100 ms", seconds <= 0.10)
        memory = peak_mib(HPC, "--help")
        self.note("hpc --help, memory", f"{memory:.1f} MiB", "", "<= 25 MiB", memory <= 25)
        seconds = median_of(self.runs, lambda: self.hpc("render", "job.yaml", "--where", "here/local"))
        self.note("hpc render", f"{seconds * 1000:.0f} ms", beside, "<= 150 ms", seconds <= 0.15)

    def here(self) -> None:
        job = median_of(self.runs, lambda: run("bash", "-c", "true"))
        seconds = median_of(self.runs, lambda: self.hpc("submit", "job.yaml", "--where", "here", "-f", "--quiet"))
        self.note(
            "trivial job on here, to its end",
            f"{seconds * 1000:.0f} ms",
            f"the job itself {job * 1000:.0f} ms",
            "<= the job + 250 ms",
            seconds <= job + 0.25,
        )

    def install(self) -> None:
        names = core_distributions()
        size = sum(installed_bytes(name) for name in names) / 1e6
        self.note("core install, packages", str(len(names)), ", ".join(sorted(names))[:44], "<= 20", len(names) <= 20)
        self.note("core install, size", f"{size:.0f} MB", "", "<= 60 MB", size <= 60)

    def slurm(self) -> None:
        site = LAB / "local" / "sites" / "onprem.yaml"
        if not site.is_file() or shutil.which("sbatch") is None:
            print("no lab is up: submissions to Slurm are not measured (`make lab` starts one)")
            return
        sites = self.scratch / "config" / "sites"
        sites.mkdir(parents=True)
        shutil.copy(site, sites)
        self.env["SLURM_CONF"] = str(LAB / "onprem" / "etc" / "slurm.conf")
        medians = interleaved(
            self.runs,
            {
                "sbatch": lambda: run("sbatch", "job.sbatch", env=self.env, cwd=self.scratch),
                "script": lambda: self.hpc("submit", "job.sbatch", "--where", "onprem", "--quiet"),
                "spec": lambda: self.hpc("submit", "job.yaml", "--where", "onprem", "--quiet"),
                "auto": lambda: self.hpc("submit", "job.yaml", "--where", "auto", "--quiet"),
                "submitit": lambda: run(sys.executable, "-c", SUBMITIT, str(self.scratch / "submitit"), env=self.env),
                "psij": lambda: run(sys.executable, "-c", many.PSIJ, "1", env=self.env, cwd=self.scratch),
            },
        )
        raw = medians["sbatch"]
        beside = ", ".join(f"{name} {medians[name] * 1000:.0f} ms" for name in ("sbatch", "submitit", "psij"))
        for name in ("script", "spec", "auto"):
            seconds = medians[name]
            ratio = f"{seconds * 1000:.0f} ms"
            self.note(f"hpc submit to Slurm: {name}", ratio, beside, "<= sbatch + 250 ms", seconds <= raw + 0.25)
        self._until_known()

    def _until_known(self) -> None:
        """From submission to the end being known, for a job that does nothing, on an idle Slurm."""
        seconds = median_of(3, lambda: self.hpc("submit", "job.yaml", "--where", "onprem/batch", "-f", "--quiet"))
        self.note("submit to finished known, Slurm", f"{seconds:.2f} s", "", "<= 2 s after its end", seconds <= 2.5)

    def ssh(self) -> None:
        """Four sites behind ssh, their connections warm: asked, compared, and one job submitted."""
        sites, own = LAB / "sites", LAB / "ssh" / "config"
        if not own.is_file() or len(list(sites.glob("*.yaml"))) < 4:
            print("no four sites behind ssh are up: submissions over ssh are not measured (`make lab` starts them)")
            return
        env = {**self.env, "HPC_CONFIG_DIR": str(sites.parent), "HPC_STATE_DIR": str(self.scratch / "far")}
        alone = ("-F", str(own), "-o", "ControlMaster=no", "-o", "ControlPath=none", "-o", "LogLevel=ERROR")
        share = ("-o", "ControlMaster=auto", "-o", "ControlPersist=60", "-o", f"ControlPath={self.scratch}/%C")
        shared = ("-F", str(own), *share, "-o", "LogLevel=ERROR")
        sbatch = ("sbatch", "-t", "1", "--mem=100M", "--wrap=true")
        medians = interleaved(
            self.runs,
            {
                "fresh": lambda: run("ssh", *alone, "lab-onprem", *sbatch),
                "shared": lambda: run("ssh", *shared, "lab-onprem", *sbatch),
                "auto": lambda: run(HPC, "submit", "job.yaml", "--where", "auto", "--quiet", env=env, cwd=self.scratch),
            },
        )
        ratio = medians["auto"] / medians["fresh"]
        run("ssh", *shared, "-O", "exit", "lab-onprem")
        beside = f"`ssh host sbatch` fresh {medians['fresh'] * 1000:.0f} ms, shared {medians['shared'] * 1000:.0f} ms"
        self.note(
            "hpc submit, four sites over ssh",
            f"{medians['auto'] * 1000:.0f} ms, {ratio:.2f} x",
            beside,
            "<= 1.3 x, goal 1.0 x, moonshot 0.5 x",
            ratio <= 1.3,
        )


def core_distributions() -> set[str]:
    """Return the distributions a plain `pip install hybridhpc` brings, itself included."""
    found: set[str] = set()
    waiting = ["hybridhpc"]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        for line in requires(name) or []:
            if "extra ==" not in line and "sys_platform" not in line and "platform_system" not in line:
                waiting.append(line.split(";")[0].split("[")[0].strip(" ()").translate(_CUT).split()[0].lower())
    return found


_CUT = str.maketrans(dict.fromkeys("<>=!~", " "))


def installed_bytes(name: str) -> int:
    """Return the size of a distribution's files."""
    paths = [distribution(name).locate_file(file) for file in distribution(name).files or []]
    return sum(Path(str(path)).stat().st_size for path in paths if Path(str(path)).is_file())


def page(rows: list[dict[str, str]], runs: int) -> str:
    """Return the table as Markdown, with the machine and the programs it was measured on."""
    # Even its version it tells only where it finds a configuration (seen: 22.05).
    conf = LAB / "onprem" / "etc" / "slurm.conf"
    version = ("sbatch", "--version")
    slurm = run(*version, env={**os.environ, "SLURM_CONF": str(conf)}).strip() if conf.is_file() else "no Slurm"
    busy = Path("/proc/loadavg").read_text().split()[0]
    what = (
        f"{os.cpu_count()} CPUs shared with all clusters of the lab, load {busy} at the end, Linux {platform.release()}"
    )
    columns = list(rows[0])
    lines = [columns, ["---"] * len(columns), *([row[name].replace("|", "\\|") for name in columns] for row in rows)]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    asked = f"python -m tests.bench {' '.join(sys.argv[1:])}"
    return f"""# How quick it is

Measured on {datetime.now(UTC).date()} by `{asked}` with the lab ([lab.md](../lab.md)):
Python {platform.python_version()}, {slurm}, {what}. Medians of {runs} whole processes that take turns;
the 1,000 jobs once. Read the ratios, not the figures.

{table}
"""


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--runs", type=int, default=11)
    options.add_argument("--json", type=Path)
    options.add_argument("--page", type=Path, help="write a page with the table and what it was measured on")
    options.add_argument("--many", action="store_true", help="also thousands of jobs at once: some minutes")
    chosen = options.parse_args()
    # Where this is set, every start would compile everything again: not what a person has.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(Path(scratch), chosen.runs)
        for measure in (bench.start_up, bench.install, bench.here, bench.slurm, bench.ssh):
            measure()
        if chosen.many:
            many.measure(Path(scratch), LAB, HPC, bench.note)
    if chosen.json:
        chosen.json.write_text(json.dumps(bench.rows, indent=2))
    if chosen.page:
        chosen.page.write_text(page(bench.rows, chosen.runs))


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    main()

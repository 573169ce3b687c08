"""Many jobs at once, and the status of very many, beside what people use today. Needs the lab; ratios, in one run.

All jobs have to wait (`--begin=now+1hour`): what is measured is how they get into the queue, not how they run.
"""

from __future__ import annotations

import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from hybridhpc.ledger.base import Intent
from hybridhpc.ledger.sqlite import SqliteLedger
from hybridhpc.model import Resources
from hybridhpc.schedulers.base import Submitted
from hybridhpc.script.plan import Plan

SBATCH = "sbatch --mem=20 --time=5 --partition=cpu --begin=now+1hour"
SPEC = "name: job-{}\nresources: {{cpus: 1, memory: 20MiB}}\ntime: 5m\nslurm: {{begin: now+1hour}}\nrun: echo {}\n"
SWEEP = "name: sweep\nresources: {cpus: 1, memory: 20MiB}\ntime: 5m\nslurm: {begin: now+1hour}\n"
SUBMITIT = """
import submitit, sys
e = submitit.SlurmExecutor(folder=sys.argv[1], max_num_timeout=0)
later = {"begin": "now+1hour"}
e.update_parameters(time=5, mem="20MB", partition="cpu", array_parallelism=1000, additional_parameters=later)
e.map_array(int, range(int(sys.argv[2])))
"""
PSIJ = """
import sys
from datetime import timedelta
from psij import Job, JobAttributes, JobExecutor, JobSpec
executor = JobExecutor.get_instance("slurm")
for number in range(int(sys.argv[1])):
    attributes = JobAttributes(duration=timedelta(minutes=5), queue_name="cpu")
    attributes.set_custom_attribute("slurm.begin", "now+1hour")
    executor.submit(Job(JobSpec(executable="/bin/echo", arguments=[str(number)], attributes=attributes)))
import os
os._exit(0)
"""
VERY_MANY = 10_000
"""Jobs whose status is asked."""


class Many:
    """Submits jobs in several ways, one after the other, each into an empty queue."""

    def __init__(self, scratch: Path, lab: Path, hpc: str) -> None:
        self.scratch = scratch
        self.lab = lab
        self.hpc = hpc
        base = {**os.environ, "HPC_STATE_DIR": str(scratch / "many"), "HOME": str(scratch)}
        self.env = {
            **base,
            "HPC_CONFIG_DIR": str(lab / "local"),
            "SLURM_CONF": str(lab / "onprem" / "etc" / "slurm.conf"),
        }
        self.over_ssh = {**base, "HPC_CONFIG_DIR": str(lab)}

    def _run(self, *argv: str, env: dict[str, str] | None = None) -> str:
        done = subprocess.run(argv, env=env or self.env, cwd=self.scratch, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{' '.join(argv)[:200]} failed with {done.returncode}:\n{done.stderr[-2000:]}")
        return done.stdout

    def _timed(self, call: Callable[[], object]) -> float:
        self._run("scancel", "--me")
        began = time.perf_counter()
        call()
        return time.perf_counter() - began

    def _in_turn(self, calls: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
        seconds: dict[str, list[float]] = {name: [] for name in calls}
        for _ in range(rounds):
            for name, call in calls.items():
                seconds[name].append(self._timed(call))
        return {name: statistics.median(times) for name, times in seconds.items()}

    def ways(self, count: int, rounds: int) -> dict[str, float]:
        """Return the median seconds in which each way submits so many distinct jobs; they take turns."""
        for number in range(count):
            (self.scratch / f"job-{number}.yaml").write_text(SPEC.format(number, number))
            (self.scratch / f"job-{number}.sh").write_text(f"#!/bin/sh\necho {number}\n")
        files = [f"job-{number}.yaml" for number in range(count)]
        loop = f"for i in $(seq 0 {count - 1}); do {SBATCH} job-$i.sh || exit 1; done"
        remote = f'for i in $(seq 0 {count - 1}); do {SBATCH} --wrap "echo $i" || exit 1; done'
        submit = (self.hpc, "submit", *files, "--where", "onprem/cpu", "--quiet", "--again")
        ssh = ("ssh", "-F", str(self.lab / "ssh" / "config"), "lab-onprem", remote)
        calls: dict[str, Callable[[], object]] = {
            "sbatch": lambda: self._run("bash", "-c", loop),
            "hpc": lambda: self._run(*submit),
            "ssh": lambda: self._run(*ssh),
            "hpc over ssh": lambda: self._run(*submit, env=self.over_ssh),
            "psij": lambda: self._run(sys.executable, "-c", PSIJ, str(count)),
        }
        return self._in_turn(calls, rounds)

    def arrays(self, count: int) -> dict[str, float]:
        """Return the median seconds in which each way submits so many jobs that differ in a parameter."""
        (self.scratch / "sweep.yaml").write_text(f"{SWEEP}matrix: {{N: 0-{count - 1}}}\nrun: echo $N\n")
        submit = (self.hpc, "submit", "sweep.yaml", "--where", "onprem/cpu", "--quiet", "--again")
        folder = str(self.scratch / "submitit")
        calls: dict[str, Callable[[], object]] = {
            "hpc": lambda: self._run(*submit),
            "submitit": lambda: self._run(sys.executable, "-c", SUBMITIT, folder, str(count)),
            "sbatch": lambda: self._run(*SBATCH.split(), f"--array=0-{count - 1}", "--wrap", "true"),
        }
        return self._in_turn(calls, 3)

    def different(self, count: int) -> tuple[float, float]:
        """Return the CPU seconds of `hpc plan` over all sites behind ssh: of one file, and of so many.

        No two of them ask for the same memory.
        """
        files = [f"different-{number}.yaml" for number in range(count)]
        for number, file in enumerate(files):
            memory = f"resources: {{cpus: 1, memory: {20 + number}MiB}}"
            (self.scratch / file).write_text(f"name: different-{number}\n{memory}\ntime: 5m\nrun: 'true'\n")
        self._run("scancel", "--me")
        plan = (self.hpc, "plan", "--where", "auto")
        one = _cpu_seconds(lambda: self._run(*plan, files[0], env=self.over_ssh))
        return one, _cpu_seconds(lambda: self._run(*plan, *files, env=self.over_ssh))

    def behind(self, count: int) -> tuple[float, float]:
        """Return the seconds of one submission over all sites behind ssh, by an empty queue and by so many jobs.

        Every node is taken, and behind them wait single jobs that differ in name, walltime and memory.
        """
        (self.scratch / "one.yaml").write_text(
            "name: one\nresources: {cpus: 1, memory: 100MiB}\ntime: 1m\nrun: 'true'\n"
        )
        submit = (self.hpc, "submit", "one.yaml", "--where", "auto", "--quiet")
        empty = self._median(lambda: self._run(*submit, env=self.over_ssh))
        self._run("sbatch", "-p", "cpu", "-a", "1-4", "-N1", "--exclusive", "--time=8:00:00", "--wrap", "sleep 900")
        one = "sbatch -p cpu --mem=$((20 + i % 50)) --time=$((5 + i % 300)) -J job-$i --wrap true"
        loop = f"for i in $(seq {count // 4}); do {one} || exit 1; done"
        self._run("bash", "-c", " & ".join(f"({loop})" for _ in range(4)) + " & wait")
        waiting = len(self._run("squeue", "--me", "--states=PENDING", "--noheader", "--array").split("\n")) - 1
        if waiting < count:
            raise SystemExit(f"only {waiting} of {count} jobs wait")
        full = self._median(lambda: self._run(*submit, env=self.over_ssh))
        self._run("scancel", "--me")
        return empty, full

    def _median(self, call: Callable[[], object]) -> float:
        call()
        return statistics.median(_seconds(call) for _ in range(7))

    def status(self, count: int) -> tuple[float, float]:
        """Return the seconds of one squeue and of `hpc status`, with so many of a person's jobs in the queue."""
        self._run("scancel", "--me")
        time.sleep(2)
        loop = f"for i in $(seq {count // 4}); do {SBATCH} --hold --parsable --wrap true || exit 1; done"
        both = " & ".join(f"({loop})" for _ in range(4))
        ids = self._run("bash", "-c", f"{both} & wait").split()
        state = self.scratch / "status"
        ledger = SqliteLedger(state / "ledger.sqlite")
        _fill(ledger, ids, self.scratch)
        env = {**self.env, "HPC_STATE_DIR": str(state)}
        fields = "--Format=JobArrayID:|,State:|,SubmitTime:|,StartTime:|,EndTime:|,exit_code:|,NodeList:|,Reason:|"
        squeue: list[float] = []
        hpc: list[float] = []
        self._run(self.hpc, "status", env=env)
        for _ in range(5):
            squeue.append(_seconds(lambda: self._run("squeue", "--me", "--states=all", "--noheader", fields)))
            hpc.append(_seconds(lambda: self._run(self.hpc, "status", env=env)))
        self._run("scancel", "--me")
        return sorted(squeue)[2], sorted(hpc)[2]


def _seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def _cpu_seconds(call: Callable[[], object]) -> float:
    """Return what the processes that a call waits for take, whatever else the machine does."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    call()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _fill(ledger: SqliteLedger, ids: list[str], scratch: Path) -> None:
    """Let a ledger know jobs that are in the queue, each with a plan as long as a real one."""
    plans = [
        Plan(
            name=f"job-{number}",
            site="onprem",
            partition="cpu",
            resources=Resources(cpus=1),
            usd_per_hour=0.4,
            script=b"#!/bin/bash\n" + b"# as long as a rendered one\n" * 250,
            options=("--cpus-per-task=1",),
        )
        for number in range(len(ids))
    ]
    intents = [Intent(plan=plan, request=plan.name, job_root=str(scratch)) for plan in plans]
    records = ledger.intend(intents, sweep="bench-000000", now=time.time())
    answers = {record.token: Submitted(job_id=job) for record, job in zip(records, ids, strict=True)}
    ledger.submitted(answers, now=time.time())
    ledger.announced([record.token for record in records])


Note = Callable[[str, str, str, str, bool], None]


def measure(scratch: Path, lab: Path, hpc: str, note: Note) -> None:
    """Measure and note it, if a lab is up."""
    if not (lab / "local" / "sites" / "onprem.yaml").is_file() or shutil.which("sbatch") is None:
        print("no lab is up: many jobs are not measured (`make lab` starts one)")
        return
    many = Many(scratch, lab, hpc)
    # First: a scheduler remembers what has ended for minutes, and every question about its queue brings that along.
    arrays = many.arrays(1000)
    beside = f"submitit map_array {arrays['submitit']:.2f} s, one sbatch --array {arrays['sbatch']:.2f} s"
    held = arrays["hpc"] <= arrays["submitit"]
    note("a sweep of 1,000 points", f"{arrays['hpc']:.2f} s", beside, "<= submitit map_array", held)
    for count, rounds in ((100, 5), (1000, 1)):
        ways = many.ways(count, rounds)
        beside = ", ".join(f"{name} {count / seconds:.0f}/s" for name, seconds in ways.items() if "hpc" not in name)
        for name in ("hpc", "hpc over ssh"):
            ratio = ways["sbatch"] / ways[name]
            what = f"{count:,} distinct jobs: {name}"
            note(what, f"{count / ways[name]:.0f}/s, {ratio:.2f} x", beside, ">= 0.4 x an sbatch loop", ratio >= 0.4)
    one, different = many.different(1000)
    beside = f"one file {one:.2f} s CPU"
    what = "hpc plan of 1,000 files that ask for different things"
    note(what, f"{different:.2f} s CPU", beside, "<= 4 s CPU", different <= 4.0)
    empty, full = many.behind(VERY_MANY)
    beside = f"{empty * 1000:.0f} ms by an empty queue"
    held = full <= empty + 0.15
    note(f"a queue of {VERY_MANY:,} at one of four sites", f"{full * 1000:.0f} ms", beside, "<= 150 ms more", held)
    squeue, status = many.status(VERY_MANY)
    note(
        f"hpc status of {VERY_MANY:,} jobs",
        f"{status:.2f} s",
        f"squeue {squeue:.2f} s",
        "<= squeue + 1 s",
        status <= squeue + 1,
    )

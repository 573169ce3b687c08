"""Forecasts on a replayed queue: `HPC_TRACES=DIR python -m tests.worlds.replay [NAME] [JOBS] [LOAD]`.

A cluster of nodes with 8 GPUs under EASY backfill (jobs are planned to their limit and leave at their true run time) is
fed a trace, or a made-up queue without one. At every few submissions the router forecasts the new job's start and run
time; what then happens is handed back as outcomes. Printed: the share of outcomes by p90 (90 % is right) and the median
error of p50, of plain and of corrected forecasts, beside those of a plan with limits alone.

A trace is NAME.csv.gz in HPC_TRACES with the columns submit_s, run_s, req_s, gpus, user.
"""

from __future__ import annotations

import csv
import gzip
import heapq
import os
import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hybridhpc.decide.policy import quantile
from hybridhpc.decide.promise import Outcome, Promise
from hybridhpc.decide.route import decide
from hybridhpc.model import Goal, Gpus, JobSpec, JobState, Mebibytes, Resources, Seconds, UsdPerHour, Work
from hybridhpc.sites.site import Site
from hybridhpc.sites.snapshot import Node, PastJob, QueuedJob, QueueLine, QueuePartition, Snapshot

WIDE = 8
"""GPUs of a node."""
_SCANNED = 100
"""Pending jobs that backfill looks at."""


@dataclass(kw_only=True)
class Job:
    """A job of a trace; times in seconds from its beginning."""

    number: int
    submit: float
    run: float
    limit: float
    gpus: int
    user: str
    start: float | None = None
    held: list[tuple[int, int]] = field(default_factory=list)
    """Nodes and how many of their GPUs it has."""

    @property
    def nodes(self) -> int:
        """Nodes it takes: a job wider than one takes whole ones."""
        return -(-self.gpus // WIDE)

    @property
    def per_node(self) -> int:
        """GPUs on each of them."""
        return min(self.gpus, WIDE)


def made_up(count: int, nodes: int, load: float, seed: int = 1) -> list[Job]:
    """Return a made-up queue: run times over four decades, limits loose as people's are, bursts of one user."""
    dice = random.Random(seed)
    jobs: list[Job] = []
    clock = 0.0
    while len(jobs) < count:
        user, burst = f"u{dice.randrange(12)}", dice.choice((1, 1, 2, 6))
        gpus = dice.choice((1, 2, 4, 8, 8, 8, 16, 32))
        for _ in range(burst):
            run = min(2 * 86400.0, max(30.0, dice.lognormvariate(7.6, 1.4)))
            limit = next(step for step in (1800, 3600, 4 * 3600, 12 * 3600, 86400, 7 * 86400) if step >= run)
            limit = max(limit, dice.choice((1800, 14400, 86400)))
            jobs.append(Job(number=len(jobs), submit=clock, run=run, limit=limit, gpus=gpus, user=user))
        clock += dice.expovariate(1.0) * 1000
    return _at_load(jobs, nodes, load)


def read_trace(path: Path, count: int, nodes: int, load: float) -> list[Job]:
    """Return the first jobs of a trace; one without a limit gets twice its run time, rounded up to an hour."""
    jobs = []
    with gzip.open(path, "rt", newline="") as lines:
        for number, row in zip(range(count), csv.DictReader(lines), strict=False):
            run, asked = float(row["run_s"]), float(row["req_s"])
            limit = asked if asked > 0 else -(-2 * run // 3600) * 3600
            gpus = min(int(row["gpus"]), nodes * WIDE)
            submit, run = float(row["submit_s"]), min(run, limit)
            jobs.append(Job(number=number, submit=submit, run=run, limit=limit, gpus=gpus, user=row["user"]))
    return _at_load(jobs, nodes, load)


def _at_load(jobs: list[Job], nodes: int, load: float) -> list[Job]:
    """Stretch the submit times so that so much of the cluster is asked for."""
    work = sum(job.run * job.gpus for job in jobs)
    stretch = work / (nodes * WIDE * load) / max(1.0, jobs[-1].submit)
    for job in jobs:
        job.submit *= stretch
    return jobs


class Cluster:
    """EASY backfill at node level, in submission order."""

    def __init__(self, nodes: int) -> None:
        self.free = [WIDE] * nodes
        self.pending: list[Job] = []
        self.running: list[Job] = []
        self._ends: list[tuple[float, int, Job]] = []

    def advance(self, until: float) -> Iterator[Job]:
        """Let time pass; yield jobs as they end, in order."""
        while self._ends and self._ends[0][0] <= until:
            at, _, job = heapq.heappop(self._ends)
            self.running.remove(job)
            for node, gpus in job.held:
                self.free[node] += gpus
            self.start_what_fits(at)
            yield job

    def submit(self, job: Job) -> None:
        """Queue a job and start what fits."""
        self.pending.append(job)
        self.start_what_fits(job.submit)

    def start_what_fits(self, now: float) -> None:
        """Start jobs in order; behind the first that does not fit, those that do not delay it."""
        while self.pending and (held := _fit(self.pending[0], self.free)) is not None:
            self._begin(self.pending.pop(0), held, now)
        if not self.pending:
            return
        shadow, spare = self._shadow(self.pending[0])
        for job in self.pending[1:_SCANNED]:
            held = _fit(job, self.free)
            if held is None:
                continue
            ends_before = now + job.limit <= shadow
            if ends_before or all(spare[node] >= gpus for node, gpus in held):
                self.pending.remove(job)
                self._begin(job, held, now)
                for node, gpus in held if not ends_before else ():
                    spare[node] -= gpus

    def _shadow(self, head: Job) -> tuple[float, list[int]]:
        """Return when the head fits if all run to their limits, and what is then free beside it."""
        free, at = list(self.free), 0.0
        for job in sorted(self.running, key=lambda job: (job.start or 0.0) + job.limit):
            for node, gpus in job.held:
                free[node] += gpus
            at = (job.start or 0.0) + job.limit
            if (held := _fit(head, free)) is not None:
                for node, gpus in held:
                    free[node] -= gpus
                return at, free
        return at, free

    def _begin(self, job: Job, held: list[tuple[int, int]], now: float) -> None:
        job.start, job.held = now, held
        for node, gpus in held:
            self.free[node] -= gpus
        self.running.append(job)
        heapq.heappush(self._ends, (now + job.run, job.number, job))


def _fit(job: Job, free: Sequence[int]) -> list[tuple[int, int]] | None:
    """Return where a job fits now: the fullest nodes that will do."""
    able = [node for node, left in enumerate(free) if left >= job.per_node]
    if len(able) < job.nodes:
        return None
    return [(node, job.per_node) for node in sorted(able, key=lambda node: free[node])[: job.nodes]]


def snapshot(cluster: Cluster, now: float) -> Snapshot:
    """Return what a probe would see."""
    nodes = tuple(
        Node(
            name=f"n{number}", partitions=("gpu",), native_state="", usable=True, cpus=WIDE, cpus_alloc=WIDE - left,
            memory=Mebibytes(WIDE), memory_alloc=Mebibytes(WIDE - left), gpus=WIDE, gpus_alloc=WIDE - left,
        )
        for number, left in enumerate(cluster.free)
    )  # fmt: skip
    jobs = [_seen(job, JobState.RUNNING) for job in cluster.running] + [
        _seen(job, JobState.PENDING) for job in cluster.pending
    ]
    return Snapshot(site="lab", taken_at=now, partitions=(QueuePartition(name="gpu"),), nodes=nodes, jobs=tuple(jobs))


def _seen(job: Job, state: JobState) -> QueuedJob:
    line = QueueLine(
        partition="gpu", state=state, nodes=job.nodes, cpus=job.per_node * job.nodes,
        memory=Mebibytes(job.per_node * job.nodes), gpus=job.per_node * job.nodes, walltime=Seconds(int(job.limit)),
        started_at=job.start, node_names=tuple(f"n{node}" for node, _ in job.held),
    )  # fmt: skip
    return QueuedJob(job_id=str(job.number), line=line)


def replay(jobs: Sequence[Job], nodes: int, every: int) -> list[Outcome]:
    """Replay jobs, forecasting every so manieth; return the forecasts with their outcomes, in order."""
    cluster, site = Cluster(nodes), Site(name="lab", file=None, scheduler="slurm", transport="local")
    history: list[PastJob] = []
    open_ones: dict[int, Promise] = {}
    found: list[Outcome] = []
    for job in jobs:
        for ended in cluster.advance(job.submit):
            history.insert(0, _past(ended))
            if ended.number in open_ones:
                found.append(_outcome(ended, open_ones.pop(ended.number)))
        if job.number % every == 0 and job.number > len(jobs) // 20:
            told = decide(_spec(job), [(site, snapshot(cluster, job.submit))], history=history[:500],
                          outcomes=found[:-500:-1], now=job.submit).winner  # fmt: skip
            if told is not None and told.forecast is not None and told.forecast.promise is not None:
                open_ones[job.number] = told.forecast.promise
        cluster.submit(job)
    found += [_outcome(job, open_ones.pop(job.number)) for job in cluster.advance(1e18) if job.number in open_ones]
    return found


def _spec(job: Job) -> JobSpec:
    resources = Resources(
        nodes=job.nodes, gpus=(Gpus(count=job.per_node),), cpus=job.per_node, memory=Mebibytes(job.per_node),
        walltime=Seconds(int(job.limit)),
    )  # fmt: skip
    goal = Goal(value_of_time=UsdPerHour(30.0))
    return JobSpec(name=job.user, file="f", digest="", resources=resources, payload=Work(run="x"), goal=goal)


def _past(job: Job) -> PastJob:
    start = job.start or 0.0
    return PastJob(
        name=job.user, site="lab", partition="gpu", resources=_spec(job).resources, array=None,
        submitted_at=job.submit, started_at=start, ended_at=start + job.run, completed=True,
    )  # fmt: skip


def _outcome(job: Job, promise: Promise) -> Outcome:
    waited = (job.start or 0.0) - job.submit
    return Outcome(token=str(job.number), made_at=job.submit, promise=promise, waited=waited, ran=job.run)


def coverage(pairs: Sequence[tuple[float, float]]) -> float:
    """Return the share of outcomes at or below what was forecast; pairs of forecast and outcome."""
    return sum(seen <= said + 1.0 for said, seen in pairs) / len(pairs)


def error(pairs: Sequence[tuple[float, float]]) -> float:
    """Return the median distance, in seconds, between what was forecast and the outcome."""
    return quantile([abs(seen - said) for said, seen in pairs], 0.5)


def report(outcomes: Sequence[Outcome]) -> str:
    """Return the table of starts and run times, plain and corrected."""
    waited = [each for each in outcomes if (each.waited or 0.0) > 0 or each.promise.plain_start.p50 > 0]
    lines = [f"{len(outcomes)} forecasts, {len(waited)} of them of jobs that waited or were to wait"]
    for name, said, seen in (
        ("start, plain", lambda promise: promise.plain_start, lambda each: each.waited),
        ("start, corrected", lambda promise: promise.start, lambda each: each.waited),
        ("run, plain", lambda promise: promise.plain_run, lambda each: each.ran),
        ("run, corrected", lambda promise: promise.run, lambda each: each.ran),
    ):
        group = waited if name.startswith("start") else outcomes
        low = [(said(each.promise).p50, seen(each)) for each in group]
        high = [(said(each.promise).p90, seen(each)) for each in group]
        lines.append(f"{name:<17} by p90 {coverage(high):4.0%}   median error of p50 {error(low):7.0f} s"
                     f"   of p90, the plan with limits {error(high):7.0f} s")  # fmt: skip
    return "\n".join(lines)


def main(words: Sequence[str]) -> int:
    """Replay a trace, or a made-up queue, and print the report."""
    name = words[0] if words else ""
    count, load = int(words[1]) if len(words) > 1 else 3000, float(words[2]) if len(words) > 2 else 0.95
    nodes = 17 if name.startswith("theta") else 12
    folder = os.environ.get("HPC_TRACES", "")
    if name and not folder:
        print("set HPC_TRACES to the directory of the traces", file=sys.stderr)
        return 2
    jobs = read_trace(Path(folder, f"{name}.csv.gz"), count, nodes, load) if name else made_up(count, nodes, load)
    print(f"{name or 'a made-up queue'}: {count} jobs, {nodes} nodes, load {load:g}")
    print(report(replay(jobs, nodes, every=max(1, count // 500))))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

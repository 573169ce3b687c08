"""Builders of staged worlds: sites, snapshots and specs with few words. Times are seconds after NOW."""

from __future__ import annotations

from hybridhpc.model import (
    Array,
    Goal,
    Gpus,
    JobSpec,
    JobState,
    Mebibytes,
    Native,
    Resources,
    Script,
    Seconds,
    Usd,
    UsdPerHour,
    Work,
)
from hybridhpc.sites.site import Partition, Price, Site
from hybridhpc.sites.snapshot import Node, PastJob, QueuedJob, QueueLine, QueuePartition, Snapshot

NOW = 1_800_000_000.0
HOUR = 3600
DAY = 24 * HOUR
TIB = 1024 * 1024


def price(per_gpu=0.0, per_node=0.0, per_cpu=None, source="list price 2026-11"):
    cpu = None if per_cpu is None else UsdPerHour(per_cpu)
    return Price(per_gpu=UsdPerHour(per_gpu), per_node=UsdPerHour(per_node), per_cpu=cpu, source=source)


SUNK = price(source="sunk cost")


def site(name, *, cost=SUNK, speed=None, scheduler="slurm", purchase="owned", boot=0, partition="gpu", **more):
    listed = Partition(name=partition, price=cost, purchase=purchase, boot_delay=Seconds(boot))
    return Site(
        name=name,
        file=f"{name}.yaml",
        scheduler=scheduler,
        transport="local",
        partitions=(listed,),
        gpu_speed=tuple((speed or {}).items()),
        **more,
    )


def nodes(count, *, prefix="n", partitions=("gpu",), cpus=64, memory=TIB, gpus=8, kind="h100", **more):
    return tuple(
        Node(
            name=f"{prefix}{number}",
            partitions=partitions,
            native_state="idle",
            usable=more.get("usable", True),
            cpus=cpus,
            memory=Mebibytes(memory),
            gpus=gpus,
            gpu_kind=kind if gpus else None,
            **{key: value for key, value in more.items() if key != "usable"},
        )
        for number in range(count)
    )


def running(job_id, node_names, *, ends_in, ran=HOUR, gpus=8, cpus=64, partition="gpu", **more):
    """A job that reaches its limit `ends_in` seconds from now; gpus and cpus are per node."""
    line = QueueLine(
        partition=partition,
        state=JobState.RUNNING,
        nodes=len(node_names),
        cpus=cpus * len(node_names),
        gpus=gpus * len(node_names),
        walltime=Seconds(ends_in + ran),
        started_at=NOW - ran,
        node_names=tuple(node_names),
        **more,
    )
    return QueuedJob(job_id=job_id, line=line)


def pending(job_id, *, priority=0, count=1, lasts=HOUR, gpus=8, cpus=64, partition="gpu", **more):
    """A queued job; gpus and cpus are per node."""
    line = QueueLine(
        partition=partition,
        state=JobState.PENDING,
        nodes=count,
        cpus=cpus * count,
        gpus=gpus * count,
        walltime=Seconds(lasts),
        **more,
    )
    return QueuedJob(job_id=job_id, priority=priority, line=line)


def snapshot(name, node_list, jobs=(), *, unseen=(), partitions=None, **limits):
    found = partitions or (
        QueuePartition(name="gpu", max_walltime=Seconds(limits.pop("max_walltime", 7 * DAY)), **limits),
    )
    return Snapshot(
        site=name, taken_at=NOW, partitions=found, nodes=tuple(node_list), jobs=tuple(jobs), unseen=tuple(unseen)
    )


_ASKED = ("cpus", "memory", "whole_nodes", "unlimited", "most_nodes")


def spec(
    *, count=1, gpus=("H100:8",), time=10 * HOUR, where=("auto",), value=30.0, deadline=None, max_cost=None, **more
):
    asked = tuple(Gpus(kind=text.split(":")[0], count=int(text.split(":")[1])) for text in gpus)
    cpus = more.get("cpus")
    resources = Resources(
        nodes=count,
        gpus=asked,
        walltime=None if time is None else Seconds(time),
        **{key: more.pop(key) for key in _ASKED if key in more},
    )
    goal = Goal(
        value_of_time=UsdPerHour(value),
        deadline=None if deadline is None else NOW + deadline,
        max_cost=None if max_cost is None else Usd(max_cost),
    )
    return JobSpec(
        name=more.pop("name", "train"),
        file="/home/a/train.yaml",
        digest="0" * 64,
        resources=resources,
        payload=_script(count, gpus, cpus, more.pop("asked", ())) if more.pop("script", False) else Work(run="true"),
        where=where,
        goal=goal,
        **more,
    )


def _script(count, gpus, cpus, more):
    asked = {"nodes": str(count), "gpus-per-node": gpus[0] if gpus else "0", "cpus-per-task": str(cpus or 1)}
    return Script(content=b"", path="/home/a/train.sbatch", asked=(*asked.items(), *more))


def past(hours, *, where="lab/gpu", name="train", gpus="H100:8", time=10 * HOUR, waited=0, ago=DAY, completed=True):
    """A past run of so many hours that ended `ago` seconds before NOW."""
    place, _, partition = where.partition("/")
    kind, _, number = gpus.partition(":")
    ended = NOW - ago
    return PastJob(
        name=name,
        site=place,
        partition=partition,
        resources=Resources(gpus=(Gpus(kind=kind, count=int(number)),), walltime=Seconds(time)),
        array=None,
        submitted_at=ended - hours * HOUR - waited,
        started_at=ended - hours * HOUR,
        ended_at=ended,
        completed=completed,
    )


def array(tasks, throttle=None):
    return Array(text=f"0-{tasks - 1}" + (f"%{throttle}" if throttle else ""), tasks=tasks, throttle=throttle)


def native(**names):
    return Native(**names)

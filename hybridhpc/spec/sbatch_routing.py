"""What the options of an sbatch script ask of a site: nodes, CPUs, memory, GPUs, time, array, and names it must have.

For choosing a place only: the script itself is submitted as it is, with whatever else it says.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from hybridhpc.model import Mebibytes, Native, Seconds
from hybridhpc.spec.sbatch import SbatchScript, default_name
from hybridhpc.spec.sbatch_getopt import Option
from hybridhpc.spec.sbatch_shape import other_gres, shape_of
from hybridhpc.spec.sbatch_values import Indices, parse_array, parse_memory, parse_time
from hybridhpc.values import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingView:
    """What one component of a job asks for. CPUs, memory and GPUs are per node, at least."""

    name: str
    nodes: int
    most_nodes: int | None
    """None: the script does not say how many nodes, and Slurm may spread it over more than `nodes`."""
    tasks: int
    tasks_per_node: int
    cpus_per_task: int
    cpus: int
    total_cpus: int
    memory: Mebibytes | None
    """None: the site's default, or all of a node if `whole_memory`."""
    memory_per_cpu: Mebibytes | None
    memory_per_gpu: Mebibytes | None
    whole_memory: bool
    gpus: tuple[tuple[str | None, int], ...]
    """Type (None: any) and number per node; several entries: all of them are wanted."""
    total_gpus: int
    gpus_per_node_said: bool
    """GPUs were asked for per node, not in all or per task."""
    other_gres: tuple[tuple[str, str | None, int], ...]
    """Name, type and number per node of generic resources that are no GPUs."""
    walltime: Seconds | None
    """None: the partition's default, or no limit at all if `unlimited`."""
    least_walltime: Seconds | None
    """--time-min: Slurm may shorten the job to this so that it starts earlier."""
    unlimited: bool
    exclusive: str | None
    """exclusive, user, mcs or topo."""
    array: Indices | None
    array_text: str | None
    native: Native
    """Names that a site must have or map."""
    exclude: str | None
    dependency: str | None
    begin: str | None
    deadline: str | None
    comment: str | None
    chdir: str | None
    output: str | None
    error: str | None
    hold: bool
    requeue: bool | None
    """None: the site's default."""
    waits: bool
    """sbatch itself stays until the job has ended (--wait)."""
    test_only: bool
    approximate: tuple[str, ...]
    """What was rounded up or could not be counted, in words."""

    @property
    def array_tasks(self) -> int:
        """How many tasks the array has; 1 if it is none."""
        return self.array.tasks if self.array else 1

    @property
    def array_throttle(self) -> int | None:
        """How many tasks of the array may run at once; None: all."""
        return self.array.throttle if self.array else None


def routing(options: Sequence[Option], script: SbatchScript) -> RoutingView:
    """Read what one component asks for from its options, each given once, as merge() returns them."""
    given = {option.name for option in options}
    text = {option.name: option.value for option in options if option.value is not None}
    shape = shape_of(text, overcommit="overcommit" in given)
    array = parse_array(text["array"]) if "array" in text else None
    walltime = parse_time(text["time"]) if "time" in text else None
    view = RoutingView(
        name=text.get("job-name") or default_name(script.path),
        nodes=shape.nodes.least,
        most_nodes=None if shape.open_ended else shape.nodes.most,
        tasks=shape.tasks,
        tasks_per_node=shape.tasks_per_node,
        cpus_per_task=shape.cpus_per_task,
        cpus=shape.cpus,
        total_cpus=shape.total_cpus,
        memory=None,
        memory_per_cpu=_memory(text, "mem-per-cpu"),
        memory_per_gpu=_memory(text, "mem-per-gpu"),
        whole_memory="mem" in text and parse_memory(text["mem"]) == 0,
        gpus=tuple((gpu.kind, gpu.count) for gpu in shape.gpus),
        total_gpus=shape.total_gpus,
        gpus_per_node_said=shape.gpus_per_node_said,
        other_gres=tuple((tres.name, tres.kind, tres.count) for tres in other_gres(text)),
        walltime=walltime,
        least_walltime=parse_time(text["time-min"]) if "time-min" in text else None,
        unlimited="time" in text and walltime is None,
        exclusive=_exclusive(given, text),
        array=array,
        array_text=text["array"] if array else None,
        native=_native(text),
        exclude=text.get("exclude") or None,
        dependency=text.get("dependency") or None,
        begin=text.get("begin"),
        deadline=text.get("deadline"),
        comment=text.get("comment"),
        chdir=text.get("chdir"),
        output=text.get("output"),
        error=text.get("error"),
        hold="hold" in given,
        requeue=True if "requeue" in given else False if "no-requeue" in given else None,
        waits="wait" in given,
        test_only="test-only" in given,
        approximate=(*shape.approximate, *_not_counted(given, text, script)),
    )
    return replace(view, memory=_memory_of(view, _memory(text, "mem")))


def on_nodes_of(view: RoutingView, *, cpus: int, gpus: int) -> RoutingView:
    """Return the view as Slurm would spread it over nodes of `cpus` CPUs and `gpus` GPUs.

    Only as far as the script leaves it open: then over as many nodes as tasks and GPUs need, and per node the share.
    """
    needs = [view.nodes]
    if view.cpus > cpus >= view.cpus_per_task:
        needs.append(math.ceil(view.tasks / (cpus // view.cpus_per_task)))
    if not view.gpus_per_node_said and sum(count for _, count in view.gpus) > gpus > 0:
        needs.append(math.ceil(view.total_gpus / gpus))
    nodes = min(max(needs), view.most_nodes or max(needs))
    if nodes == view.nodes:
        return view

    def share(count: int) -> int:
        return -(-count * view.nodes // nodes)

    tasks = share(view.tasks_per_node)
    spread = replace(
        view,
        nodes=nodes,
        tasks_per_node=tasks,
        cpus=tasks * view.cpus_per_task,
        gpus=view.gpus if view.gpus_per_node_said else tuple((kind, share(count)) for kind, count in view.gpus),
        approximate=(*view.approximate, f"spread over {nodes} nodes"),
    )
    said = None if view.memory_per_cpu is not None or view.memory_per_gpu is not None else view.memory
    return replace(spread, memory=_memory_of(spread, said))


def _memory(text: Mapping[str, str], name: str) -> Mebibytes | None:
    return (parse_memory(text[name]) or None) if name in text else None


def _memory_of(view: RoutingView, per_node: Mebibytes | None) -> Mebibytes | None:
    """Return MiB per node: as said, or per CPU or GPU times their number."""
    if per_node is not None:
        return per_node
    if view.memory_per_cpu is not None:
        return Mebibytes(view.memory_per_cpu * view.cpus)
    if view.memory_per_gpu is not None:
        return Mebibytes(view.memory_per_gpu * sum(count for _, count in view.gpus))
    return None


def _exclusive(given: set[str], text: Mapping[str, str]) -> str | None:
    """--reboot takes its nodes whole (scontrol of 22.05 shows it so)."""
    if "exclusive" in given:
        return (text.get("exclusive") or "exclusive").lower()
    return "exclusive" if "reboot" in given else None


def _native(text: Mapping[str, str]) -> Native:
    return Native(
        partition=text.get("partition") or None,
        account=text.get("account") or None,
        qos=text.get("qos") or None,
        constraint=text.get("constraint") or None,
        reservation=text.get("reservation") or None,
        licenses=text.get("licenses") or None,
        nodelist=text.get("nodelist") or None,
        cluster=text.get("clusters") or None,
    )


def _not_counted(given: set[str], text: Mapping[str, str], script: SbatchScript) -> list[str]:
    """Name what the script says in places that are not read here."""
    found = []
    if script.foreign and "ignore-pbs" not in given:
        lines = ", ".join(str(line) for line in script.foreign)
        found.append(f"lines {lines}: #PBS and #BSUB directives, which sbatch translates and prefers, are not counted")
    if "nodefile" in given or "/" in text.get("nodelist", ""):
        found.append("the nodes named in a file are not counted")
    return found

"""How many nodes, tasks, CPUs and GPUs a script asks for, where Slurm's rules have to fill in what it does not say.

The rules were read off `scontrol show job` and running jobs of 22.05.8. What Slurm only knows once the job is placed is
rounded up, and `approximate` names it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from itertools import accumulate

from hybridhpc.spec.sbatch_values import (
    Nodes,
    Tres,
    last_of_each,
    parse_count,
    parse_gpus,
    parse_gres,
    parse_nodes,
    parse_tres_per_task,
)
from hybridhpc.values import dataclass

_SHAPE = ("sockets-per-node", "cores-per-socket", "threads-per-core")

Text = Mapping[str, str]
"""Arguments by the name of their option."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What is asked of each node, at least, and in all."""

    nodes: Nodes
    open_ended: bool
    """It is for Slurm to choose how many nodes."""
    tasks: int
    cpus: int
    gpus: tuple[Tres, ...]
    total_gpus: int
    approximate: tuple[str, ...]


def shape_of(text: Text, *, overcommit: bool) -> Shape:
    """Work out the shape of a job. Raises ValueError for arguments that sbatch refuses."""
    per_node = _gpus_per_node(text)
    total = _total_gpus(text, per_node)
    tasks = _tasks(text, per_node, total)
    nodes = _nodes(text, tasks, per_node, total)
    tasks = tasks or _default_tasks(text, nodes)
    on_node = _count(text, "ntasks-per-node") or math.ceil(tasks / nodes.least)
    gpus, doubt = _gpus(text, per_node, total, nodes.least, on_node)
    per_task = _count(text, "cpus-per-task") or _per_task(text, "cpu") or 1
    held = sum(gpu.count for gpu in gpus)
    cpus = max(1 if overcommit else on_node * per_task, _count(text, "mincpus"), held * _count(text, "cpus-per-gpu"))
    uneven = not overcommit and tasks % nodes.least and "ntasks-per-node" not in text
    return Shape(
        nodes=nodes,
        open_ended=_asked_nodes(text) is None and not (per_node and total),
        tasks=tasks,
        cpus=cpus,
        gpus=gpus,
        total_gpus=sum(gpu.count for gpu in total) or held * nodes.least,
        approximate=(*doubt, *([f"{tasks} tasks do not divide over {nodes.least} nodes"] if uneven else [])),
    )


def node_count(hosts: str) -> int:
    """Count the hosts of `dgx[1-3,7],head`; 0 for the name of a file, which is not read."""
    if "/" in hosts:
        return 0
    opened = list(accumulate((letter == "[") - (letter == "]") for letter in hosts))
    plain = "".join(
        "\n" if letter == "," and not inside else letter for letter, inside in zip(hosts, opened, strict=True)
    )
    return sum(math.prod(map(_in_brackets, re.findall(r"\[([^\[\]]*)\]", host))) for host in plain.split("\n") if host)


def _in_brackets(group: str) -> int:
    count = 0
    for part in group.split(","):
        first, _, last = part.partition("-")
        if not (first.isdecimal() and (last or first).isdecimal()):
            return 1
        count += max(0, int(last or first) - int(first) + 1)
    return count


def _count(text: Text, name: str) -> int:
    return parse_count(text[name]) if name in text else 0


def _tres(text: Text, name: str) -> tuple[Tres, ...]:
    return tuple(gpu for gpu in last_of_each(parse_gpus(text[name])) if gpu.count) if name in text else ()


def _gpus_per_node(text: Text) -> tuple[Tres, ...]:
    """--gpus-per-node and the GPUs of --gres are one request; --gres comes last and wins."""
    gres = parse_gres(text["gres"]) if "gres" in text else ()
    asked = parse_gpus(text["gpus-per-node"]) if "gpus-per-node" in text else ()
    return tuple(gpu for gpu in last_of_each((*asked, *(each for each in gres if each.name == "gpu"))) if gpu.count)


def _total_gpus(text: Text, per_node: tuple[Tres, ...]) -> tuple[Tres, ...]:
    """--gpus; without any number of GPUs, --ntasks-per-gpu means as many as the tasks need."""
    per_gpu = _count(text, "ntasks-per-gpu") or _count(text, "ntasks-per-tres")
    if "gpus" in text or per_node or not ("ntasks" in text and per_gpu):
        return _tres(text, "gpus")
    return (Tres(name="gpu", kind=None, count=-(-_count(text, "ntasks") // per_gpu)),)


def _per_task(text: Text, name: str) -> int:
    asked = parse_tres_per_task(text["tres-per-task"]) if "tres-per-task" in text else ()
    return sum(tres.count for tres in asked if tres.name == name)


def _asked_nodes(text: Text) -> Nodes | None:
    """Return what --nodes and --nodelist say; `-N0` says nothing."""
    listed = node_count(text.get("nodelist", ""))
    asked = parse_nodes(text.get("nodes", "0"))
    most = max(asked.most, listed)
    return Nodes(least=max(asked.least, listed), most=most) if most else None


def _tasks(text: Text, per_node: tuple[Tres, ...], total: tuple[Tres, ...]) -> int:
    """Return the number of tasks where it is said or follows, else 0."""
    if "ntasks" in text:
        return _count(text, "ntasks")
    nodes = _asked_nodes(text)
    least = max(1, nodes.least) if nodes else 1
    if "ntasks-per-node" in text:
        return least * _count(text, "ntasks-per-node")
    here = sum(gpu.count for gpu in per_node)
    all_gpus = sum(gpu.count for gpu in total) or here * least
    per_gpu = _count(text, "ntasks-per-gpu") or _count(text, "ntasks-per-tres")
    if per_gpu:
        return all_gpus * per_gpu
    each = sum(gpu.count for gpu in _gpus_per_task(text))
    return math.ceil(all_gpus / each) if each else 0


def _default_tasks(text: Text, nodes: Nodes) -> int:
    """One task per node; with -B, or sockets and the like beside -N, one per thread asked for (sbatch of 22.05)."""
    counts = ("extra-node-info" in text or _asked_nodes(text) is not None) and nodes.least == nodes.most
    return max(1, nodes.least) * (max(1, math.prod(_sockets_and_cores(text).values())) if counts else 1)


def _sockets_and_cores(text: Text) -> dict[str, int]:
    """Return what -B and its long forms say; `*` and what is left out count as not said."""
    parts = dict(zip(_SHAPE, text.get("extra-node-info", "").split(":"), strict=False))
    parts |= {name: text[name] for name in _SHAPE if name in text}
    return {name: int(match[0]) for name, part in parts.items() if (match := re.match(r"\d+", part, re.ASCII))}


def _nodes(text: Text, tasks: int, per_node: tuple[Tres, ...], total: tuple[Tres, ...]) -> Nodes:
    """Return how many nodes: as said, but never more than tasks or GPUs; else as many as the per-node figures need."""
    here, everywhere = sum(gpu.count for gpu in per_node), sum(gpu.count for gpu in total)
    if here and everywhere:
        exactly = math.ceil(everywhere / here)
        return Nodes(least=exactly, most=exactly)
    asked = _asked_nodes(text)
    if asked is not None:
        bounds = [asked.most, *([tasks] if "ntasks" in text else []), *([everywhere] if everywhere else [])]
        return Nodes(least=max(1, min(asked.least, *bounds)), most=max(1, min(bounds)))
    least = math.ceil(tasks / _count(text, "ntasks-per-node")) if "ntasks-per-node" in text else 1
    return Nodes(least=least, most=least)


def _gpus(
    text: Text, per_node: tuple[Tres, ...], total: tuple[Tres, ...], nodes: int, tasks: int
) -> tuple[tuple[Tres, ...], tuple[str, ...]]:
    """Return the GPUs of one node, and in words what was rounded up."""
    if per_node:
        return per_node, ()
    if total:
        doubt = tuple(f"{gpu.count} GPUs over {nodes} nodes" for gpu in total if gpu.count % nodes)
        return tuple(_times(gpu, 1, nodes) for gpu in total), doubt
    if "gpus-per-socket" in text:
        sockets = _sockets_and_cores(text).get("sockets-per-node", 1)
        return tuple(_times(gpu, sockets) for gpu in _tres(text, "gpus-per-socket")), ("GPUs per socket",)
    return tuple(_times(gpu, tasks) for gpu in _gpus_per_task(text)), ()


def _gpus_per_task(text: Text) -> tuple[Tres, ...]:
    asked = parse_tres_per_task(text["tres-per-task"]) if "tres-per-task" in text else ()
    return _tres(text, "gpus-per-task") or tuple(tres for tres in asked if tres.name == "gpu" and tres.count)


def _times(gpu: Tres, factor: int, over: int = 1) -> Tres:
    return Tres(name=gpu.name, kind=gpu.kind, count=-(-gpu.count * factor // over))

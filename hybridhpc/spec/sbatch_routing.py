"""What the options of an sbatch script ask of a site: nodes, CPUs, memory, GPUs, time, array, and names it must have.

For choosing a place only: the script itself is submitted as it is, with whatever else it says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hybridhpc.model import Array, Mebibytes, Native, Seconds
from hybridhpc.spec.sbatch import SbatchScript, default_name
from hybridhpc.spec.sbatch_getopt import Option
from hybridhpc.spec.sbatch_shape import Shape, shape_of
from hybridhpc.spec.sbatch_values import parse_array, parse_memory, parse_time
from hybridhpc.values import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingView:
    """What one component of a job asks for. CPUs, memory and GPUs are per node, at least."""

    name: str
    nodes: int
    most_nodes: int | None
    """None: the script does not say how many nodes, and Slurm may spread it over more than `nodes`."""
    tasks: int
    cpus: int
    memory: Mebibytes | None
    """None: the site's default, or all of a node (--mem=0)."""
    gpus: tuple[tuple[str | None, int], ...]
    """Type (None: any) and number per node; several entries: all of them are wanted."""
    total_gpus: int
    walltime: Seconds | None
    """None: the partition's default, or no limit at all if `unlimited`."""
    unlimited: bool
    exclusive: str | None
    """exclusive, user, mcs or topo."""
    array: Array | None
    native: Native
    """Names that a site must have or map."""
    chdir: str | None
    output: str | None
    error: str | None
    hold: bool
    waits: bool
    """sbatch itself stays until the job has ended (--wait)."""
    test_only: bool
    approximate: tuple[str, ...]
    """What was rounded up or could not be counted, in words."""


def routing(options: Sequence[Option], script: SbatchScript) -> RoutingView:
    """Read what one component asks for from its options, each given once, as merge() returns them."""
    given = {option.name for option in options}
    text = {option.name: option.value for option in options if option.value is not None}
    shape = shape_of(text, overcommit="overcommit" in given)
    walltime = parse_time(text["time"]) if "time" in text else None
    return RoutingView(
        name=text.get("job-name") or default_name(script.path),
        nodes=shape.nodes.least,
        most_nodes=None if shape.open_ended else shape.nodes.most,
        tasks=shape.tasks,
        cpus=shape.cpus,
        memory=_memory(text, shape),
        gpus=tuple((gpu.kind, gpu.count) for gpu in shape.gpus),
        total_gpus=shape.total_gpus,
        walltime=walltime,
        unlimited="time" in text and walltime is None,
        exclusive=_exclusive(given, text),
        array=_array(text),
        native=_native(text),
        chdir=text.get("chdir"),
        output=text.get("output"),
        error=text.get("error"),
        hold="hold" in given,
        waits="wait" in given,
        test_only="test-only" in given,
        approximate=(*shape.approximate, *_not_counted(given, text, script)),
    )


def _memory(text: Mapping[str, str], shape: Shape) -> Mebibytes | None:
    """Return MiB per node: as said, or per CPU or GPU times their number; of several the first that says a number."""
    times = {"mem": 1, "mem-per-cpu": shape.cpus, "mem-per-gpu": sum(gpu.count for gpu in shape.gpus)}
    said = ((parse_memory(text[name]), count) for name, count in times.items() if name in text)
    return next((Mebibytes(amount * count) for amount, count in said if amount), None)


def _array(text: Mapping[str, str]) -> Array | None:
    """Return the array; an empty --array asks for none."""
    indices = parse_array(text["array"]) if "array" in text else None
    return Array(text=text["array"], tasks=indices.tasks, throttle=indices.throttle) if indices else None


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

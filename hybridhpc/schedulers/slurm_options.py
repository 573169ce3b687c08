"""The options of sbatch for a job in a partition: all of them for a spec, the differences for a script. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from hybridhpc.model import Gpus, JobSpec, Launcher, Native, Script, Work
from hybridhpc.sites.site import Site
from hybridhpc.units import format_walltime

_MAPPED = ("constraint", "reservation", "licenses", "nodelist")
_GPU_OPTION = re.compile(rb"(?:--(gres|gpus(?:-per-(?:node|task|socket))?)[=\s]\s*|(-G)\s*)[\"']?([^\s\"']+)")
_DIRECTIVE = re.compile(rb"#SBATCH\s(.*)")
_WORD = re.compile(r"[\w.-]+")
_MOST_SECONDS_OF_WARNING = 65535
"""sbatch(1), --signal."""


def directives(spec: JobSpec, site: Site, partition: str, gpus: Gpus | None) -> tuple[str, ...]:
    """Return the options, long and with `=`.

    For an sbatch script: nothing on the Slurm it was written for (the one this machine speaks to), elsewhere what that
    site calls differently.
    """
    if isinstance(spec.payload, Work):
        return _spelled(_of_work(spec, spec.payload, site, partition, gpus))
    if site.transport == "local":
        return ()
    return _spelled(dict(_of_script(spec.native, spec.payload, site, partition)))


def _spelled(options: dict[str, str | None]) -> tuple[str, ...]:
    return tuple(f"--{name}" if value is None else f"--{name}={value}" for name, value in options.items())


def _of_work(spec: JobSpec, work: Work, site: Site, partition: str, gpus: Gpus | None) -> dict[str, str | None]:
    options: dict[str, str | None] = {"job-name": spec.name, "partition": partition}
    options |= _shape(spec, work, gpus)
    options |= _gpus(site, gpus)
    if spec.resources.walltime is not None:
        # Slurm counts whole minutes and rounds up; said here, so that the plan shows what is asked.
        options["time"] = format_walltime(-(-spec.resources.walltime // 60) * 60)
    if spec.array is not None:
        options["array"] = spec.array.text
    own = (("account", site.account_for(partition)), ("qos", site.qos_for(partition)))
    options |= {name: value for name, value in own if value}
    options |= _ending(work)
    options |= {"open-mode": "append", "output": "%A_%a.log" if spec.array else "%j.log", "export": "ALL"}
    for name, value in (*site.slurm, *site.partition(partition).slurm, *_renamed(work, site)):
        _override(options, name, value)
    return options


def _shape(spec: JobSpec, work: Work, gpus: Gpus | None) -> dict[str, str | None]:
    """Return nodes, tasks, CPUs and memory. CPUs are given to the tasks of a node in equal parts, rounded down."""
    asked = spec.resources
    # Slurm starts one torchrun on a node, and that starts the tasks.
    one = work.launcher is Launcher.TORCHRUN and work.tasks_per_node is None
    tasks = 1 if one else work.tasks_on_node(gpus, asked.cpus)
    shape: dict[str, str | None] = {"nodes": str(asked.nodes), "ntasks-per-node": str(tasks)}
    if asked.cpus is not None:
        shape["cpus-per-task"] = str(max(1, asked.cpus // tasks))
    if asked.memory is not None:
        shape["mem"] = f"{asked.memory}M"
    if asked.whole_nodes:
        shape["exclusive"] = None
    return shape


def _gpus(site: Site, gpus: Gpus | None) -> dict[str, str | None]:
    if gpus is None or not gpus.count:
        return {}
    kind = f"{site.native_gpu(gpus.kind)}:" if gpus.kind else ""
    return {"gpus-per-node": f"{kind}{gpus.count}"}


def _ending(work: Work) -> dict[str, str | None]:
    """Return what happens at the end: the warning before it, and whether Slurm requeues (a retry has one owner)."""
    ending: dict[str, str | None] = {}
    if work.checkpoint is not None:
        grace = min(int(work.checkpoint.grace), _MOST_SECONDS_OF_WARNING)
        ending["signal"] = f"B:{work.checkpoint.signal.removeprefix('SIG')}@{grace}"
    ending["requeue" if work.retries.preempted or work.retries.node_fail else "no-requeue"] = None
    return ending


def _override(options: dict[str, str | None], name: str, value: str | None) -> None:
    """Put in a native option; of --requeue and --no-requeue the later one stands. The placement is not overridden."""
    if name == "partition":
        return
    if name in ("requeue", "no-requeue"):
        options.pop("requeue", None)
        options.pop("no-requeue", None)
    options[name] = value


def _renamed(work: Work, site: Site) -> Iterator[tuple[str, str | None]]:
    """Yield the spec's native options with the site's own names for foreign accounts, QOS and so on."""
    for name, value in work.slurm:
        yield name, value if value is None else _own(site, name, value)


def _of_script(native: Native, script: Script, site: Site, partition: str) -> Iterator[tuple[str, str | None]]:
    if native.partition != partition:
        yield "partition", partition
    for kind, default in (("account", site.account_for(partition)), ("qos", site.qos_for(partition))):
        foreign = getattr(native, kind)
        own = _own(site, kind, foreign) if foreign else default
        if own and own != foreign:
            yield kind, own
    for kind in _MAPPED:
        foreign = getattr(native, kind)
        if foreign and (own := _own(site, kind, foreign)) != foreign:
            yield kind, own
    if native.cluster and (own := _own(site, "cluster", native.cluster)) != native.cluster:
        yield "clusters", own
    yield from _gpu_names(script, site)


def _own(site: Site, kind: str, foreign: str) -> str:
    """Return the site's name for a foreign one, whole or word by word (`a100&ib`); as it is if there is none."""
    names = {theirs: own for known, theirs, own in site.names if known == kind}
    return names.get(foreign) or _WORD.sub(lambda word: names.get(word.group(), word.group()), foreign)


def _gpu_names(script: Script, site: Site) -> Iterator[tuple[str, str | None]]:
    """Yield the script's GPU options, the last of each kind, where the site has another word for the GPU."""
    lines = [match.group(1) for match in _DIRECTIVE.finditer(script.content)]
    lines += [b" ".join(flag.encode("utf-8", "surrogateescape") for flag in script.flags)]
    asked = {}
    for match in _GPU_OPTION.finditer(b"\n".join(lines)):
        asked[(match.group(1) or b"gpus").decode()] = match.group(3).decode("utf-8", "replace")
    for name, value in asked.items():
        own = ",".join(_native_gpu(part, site) for part in value.split(","))
        if own != value:
            yield name, own


def _native_gpu(text: str, site: Site) -> str:
    """Return `gpu:H100:8` or `H100:8` with the site's word for the GPU, where the site file has one."""
    known = {word.lower() for word, _ in site.gres}
    return ":".join(site.native_gpu(word) if word.lower() in known else word for word in text.split(":"))

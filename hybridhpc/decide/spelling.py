"""A change that would admit a job, in the spelling of what was submitted: a key of the spec, or an option of sbatch.

Of a script an option is named only if adding it on the command line asks for just that: what the script says stays.
"""

from __future__ import annotations

from hybridhpc.model import Gpus, JobSpec, Script
from hybridhpc.units import format_memory, format_walltime, spell_time

OPTIONS = {
    "nodes": "--nodes",
    "time": "--time",
    "partition": "--partition",
    "account": "--account",
    "qos": "--qos",
    "constraint": "--constraint",
    "reservation": "--reservation",
    "licenses": "--licenses",
    "nodelist": "--nodelist",
    "cluster": "--clusters",
}
"""Options of sbatch by what they ask for; the kinds of a Native are among them."""
_KEYS = ("nodes", "time", "gpus", "cpus", "memory")
"""Keys of a spec; of the others it keeps what it has below `slurm:`."""
_TASKS = ("ntasks", "ntasks-per-node", "ntasks-per-core", "ntasks-per-gpu", "ntasks-per-socket", "ntasks-per-tres")
_GPUS = ("gpus-per-node", "gres", "gpus", "gpus-per-task", "gpus-per-socket", "tres-per-task")
_IN_ALL = (
    "ntasks", "gpus", "gpus-per-task", "tres-per-task", "nodelist", "nodefile", "ntasks-per-gpu", "ntasks-per-tres",
)  # fmt: skip
"""What each node gets of these depends on how many nodes there are."""


def spelled(spec: JobSpec, kind: str, value: str) -> str:
    """Spell one wish: `nodes: 4`, `slurm: {account: ml}`; for a script `--nodes=4`, `--account=ml`."""
    if isinstance(spec.payload, Script):
        return f"{OPTIONS[kind]}={value}"
    return f"{_key(spec, kind)}: {value}" if kind in _KEYS else f"slurm: {{{kind}: {value}}}"


def spelled_time(spec: JobSpec, seconds: int) -> str:
    """Spell a walltime: `time: 12h`; for a script `--time=12:00:00`."""
    return spelled(spec, "time", format_walltime(seconds) if isinstance(spec.payload, Script) else spell_time(seconds))


def spelled_nodes(spec: JobSpec, count: int, most: int | None = None) -> str:
    """Spell a number of nodes, or a range; empty if a script says what each gets by another number than theirs."""
    text = str(count) if most is None or most == count else f"{count}-{most}"
    if not isinstance(spec.payload, Script):
        return spelled(spec, "nodes", text)
    hangs = spec.resources.spread or spec.resources.approximate or _asks(spec.payload, _IN_ALL)
    return "" if hangs else spelled(spec, "nodes", text)


def spelled_memory(spec: JobSpec, mebibytes: int) -> str:
    """Spell memory per node: `memory: 64GiB`; for a script `--mem=64G`. Empty if that counts it otherwise."""
    text = format_memory(mebibytes)
    if not isinstance(spec.payload, Script):
        return spelled(spec, "memory", text)
    if spec.resources.approximate or _asks(spec.payload, ("mem-per-cpu", "mem-per-gpu")):
        return ""
    return f"--mem={text.removesuffix('iB')}"


def spelled_cpus(spec: JobSpec, count: int) -> str:
    """Spell CPUs per node: `cpus: 64`; for a script `--cpus-per-task=64`. Empty if that has them by tasks or GPUs."""
    if not isinstance(spec.payload, Script):
        return spelled(spec, "cpus", str(count))
    hangs = spec.resources.spread and not _asks(spec.payload, ("cpus-per-task",))
    if hangs or spec.resources.approximate or _asks(spec.payload, (*_TASKS, *_IN_ALL, "cpus-per-gpu", "mincpus")):
        return ""
    return f"--cpus-per-task={count}"


def spelled_gpus(spec: JobSpec, gpus: Gpus) -> str:
    """Spell GPUs per node: `gpus: H100:4`; for a script as it asks for them. Empty if that counts them in all."""
    if not isinstance(spec.payload, Script):
        return spelled(spec, "gpus", str(gpus))
    asked = dict(spec.payload.asked)
    options = [option for option in _GPUS if option in asked]
    if spec.resources.approximate or len(options) != 1 or "," in (value := asked[options[0]]):
        return ""
    kind = f"{gpus.kind}:" if gpus.kind else ""
    if options == ["gpus-per-node"]:
        return f"--gpus-per-node={kind}{gpus.count}"
    return f"--gres=gpu:{kind}{gpus.count}" if options == ["gres"] and value.startswith("gpu") else ""


def _key(spec: JobSpec, kind: str) -> str:
    """Return the key as the person spelled it: `num_nodes` for nodes."""
    return dict(spec.aliases).get(kind, kind)


def _asks(script: Script, options: tuple[str, ...]) -> bool:
    return not {name for name, _ in script.asked}.isdisjoint(options)

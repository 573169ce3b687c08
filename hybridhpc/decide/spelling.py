"""A change that would admit a job, in the spelling of what was submitted: a key of the spec, or an option of sbatch."""

from __future__ import annotations

from hybridhpc.model import JobSpec, Work
from hybridhpc.units import format_memory, format_walltime, spell_time

OPTIONS = {
    "nodes": "--nodes",
    "time": "--time",
    "gpus": "--gpus-per-node",
    "memory": "--mem",
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
_KEYS = ("nodes", "time", "gpus", "memory")
"""Keys of a spec; of the others it keeps what it has below `slurm:`."""


def spelled(spec: JobSpec, kind: str, value: str) -> str:
    """Spell one wish: `nodes: 4`, `slurm: {account: ml}`; for a script `--nodes=4`, `--account=ml`."""
    if not isinstance(spec.payload, Work):
        return f"{OPTIONS[kind]}={value}"
    return f"{kind}: {value}" if kind in _KEYS else f"slurm: {{{kind}: {value}}}"


def spelled_time(spec: JobSpec, seconds: int) -> str:
    """Spell a walltime: `time: 12h`; for a script `--time=12:00:00`."""
    return spelled(spec, "time", spell_time(seconds) if isinstance(spec.payload, Work) else format_walltime(seconds))


def spelled_memory(spec: JobSpec, mebibytes: int) -> str:
    """Spell memory per node: `memory: 64GiB`; for a script `--mem=64G`."""
    text = format_memory(mebibytes)
    return spelled(spec, "memory", text if isinstance(spec.payload, Work) else text.removesuffix("iB"))


def spelled_gpus(spec: JobSpec, count: int, kind: str | None) -> str:
    """Spell GPUs per node: `gpus: H100:4`; for a script `--gpus-per-node=4`, which asks for no kind."""
    return spelled(spec, "gpus", f"{kind}:{count}" if kind and isinstance(spec.payload, Work) else str(count))

"""The one table of other spellings: keys of SkyPilot and dstack that mean one of ours, and those that cannot be kept.

What a key's value must look like does not belong here.
"""

from __future__ import annotations

from collections.abc import Mapping

from hybridhpc.document import Document, KeyPath, dotted
from hybridhpc.errors import Problem
from hybridhpc.readers import Plain, quoted

ALIASES = {
    "num_nodes": "nodes",
    "resources.accelerators": "resources.gpus",
    "resources.gpu": "resources.gpus",
    "resources.cpu": "resources.cpus",
    "max_duration": "time",
    "infra": "where",
    "resources.infra": "where",
    "container": "image",
    "image_id": "image",
    "resources.image_id": "image",
    "envs": "env",
    "commands": "run",
    "working_dir": "workdir",
    "mounts": "binds",
    "file_mounts": "binds",
    "volumes": "binds",
}
"""Accepted silently; both spellings at once are refused."""

_PURCHASE = ("is not chosen by the job", "what can be bought is a site's: write where: SITE/PARTITION of spot nodes")
_HOURLY = ("limits the price of an hour, which is not supported", "write goal: {max_cost: 500 USD} for the whole job")
_PLACE = ("names places of another tool", "write where: SITE or SITE/PARTITION, or leave it out for any")
_WHERE = ("is a place", "write where: SITE or SITE/PARTITION, or leave it out for any")
_RETRY = ("is not known here", "write retries: {preempted: 20, node_fail: 3}")
_ANY_OF = ("is not known here", "write gpus: [H100:8, A100:8], best first, and where: [SITE, SITE/PARTITION]")
_AFTER = ("is not known here", "write after: {ok: [prep]}")
_NATIVE = ("is a native option", "write slurm: {account: ml, qos: high}")
_SERVICE = ("belongs to a service; jobs here run to an end and open no ports", "leave it out")
_DISK = ("cannot be asked for", "leave it out; a site's storage is what its nodes have")
_COPY = ("does not exist here", "put files into workdir, or fetch them in setup")
_SETUP = ("is not known here", "write setup: module load cuda, or source venv/bin/activate")
_RUN = ("is not known here", "write run: python train.py")
_SWEEP = ("is not known here", "write matrix: {LR: [0.1, 0.01], SEED: 0-9}")
_LOG = ("cannot be chosen", "leave it out: hpc logs shows the output, wherever the job ran")
_MAIL = ("is not known here", "write slurm: {mail-type: END, mail-user: ME@EXAMPLE.ORG}")
_CARD = ("is not known here", "write resources: {gpus: H100:8}, per node")

FOREIGN: Mapping[str, tuple[str, str]] = {
    "spot": _PURCHASE,
    "use_spot": _PURCHASE,
    "spot_policy": _PURCHASE,
    "max_price": _HOURLY,
    "max_hourly_cost": _HOURLY,
    "priority": ("has no common meaning between sites", "write slurm: {nice: 100} or slurm: {qos: high}"),
    "retry": _RETRY,
    "job_recovery": _RETRY,
    "depends_on": _AFTER,
    "dependencies": _AFTER,
    "any_of": _ANY_OF,
    "ordered": _ANY_OF,
    "cloud": _PLACE,
    "region": _PLACE,
    "regions": _PLACE,
    "zone": _PLACE,
    "availability_zones": _PLACE,
    "backends": _PLACE,
    "fleets": _PLACE,
    "instance_type": ("names a machine type", "write what the job needs: resources: {gpus: H100:8, memory: 64GiB}"),
    "instance_types": ("names machine types", "write what the job needs: resources: {gpus: H100:8, memory: 64GiB}"),
    "type": ("is not needed: every spec here is a job", "leave it out"),
    "config": ("is not known here", "write scheduler options below slurm:, as in slurm: {account: ml}"),
    "sbatch_options": ("is not known here", "write them below slurm:, as in slurm: {account: ml}"),
    "account": _NATIVE,
    "qos": _NATIVE,
    "constraint": _NATIVE,
    "reservation": _NATIVE,
    "partition": ("is a place", "write where: SITE/PARTITION"),
    "gpus_per_node": _CARD,
    "gres": _CARD,
    "queue": _WHERE,
    "site": _WHERE,
    "sites": _WHERE,
    "host": _WHERE,
    "cluster": _WHERE,
    "timeout": ("is not known here", "write time: 12h"),
    "module": _SETUP,
    "modules": _SETUP,
    "conda": _SETUP,
    "venv": _SETUP,
    "command": _RUN,
    "cmd": _RUN,
    "script": _RUN,
    "entrypoint": _RUN,
    "cwd": ("is not known here", "write workdir: ."),
    "sweep": _SWEEP,
    "grid": _SWEEP,
    "params": _SWEEP,
    "parameters": _SWEEP,
    "hyperparameters": _SWEEP,
    "output": ("is not known here", "write outputs: [results/] for what hpc fetch brings; hpc logs shows the log"),
    "log": _LOG,
    "stdout": _LOG,
    "stderr": _LOG,
    "email": _MAIL,
    "notify": _MAIL,
    "depends": _AFTER,
    "ntasks_per_node": ("is not known here", "write tasks_per_node: 8"),
    "service": _SERVICE,
    "ports": _SERVICE,
    "replicas": _SERVICE,
    "disk": _DISK,
    "disk_size": _DISK,
    "disk_tier": _DISK,
    "shm_size": _DISK,
    "files": _COPY,
    "repos": _COPY,
    "inputs": _COPY,
    "python": ("is not installed for a job", "name an image that has it, or prepare it in setup"),
    "registry_auth": ("is not accepted; its text is not shown", "log in to the registry at the site"),
    "privileged": ("is never granted: containers run as the person", "leave it out"),
    "autostop": ("is not needed: nothing is left running when a job ends", "leave it out"),
    "idle_duration": ("is not needed: nothing is left running when a job ends", "leave it out"),
}
"""Keys of other tools that would be ignored if they were accepted: why, and what to write."""


def option_of_sbatch(key: str) -> tuple[str, str] | None:
    """Say what stands for a key that is an option of sbatch; None if it is none."""
    from hybridhpc.sites.options import DERIVED
    from hybridhpc.spec.sbatch_options import BY_NAME

    name = key.replace("_", "-")
    if name in DERIVED:
        return "is an option of sbatch", DERIVED[name]
    return ("is an option of sbatch", f"write it below slurm: {{{name}: ...}}") if name in BY_NAME else None


def rename(document: Document) -> tuple[dict[str, Plain], dict[KeyPath, KeyPath], list[Problem]]:
    """Return the tree in our spelling, how each renamed key stands in the file, and keys that are spelled twice."""
    root = {key: dict(value) if isinstance(value, dict) else value for key, value in document.root.items()}
    spelled: dict[KeyPath, KeyPath] = {}
    problems: list[Problem] = []
    for alias, key in ALIASES.items():
        there, here = tuple(alias.split(".")), tuple(key.split("."))
        value = _taken(root, there)
        if value is None:
            continue
        if _get(root, here) is not None:
            other = spelled.get(here, here)
            message = f"says the same as {dotted(other)} on line {document.lines.get(other)}"
            problems.append(document.problem(there, message, "keep one of them"))
            continue
        spelled[here] = there
        _put(root, here, value)
        problems += _converted(document, root, there)
    return root, spelled, problems


def _converted(document: Document, root: dict[str, Plain], there: KeyPath) -> list[Problem]:
    """Make SkyPilot's `infra: slurm/cluster/partition` a place of ours."""
    if there[-1] != "infra":
        return []
    value = root["where"]
    if isinstance(value, str) and value.startswith("slurm/"):
        root["where"] = value.removeprefix("slurm/")
        return []
    root["where"] = None
    shown = f"{quoted(value)} names" if isinstance(value, str) else "names"
    return [document.problem(there, f"{shown} no cluster of Slurm", "write where: SITE or infra: slurm/SITE/PARTITION")]


def _taken(root: dict[str, Plain], path: tuple[str, ...]) -> Plain:
    """Remove a key and return its value."""
    parent = root if len(path) == 1 else root.get(path[0])
    return parent.pop(path[-1], None) if isinstance(parent, dict) else None


def _get(root: dict[str, Plain], path: tuple[str, ...]) -> Plain:
    parent = root if len(path) == 1 else root.get(path[0])
    return parent.get(path[-1]) if isinstance(parent, dict) else None


def _put(root: dict[str, Plain], path: tuple[str, ...], value: Plain) -> None:
    parent = root if len(path) == 1 else root.get(path[0])
    if isinstance(parent, dict):
        parent[path[-1]] = value

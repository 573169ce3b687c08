"""Which keys a spec has and how each is written. What the values become together is yaml.py's."""

from __future__ import annotations

from functools import cache
from typing import Any

from hybridhpc.model import After, Checkpoint, Goal, Launcher, Move, Retries
from hybridhpc.readers import Fault, choice, whole
from hybridhpc.schema import Form, either, plain, record, refused, several, table, then, word
from hybridhpc.sites.options import WithPlugins, options
from hybridhpc.sites.plugins import PluginOptions
from hybridhpc.spec import values
from hybridhpc.spec.aliases import ALIASES, FOREIGN, option_of_sbatch
from hybridhpc.spec.native import judge
from hybridhpc.spec.places import places, read_label, read_place
from hybridhpc.spec.sweep import MAX_POINTS, matrix_points, read_parameter, read_values
from hybridhpc.units import parse_walltime

WRITE = {
    "name": "name: train",
    "nodes": "nodes: 2",
    "resources": "resources: {gpus: H100:8, cpus: 104, memory: 1800GiB}",
    "resources.gpus": "gpus: H100:8",
    "resources.cpus": "cpus: 16",
    "resources.memory": "memory: 64GiB",
    "time": "time: 12h",
    "image": "image: docker://nvcr.io/nvidia/pytorch:25.10-py3",
    "binds": "binds: [/data:/data:ro]",
    "workdir": "workdir: .",
    "outputs": "outputs: [results/, metrics.json]",
    "tasks_per_node": "tasks_per_node: 8",
    "env": "env: {NCCL_DEBUG: WARN}",
    "env.*": "NCCL_DEBUG: WARN",
    "secrets": "secrets: {WANDB_API_KEY: secret://env/WANDB_API_KEY}",
    "secrets.*": "WANDB_API_KEY: secret://env/WANDB_API_KEY",
    "setup": "setup: pip install -r requirements.txt",
    "launcher": "launcher: torchrun",
    "run": "run: python train.py",
    "array": "array: 0-99%10",
    "matrix": "matrix: {LR: [0.1, 0.01], SEED: 0-9}",
    "matrix.*": "SEED: 0-9",
    "parallel": "parallel: 10",
    "after": "after: {ok: [prep]}",
    "after.ok": "ok: [prep]",
    "after.any": "any: [prep]",
    "after.notok": "notok: [prep]",
    "after.start": "start: [prep]",
    "checkpoint": "checkpoint: {dir: ckpt, signal: USR1, grace: 2m}",
    "checkpoint.dir": "dir: ckpt",
    "checkpoint.signal": "signal: USR1",
    "checkpoint.grace": "grace: 2m",
    "retries": "retries: {preempted: 20, node_fail: 3, failed: 0}",
    "retries.preempted": "preempted: 20",
    "retries.node_fail": "node_fail: 3",
    "retries.timeout": "timeout: 5",
    "retries.failed": "failed: 1",
    "move": "move: advise",
    "where": "where: auto",
    "residency": "residency: onprem",
    "goal": "goal: balanced",
    "goal.value_of_time": "value_of_time: 30 USD/h",
    "goal.deadline": "deadline: 2026-12-01T09:00+09:00",
    "goal.max_cost": "max_cost: 500 USD",
    "slurm": "slurm: {account: ml, qos: high}",
    "slurm.*": "account: ml",
}
"""Every key and how to write it; `*` is a name of the person's own."""

MAX_TEXT = 200_000
MAX_NODES = 100_000
MAX_TASKS_PER_NODE = 10_000
MAX_RETRIES = 1000


def _lines(found: tuple[str, ...]) -> str:
    return "\n".join(found)


def _command(text: str) -> str:
    if not text.strip():
        raise Fault("is empty")
    return text


def _pairs(found: dict[str, Any]) -> tuple[tuple[str, Any], ...]:
    return tuple(found.items())


def _distinct(found: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    names = [name for name, _ in found]
    for name in names:
        if names.count(name) > 1:
            raise Fault(f"{name} stands twice", "keep one of them")
    return found


def _after(found: dict[str, tuple[str, ...]]) -> tuple[After, ...]:
    return tuple(After(kind=kind, jobs=jobs) for kind, jobs in found.items())


def _after_ok(jobs: tuple[str, ...]) -> tuple[After, ...]:
    return (After(kind="ok", jobs=jobs),)


def _goal(found: dict[str, Any]) -> Goal:
    return Goal(**{"value_of_time": values.GOALS["balanced"], **found})


def _goal_word(text: str) -> Goal:
    return Goal(value_of_time=values.GOALS[text])


def _checkpoint(found: dict[str, Any]) -> Checkpoint:
    return Checkpoint(directory=found.pop("dir"), **found)


_TEXT = word(str, longest=MAX_TEXT)
_SCRIPT = then(several(_TEXT), _lines)
_JOBS = several(word(values.read_dependency, longest=1000))
_RETRY = word(whole(0, MAX_RETRIES))
_PAIRS = then(several(word(values.read_env_pair, longest=MAX_TEXT)), _distinct)
_BINDS = several(plain(values.read_bind))
_COPIES = refused(
    "would copy or mount things by name, which is not done",
    "bind directories of the node, as in [/data:/data:ro]; put files into workdir; fetch buckets in setup",
)
_SHOWN = refused("must be NAME: secret://...; the text is not shown")

_FIELDS = dict(
    name=word(values.read_name, longest=1000),
    nodes=word(whole(1, MAX_NODES)),
    resources=record(
        gpus=several(plain(values.read_gpus), split=values.gpu_entries),
        cpus=word(values.read_cpus),
        memory=word(values.read_memory),
    ),
    time=word(parse_walltime),
    image=word(values.read_image, longest=1000),
    binds=either(list=_BINDS, text=_BINDS, mapping=_COPIES),
    workdir=word(values.read_path, longest=1000),
    outputs=several(word(values.read_output, longest=1000)),
    tasks_per_node=word(whole(1, MAX_TASKS_PER_NODE)),
    env=either(
        mapping=then(table(values.read_env_name, plain(values.read_env_value)), _pairs),
        list=_PAIRS,
        text=_PAIRS,
    ),
    secrets=either(
        mapping=then(table(values.read_env_name, plain(values.read_secret)), _pairs),
        list=_SHOWN,
        text=_SHOWN,
    ),
    setup=_SCRIPT,
    launcher=then(word(choice(*(launcher.value for launcher in Launcher))), Launcher),
    run=then(_SCRIPT, _command),
    array=word(values.read_array, longest=20_000),
    matrix=then(table(read_parameter, plain(read_values)), matrix_points),
    parallel=word(whole(1, MAX_POINTS)),
    after=either(
        mapping=then(record(ok=_JOBS, any=_JOBS, notok=_JOBS, start=_JOBS), _after),
        list=then(_JOBS, _after_ok),
        text=then(_JOBS, _after_ok),
    ),
    checkpoint=then(
        record(
            "dir",
            dir=word(values.read_path, longest=1000),
            signal=word(values.read_signal),
            grace=word(values.read_grace),
        ),
        _checkpoint,
    ),
    retries=then(
        record(preempted=_RETRY, node_fail=_RETRY, timeout=_RETRY, failed=_RETRY), lambda found: Retries(**found)
    ),
    move=then(word(choice(*(move.value for move in Move))), Move),
    where=then(several(word(read_place)), places),
    residency=word(read_label),
    goal=either(
        text=then(word(choice(*values.GOALS)), _goal_word),
        mapping=then(
            record(
                value_of_time=word(values.read_worth),
                deadline=word(values.read_deadline),
                max_cost=word(values.read_cost),
            ),
            _goal,
        ),
    ),
)
"""All keys but `slurm`."""


@cache
def spec_form(plugins: PluginOptions = ()) -> Form:
    """Return the form of a spec; `plugins` are options that plugins of sites add to those of sbatch."""
    known = WithPlugins(judge=judge, options=plugins) if plugins else judge
    return Form(
        record("run", **_FIELDS, slurm=options(judge=known)),
        write=WRITE,
        aliases=ALIASES,
        foreign=FOREIGN,
        strange=option_of_sbatch,
    )

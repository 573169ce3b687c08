"""From the words of a command line to wishes: read the files, resolve dependencies, name the request."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import click

from hybridhpc.client import Client
from hybridhpc.config import read_file, settings
from hybridhpc.errors import NotFound, UsageError
from hybridhpc.model import JobSpec, Work
from hybridhpc.planning import Wish

Verb = TypeVar("Verb", bound=Callable[..., Any])

where_option: Callable[[Verb], Verb] = click.option(
    "--where", metavar="PLACE", help="auto, a site, site/partition, or several with commas; !site excludes."
)
goal_option: Callable[[Verb], Verb] = click.option(
    "--goal", metavar="GOAL", help="cheap, balanced, fast, or what an hour of waiting is worth (30 USD/h)."
)


def read_wishes(client: Client, words: Sequence[str], where: str | None, goal: str | None) -> list[Wish]:
    """Return what is asked for, in the order of dependencies. Raises UsageError, NotFound, SpecError."""
    is_yaml = bool(words) and words[0].endswith((".yaml", ".yml")) and not words[0].startswith("-")
    specs = _read_specs(client, words) if is_yaml else _read_script(client, words)
    return [_wish(client, _placed(client, spec, where, goal), words) for spec in specs]


def _read_script(client: Client, words: Sequence[str]) -> list[JobSpec]:
    from hybridhpc.spec.read import read_script
    from hybridhpc.spec.sbatch import is_sbatch_script, script_position

    position = script_position(words)
    if position is None:
        raise UsageError("no file is named", hint="hpc submit train.yaml --where auto")
    path = Path(client.cwd, words[position])
    content = read_file(path)
    if is_sbatch_script(content, str(path)):
        return [read_script(content, str(path), flags=words[:position], args=words[position + 1 :], env=client.env)]
    if position:
        raise UsageError(f"{words[0]!r} is an option of sbatch", hint="write it into the spec, under `slurm:`")
    return _read_specs(client, words)


def _read_specs(client: Client, words: Sequence[str]) -> list[JobSpec]:
    from hybridhpc.spec.dependencies import check_dependencies
    from hybridhpc.spec.yaml import parse_spec

    paths = [Path(client.cwd, word) for word in words]
    specs = [parse_spec(read_file(path), str(path), now=client.clock()) for path in paths]
    return list(check_dependencies(specs, known=_Known(client)))


class _Known:
    """What the ledger knows, as something that jobs are in."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def __contains__(self, job: object) -> bool:
        try:
            return bool(self._client.ledger.find(str(job)))
        except NotFound:
            return False


def _placed(client: Client, spec: JobSpec, where: str | None, goal: str | None) -> JobSpec:
    """Apply the flags, and the settings where the spec itself says nothing."""
    from hybridhpc.spec.flags import parse_goal, parse_where

    known = settings(client.paths, client.env)
    if where or spec.where == ("auto",):
        source, text = ("--where", where) if where else (known["where"].source, known["where"].value)
        spec = replace(spec, where=parse_where(text, source))
    if goal or spec.goal is None:
        source, text = ("--goal", goal) if goal else (known["goal"].source, known["goal"].value)
        spec = replace(spec, goal=parse_goal(text, source))
    return spec


def _wish(client: Client, spec: JobSpec, words: Sequence[str]) -> Wish:
    asked = {name: value for name, value in client.env.items() if name.startswith("SBATCH_")}
    content = [spec.digest, spec.file, list(words), client.cwd, spec.where, sorted(asked.items()), _tree(spec)]
    request = hashlib.sha256(json.dumps(content).encode()).hexdigest()
    return Wish(spec=spec, request=request, cwd=client.cwd)


def _tree(spec: JobSpec) -> list[tuple[str, int, int]]:
    """Return what tells one state of a workdir from another: names, sizes and times of its files."""
    if not isinstance(spec.payload, Work) or spec.payload.workdir is None:
        return []
    root = Path(spec.payload.workdir)
    found = [(path, path.lstat()) for path in sorted(root.rglob("*"))]
    return [(str(path.relative_to(root)), seen.st_size, seen.st_mtime_ns) for path, seen in found]


def with_dependencies(client: Client, wish: Wish) -> Wish:
    """Look the jobs up that a spec comes after. Raises NotFound if the ledger has none of that name."""
    found = [
        (after.kind, record.plan.site, record.job_id)
        for after in wish.spec.after
        for record in (client.ledger.find(job) for job in after.jobs)
    ]
    return replace(wish, dependencies=tuple(found))

"""From the words of a command line to wishes: read the files, resolve dependencies, name the request."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import click

from hybridhpc.cli._context import plugin_options
from hybridhpc.cli._faults import Faults
from hybridhpc.client import Client
from hybridhpc.config import read_file, settings
from hybridhpc.decide.residence import led_to
from hybridhpc.errors import NotFound, SpecError, UsageError
from hybridhpc.model import JobSpec, Work
from hybridhpc.planning import Wish
from hybridhpc.secret_files import check_secrets
from hybridhpc.shipped import shipped
from hybridhpc.spec.dependencies import check_dependencies
from hybridhpc.spec.fault import problem_of
from hybridhpc.spec.places import CLOUD, ONPREM, unknown_names

Verb = TypeVar("Verb", bound=Callable[..., Any])


def _joined(ctx: click.Context, param: click.Parameter, places: tuple[str, ...]) -> str | None:
    """Let `--where cloud --where '!aws'` mean `cloud,!aws`."""
    return ",".join(places) if places else None


where_option: Callable[[Verb], Verb] = click.option(
    "--where",
    metavar="PLACE",
    multiple=True,
    callback=_joined,
    help="auto, a site, site/partition or label (cloud, onprem), or several with commas; !site excludes, "
    "gpu-memory>=80GiB narrows.",
)
SWEEP_HINT = "write matrix: {SEED: 0-9}, or give --csv FILE"
goal_option: Callable[[Verb], Verb] = click.option(
    "--goal", metavar="GOAL", help="cheap, balanced, fast, or what an hour of waiting is worth (30 USD/h)."
)


csv_option: Callable[[Verb], Verb] = click.option(
    "--csv", "table", metavar="FILE", help="A sweep: one job per line; its first line names the parameters."
)


def read_wishes(
    client: Client, words: Sequence[str], where: str | None, goal: str | None, table: str | None = None
) -> list[Wish]:
    """Return what is asked for, in the order of dependencies.

    Raises UsageError, NotFound, and SpecError with the problems of all files.
    """
    is_yaml = bool(words) and words[0].endswith((".yaml", ".yml")) and not words[0].startswith("-")
    faults = Faults()
    specs = _read_specs(client, words, faults) if is_yaml else _read_script(client, words, faults)
    found = []
    for spec in specs:
        with faults.noted():
            swept = _with_table(client, spec, table) if table is not None else spec
            if swept.parallel is not None and swept.points is None:
                message = "says how many points of a sweep run at once, and there is none"
                faults.note(problem_of(spec, "parallel", message, SWEEP_HINT))
            found.append(_wish(client, _placed(client, swept, where, goal, faults), words))
    faults.tell()
    return found


def _with_table(client: Client, spec: JobSpec, table: str) -> JobSpec:
    """Make a job a sweep over the rows of a CSV file. Raises UsageError, NotFound, SpecError."""
    from hybridhpc.spec.sweep import parse_csv, with_points

    if not isinstance(spec.payload, Work) or spec.array is not None:
        what = f"an array {'already' if spec.points is None else 'of its own matrix'}" if spec.array else "a script"
        raise UsageError(f"--csv makes a sweep of a YAML spec, and {spec.file} is {what}", hint=SWEEP_HINT)
    path = Path(client.cwd, table)
    points = parse_csv(read_file(path), str(path))
    for name in (name for name, _ in (*spec.payload.env, *spec.payload.secrets) if name in points.names):
        raise UsageError(f"{name} is a column of {path} and set in {spec.file} as well", hint="keep one of them")
    return with_points(spec, points)


def _read_script(client: Client, words: Sequence[str], faults: Faults) -> list[JobSpec]:
    from hybridhpc.spec.read import read_script
    from hybridhpc.spec.sbatch import ends_options, is_sbatch_script, script_position

    plugins = plugin_options(client)
    position = script_position(words, plugins)
    if position is None:
        raise UsageError("no file is named", hint="hpc submit train.yaml --where auto")
    if words[position] == "-":
        raise UsageError("standard input is not read: a job is known by its file", hint="write it to job.sh, name that")
    path = Path(client.cwd, words[position])
    content = read_file(path)
    # Options of ours go behind the person's own, where none would count behind a `--`.
    flags = words[: position - 1] if ends_options(words[:position], plugins) else words[:position]
    if is_sbatch_script(content, str(path)):
        args = words[position + 1 :]
        return [read_script(content, str(path), flags=flags, args=args, env=client.env, plugins=plugins)]
    if flags:
        raise UsageError(f"{words[0]!r} is an option of sbatch", hint="write it into the spec, under `slurm:`")
    return _read_specs(client, words[position:], faults)


def _read_specs(client: Client, words: Sequence[str], faults: Faults) -> list[JobSpec]:
    """Return the specs in the order of their dependencies; in their own where something is wrong with these."""
    from hybridhpc.spec.yaml import parse_spec

    for word in words:
        if word.startswith("-"):
            hint = f"an option of sbatch is written into the spec: slurm: {{{word.lstrip('-').partition('=')[0]}: ...}}"
            raise UsageError(f"{word} is no option of hpc", hint=hint)
    paths = [Path(client.cwd, word) for word in words]
    contents = [read_file(path) for path in paths]
    specs = []
    for path, text in zip(paths, contents, strict=True):
        with faults.noted():
            specs.append(parse_spec(text, str(path), now=client.clock(), plugins=plugin_options(client)))
            check_secrets(specs[-1], client.env, text)
    # What a file that could not be read calls its job is not known: others may come after it.
    if len(specs) == len(paths):
        with faults.noted():
            return list(check_dependencies(specs, known=_Known(client)))
    return specs


class _Known:
    """What the ledger knows, as something that jobs are in."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def __contains__(self, job: object) -> bool:
        try:
            return bool(self._client.ledger.find(str(job)))
        except NotFound:
            return False


def _placed(client: Client, spec: JobSpec, where: str | None, goal: str | None, faults: Faults) -> JobSpec:
    """Apply the flags, and the settings where the spec itself says nothing."""
    from hybridhpc.spec.flags import parse_goal, parse_where

    known = settings(client.paths, client.env)
    source = ""
    if where is not None or spec.where == ("auto",):
        source, text = ("--where", where) if where is not None else (known["where"].source, known["where"].value)
        spec = replace(spec, where=parse_where(text, source))
    with faults.noted():
        _check_places(client, spec, source)
    if goal or spec.goal is None:
        source, text = ("--goal", goal) if goal else (known["goal"].source, known["goal"].value)
        spec = replace(spec, goal=parse_goal(text, source))
    return replace(spec, leads_to=led_to(spec, client.usable_sites, str(client.paths.home), os.path.realpath))


def _check_places(client: Client, spec: JobSpec, source: str) -> None:
    """Raise for a place that is no site and no label, with the nearest that is one.

    UsageError where it was given beside the spec, by `source`; SpecError where it is written in the spec.
    """
    sites = [site.name for site in client.sites]
    labels = [label for site in client.usable_sites for label in site.labels]
    for name in unknown_names(spec.where, sites, labels):
        from difflib import get_close_matches

        near = get_close_matches(name, [*sites, *labels, CLOUD, ONPREM, "auto"], n=1)
        hint = f"did you mean {near[0]}?" if near else f"there is {', '.join(sites)}"
        message = f"no site and no label is called {name!r}"
        if not source:
            raise SpecError((problem_of(spec, "where", message, hint),))
        raise UsageError(f"{source}: {message}", hint=hint)


def _wish(client: Client, spec: JobSpec, words: Sequence[str]) -> Wish:
    asked = {name: value for name, value in client.env.items() if name.startswith("SBATCH_")}
    points = spec.points and (spec.points.names, spec.points.rows)
    content = [spec.digest, spec.file, list(words), client.cwd, spec.where, sorted(asked.items()), _tree(spec), points]
    request = hashlib.sha256(json.dumps(content).encode()).hexdigest()
    return Wish(spec=spec, request=request, cwd=client.cwd)


MOST_SHIPPED = 2 * 1024**3
"""Bytes of a workdir; more is data, which belongs where the nodes can read it."""


def _tree(spec: JobSpec) -> list[tuple[str, int, int]]:
    """Return what tells one state of a workdir from another: names, sizes and times of its files.

    Raises SpecError if it cannot be shipped: it is missing, no directory, too large, or holds what is no file.
    """
    if not isinstance(spec.payload, Work) or spec.payload.workdir is None:
        return []
    root = Path(spec.payload.workdir)
    if not root.is_dir():
        raise _unfit_workdir(spec, f"{root} is no directory" if root.exists() else f"there is no {root}")
    found: list[tuple[str, int, int]] = []
    shipped = 0
    for path, seen in _walk(spec, root):
        if not (stat.S_ISREG(seen.st_mode) or stat.S_ISDIR(seen.st_mode) or stat.S_ISLNK(seen.st_mode)):
            raise _unfit_workdir(spec, f"{path} is no file, directory or link")
        shipped += seen.st_size
        if shipped > MOST_SHIPPED:
            raise _unfit_workdir(spec, f"{root} holds more than {MOST_SHIPPED >> 30} GiB")
        found.append((str(path.relative_to(root)), seen.st_size, seen.st_mtime_ns))
    return found


def _walk(spec: JobSpec, root: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Yield everything below a directory that is shipped, in a fixed order."""
    try:
        for path in shipped(root):
            yield path, path.lstat()
    except OSError as error:
        raise _unfit_workdir(spec, f"{error.filename} cannot be read: {error.strerror}") from error


def _unfit_workdir(spec: JobSpec, message: str) -> SpecError:
    hint = "name a directory with your code; bind data, or read it where it lies"
    return SpecError((problem_of(spec, "workdir", message, hint),))

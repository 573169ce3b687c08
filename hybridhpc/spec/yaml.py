"""A YAML spec to a JobSpec: all problems of the file in one answer. Nothing is looked up and no file is read."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from hashlib import sha256
from typing import Any

from hybridhpc.document import Document, KeyPath, read_document
from hybridhpc.errors import Problem, SpecError, in_order
from hybridhpc.model import JobSpec, Native, Resources, Work
from hybridhpc.readers import Fault, Plain
from hybridhpc.sites.plugins import Asked, PluginOptions
from hybridhpc.spec.aliases import rename
from hybridhpc.spec.places import places, read_place
from hybridhpc.spec.schema import spec_form
from hybridhpc.spec.sweep import with_points
from hybridhpc.spec.values import MAX_NAME_BYTES, is_image_file, read_name

_WORK = (
    "run",
    "setup",
    "launcher",
    "tasks_per_node",
    "binds",
    "outputs",
    "env",
    "secrets",
    "checkpoint",
    "retries",
    "slurm",
)
_NATIVE = ("account", "qos", "constraint", "reservation", "licenses", "nodelist")
_UNFIT = r"[^A-Za-z0-9._-]+"


def parse_spec(
    text: bytes,
    path: str,
    *,
    where: tuple[str, ...] | None = None,
    now: float = 0,
    plugins: PluginOptions = (),
) -> JobSpec:
    """Read a spec whose file is at `path` (absolute); relative paths in it are relative to its directory.

    `where` replaces the spec's own; `now` (seconds since the epoch) tells whether its deadline has passed; `plugins`:
    the options that plugins of any site add. Raises SpecError with every problem found.
    """
    form = spec_form(plugins)
    document = read_document(text, path)
    root, spelled, problems = rename(document)
    values: dict[str, Any] = {}
    if document.complete:
        values, wrong = form.check(document, root, spelled)
        problems += [*wrong, *_contradictions(document, root, spelled, path)]
        problems += _late(document, root, values or form.readable(root), now)
    problems = [*document.problems, *problems, *_where_problems(where)]
    if problems:
        raise SpecError(in_order(problems))
    if where is not None:
        values["where"] = where
    aliases = tuple((str(key[-1]), str(there[-1])) for key, there in spelled.items())
    return replace(
        _spec(values, path, sha256(text).hexdigest()),
        plugin_options=_of_plugins(values.get("slurm", ()), plugins),
        lines=_lines(document, spelled),
        aliases=aliases,
    )


def _of_plugins(options: Asked, plugins: PluginOptions) -> Asked:
    if not (options and plugins):
        return ()
    from hybridhpc.spec.sbatch_plugins import added

    known = added(plugins)
    return tuple(option for option in options if option[0] in known)


def _lines(document: Document, spelled: Mapping[KeyPath, KeyPath]) -> tuple[tuple[str, int], ...]:
    """Return the line of every key at the top level, by its own name however it was spelled."""
    written = {str(path[0]): line for path, line in document.lines.items() if len(path) == 1}
    renamed = {str(key[0]): document.lines[document.written(there)] for key, there in spelled.items() if len(key) == 1}
    return tuple((written | renamed).items())


def _contradictions(
    document: Document, root: Mapping[str, Plain], spelled: Mapping[KeyPath, KeyPath], path: str
) -> list[Problem]:
    """Find keys that are right alone and wrong together, whether or not the rest of the spec is right."""
    found = []
    bound = isinstance(root.get("binds"), list | str)
    if bound and root.get("image") is None and ("image",) not in document.lines:
        there = spelled.get(("binds",), ("binds",))
        found.append(document.problem(there, "needs an image to bind into", "add image:, or leave it out"))
    own = {
        root.get("name") if isinstance(root.get("name"), str) else _default_name(path),
        posixpath.basename(path),
        path,
    }
    after = root.get("after")
    for kind, jobs in after.items() if isinstance(after, dict) else [("", after)]:
        if any(job in own for job in (jobs if isinstance(jobs, list) else [jobs]) if isinstance(job, str)):
            there = ("after", kind) if kind else ("after",)
            found.append(document.problem(there, "names this job itself", "a job cannot wait for itself"))
    return found


def _late(document: Document, root: Mapping[str, Plain], values: Mapping[str, Any], now: float) -> list[Problem]:
    """Find what only the converted values show: those that are right, whatever is wrong with the others."""
    found = []
    goal, checkpoint, walltime = values.get("goal"), values.get("checkpoint"), values.get("time")
    if goal is not None and goal.deadline is not None and goal.deadline <= now:
        found.append(document.problem(("goal", "deadline"), "has passed", "write a moment to come"))
    if checkpoint is not None and walltime is not None and checkpoint.grace >= walltime:
        message = f"the signal would come {checkpoint.grace}s before the end of a job of {walltime}s"
        found.append(document.problem(("checkpoint", "grace"), message, "give more time, or less grace"))
    both = {name for name, _ in values.get("env", ())} & {name for name, _ in values.get("secrets", ())}
    found += [document.problem(("secrets", name), "is set below env as well", "keep one") for name in sorted(both)]
    return [*found, *_matrix_problems(document, root, values)]


def _matrix_problems(document: Document, root: Mapping[str, Plain], values: Mapping[str, Any]) -> Iterator[Problem]:
    """Find what does not go together with a sweep, right or wrong in itself, or needs one."""
    matrix = root.get("matrix")
    if matrix is None:
        return
    if root.get("array") is not None:
        yield document.problem(("array",), "stands beside matrix, which makes an array itself", "keep one of them")
    names = matrix if isinstance(matrix, dict) else ()
    for key in ("env", "secrets"):
        for name in (name for name, _ in values.get(key, ()) if name in names):
            yield document.problem((key, name), "is a parameter of the matrix as well", "keep one")


def _where_problems(where: tuple[str, ...] | None) -> list[Problem]:
    """Check places that were given on the command line."""
    if where is None:
        return []
    try:
        places(tuple(read_place(place) for place in where))
    except Fault as fault:
        return [Problem(file="command line", line=None, key="--where", message=str(fault), hint=fault.hint)]
    return []


def _default_name(path: str) -> str:
    """Return the file's stem, mended where it cannot name a job."""
    stem = posixpath.splitext(posixpath.basename(path))[0]
    try:
        return read_name(stem)
    except Fault:
        return re.sub(_UNFIT, "-", stem)[:MAX_NAME_BYTES].strip("-.") or "job"


def _spec(values: dict[str, Any], path: str, digest: str) -> JobSpec:
    options = dict(values.get("slurm", ()))
    resources = Resources(
        nodes=values.get("nodes", 1),
        walltime=values.get("time"),
        whole_nodes="exclusive" in options and options["exclusive"] is None,
        **values.get("resources", {}),
    )
    keys = ("array", "after", "where", "residency", "goal", "move", "parallel")
    optional = {key: values[key] for key in keys if key in values}
    spec = JobSpec(
        name=values.get("name") or _default_name(path),
        file=path,
        digest=digest,
        resources=resources,
        payload=_work(values, posixpath.dirname(path)),
        native=Native(**{key: options[key] for key in _NATIVE if key in options}),
        **optional,
    )
    return with_points(spec, values["matrix"]) if "matrix" in values else spec


def _work(values: dict[str, Any], directory: str) -> Work:
    def absolute(path: str) -> str:
        return posixpath.normpath(posixpath.join(directory, path))

    image, workdir = values.get("image"), values.get("workdir")
    return Work(
        image=absolute(image) if image is not None and is_image_file(image) else image,
        workdir=None if workdir is None else absolute(workdir),
        **{key: values[key] for key in _WORK if key in values},
    )

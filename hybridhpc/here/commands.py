"""What `here` can be asked: survey, status, submit, cancel, withdraw, release, find, check. One call, one answer.

The same for a process of its own (`python -m hybridhpc.here`) and inside another (hybridhpc/in_process.py): what a
command needs to know of its caller is handed to it, and nothing of the process it runs in is changed.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from hybridhpc.here import answers, slots
from hybridhpc.here.cgroup import keeping
from hybridhpc.here.machine import this_machine
from hybridhpc.here.place import Place, check_owner, open_place
from hybridhpc.here.queue import Machine, Outlook, never_fits
from hybridhpc.here.request import Refusal, Request, read_job_id, read_options, read_request
from hybridhpc.here.surroundings import capture
from hybridhpc.here.tend import tend
from hybridhpc.here.watch import MARK

EXIT_REFUSED = 3
_NEEDED = {"submit": ("root", "token", "attempt", "job-dir")}


class Answer(NamedTuple):
    """What a command says. Exit codes: 0 done; 3 refused, nothing was submitted or changed; anything else: unknown."""

    exit_code: int
    output: str = ""
    """JSON."""
    complaint: str = ""


class Asked(NamedTuple):
    """A command that was read, and all it works with."""

    place: Place
    machine: Machine
    options: Mapping[str, str]
    rest: list[str]
    environ: Mapping[str, str]
    """The caller's."""
    cwd: str


def answer(words: Sequence[str], environ: Mapping[str, str], cwd: str | None = None) -> Answer:
    """Do what a command line says, for a caller with this environment in this directory (None: the process's own)."""
    root = ""
    try:
        verb, options, rest = _read(words)
        root = options["root"]
        place = open_place(root)
        with closing(place.db):
            asked = Asked(place, _machine(place, environ), options, rest, environ, cwd or "")
            return Answer(0, json.dumps(_VERBS[verb](asked)))
    except Refusal as refusal:
        return Answer(EXIT_REFUSED, complaint=f"here: {refusal}")
    except (sqlite3.Error, OSError) as error:
        return Answer(1, complaint=f"here: {root}: {error}")


def _read(words: Sequence[str]) -> tuple[str, dict[str, str], list[str]]:
    verb = words[0] if words else ""
    if verb not in _VERBS:
        raise Refusal(f"no such verb: {verb!r}; there are {', '.join(_VERBS)}")
    options, rest = read_options(words[1:])
    missing = [name for name in _NEEDED.get(verb, ("root",)) if name not in options]
    if missing:
        raise Refusal(f"{verb} needs --{missing[0]}")
    return verb, options, rest


def _machine(place: Place, environ: Mapping[str, str]) -> Machine:
    """Look at the machine; inside a job, which sees its own CPUs only, take what was seen from outside."""
    recorded = slots.recorded_machine(place) if MARK in environ else None
    if recorded:
        return recorded
    machine = this_machine(environ)
    slots.record_machine(place, machine)
    return machine


def _tend(asked: Asked) -> Outlook:
    return tend(asked.place, asked.machine, asked.environ)


def _survey(asked: Asked) -> dict[str, Any]:
    return answers.survey(asked.place, asked.machine, _tend(asked))


def _status(asked: Asked) -> dict[str, Any]:
    return answers.status(asked.place, asked.rest, asked.machine, _tend(asked))


def _submit(asked: Asked) -> dict[str, Any]:
    place, machine = asked.place, asked.machine
    token, attempt = asked.options["token"], asked.options["attempt"]
    if slots.known_job(place, token, attempt) is None:
        cwd = asked.cwd or str(Path.cwd())
        request = _checked(read_request(asked.options, asked.rest, cwd=cwd, cpus=machine.cpus, memory=machine.memory))
        _check_fits(machine, request)
        request = request._replace(script=_kept_script(request))
        slots.insert(place, token, attempt, request, capture(asked.environ))
    _tend(asked)
    return answers.submitted(place, token, attempt, machine)


def _cancel(asked: Asked) -> dict[str, Any]:
    unknown = [word for word in asked.rest if not slots.cancel(asked.place, *read_job_id(word))]
    _tend(asked)
    return _done(unknown)


def _withdraw(asked: Asked) -> dict[str, Any]:
    taken = slots.withdraw(asked.place, read_job_id("".join(asked.rest))[0])
    _tend(asked)
    return {"taken": taken}


def _release(asked: Asked) -> dict[str, Any]:
    unknown = [word for word in asked.rest if not slots.release(asked.place, read_job_id(word)[0])]
    _tend(asked)
    return _done(unknown)


def _find(asked: Asked) -> dict[str, Any]:
    return {"tokens": answers.tokens(asked.place)}


def _check(asked: Asked) -> dict[str, Any]:
    _tend(asked)
    return {"root": str(asked.place.root), "machine": asked.machine._asdict(), "memory": keeping()._asdict()}


_VERBS: dict[str, Callable[[Asked], dict[str, Any]]] = {
    "survey": _survey,
    "status": _status,
    "submit": _submit,
    "cancel": _cancel,
    "withdraw": _withdraw,
    "release": _release,
    "find": _find,
    "check": _check,
}


def _done(unknown: list[str]) -> dict[str, Any]:
    if unknown:
        raise Refusal(f"no such job here: {', '.join(unknown)}")
    return {}


def _check_fits(machine: Machine, request: Request) -> None:
    too_big = never_fits(machine, request.cpus, request.memory, request.gpus, request.gpu_kind)
    if too_big:
        raise Refusal(f"the job {too_big}: it could never start")


def _checked(request: Request) -> Request:
    """Refuse what would only fail later: directories that are missing, a script that is none."""
    directory, cwd, script = Path(request.job_dir), Path(request.cwd), Path(request.script)
    for path in (directory, cwd, script):
        if not path.is_absolute():
            raise Refusal(f"{path} must be an absolute path")
    if not directory.is_dir():
        raise Refusal(f"the job's directory {directory} does not exist")
    check_owner(directory)
    if not cwd.is_dir():
        raise Refusal(
            f"there is no directory {cwd} to work in: it is named by --chdir, else it is where you submit from"
        )
    for place in _directories(request):
        if not place.is_dir():
            raise Refusal(f"the directory {place} does not exist")
    try:
        with script.open("rb") as file:
            first = file.readline(4096)
    except OSError as error:
        raise Refusal(f"the script {script}: {error.strerror}") from error
    if not first.startswith(b"#!") or first.endswith(b"\r\n"):
        raise Refusal(
            f"{script} is no script: its first line must name an interpreter (#!/bin/bash), without DOS line ends"
        )
    return request


def _directories(request: Request) -> list[Path]:
    """Return where the outputs go, as far as that does not depend on the task."""
    patterns = [pattern for pattern in (request.output, request.error) if pattern]
    parents = [Path(request.cwd, pattern).parent for pattern in patterns]
    return [parent for parent in parents if "%" not in str(parent)]


def _kept_script(request: Request) -> str:
    """Return the script to run: itself if it lies in the job's directory, else a copy there that nobody edits."""
    script, directory = Path(request.script), Path(request.job_dir)
    if script.is_relative_to(directory) and os.access(script, os.X_OK):
        return str(script)
    copy = directory / "here.script"
    aside = directory / f"here.script.{os.getpid()}"
    with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o700), "wb") as file:
        file.write(script.read_bytes())
    aside.rename(copy)
    return str(copy)

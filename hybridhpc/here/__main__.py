"""The command line of `here`, for hybridhpc's own use: `python -P -m hybridhpc.here VERB --root DIR ...`; answers JSON.

survey | status ID... | submit --token T --attempt N --job-dir DIR [options] -- SCRIPT [ARG...] | cancel ID... |
withdraw ID | release ID... | find | check. Exit codes: 0 done; 3 refused, nothing was submitted or changed; anything
else: unknown.
"""

from __future__ import annotations

import json
import os
import sqlite3
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hybridhpc.here import answers, slots
from hybridhpc.here.cgroup import keeping
from hybridhpc.here.machine import this_machine
from hybridhpc.here.place import Place, check_owner, open_place
from hybridhpc.here.queue import Machine, never_fits
from hybridhpc.here.request import Refusal, Request, read_job_id, read_options, read_request
from hybridhpc.here.surroundings import capture
from hybridhpc.here.tend import tend
from hybridhpc.here.watch import MARK

EXIT_REFUSED = 3
Answer = dict[str, Any]
_NEEDED = {"submit": ("root", "token", "attempt", "job-dir")}


def main(words: list[str]) -> int:
    """Run one verb; print its answer, or why it is refused."""
    umask = os.umask(0o077)
    try:
        verb, options, rest = _read(words)
        place = open_place(options["root"])
        answer = _VERBS[verb](place, _machine(place), {**options, "umask": str(umask)}, rest)
    except Refusal as refusal:
        sys.stderr.write(f"here: {refusal}\n")
        return EXIT_REFUSED
    except (sqlite3.Error, OSError) as error:
        sys.stderr.write(f"here: {options['root']}: {error}\n")
        return 1
    sys.stdout.write(json.dumps(answer) + "\n")
    return 0


def _read(words: list[str]) -> tuple[str, dict[str, str], list[str]]:
    verb = words[0] if words else ""
    if verb not in _VERBS:
        raise Refusal(f"no such verb: {verb!r}; there are {', '.join(_VERBS)}")
    options, rest = read_options(words[1:])
    missing = [name for name in _NEEDED.get(verb, ("root",)) if name not in options]
    if missing:
        raise Refusal(f"{verb} needs --{missing[0]}")
    return verb, options, rest


def _machine(place: Place) -> Machine:
    """Look at the machine; inside a job, which sees its own CPUs only, take what was seen from outside."""
    recorded = slots.recorded_machine(place) if MARK in os.environ else None
    if recorded:
        return recorded
    machine = this_machine(os.environ)
    slots.record_machine(place, machine)
    return machine


def _survey(place: Place, machine: Machine, options: Mapping[str, str], rest: list[str]) -> Answer:
    return answers.survey(place, machine, tend(place, machine))


def _status(place: Place, machine: Machine, options: Mapping[str, str], rest: list[str]) -> Answer:
    return answers.status(place, rest, machine, tend(place, machine))


def _submit(place: Place, machine: Machine, options: Mapping[str, str], rest: list[str]) -> Answer:
    token, attempt = options["token"], options["attempt"]
    if slots.known_job(place, token, attempt) is None:
        request = _checked(read_request(options, rest, cwd=str(Path.cwd()), cpus=machine.cpus, memory=machine.memory))
        _check_fits(machine, request)
        request = request._replace(script=_kept_script(request))
        slots.insert(place, token, attempt, request, capture(os.environ, int(options["umask"])))
    tend(place, machine)
    return answers.submitted(place, token, attempt, machine)


def _cancel(place: Place, machine: Machine, options: Mapping[str, str], rest: list[str]) -> Answer:
    unknown = [word for word in rest if not slots.cancel(place, *read_job_id(word))]
    tend(place, machine)
    return _done(unknown)


def _withdraw(place: Place, machine: Machine, options: Mapping[str, str], rest: list[str]) -> Answer:
    taken = slots.withdraw(place, read_job_id("".join(rest))[0])
    tend(place, machine)
    return {"taken": taken}


def _release(place: Place, machine: Machine, options: Mapping[str, str], rest: list[str]) -> Answer:
    unknown = [word for word in rest if not slots.release(place, read_job_id(word)[0])]
    tend(place, machine)
    return _done(unknown)


def _find(place: Place, machine: Machine, options: Mapping[str, str], rest: list[str]) -> Answer:
    return {"tokens": answers.tokens(place)}


def _check(place: Place, machine: Machine, options: Mapping[str, str], rest: list[str]) -> Answer:
    tend(place, machine)
    return {"root": str(place.root), "machine": machine._asdict(), "memory": keeping()._asdict()}


_VERBS: dict[str, Callable[[Place, Machine, Mapping[str, str], list[str]], Answer]] = {
    "survey": _survey,
    "status": _status,
    "submit": _submit,
    "cancel": _cancel,
    "withdraw": _withdraw,
    "release": _release,
    "find": _find,
    "check": _check,
}


def _done(unknown: list[str]) -> Answer:
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
    for place in (cwd, *_directories(request)):
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
    aside.write_bytes(script.read_bytes())
    aside.chmod(0o700)
    aside.rename(copy)
    return str(copy)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""The values of a job's secrets: read anew for each attempt, put into the job's own directory, removed at its end.

They are no part of a Plan: the ledger, the script and whatever is printed hold references alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hybridhpc import registry
from hybridhpc.command import Command, StagedFile
from hybridhpc.document import read_document
from hybridhpc.errors import NotFound, Problem, SpecError, TransportError
from hybridhpc.model import JobSpec, Work
from hybridhpc.readers import Fault
from hybridhpc.script.secret import DIRECTORY, Reference, read_reference
from hybridhpc.secret_stores.base import MAX_SECRET
from hybridhpc.transports.base import Transport

Secrets = Sequence[tuple[str, str]]
"""Names of variables, and references."""
_AT_ONCE = 500
"""Directories that one command is given."""


def secret_files(secrets: Secrets, env: Mapping[str, str]) -> tuple[StagedFile, ...]:
    """Return the files that bring values to a job; none for what the site reads itself. Raises NotFound."""
    files = []
    for name, text in secrets:
        try:
            value = _value(read_reference(text), env)
        except Fault as fault:
            raise NotFound(f"the secret {name} ({text}): {fault}", hint=fault.hint) from fault
        if value is not None:
            files.append(StagedFile(path=f"{DIRECTORY}/{name}", content=value))
    return tuple(files)


def check_secrets(spec: JobSpec, env: Mapping[str, str], content: bytes) -> None:
    """Raise SpecError, with the line of each, if a value cannot be had. `content`: what the spec was read from."""
    if not isinstance(spec.payload, Work):
        return
    problems: list[Problem] = []
    for name, text in spec.payload.secrets:
        try:
            _value(read_reference(text), env)
        except Fault as fault:
            document = read_document(content, spec.file)
            problems.append(document.problem(("secrets", name), str(fault), fault.hint))
    if problems:
        raise SpecError(tuple(problems))


def hidden_names(secrets: Secrets) -> tuple[str, ...]:
    """Return the variables of this machine whose values are brought as secrets: a submission is made without them.

    sbatch sends its whole environment along (--export=ALL), and the controller keeps that in a file.
    """
    references = [read_reference(text) for _, text in secrets]
    return tuple(reference.key for reference in references if reference.store == "env")


def forget(transport: Transport, job_dirs: Sequence[str]) -> None:
    """Remove what jobs that are over were killed too soon to remove. It may be repeated. Raises TransportError.

    A site that cannot be reached keeps the files meanwhile, in a directory that only the person can enter.
    """
    for at in range(0, len(job_dirs), _AT_ONCE):
        places = [f"{job_dir}/{DIRECTORY}" for job_dir in job_dirs[at : at + _AT_ONCE]]
        removed = transport.run(Command(argv=("rm", "-rf", "--", *places)))
        if not removed.ok:
            raise TransportError(f"a secret of a job that is over cannot be removed: {removed.complaint}")


def _value(reference: Reference, env: Mapping[str, str]) -> bytes | None:
    """Return a value, None if the site has it. Raises Fault; no word of the value is in it."""
    if reference.on_site:
        return None
    try:
        store = registry.secret_store(reference.store, env)
    except NotFound as error:
        raise Fault(error.message, error.hint) from error
    value = store.read(reference.key)
    if not value or b"\0" in value or len(value) > MAX_SECRET:
        what = "is empty" if not value else f"is longer than {MAX_SECRET} bytes" if b"\0" not in value else "holds NUL"
        raise Fault(f"the value {what}, which no variable can be", "what is wanted is the secret alone")
    return value

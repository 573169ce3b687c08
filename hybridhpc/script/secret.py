"""Secrets of a job: what its script knows of them, which is names and places. No value ever passes through here."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from hybridhpc.script.quote import assignment, home_path
from hybridhpc.values import dataclass

DIRECTORY = ".hpc-secrets"
"""Where values lie, in the job's own directory, one file for each, readable by its owner alone."""
ON_SITE = "site-file"
"""The store whose values never leave the site: the job's first node reads them."""
_REFERENCE = re.compile(r"secret://([A-Za-z0-9][A-Za-z0-9_.-]*)/(.+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """Where a value comes from: the name of a store, and what that store knows it by."""

    store: str
    key: str

    @property
    def on_site(self) -> bool:
        """Whether the job itself fetches it."""
        return self.store == ON_SITE


def read_reference(text: str) -> Reference:
    """Read `secret://STORE/KEY`. Raises ValueError."""
    match = _REFERENCE.fullmatch(text)
    if match is None:
        raise ValueError(f"{text} names no secret; write secret://env/NAME or secret://file/PATH")
    return Reference(store=match[1], key=match[2])


def secret_path(key: str) -> str:
    """Return the path that the key of a file means: below the home directory (`~/...`), else absolute."""
    return key if key.startswith("~/") else f"/{key.lstrip('/')}"


def secret_strings(secrets: Sequence[tuple[str, str]], tasks: int, options: Sequence[str]) -> dict[str, Any] | None:
    """Return what the script's template needs, None without secrets. Raises ValueError for a name or reference."""
    if not secrets:
        return None
    for name, _ in secrets:
        assignment(name, "")
    references = {name: read_reference(text) for name, text in secrets}
    fetched = [
        {"name": name, "file": home_path(secret_path(found.key))} for name, found in references.items() if found.on_site
    ]
    return {"directory": DIRECTORY, "tasks": str(tasks), "fetched": fetched, "stays": _may_requeue(options)}


def reading_lines(names: Iterable[str]) -> list[str]:
    """Return the text that brings values into the environment of one task: builtins only, so no process shows them.

    A shell that traces (SHELLOPTS=xtrace) shows the names, never a value.
    """
    return [
        "hpc_secret() {",
        '  unset -v "$1"',
        f'  IFS= read -r -d \'\' "$1" <"$HPC_JOB_DIR/{DIRECTORY}/$1"',
        '  if [ -z "${!1:+x}" ]; then',
        "    printf 'hpc: the secret %s cannot be read; the task ends\\n' \"$1\" >&2",
        "    exit 1",
        "  fi",
        '  export "${1?}"',
        "}",
        *(f"hpc_secret {name}" for name in names),
        "unset -f hpc_secret",
    ]


def _may_requeue(options: Iterable[str]) -> bool:
    """Whether Slurm may start the job again: the last word counts (sbatch(1), --requeue, --no-requeue)."""
    said = [option for option in options if option in ("--requeue", "--no-requeue")]
    return said[-1:] == ["--requeue"]

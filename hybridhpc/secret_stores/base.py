"""The agreement a store of secrets keeps: a key in, a value out, and no word of the value in any complaint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

MAX_SECRET = 100_000
"""Bytes of a value. Linux takes 128 KiB for a variable with its name (execve(2), MAX_ARG_STRLEN)."""


class SecretStore(Protocol):
    """One kind of `secret://WORD/KEY`; made anew for each job."""

    def __init__(self, env: Mapping[str, str]) -> None:
        """Take the environment of the person who submits."""
        ...

    def read(self, key: str) -> bytes:
        """Return the value. Raises readers.Fault, with what to do, if there is none."""
        ...

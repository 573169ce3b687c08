"""What this machine itself has: the environment of the person who submits, and files."""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Mapping
from pathlib import Path

from hybridhpc.readers import Fault
from hybridhpc.script.secret import secret_path
from hybridhpc.secret_stores.base import MAX_SECRET


class EnvironmentStore:
    """`secret://env/NAME`: a variable, exactly."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._env = env

    def read(self, key: str) -> bytes:
        """See SecretStore.read."""
        if key not in self._env:
            raise Fault(f"{key} is not set in your environment", f"export {key}, best without it in your history")
        return os.fsencode(self._env[key])


class FileStore:
    """`secret://file/PATH`: what a file holds, without the line end at its end."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._home = env.get("HOME", "~")

    def read(self, key: str) -> bytes:
        """See SecretStore.read. A file that everybody can read keeps no secret, and is refused."""
        written = secret_path(key)
        path = Path(self._home, written[2:]).expanduser() if written.startswith("~/") else Path(written)
        try:
            with open(path, "rb", opener=_open) as file:
                self._check(path, os.fstat(file.fileno()))
                return file.read(MAX_SECRET + 2).removesuffix(b"\n")
        except OSError as error:
            why = (error.strerror or "cannot be read").lower()
            raise Fault(f"{path}: {why}", "name a file that you can read") from error

    @staticmethod
    def _check(path: Path, found: os.stat_result) -> None:
        if not stat.S_ISREG(found.st_mode):
            raise Fault(f"{path} is no file", "name a file that holds the value alone")
        if found.st_mode & stat.S_IROTH:
            fix = f"chmod o-r {shlex.quote(str(path))}, and take a new value: this one was open to all"
            raise Fault(f"everybody can read {path}", fix)


def _open(path: str, flags: int) -> int:
    """Open a file, without waiting for anybody if it is a pipe."""
    return os.open(path, flags | os.O_NONBLOCK)

"""Who is submitting a job right now: a lock file per token, held until the process ends however it ends."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


class Owners:
    """Locks in one private directory. A dead process holds none: the kernel drops them."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._held: dict[str, int] = {}

    def take(self, token: str) -> bool:
        """Own a token; False if a living process owns it."""
        descriptor = os.open(self._directory / token, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            return False
        self._held[token] = descriptor
        return True

    def drop(self, token: str, *, for_good: bool = False) -> None:
        """Give a token up; `for_good` removes its file, since nobody will ask for it again."""
        descriptor = self._held.pop(token, None)
        if descriptor is None:
            return
        if for_good:
            (self._directory / token).unlink(missing_ok=True)
        os.close(descriptor)

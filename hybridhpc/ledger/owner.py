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
        if token in self._held:
            return True
        descriptor = self._lock(self._directory / token)
        if descriptor is not None:
            self._held[token] = descriptor
        return descriptor is not None

    def _lock(self, path: Path) -> int | None:
        """Lock the file that bears the name now: one that was removed meanwhile is locked by nobody else, too."""
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.path.samestat(os.fstat(descriptor), path.stat()):
                    return descriptor
            except BlockingIOError:
                os.close(descriptor)
                return None
            except FileNotFoundError:
                pass
            os.close(descriptor)

    def is_taken(self, token: str) -> bool:
        """Whether a living process owns a token."""
        if token in self._held:
            return True
        descriptor = self._lock(self._directory / token)
        if descriptor is not None:
            os.close(descriptor)
        return descriptor is None

    def drop(self, token: str, *, for_good: bool = False) -> None:
        """Give a token up; `for_good` removes its file, since nobody will ask for it again."""
        descriptor = self._held.pop(token, None)
        if descriptor is None:
            return
        if for_good:
            (self._directory / token).unlink(missing_ok=True)
        os.close(descriptor)

"""What labs make once and then only read: HPC_LAB_CACHE, else /var/cache/hybridhpc-lab.

`down` leaves it, so that the next `up` is quick; removing it is safe while no lab is up.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def cache() -> Path:
    """The directory."""
    return Path(os.environ.get("HPC_LAB_CACHE") or "/var/cache/hybridhpc-lab")


@contextmanager
def locked_cache() -> Iterator[Path]:
    """Let several labs take turns with filling it."""
    cache().mkdir(parents=True, exist_ok=True)
    descriptor = os.open(cache(), os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield cache()
    finally:
        os.close(descriptor)

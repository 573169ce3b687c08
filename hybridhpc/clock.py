"""The only place that asks what time it is. Everyone else is handed a Clock."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, tzinfo

Clock = Callable[[], float]
"""Returns seconds since the epoch, UTC."""


def now() -> float:
    """Return the time of day in seconds since the epoch."""
    return time.time()


def zone(moment: float) -> tzinfo:
    """Return the zone of this machine at a moment, in seconds since the epoch."""
    return datetime.fromtimestamp(moment).astimezone().tzinfo or UTC


def pause(seconds: float) -> None:
    """Sleep."""
    time.sleep(seconds)

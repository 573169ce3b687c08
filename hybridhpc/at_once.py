"""Calls made side by side, each in a thread of its own, within a deadline."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

Answer = TypeVar("Answer")


class AtOnce(Generic[Answer]):
    """Calls made at once, each in a thread of its own; what comes back before the deadline (seconds) counts."""

    def __init__(self, calls: Mapping[str, Callable[[], Answer]], deadline: float) -> None:
        self._until = time.monotonic() + deadline
        self._answers: dict[str, Answer] = {}
        self._threads = [
            threading.Thread(target=self._call, args=(key, call), daemon=True) for key, call in calls.items()
        ]
        for thread in self._threads:
            thread.start()

    def _call(self, key: str, call: Callable[[], Answer]) -> None:
        self._answers[key] = call()

    def answers(self) -> dict[str, Answer]:
        """Wait, at most until the deadline, and return the answers by key."""
        for thread in self._threads:
            thread.join(max(0.0, self._until - time.monotonic()))
        return dict(self._answers)

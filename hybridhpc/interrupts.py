"""What Ctrl-C does. It is asked before anything else is imported: this module stays as small as it is."""

from __future__ import annotations

import os
import signal
from types import FrameType

_INTERRUPTED = 130
"""errors.EXIT_INTERRUPTED, without importing it."""


def end_silently() -> None:
    """Let Ctrl-C end the process at once, without a word: nothing was begun yet, or all is done."""
    _let(_end)


def interrupt() -> None:
    """Let Ctrl-C raise KeyboardInterrupt."""
    _let(signal.default_int_handler)


def _let(handler: signal._HANDLER) -> None:
    """Who started us with Ctrl-C ignored, as nohup and `&` of a script do, means it."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, handler)


def _end(_number: int, _frame: FrameType | None) -> None:
    os._exit(_INTERRUPTED)

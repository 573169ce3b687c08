"""The checkpoint signal: which signals can be asked for, and how the script finds the processes that wait for one."""

from __future__ import annotations

from hybridhpc.model import Checkpoint
from hybridhpc.script.launcher import Launch
from hybridhpc.values import dataclass

_NUMBERS = {"HUP": 1, "INT": 2, "QUIT": 3, "USR1": 10, "USR2": 12, "ALRM": 14, "TERM": 15, "XCPU": 24}
"""Linux on x86 and ARM (signal(7)): the numbers of the node, not of the machine that renders."""
_PASSED_ON = ("USR1", "USR2")
"""What srun and mpirun hand to their tasks. At TERM, INT and HUP srun kills them (seen in 22.05)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """A signal, and a regular expression for a mask of signals (/proc/PID/status) in which it is set."""

    name: str
    mask: str


def checkpoint_signal(checkpoint: Checkpoint | None, launch: Launch) -> Signal | None:
    """Return the signal to pass to the payload; None if there is none beside TERM, which is always passed on.

    Raises ValueError for a signal that cannot be passed on.
    """
    if checkpoint is None:
        return None
    name = checkpoint.signal.upper().removeprefix("SIG")
    if name not in _NUMBERS:
        known = ", ".join(_NUMBERS)
        raise ValueError(f"{checkpoint.signal!r} is no signal to ask for a checkpoint with; write one of {known}")
    if launch.words and name not in _PASSED_ON:
        raise ValueError(f"{name} is not passed on to tasks that srun or mpirun started; write USR1 or USR2")
    return None if name == "TERM" else Signal(name=name, mask=_mask(_NUMBERS[name] - 1))


def _mask(bit: int) -> str:
    """Return what the end of a hexadecimal number looks like in which that bit is set."""
    digits = "".join(f"{digit:x}" for digit in range(16) if digit >> bit % 4 & 1)
    return f"[{digits}]{'.' * (bit // 4)}$"

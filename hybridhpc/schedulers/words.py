"""The native words that are kept beside our own, read again: what they tell, whichever scheduler said them. Pure.

They are Slurm's; the embedded site speaks as Slurm does. A scheduler with words of its own adds them here.
"""

from __future__ import annotations

from hybridhpc.model import JobState
from hybridhpc.schedulers import slurm_states

CLOSED = "nobody cancelled it: its controller has lost it, and accounting has closed it"
"""Why a job is CANCELLED in accounting that names nobody who did it: slurmdbd closes so what a controller that begins
without its state does not know (seen: 22.05, 24.11)."""

_BOOTING = frozenset({"CONFIGURING", "CF", "POWER_UP_NODE", "BOOT_FAIL", "BF"})
_ENDING = frozenset({"COMPLETING", "CG", "STAGE_OUT", "SO", "EXPEDITING", "DEADLINE", "DL"})
_SURE = (JobState.RUNNING, JobState.SUSPENDED, JobState.COMPLETED, JobState.FAILED, JobState.OUT_OF_MEMORY,
    JobState.TIMEOUT)  # fmt: skip


def has_begun(state: JobState, native: str) -> bool | None:
    """Whether a job that was given its nodes has begun on them; None: its state does not say.

    Of CONFIGURING StartTime is when it was given them, and stays that if they never boot: then it is NODE_FAIL, as
    where a node is lost later (seen: 22.05, 24.11, 26.05). It is set anew when the job begins.
    """
    word = native.strip().upper().split(" ", 1)[0].rstrip("+")
    if state is JobState.PENDING or word in _BOOTING:
        return False
    return True if state in _SURE and word not in _ENDING else None


def state_called(word: str) -> JobState:
    """Return the state that a word means, one of ours or a scheduler's; UNKNOWN if it is none."""
    return slurm_states.job_state(word)

"""What the words of schedulers tell, read again whoever said them: all that others know of a dialect's words. Pure.

They are Slurm's; the embedded site speaks as Slurm does. A scheduler with words of its own adds them here.
"""

from hybridhpc.schedulers.slurm_endings import exit_words, explain_end, reason_words
from hybridhpc.schedulers.slurm_reasons import (
    explain_reason,
    is_unavailable,
    never_starts,
    others_decide,
    stuck,
    waits_for_limit,
)
from hybridhpc.schedulers.slurm_states import CLOSED, has_begun
from hybridhpc.schedulers.slurm_states import job_state as state_called

__all__ = (
    "CLOSED",
    "exit_words",
    "explain_end",
    "explain_reason",
    "has_begun",
    "is_unavailable",
    "never_starts",
    "others_decide",
    "reason_words",
    "state_called",
    "stuck",
    "waits_for_limit",
)

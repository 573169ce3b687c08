"""Every state and reason Slurm names, 20.11 to 26.05, and what it is here. Nothing is asked or parsed.

Job states are from squeue(1) and sacct(1), JOB STATE CODES; node states from sinfo(1), NODE STATE CODES.
"""

from __future__ import annotations

from functools import lru_cache

from hybridhpc.model import JobState

JOB_STATES: dict[str, tuple[str, JobState, str]] = {
    "PENDING": ("PD", JobState.PENDING, "waits; not that it may ever start"),
    "RUNNING": ("R", JobState.RUNNING, "has its nodes; not that its script does anything"),
    "SUSPENDED": (
        "S",
        JobState.SUSPENDED,
        "keeps its memory, its cores may be another's; not that it was stopped by us",
    ),
    "COMPLETED": ("CD", JobState.COMPLETED, "exit code 0; not that its outputs are there"),
    "CANCELLED": ("CA", JobState.CANCELLED, "by a person or an administrator; not that it had started"),
    "FAILED": ("F", JobState.FAILED, "exit code or signal; not that the script is wrong"),
    "TIMEOUT": ("TO", JobState.TIMEOUT, "its walltime was used up"),
    "NODE_FAIL": ("NF", JobState.NODE_FAIL, "lost a node and was not requeued: a requeued one is PENDING"),
    "PREEMPTED": ("PR", JobState.PREEMPTED, "ended for another job and was not requeued: a requeued one is PENDING"),
    "BOOT_FAIL": ("BF", JobState.NODE_FAIL, "its nodes did not boot and it was not requeued; the script never ran"),
    "DEADLINE": ("DL", JobState.TIMEOUT, "could not or did not end before --deadline; perhaps it never ran"),
    "OUT_OF_MEMORY": ("OOM", JobState.OUT_OF_MEMORY, "the kernel killed a process of it"),
    # What follows are flags that Slurm prints in place of the state.
    "CONFIGURING": ("CF", JobState.RUNNING, "its nodes boot and are paid for; not that the script has begun"),
    "COMPLETING": ("CG", JobState.RUNNING, "its processes or epilog end; how it ended is not said yet"),
    "RESIZING": ("RS", JobState.RUNNING, "is about to change its size"),
    "SIGNALING": ("SI", JobState.RUNNING, "a signal is on its way to it"),
    "STAGE_OUT": ("SO", JobState.RUNNING, "its files are being staged out; how it ended is not said yet"),
    "STOPPED": ("ST", JobState.SUSPENDED, "stopped by SIGSTOP, keeps its cores"),
    "POWER_UP_NODE": ("", JobState.RUNNING, "its nodes boot; not that the script has begun"),
    "EXPEDITING": (
        "",
        JobState.RUNNING,
        "ended, and whether it is requeued first of all is being found out; from 25.11",
    ),
    "REQUEUED": ("RQ", JobState.PENDING, "ended and will wait again under the same id"),
    "REQUEUE_FED": ("RF", JobState.PENDING, "a federation requeues it"),
    "REQUEUE_HOLD": ("RH", JobState.PENDING, "requeued and held: it does not start until it is released"),
    "SPECIAL_EXIT": ("SE", JobState.PENDING, "requeued and held after an exit code that the site names"),
    "RESV_DEL_HOLD": ("RD", JobState.PENDING, "held, since its reservation was deleted"),
    "LAUNCH_FAILED": ("", JobState.PENDING, "could not be launched; Slurm requeues and holds such a job"),
    "RECONFIG_FAIL": ("", JobState.PENDING, "its nodes could not be reconfigured; Slurm requeues such a job"),
    "REVOKED": (
        "RV",
        JobState.CANCELLED,
        "its sibling runs in another cluster of the federation; this copy never will",
    ),
}
"""Long name: short name, our state, and what it means and does not mean."""

_BY_WORD = {word: state for word, (_, state, _) in JOB_STATES.items()} | {
    short: state for short, state, _ in JOB_STATES.values() if short
}

NODE_STATES: dict[str, bool] = {
    "allocated": True,
    "blocked": True,  # by --exclusive=topo, for as long as that job runs; from 24.05
    "completing": True,
    "idle": True,
    "mixed": True,
    "perfctrs": True,
    "npc": True,
    "planned": True,
    "power_down": True,
    "power_up": True,
    "powered_down": True,
    "powering_down": True,
    "powering_up": True,
    "reboot_requested": True,
    "reboot_issued": True,
    "reboot": True,
    "down": False,
    "drain": False,
    "drained": False,
    "draining": False,
    "error": False,
    "external": False,
    "fail": False,
    "failing": False,
    "future": False,
    "inval": False,
    "maint": False,
    "reserved": False,
    "unknown": False,
}
"""sinfo's long names and whether something can start on such a node, now or when jobs on it end."""

NODE_SUFFIXES = "*~#!%$@^-+"
_NOT_ANSWERING = "*"
_MAINTENANCE = "$"
_OFF = "~#!%^"
_OFF_WORDS = ("power", "reboot_issued")

_BLOCKED = frozenset(
    {
        "AccountNotAllowed", "BadConstraints", "BeginTime", "DeadLine", "Deadline", "Dependency",
        "DependencyNeverSatisfied", "FedJobLock", "InactiveLimit", "InvalidAccount", "InvalidQOS", "JobArrayTaskLimit",
        "JobHeldAdmin", "JobHeldUser", "JobHoldMaxRequeue", "MaxRequeueExceeded", "PartitionConfig", "PartitionDown",
        "PartitionInactive", "PartitionNodeLimit", "PartitionTimeLimit", "QOSNotAllowed", "Reservation",
        "ReservationDeleted", "ReservationInvalid", "SchedDefer", "SystemFailure",
    }
)  # fmt: skip
"""squeue(1), JOB REASON CODES: what keeps a job from taking a place in the queue, whatever becomes free."""

_BLOCKED_PREFIXES = ("Assoc", "QOS", "launch_failed", "job_requeued_in_held", "JobHeld", "Max")
"""Limits of an account or QOS: such jobs wait for their owner's other jobs, not for nodes."""


_BOOTING = frozenset({"CONFIGURING", "CF", "POWER_UP_NODE", "BOOT_FAIL", "BF"})
_ENDING = frozenset({"COMPLETING", "CG", "STAGE_OUT", "SO", "EXPEDITING", "DEADLINE", "DL"})
_SURE = (JobState.RUNNING, JobState.SUSPENDED, JobState.COMPLETED, JobState.FAILED, JobState.OUT_OF_MEMORY,
    JobState.TIMEOUT)  # fmt: skip

CLOSED = "nobody cancelled it: its controller has lost it, and accounting has closed it"
"""Why a job is CANCELLED in accounting that names nobody who did it: slurmdbd closes so what a controller that begins
without its state does not know (seen: 22.05, 24.11)."""


def job_state(native: str) -> JobState:
    """Return our state for Slurm's word, long or short, alone or as in `CANCELLED by 1001`; UNKNOWN if it is none."""
    word = native.strip().upper().split(" ", 1)[0].rstrip("+")
    return _BY_WORD.get(word, JobState.UNKNOWN)


def has_begun(state: JobState, native: str) -> bool | None:
    """Whether a job that was given its nodes has begun on them; None: its state does not say.

    Of CONFIGURING StartTime is when it was given them, and stays that if they never boot: then it is NODE_FAIL, as
    where a node is lost later (seen: 22.05, 24.11, 26.05). It is set anew when the job begins.
    """
    word = native.strip().upper().split(" ", 1)[0].rstrip("+")
    if state is JobState.PENDING or word in _BOOTING:
        return False
    return True if state in _SURE and word not in _ENDING else None


@lru_cache(maxsize=1024)
def is_blocked(reason: str) -> bool:
    """Whether a pending job with this reason takes no place in the queue now."""
    word = reason.strip("() ").replace(" ", "_")
    return word.partition(",")[0] in _BLOCKED or word.startswith(_BLOCKED_PREFIXES)


def split_node_state(native: str) -> tuple[str, str]:
    """Return the word and the suffixes of a node's state: `idle~` is ("idle", "~")."""
    word = native.strip().lower()
    bare = word.rstrip(NODE_SUFFIXES)
    return bare, word[len(bare) :]


def node_usable(native: str) -> bool:
    """Whether something can start on a node in this state, at once or later. A word we do not know: no."""
    word, suffixes = split_node_state(native)
    return NODE_STATES.get(word, False) and _NOT_ANSWERING not in suffixes and _MAINTENANCE not in suffixes


def node_powered_down(native: str) -> bool:
    """Whether a node in this state must boot before anything runs on it."""
    word, suffixes = split_node_state(native)
    return word.startswith(_OFF_WORDS) or any(suffix in _OFF for suffix in suffixes)

"""Slurm's pending reasons in words, with what to do about them (squeue(1), JOB REASON CODES, 20.11 to 26.05)."""

from __future__ import annotations

_WORDS = {
    "Priority": "jobs of higher priority are before it; it starts when they have started or a gap fits it",
    "Resources": "it is next, and waits for nodes to become free",
    "Dependency": "it waits for another job to end",
    "DependencyNeverSatisfied": "the job it waits for ended the wrong way: it will never start; cancel it",
    "BeginTime": "its begin time has not come, or it was requeued and waits out the delay",
    "JobHeldUser": "it is held; `scontrol release` lets it go",
    "JobHeldAdmin": "an administrator holds it; ask them",
    "JobArrayTaskLimit": "as many tasks of the array run as its % limit allows",
    "PartitionTimeLimit": "it asks for more time than the partition allows: it will never start as it is",
    "PartitionNodeLimit": "it asks for more nodes than the partition allows: it will never start as it is",
    "PartitionConfig": "no nodes of the partition can ever satisfy it: it will never start as it is",
    "PartitionDown": "the partition is down",
    "PartitionInactive": "the partition is inactive",
    "BadConstraints": "no node has what it asks for: it will never start as it is",
    "ReqNodeNotAvail": "nodes it needs are down, drained or reserved",
    "Reservation": "it waits for its reservation to begin",
    "Licenses": "it waits for a licence",
    "AssocGrpGRES": "its account uses as many GPUs as it may",
    "AssocMaxJobsLimit": "you run as many jobs as you may",
    "QOSMaxJobsPerUserLimit": "you run as many jobs as its QOS allows",
    "QOSGrpGRES": "its QOS uses as many GPUs as it may",
    "QOSMaxGRESPerUser": "you use as many GPUs as its QOS allows",
    "QOSJobLimit": "its QOS runs as many jobs as it may",
    "InvalidAccount": "its account does not exist here",
    "InvalidQOS": "its QOS does not exist here",
    "NodeDown": "a node it needs is down",
    "BurstBufferResources": "it waits for burst buffer space",
    "Prolog": "its prolog runs",
    "None": "the scheduler has not looked at it yet",
}
_NEVER = (
    "PartitionTimeLimit", "PartitionNodeLimit", "PartitionConfig", "BadConstraints", "InvalidAccount", "InvalidQOS",
    "AccountNotAllowed", "QOSNotAllowed", "ReservationDeleted", "ReservationInvalid",
)  # fmt: skip
_UNAVAILABLE = (
    "ReqNodeNotAvail", "Nodes_required_for_job_are_DOWN", "PartitionDown", "PartitionInactive", "NodeDown",
    "launch_failed", "job_requeued_in_held", "Assoc", "QOS", "MaxJobs",
)  # fmt: skip
_OTHERS_DECIDE = ("JobHeld", "Dependency", "DependencyNeverSatisfied", "Reservation", "FedJobLock")
_PREFIXES = {
    "AssocGrp": "a limit of its account is reached",
    "AssocMax": "a limit of its account or user is reached",
    "QOSGrp": "a limit of its QOS is reached",
    "QOSMax": "a limit of its QOS is reached",
    "ReqNodeNotAvail": "nodes it needs are down, drained or reserved",
    "Nodes_required_for_job_are_DOWN": "nodes it needs are down, drained or reserved for jobs of higher priority",
    "Resources": "it waits for nodes to become free",
}


def explain_reason(reason: str) -> str:
    """Return a sentence for a pending reason; empty if it is not one we know."""
    word = _word(reason)
    if word in _WORDS:
        return _WORDS[word]
    return next((words for prefix, words in _PREFIXES.items() if word.startswith(prefix)), "")


def never_starts(reason: str) -> bool:
    """Whether a pending job with this reason cannot start as it is, however long it waits."""
    return _word(reason) in _NEVER


def is_unavailable(reason: str) -> bool:
    """Whether a pending job waits for what no queue brings: nodes that are down, a quota, a place that is closed."""
    return _word(reason).startswith(_UNAVAILABLE)


def others_decide(reason: str) -> bool:
    """Whether a pending job waits for a person or another job: it is held, or comes after something."""
    return _word(reason).startswith(_OTHERS_DECIDE)


def _word(reason: str) -> str:
    return reason.strip("() ").replace(" ", "_").partition(",")[0]

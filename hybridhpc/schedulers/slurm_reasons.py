"""Slurm's pending reasons in words, with what to do about them (squeue(1), JOB REASON CODES, 20.11 to 26.05)."""

from __future__ import annotations

import re

from hybridhpc.model import Stuck

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
    "QOSJobLimit": "its QOS runs as many jobs as it may",
    "QOSResourceLimit": "its QOS uses as much as it may; it waits for some of its jobs to end",
    "QOSTimeLimit": "it asks for more time than its QOS allows, or its QOS has used up its time",
    "QOSUsageThreshold": "its account has used more than its QOS allows to be eligible: it waits for that to decay",
    "QOSNotAllowed": "its QOS may not be used with its account or in this partition: it will never start as it is",
    "AssociationJobLimit": "its account, or you with it, runs as many jobs as it may",
    "AssociationResourceLimit": "its account, or you with it, uses as much as it may",
    "AssociationTimeLimit": "its account, or you with it, has used up its time",
    "AccountNotAllowed": "its account may not use this partition: it will never start as it is",
    "AccountingPolicy": "a limit of its account or QOS is in its way",
    "InvalidAccount": "its account does not exist here, or no more: it will never start as it is",
    "InvalidQOS": "its QOS does not exist here, or not for its account: it will never start as it is",
    "NodeDown": "a node it needs is down",
    "FrontEndDown": "no front-end node is up that could start it",
    "BurstBufferResources": "it waits for burst buffer space",
    "BurstBufferStageIn": "its data is brought into a burst buffer",
    "BurstBufferOperation": "an operation on its burst buffer failed: `scontrol show job` has the words; it is held",
    "BlockMaxError": "the hardware it needs has failed too often: ask an administrator",
    "BlockFreeAction": "the hardware it needs is being freed",
    "Cleaning": "it was requeued, and what is left of its last run is cleaned up first",
    "DeadLine": "it could not end before its --deadline",
    "FedJobLock": "another cluster of the federation is about to start it",
    "InactiveLimit": "it was idle for longer than the site allows",
    "JobHoldMaxRequeue": "it was requeued as often as the site allows, and is held; `scontrol release` lets it go",
    "MaxBatchRequeue": "it was requeued as often as the site allows, and is held; `scontrol release` lets it go",
    "MaxRequeueExceeded": "it was requeued as often as the site allows, and is held; `scontrol release` lets it go",
    "JobLaunchFailure": "its node could not begin it: a file system, a user or an id may be missing there",
    "launch_failed_requeued_held": "its node could not begin it, so it is held; `scontrol release` lets it try again",
    "job_requeued_in_held_state": "it was requeued and is held; `scontrol release` lets it go",
    "MaxMemPerLimit": "it asks for more memory per CPU or node than the partition allows: it will never start as it is",
    "MaxPoweredUpNodes": "as many nodes are powered up as the site allows",
    "NonZeroExitCode": "it ended with an exit code other than 0",
    "RaisedSignal": "a signal ended it",
    "OutOfMemory": "it used more memory than it asked for",
    "TimeLimit": "it reached its walltime",
    "ReservationDeleted": "its reservation is gone: it will never start as it is",
    "ReservationInvalid": "its reservation may not be used by it: it will never start as it is",
    "SchedDefer": "the scheduler starts nothing at the moment of submission; it comes to it at its next round",
    "SystemFailure": "something in the system itself failed: ask an administrator",
    "WaitingForScheduling": "the scheduler has not looked at it yet",
    "Prolog": "its prolog runs",
    "None": "the scheduler has not looked at it yet",
}
_NEVER = (
    "PartitionTimeLimit", "PartitionNodeLimit", "PartitionConfig", "BadConstraints", "InvalidAccount", "InvalidQOS",
    "AccountNotAllowed", "QOSNotAllowed", "ReservationDeleted", "ReservationInvalid",
    "DependencyNeverSatisfied", "MaxMemPerLimit",
)  # fmt: skip
_UNAVAILABLE = (
    "ReqNodeNotAvail", "Nodes_required_for_job_are_DOWN", "PartitionDown", "PartitionInactive", "NodeDown",
    "launch_failed", "job_requeued_in_held", "Assoc", "QOS", "Max",
)  # fmt: skip
_OTHERS_DECIDE = ("JobHeld", "Dependency", "DependencyNeverSatisfied", "Reservation", "FedJobLock")
_PREFIXES = {
    "ReqNodeNotAvail": "nodes it needs are down, drained or reserved",
    "Nodes_required_for_job_are_DOWN": "nodes it needs are down, drained or reserved for jobs of higher priority",
    "Resources": "it waits for nodes to become free",
    "RaisedSignal": "a signal ended it",
}
_LIMIT = re.compile(
    r"(?P<of>Assoc|QOS|)(?P<how>Grp|Max|Min)(?P<what>WallDuration|SubmitJobs?|Jobs|BB|Billing|Cpu|CPU|Energy|GRES|License"
    r"|Memory|Mem|Node|Unknown|Wall)(?P<span>RunMinutes|RunMins|Minutes|)(?P<per>Per(?:Job|Node|User|Account)|)"
    r"(?:Limit|NotSatisfied|)"
)
"""How Slurm puts together what it calls a limit (resource limits: sacctmgr(1), 22.05 to 26.05)."""
_WHAT = {
    "BB": "burst buffer space", "Billing": "billing units", "Cpu": "CPUs", "CPU": "CPUs", "Energy": "energy",
    "GRES": "GPUs or other generic resources", "License": "licences", "Memory": "memory", "Mem": "memory",
    "Node": "nodes", "Unknown": "of a resource", "Wall": "run time", "WallDuration": "run time", "Jobs": "running jobs",
    "SubmitJob": "submitted jobs", "SubmitJobs": "submitted jobs",
}  # fmt: skip
_PER = {"PerNode": " per node", "PerUser": " for one person", "PerAccount": " for one account"}


def _limit(word: str) -> str:
    """Return a sentence for a limit of an account or QOS; empty if it is none."""
    match = _LIMIT.fullmatch(word)
    if match is None:
        return ""
    whose = "its account" if match["of"] == "Assoc" else "its QOS"
    what, per, span = _WHAT[match["what"]], _PER.get(match["per"], ""), match["span"]
    if match["how"] == "Min":
        return f"it asks for less than the least that {whose} demands ({what}): it will never start as it is"
    if _is_of_one_job(match):
        times = " times run time" if span else ""
        return f"it asks for more than {whose} allows one job ({what}{times}{per}): it will never start as it is"
    if span.startswith("Run"):
        return (
            f"running jobs have as much left before them as {whose} allows{per} ({what} times time left): "
            "it starts when that has fallen, sooner with a shorter walltime"
        )
    if span or match["what"] == "Wall":
        return (
            f"what {whose} may use{per} is used up ({what}{' times run time' if span else ''}): "
            "it starts once that has decayed, or an administrator raises it"
        )
    if match["what"] in ("Jobs", "SubmitJob", "SubmitJobs"):
        return f"there are as many {what} as {whose} allows{per}: it starts when some of them have ended"
    return (
        f"with it more would be in use than {whose} allows{per} ({what}): it starts when other jobs have ended, "
        "or never if it alone asks for more"
    )


def _is_of_one_job(match: re.Match[str]) -> bool:
    """Whether a limit is that of each single job: waiting changes nothing."""
    return match["per"] in ("PerJob", "PerNode")


_PER_ACCOUNT = re.compile(r"Max\w+Per(?:Account|User)\b")
"""What a QOS allows each account of those that use it, or (from 24.11) each person."""


def explain_reason(reason: str) -> str:
    """Return a sentence for a pending reason; empty if it is not one we know."""
    word = _word(reason)
    if found := _WORDS.get(word) or _limit(word):
        return found
    return next((words for prefix, words in _PREFIXES.items() if word.startswith(prefix)), "")


def never_starts(reason: str) -> bool:
    """Whether a pending job with this reason cannot start as it is, however long it waits."""
    match = _LIMIT.fullmatch(_word(reason))
    return _word(reason) in _NEVER or (match is not None and (match["how"] == "Min" or _is_of_one_job(match)))


def is_unavailable(reason: str) -> bool:
    """Whether a pending job waits for what no queue brings: nodes that are down, a quota, a place that is closed."""
    return _word(reason).startswith(_UNAVAILABLE)


def others_decide(reason: str) -> bool:
    """Whether a pending job waits for a person or another job: it is held, or comes after something."""
    return _word(reason).startswith(_OTHERS_DECIDE)


def waits_for_limit(reason: str) -> bool:
    """Whether a job waits for other jobs of its owner to end: limits of an association or a QOS (squeue(1))."""
    word = reason.strip("() ")
    return word.startswith(("Assoc", "QOSMax", "QOSGrp")) or _PER_ACCOUNT.match(word) is not None


def stuck(reason: str) -> Stuck | None:
    """Return what keeps a pending job from ever starting by itself; None if nothing does."""
    if reason.startswith("JobHeld"):
        return Stuck.HELD
    return Stuck.IN_VAIN if reason.startswith("DependencyNeverSatisfied") else None


def _word(reason: str) -> str:
    return reason.strip("() ").replace(" ", "_").partition(",")[0]

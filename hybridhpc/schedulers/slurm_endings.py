"""How a job ended, in words: what its state, exit code, signal and reason mean, and do not mean. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from signal import Signals

from hybridhpc.model import JobState, JobStatus
from hybridhpc.schedulers.slurm_reasons import explain_reason

_CODES = {126: "cannot be executed", 127: "command not found"}
"""Exit codes of a shell (sh(1p), EXIT STATUS)."""
_ADVICE = {
    126: "a file it called lacks the permission to be executed, or is a program for another machine",
    127: "a name is misspelt, or a module or an environment is not loaded there",
}
_LAUNCH = "its node could not enter its directory or make its output file, or does not know its user"
_SIGNALS = {
    "SIGILL": "the processor lacks an instruction: the program was built for another one",
    "SIGBUS": "it may have filled a memory file system such as /dev/shm",
    "SIGSEGV": "the program touched memory that it does not have",
    "SIGKILL": "it was killed by hand, or by the kernel where memory ran out",
    "SIGTERM": "it was asked to end",
}
_NOT_LAUNCHED = 53
"""What Slurm has for the signal of a job whose script its node could not begin (seen on 22.05: `0:53`)."""
_SHELLS = 128
"""A shell says 128 + n of a command that signal n ended."""
_SAID_BY_THE_STATE = re.compile(
    r"NonZeroExitCode|TimeLimit|OutOfMemory|RaisedSignal\S*|NodeFail|cancelled(?: while pending)?"
)
"""Reasons (squeue(1), JOB REASON CODES) that say no more than state and exit code do. ` (3 FAILED)` may follow."""
_ENDS = (
    "DependencyNeverSatisfied", "InvalidAccount", "InvalidQOS", "DeadLine", "InactiveLimit", "JobLaunchFailure",
    "SystemFailure",
)  # fmt: skip
"""Reasons for which Slurm itself may end jobs."""
_COUNTS = re.compile(r"\d+ [A-Z_]+(?:, \d+ [A-Z_]+)*")
"""What stands for the reason of an array: see fold()."""
_BY = re.compile(r"CANCELLED by (\d+)")


def exit_words(state: JobState, code: int | None, signal: int | None) -> str:
    """Return in a few words what ended a job's own script; empty if it did not fail by itself.

    Slurm has an exit code for jobs that others ended, too: 0 where a node failed, signal 125 where memory ran out.
    """
    if state is not JobState.FAILED:
        return ""
    if signal == _NOT_LAUNCHED:
        return "it was not launched"
    if signal:
        name = _name(signal)
        return f"signal {signal}" + (f" ({name})" if name else "")
    what = _CODES.get(code or 0) or _name((code or 0) - _SHELLS)
    return "" if code is None else f"exit code {code}" + (f" ({what})" if what else "")


def reason_words(reason: str) -> str:
    """Return what the scheduler gave as the reason of an end, without what the state says already.

    Slurm leaves there why a job was pending when it was cancelled, which is no reason of its end.
    """
    word, blank, more = reason.partition(" (")
    if _SAID_BY_THE_STATE.fullmatch(word) or (explain_reason(word) and word not in _ENDS):
        return more.removesuffix(")") if blank else ""
    return reason


def explain_end(status: JobStatus, *, wanted: bool | None) -> Iterator[str]:
    """Yield sentences: what ended the job and what can be done. `wanted`: whether the person let it be;
    None: that is not known.
    """
    if status.state is JobState.CANCELLED:
        yield _cancelled(status, wanted)
    if words := exit_words(status.state, status.exit_code, status.signal):
        code = status.exit_code or 0
        advice = (
            _LAUNCH
            if status.signal == _NOT_LAUNCHED
            else _ADVICE.get(code) or _SIGNALS.get(_name(status.signal or code - _SHELLS), "")
        )
        yield f"{words}: {advice}" if advice else words
    native = status.native_state.split(" ")[0].rstrip("+")
    if words := _NATIVE.get(native) or _STATES.get(status.state, ""):
        yield words
    if reason := reason_words(status.reason):
        explained = explain_reason(reason) if status.state is JobState.CANCELLED else ""
        kind = "tasks" if _COUNTS.fullmatch(reason) else "reason"
        yield f"reason {reason}: {explained}" if explained else f"{kind}: {reason}"


_STATES = {
    JobState.TIMEOUT: "it reached its walltime: raise `time` (--time of a script), or name a "
    "`checkpoint` and continue from it",
    JobState.OUT_OF_MEMORY: "it used more memory than it asked for: raise `memory` (--mem of a script)",
    JobState.NODE_FAIL: "a node of it failed, or did not boot, and its scheduler did not start it again: submit it "
    "again, or have it done (`retries: {node_fail: 3}` in a spec)",
    JobState.PREEMPTED: "it had to make room for another job, and its scheduler did not start it again: submit it "
    "again, or have it done (`retries: {preempted: 20}` in a spec)",
}
_NATIVE = {
    "BOOT_FAIL": "its nodes did not boot, so its script never ran: submit it again",
    "DEADLINE": "it could not end before its --deadline",
    "REVOKED": "its sibling runs in another cluster of the federation",
}
"""Words of Slurm that say more than the state they stand for."""


def _cancelled(status: JobStatus, wanted: bool | None) -> str:
    when = "" if status.started_at else " before it began"
    if wanted is False:
        return f"you cancelled it{when}"
    match = _BY.search(status.native_state)
    if match is None and wanted is None:
        return f"it was cancelled{when}"
    if match is None:
        return f"it was cancelled at its site, not by `hpc cancel`{when and ','}{when}"
    return f"user id {match[1]} of its site{' (root)' if match[1] == '0' else ''} cancelled it{when}"


def _name(signal: int) -> str:
    """Return what a signal is called; empty if there is none, or it has no name."""
    try:
        return Signals(signal).name
    except ValueError:
        return ""

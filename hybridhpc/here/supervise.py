"""A supervisor: one detached process that claims one task, runs it, holds it to its limits and records its end."""

from __future__ import annotations

import os
import resource
import signal
import sqlite3
import sys
import time
from pathlib import Path
from typing import NamedTuple

from hybridhpc.here import cgroup, slots, surroundings, watch
from hybridhpc.here.launch import StartError, be_subreaper, start_script
from hybridhpc.here.machine import boot_id
from hybridhpc.here.place import Place, open_place
from hybridhpc.here.queue import Machine
from hybridhpc.here.slots import Claim
from hybridhpc.here.tend import TURN, tend

GRACE = 5.0
"""Seconds between SIGTERM and SIGKILL."""
_TICK = 0.25
"""Seconds between two looks at memory and at the wish to cancel."""
_WATCH_SHARE = 20
"""Looking at memory takes at most one part in so many of a CPU."""
_PATIENCE = 30.0
_RETRY = 5.0
_EVENTS = {signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
_KIB_PER_MIB = 1024


class Verdict(NamedTuple):
    """A state that we gave the task ourselves, whatever its exit code will be."""

    state: str
    reason: str


def main() -> int:
    """Claim the next task and see it through; start the next supervisor before and after."""
    _detach()
    place = open_place(sys.argv[1])
    machine = slots.recorded_machine(place)
    if machine is None:
        return 0
    claim = slots.claim(place, machine, supervisor=os.getpid(), boot=boot_id())
    os.close(TURN)
    _let_others_start(place, machine)
    if claim is None:
        return 0
    be_subreaper(True)
    _see_through(place, machine, claim)
    place.unlock(claim.task.id, claim.lock)
    be_subreaper(False)
    _let_others_start(place, machine)
    return 0


class Supervision:
    """One task while it runs."""

    def __init__(self, place: Place, claim: Claim, leader: int, group: Path | None) -> None:
        self.place = place
        self.claim = claim
        self.leader = leader
        self.job = watch.Job(surroundings.mark(claim), os.getpid(), group)
        self.status: int | None = None
        self.peak = 0
        self.verdict: Verdict | None = None
        self.started = time.monotonic()
        self.kill_at = float("inf")
        self.tick_at = self.started
        self.warned = claim.request.signal is None

    def run(self) -> None:
        """Return when the script has ended and nothing of the job is left."""
        while self._goes_on():
            event = signal.sigtimedwait(_EVENTS, max(0.0, self._next_moment() - time.monotonic()))
            self.reap()
            if event and event.si_signo != signal.SIGCHLD:
                self._end(Verdict("NODE_FAIL", f"its supervisor was told to end ({_signal_name(event.si_signo)})"))
            if self.status is None or self.verdict:
                self._look()
        left = watch.kill_all(self._members, self.reap, patience=_PATIENCE)
        if left:
            reason = f"process {min(left)} cannot be ended"
            self.verdict = Verdict(self.end()[0], "; ".join(filter(None, (self.end()[1], reason))))

    def reap(self) -> None:
        """Take the exit status of every child that has died, adopted ones included."""
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            self.peak = max(self.peak, usage.ru_maxrss // _KIB_PER_MIB)
            if pid == self.leader:
                self.status = status

    def end(self) -> tuple[str, str]:
        """Return state and reason."""
        limit = self.claim.request.memory
        if self.verdict is None and self.job.group and cgroup.out_of_memory(self.job.group):
            return "OUT_OF_MEMORY", f"asked for more than its {limit} MiB"
        if self.verdict is None and not self.job.group and self.peak > max(limit, _own_peak()):
            return "OUT_OF_MEMORY", f"one of its processes used {self.peak} MiB, the limit is {limit} MiB"
        if self.verdict:
            return self.verdict
        code, number = self.exit()
        if number is not None:
            return "FAILED", f"ended by signal {number} ({_signal_name(number)})"
        return ("COMPLETED", "") if code == 0 else ("FAILED", "")

    def exit(self) -> tuple[int | None, int | None]:
        """Return the script's exit code and the signal that ended it; one of them is None."""
        if self.status is None:
            return None, None
        if os.WIFSIGNALED(self.status):
            return None, os.WTERMSIG(self.status)
        return os.WEXITSTATUS(self.status), None

    def _goes_on(self) -> bool:
        """Until the script ends; when it was asked to end, until all it left have ended or their grace is over."""
        if self.status is None:
            return time.monotonic() < self.kill_at
        return self.verdict is not None and time.monotonic() < self.kill_at and bool(self._members())

    def _next_moment(self) -> float:
        return min(self.tick_at, self.kill_at, self._limit_at(), self._warn_at())

    def _limit_at(self) -> float:
        walltime = self.claim.request.walltime
        return float("inf") if walltime is None or self.verdict else self.started + walltime

    def _warn_at(self) -> float:
        asked = self.claim.request.signal
        walltime = self.claim.request.walltime
        if self.warned or asked is None or walltime is None:
            return float("inf")
        return self.started + max(0, walltime - asked[2])

    def _look(self) -> None:
        now = time.monotonic()
        if now >= self._warn_at():
            self._warn()
        if now >= self._limit_at():
            self._end(Verdict("TIMEOUT", f"ran longer than its walltime of {self.claim.request.walltime} s"))
        if now >= self.tick_at:
            self._look_at_memory()
            if not self.verdict and self._cancelled():
                self._end(Verdict("CANCELLED", "cancelled"))
            self.tick_at = now + max(_TICK, _WATCH_SHARE * (time.monotonic() - now))

    def _cancelled(self) -> bool:
        try:
            return slots.asked_to_end(self.place, self.claim.task.id)
        except sqlite3.Error:  # a database that cannot be asked now is no reason to lose the job
            _note_error()
            return False

    def _look_at_memory(self) -> None:
        limit = self.claim.request.memory
        if self.verdict:
            return
        if self.job.group:
            over = cgroup.out_of_memory(self.job.group)
            reason = f"asked for more than its {limit} MiB"
        else:
            used = watch.used_memory(watch.descendants(self.job), limit)
            over, reason = used > limit, f"used {used} MiB, the limit is {limit} MiB"
        if over:
            self._end(Verdict("OUT_OF_MEMORY", reason), grace=0.0)

    def _end(self, verdict: Verdict, grace: float = GRACE) -> None:
        if self.verdict:
            return
        self.verdict = verdict
        self.kill_at = time.monotonic() + grace
        if grace:
            watch.terminate(self.leader if self.status is None else None, self._members())

    def _warn(self) -> None:
        self.warned = True
        if self.claim.request.signal:
            number, only_script, _ = self.claim.request.signal
            watch.send([self.leader] if only_script else self._members(), number)

    def _members(self) -> set[int]:
        return watch.members(self.job) | ({self.leader} if self.status is None else set())


def _see_through(place: Place, machine: Machine, claim: Claim) -> None:
    """Run a claimed task to its end and record that."""
    group = _make_group(place, claim)
    try:
        leader, joined = start_script(machine, claim, group)
    except (StartError, OSError) as error:
        _record(place, claim, ("FAILED", f"could not be started: {error}"), (None, None))
    else:
        supervision = Supervision(place, claim, leader, joined)
        supervision.run()
        _record(place, claim, supervision.end(), supervision.exit())
    if group:
        cgroup.remove(group)


def _make_group(place: Place, claim: Claim) -> Path | None:
    """Make the task's control group; it is written down before, so that it is never left behind."""
    kept = cgroup.keeping(trial=False)
    if not kept.base:
        return None
    group = cgroup.group_path(kept, f"{os.getpid()}-{claim.task.id}")
    slots.note_group(place, claim.task.id, str(group))
    return group if cgroup.make(kept, group, claim.request.memory) else None


def _record(place: Place, claim: Claim, end: tuple[str, str], exit_: tuple[int | None, int | None]) -> None:
    """Record the end of a task, however long it takes: a full disk must not turn a result into a loss."""
    while True:
        try:
            slots.finish(place, claim.task.id, *end, exit_code=exit_[0], signal=exit_[1])
        except sqlite3.OperationalError:
            _note_error()
            time.sleep(_RETRY)
        else:
            return


def _let_others_start(place: Place, machine: Machine) -> None:
    """Start who is due. A failure is for the next command to meet: it must not cost this supervisor's own task."""
    try:
        tend(place, machine)
    except (sqlite3.Error, OSError):
        _note_error()


def _detach() -> None:
    """Let go of everything of whoever started this process: files, directory, signals, control group, CPUs."""
    os.closerange(TURN + 1, 65536)
    os.chdir("/")
    os.umask(0o077)
    signal.pthread_sigmask(signal.SIG_BLOCK, _EVENTS)
    cgroup.leave_job()


def _note_error() -> None:
    """Write the error that is being handled to here.log. The module takes a while to import, and a job would wait."""
    import traceback

    traceback.print_exc()


def _own_peak() -> int:
    """Return this process's own peak in MiB: a forked child inherits it and cannot be blamed for it."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // _KIB_PER_MIB


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


if __name__ == "__main__":
    sys.exit(main())

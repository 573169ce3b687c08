"""Starts the script of a claimed task: files, CPUs, limits and control group in place before its first instruction."""

from __future__ import annotations

import ctypes
import os
import signal
from pathlib import Path

from hybridhpc.here import cgroup, surroundings
from hybridhpc.here.queue import Machine
from hybridhpc.here.request import file_name
from hybridhpc.here.slots import Claim

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


class StartError(Exception):
    """The script could not be started; says why."""


def start_script(machine: Machine, claim: Claim, group: Path | None) -> tuple[int, Path | None]:
    """Start the script in a session of its own; it goes on once it is in its group.

    Returns its process id and the group it really is in. Raises StartError, OSError.
    """
    files = _open_files(machine, claim)
    variables = surroundings.environment(claim, machine)
    parent = os.getpid()
    go, let_go = os.pipe()
    words, say = os.pipe()
    leader = os.fork()
    if leader == 0:
        try:
            os.close(let_go)
            os.read(go, 1)
            _become_script(claim, machine, files, variables, parent)
        except BaseException as error:  # whatever it is: the supervisor must hear of it, and no copy of it may go on
            os.write(say, str(error).encode(errors="replace")[:4000])
        finally:
            os._exit(127)
    for descriptor in (go, say, *files):
        os.close(descriptor)
    joined = group if group and cgroup.join(group, leader) else None
    os.close(let_go)
    complaint = os.read(words, 4000)
    os.close(words)
    if complaint:
        os.waitpid(leader, 0)
        raise StartError(complaint.decode(errors="replace"))
    return leader, joined


def be_subreaper(wanted: bool) -> None:
    """Become (or cease to be) the parent of orphans below this process; daemons of the job stay findable by that."""
    _prctl(_PR_SET_CHILD_SUBREAPER, int(wanted))


def _become_script(
    claim: Claim, machine: Machine, files: tuple[int, int, int], variables: dict[str, str], parent: int
) -> None:
    os.setsid()
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        raise StartError("its supervisor died")
    _pin(machine, claim.cpus)
    os.chdir(claim.request.cwd)
    for descriptor, source in enumerate(files):
        os.dup2(source, descriptor)
    surroundings.restore(claim.surroundings)
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    script = claim.request.script
    os.execve(script, (script, *claim.request.args), variables)  # noqa: S606 (an argument list, no shell)


def _open_files(machine: Machine, claim: Claim) -> tuple[int, int, int]:
    """Open standard input, output and error; both outputs are one file unless the person named two."""
    request, names = claim.request, surroundings.log_names(claim, machine)
    paths = [Path(request.cwd, file_name(pattern, names)) for pattern in (request.output, request.error) if pattern]
    create = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC
    ours = os.umask(claim.surroundings["umask"])
    try:
        output = os.open(paths[0], create, 0o666)
        error = os.dup(output) if len(set(paths)) == 1 else os.open(paths[1], create, 0o666)
    finally:
        os.umask(ours)
    return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC), output, error


def _pin(machine: Machine, cpus: tuple[int, ...]) -> None:
    """Give the script its own CPUs, where slots stand for real ones and the kernel agrees; else all of them."""
    every = set(range(os.cpu_count() or 1))
    mine = {machine.cpu_ids[cpu] for cpu in cpus} if machine.cpu_ids else every
    for wish in (mine, every):
        try:
            os.sched_setaffinity(0, wish)
        except OSError:
            continue
        return


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)

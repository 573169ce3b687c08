"""The kernel's own hold on a job's memory: a control group per job, where this process may make one (v1 or v2)."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

PROC = Path("/proc")
_OURS = "hpc-here-"
_MIB = 1024 * 1024
_ESCAPE = r"\\([0-7]{3})"
_HINT = "start hpc under `systemd-run --user --scope` to have one"


class Lineage(NamedTuple):
    """The control groups of this process for one controller, from its own up to the highest one visible."""

    version: int
    """1, 2, or 0 where the controller is not to be found."""
    directories: tuple[Path, ...]


class Keeping(NamedTuple):
    """Who holds jobs to their memory, and why it is not the other one."""

    by: str
    """`cgroup v2`, `cgroup v1` or `watching`."""
    base: str
    """Directory that gets a group per job; empty when watching."""
    why: str


def lineage(controller: str, proc: Path = PROC) -> Lineage:
    """Find the groups that bind this process, from /proc/self/cgroup and the mounts (cgroups(7))."""
    own = _own_paths(proc)
    for root, mount, kind, options in _mounts(proc):
        if kind == "cgroup" and controller in options and controller in own:
            return Lineage(1, _up(own[controller], root, mount))
    for root, mount, kind, _ in _mounts(proc):
        if kind == "cgroup2" and "" in own:
            directories = _up(own[""], root, mount)
            if directories and controller in _words(directories[-1] / "cgroup.controllers"):
                return Lineage(2, directories)
    return Lineage(0, ())


def keeping(proc: Path = PROC, *, trial: bool = True) -> Keeping:
    """Tell who holds jobs to their memory. `trial`: really make a group, limit it and remove it.

    HPC_HERE_NO_CGROUP=1 switches control groups off.
    """
    if os.environ.get("HPC_HERE_NO_CGROUP"):
        return Keeping("watching", "", "HPC_HERE_NO_CGROUP is set")
    found = lineage("memory", proc)
    base = _base_v1(found) if found.version == 1 else _base_v2(found)
    if base is None:
        return Keeping("watching", "", f"{_why_not(found)}; {_HINT}")
    kept = Keeping(f"cgroup v{found.version}", str(base), f"{base} may be divided by you")
    if not trial:
        return kept
    group = group_path(kept, f"trial-{os.getpid()}")
    if not make(kept, group, 64):
        return Keeping("watching", "", f"{base} refuses new groups; {_HINT}")
    remove(group)
    return kept


def memory_hold() -> str:
    """Say in a sentence who holds jobs to their memory on this machine, and why."""
    kept = keeping()
    if kept.base:
        return f"the kernel holds jobs to their memory ({kept.by}: {kept.why})"
    return f"jobs are held to their memory by watching them four times a second: {kept.why}"


def group_path(kept: Keeping, name: str) -> Path:
    """Return where the group of a job lies, made or not."""
    return Path(kept.base, _OURS + name)


def make(kept: Keeping, group: Path, mebibytes: int) -> bool:
    """Make the group of a job with its limit; False where that is impossible. Swap does not widen the limit."""
    limit = str(mebibytes * _MIB)
    try:
        group.mkdir(exist_ok=True)
        if kept.by == "cgroup v1":
            (group / "memory.limit_in_bytes").write_text(limit)
            _if_there(group / "memory.memsw.limit_in_bytes", limit)
            _if_there(group / "memory.swappiness", "0")
        else:
            (group / "memory.max").write_text(limit)
            _if_there(group / "memory.swap.max", "0")
            _if_there(group / "memory.oom.group", "1")
    except OSError:
        remove(group)
        return False
    return True


def join(group: Path, pid: int) -> bool:
    """Put a process into a group; False if the kernel refuses."""
    try:
        (group / "cgroup.procs").write_text(str(pid))
    except OSError:
        return False
    return True


def leave_job(proc: Path = PROC) -> None:
    """Move this process out of the group of a job that started it; in v2 only groups without groups hold processes."""
    found = lineage("memory", proc)
    if not found.directories or not found.directories[0].name.startswith(_OURS):
        return
    home = found.directories[0].parent
    if found.version == 2:
        home /= f"{_OURS}supervisors"
        home.mkdir(exist_ok=True)
    join(home, os.getpid())


def members(group: Path) -> set[int]:
    """Return the processes in a group; none if it is gone."""
    return {int(word) for word in _words(group / "cgroup.procs") if word.isdecimal()}


def out_of_memory(group: Path) -> bool:
    """Tell whether the kernel killed a process of the group for its memory, since 4.13 in v1's memory.oom_control."""
    for name in ("memory.events", "memory.oom_control"):
        words = _words(group / name)
        if "oom_kill" in words:
            return int(words[words.index("oom_kill") + 1]) > 0
    return False


def remove(group: Path) -> None:
    """Remove a group; one that still has processes stays."""
    try:
        group.rmdir()
    except OSError:
        return


def _base_v1(found: Lineage) -> Path | None:
    own = found.directories[0] if found.directories else None
    if own is not None and own.name.startswith(_OURS):
        own = own.parent
    return own if own is not None and _divisible(own) else None


def _base_v2(found: Lineage) -> Path | None:
    """Find the nearest group that may be divided; none beyond a limit, which would be escaped by that."""
    for directory in found.directories:
        if "memory" in _words(directory / "cgroup.subtree_control") and _divisible(directory):
            return directory
        if _words(directory / "memory.max") not in ([], ["max"]) and not directory.name.startswith(_OURS):
            return None
    return None


def _divisible(directory: Path) -> bool:
    return os.access(directory, os.W_OK) and os.access(directory / "cgroup.procs", os.W_OK)


def _why_not(found: Lineage) -> str:
    if not found.directories:
        return "no memory control group is visible"
    return f"{found.directories[0]} (cgroup v{found.version}) is not delegated to you"


def _up(own: str, root: str, mount: str) -> tuple[Path, ...]:
    """List the directories from `own` up to the mount. `root` is the part of the hierarchy that is mounted."""
    path, top = Path(own), Path(root)
    inside = path.relative_to(top) if path.is_relative_to(top) else Path()
    directory = Path(mount, inside)
    depth = len(inside.parts)
    return tuple(found for found in (directory, *list(directory.parents)[:depth]) if found.is_dir())


def _own_paths(proc: Path) -> dict[str, str]:
    """Map each controller to this process's group; the empty name is v2."""
    paths: dict[str, str] = {}
    for line in _lines(proc / "self" / "cgroup"):
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        paths.update(dict.fromkeys(controllers.split(","), path))
    return paths


def _mounts(proc: Path) -> list[tuple[str, str, str, list[str]]]:
    """List root, mount point, type and super options of every mount (proc_pid_mountinfo(5))."""
    found = []
    for line in _lines(proc / "self" / "mountinfo"):
        before, _, after = line.partition(" - ")
        left, right = before.split(), after.split()
        if len(left) >= 5 and len(right) >= 3:
            root, mount = (_plain(word) for word in left[3:5])
            found.append((root, mount, right[0], right[2].split(",")))
    return found


def _plain(word: str) -> str:
    """Undo the octal escapes of blanks in a mount's path."""
    return re.sub(_ESCAPE, lambda match: chr(int(match.group(1), 8)), word) if "\\" in word else word


def _if_there(path: Path, text: str) -> None:
    if path.exists():
        path.write_text(text)


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return []

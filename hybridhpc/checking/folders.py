"""Files and directories: whose they are, who else can change them, and whether there is room."""

from __future__ import annotations

import grp
import os
import pwd
import shlex
import stat
import tempfile
from pathlib import Path

from hybridhpc.checking.finding import Findings, fault

ROOM = 100 * 1024 * 1024
"""Bytes below which a disk is called full."""
_TRIAL = 64 * 1024
_OTHERS = stat.S_IWGRP | stat.S_IWOTH


def folder(path: Path, *, otherwise: str, alone: bool) -> Findings:
    """Look at a directory that hpc writes to, or at what is in the way of making it. `otherwise` is the last resort.

    `alone`: hpc refuses it unless it is this person's and nobody else may write to it.
    """
    there = next(place for place in (path, *path.parents) if os.path.lexists(place))
    what = "" if there == path else f"{path} cannot be made: "
    name = shlex.quote(str(there))
    if not there.is_dir():
        kind = "a link that leads nowhere" if there.is_symlink() else "a file"
        yield fault(there, f"{what}is {kind} where a directory is needed", f"mv {name} {name}.old, or {otherwise}")
    elif not os.access(there, os.W_OK | os.X_OK):
        mend = f"chmod u+rwx {name}, or " if there.stat().st_uid == os.geteuid() else ""
        yield fault(there, f"{what}you cannot write here", mend + otherwise)
    elif who := _strangers(there, alone=alone and there == path):
        mend = f"chmod go-w {name}, or " if there.stat().st_uid == os.geteuid() else ""
        yield fault(there, who, mend + otherwise)
    else:
        yield from _room(there, otherwise)


def others(path: Path) -> str:
    """Say in words who else can change a file or directory; empty if nobody but its owner, me or root."""
    found = path.stat()
    if found.st_uid not in (0, os.geteuid()):
        return f"belongs to {_user(found.st_uid)}, who can change it"
    if found.st_mode & stat.S_IWOTH:
        return "everybody can change it"
    if found.st_mode & stat.S_IWGRP and not _private_group(found):
        return f"the group {_group(found.st_gid)} can change it"
    return ""


def _strangers(path: Path, *, alone: bool) -> str:
    """Say who could change what is in a directory; in a sticky one everybody can change only their own."""
    found = path.stat()
    if alone:
        if found.st_uid != os.geteuid():
            return f"belongs to {_user(found.st_uid)}, not to you"
        return "others can change what is in it" if found.st_mode & _OTHERS else ""
    return "" if found.st_mode & stat.S_ISVTX else others(path)


def _private_group(found: os.stat_result) -> bool:
    """Whether the group is the owner's own, as many distributions make one for each user."""
    return _group(found.st_gid) == _user(found.st_uid)


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"user {number}"


def _group(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return f"group {number}"


def _room(path: Path, otherwise: str) -> Findings:
    """Look for room; only writing tells whether a quota is used up. Nothing of it stays."""
    try:
        found = os.statvfs(path)
        if found.f_bavail * found.f_frsize < ROOM:
            yield fault(path, f"less than {ROOM >> 20} MiB are free", f"make room, or {otherwise}")
            return
        with tempfile.TemporaryFile(dir=path) as file:
            file.write(bytes(_TRIAL))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        yield fault(path, f"nothing can be written here: {error.strerror}", f"make room, or {otherwise}")

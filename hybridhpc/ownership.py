"""Whose a path is: whether another user of this machine could put something of theirs in its place."""

from __future__ import annotations

import os
import stat
from pathlib import Path


def exchangeable(path: Path) -> str:
    """Say in words how a stranger could exchange a path or a directory above it; empty if none could.

    In a directory where everybody may make files, what lies there must be mine or root's, links too: somebody else's
    may have been put there to be found. Directories that an administrator gave to others (a project's) are trusted.
    Raises OSError.
    """
    written = path.absolute()
    for each in dict.fromkeys((written, written.resolve())):
        for place in (*reversed(each.parents), each):
            if words := _stranger(place):
                return words
    return ""


def _stranger(place: Path) -> str:
    above = place.parent.stat()
    if not above.st_mode & stat.S_IWOTH or place == place.parent:
        return ""
    if not above.st_mode & stat.S_ISVTX:
        return f"everybody can exchange what is in {place.parent}"
    owner = place.lstat().st_uid
    return "" if owner in (0, os.geteuid()) else f"{place} belongs to another user, where everybody can make files"

"""Directories on their way to a site and back: packed as tar, named by their content, unpacked without trust.

At a site a directory lies once per content in `job_root/.work/DIGEST`, and each job gets a copy: with hard links a job
that writes into its files would change every other job's, too. File systems that can share blocks do (`--reflink`).

Since every job has a copy, what is kept may go at any time but while it is copied. Whoever keeps a new directory gives
those another name that were not used for _KEPT_DAYS, and removes what got one more than _AWAY minutes ago. A copy that
was under way goes on under the other name, as it is made from within; none lasts as long as that (_PATIENCE).
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from hybridhpc.command import Command
from hybridhpc.errors import TransportError
from hybridhpc.script.quote import shell_words
from hybridhpc.shipped import shipped

_CHUNK = 1 << 18
_MOST_WORDS = 4096
"""Bytes of a line of the site about what it sends."""
_LARGE = 8 << 20
"""Bytes from which progress is shown."""
_PATIENCE = 600.0
"""Seconds for a copy within a site."""
_KEPT_DAYS = 10
"""Days without use after which a site keeps a directory no longer."""
_AWAY = 60
"""Minutes between the two steps of removing one."""
_SAY = """\
set -fu
export LC_ALL=C
say() { printf '\\n%s %s\\n' "$mark" "$*"; }
exec 4>&1
"""
_SEND = """\
if [ -h "$1" ]; then
    say link "to $(readlink "$1")"
elif [ -d "$1" ]; then
    say tree
    words=$(tar -C "$1" -cf - . 2>&1 >&4)
    say end $? $words
elif [ -e "$1" ]; then
    [ -x "$1" ] && say program || say file
    words=$(cat -- "$1" 2>&1 >&4)
    say end $? $words
else
    say none
fi"""
_KEEP = """\
words=$(
    exec 2>&1 4>&-
    umask 077
    mkdir -p -- "$1" && new=$(mktemp -d "$1/.new.XXXXXXXXXX") || exit
    trap 'rm -rf "$new"' EXIT
    trap 'exit 1' HUP INT PIPE TERM
    mkdir "$new/tree" && tar -C "$new/tree" -xpof - && rm "$new/tree/$3" || exit
    touch "$new/tree"
    sync -f "$new" 2>/dev/null || sync
    mv -- "$new/tree" "$1/$2" 2>/dev/null || [ -d "$1/$2" ]
)
say end $? $words
cd -- "$1" || exit
(
    trap '' HUP
    find . ! -name . -prune -type d -name '[0-9a-f]*' -mtime "+$4" -exec sh -c '
        for each; do mv -- "$each" "./.old.${each#./}.$$" && touch "./.old.${each#./}.$$"; done' sh {} +
    find . ! -name . -prune -name '.old.*' -mmin "+$5" -exec rm -rf -- {} +
    find . ! -name . -prune -name '.new.*' -mtime +1 -exec rm -rf -- {} +
) </dev/null >/dev/null 2>&1 4>&- &"""
_COPY = """\
cd -- "$1" 2>/dev/null || exit "$3"
touch .
umask 077
rm -rf -- "$2"
mkdir -p -- "${2%/*}" || exit
if [ -n "$(find -H "${2%/*}" -prune \\( ! -user "$(id -u)" -o -perm -020 -o -perm -002 \\) -print)" ]; then
    echo "${2%/*} belongs to another user or can be changed by others" >&2
    exit 1
fi
{ cp -a --reflink=auto -- . "$2" 2>/dev/null || cp -a -- . "$2"; }"""


def copy_command(store: str, digest: str, directory: str, none: int) -> Command:
    """Return what makes a job's copy of a directory that the site keeps; it exits with `none` if it keeps none."""
    return Command(argv=("sh", "-c", _COPY, "sh", f"{store}/{digest}", directory, str(none)), timeout=_PATIENCE)


def sending(mark: str, path: str) -> bytes:
    """Return the program with which a site sends a file or directory."""
    return _program(_SEND, mark, path)


def keeping(mark: str, store: str, digest: str) -> bytes:
    """Return the program with which a site keeps the directory that is sent behind it."""
    return _program(_KEEP, mark, store, digest, mark, str(_KEPT_DAYS - 1), str(_AWAY))


def _program(text: str, mark: str, *arguments: str) -> bytes:
    body = f"hpc_carry() {{\n{_SAY}{text}\n}}\nmark={mark}\nhpc_carry {shell_words(arguments)}\n".encode()
    return b"%d\n%s" % (len(body), body)


class Parcel:
    """What a site sends after such a program: a word about it, its bytes, and how the sending ended."""

    def __init__(self, mark: str, keep: IO[bytes]) -> None:
        self._flag = f"\n{mark} ".encode()
        self._keep = keep
        self._held = b""
        self.word = ""
        """tree, file, program (a file to execute), none, or link with where it leads."""
        self.ended = False
        self.exit_code = 0
        self.complaint = ""

    def hear(self, chunk: bytes) -> bool:
        """Take in a piece; True once all is here."""
        self._held += chunk
        while not self.ended and (line := self._next_line()) is not None:
            word, _, rest = line.partition(" ")
            if word == "end":
                code, _, complaint = rest.partition(" ")
                # What is no number is no success.
                exit_code = int(code) if re.fullmatch("[0-9]{1,3}", code) else 1
                self.ended, self.exit_code, self.complaint = True, exit_code, complaint[:_MOST_WORDS]
            else:
                self.word, self.ended = line, word in ("none", "link")
        return self.ended

    def _next_line(self) -> str | None:
        """Return the site's next line about what it sends; bytes before it are kept (before the first: noise)."""
        found = self._held.find(self._flag)
        end = self._held.find(b"\n", found + 1) if found >= 0 else -1
        safe = found if found >= 0 else max(0, len(self._held) - len(self._flag))
        if self.word:
            self._keep.write(self._held[:safe])
        if end < 0:
            self._held = self._held[safe:]
            return "end 1 it sent a line without end" if len(self._held) > _MOST_WORDS + len(self._flag) else None
        line = self._held[found + len(self._flag) : end].decode("utf-8", "replace")
        self._held = self._held[end + 1 :]
        return line


class Tree:
    """A local directory that is shipped, without what is never shipped."""

    def __init__(self, source: str) -> None:
        self._root = Path(source)

    def digest(self) -> str:
        """Return what names this content: paths, kinds, who may execute, and every byte. Raises OSError."""
        whole = hashlib.sha256()
        for path in shipped(self._root):
            seen = path.lstat()
            name = os.fsencode(path.relative_to(self._root))
            whole.update(b"%d %s %o " % (len(name), name, seen.st_mode & 0o170111))
            if path.is_symlink():
                whole.update(hashlib.sha256(os.fsencode(path.readlink())).digest())
            elif path.is_file():
                with path.open("rb") as file:
                    whole.update(hashlib.file_digest(file, "sha256").digest())
        return whole.hexdigest()

    def pack(self, file: IO[bytes], last: str) -> None:
        """Write all of it as tar; `last` is an empty file at its end, which proves that nothing was cut off."""
        with tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT) as archive:
            for path in shipped(self._root):
                archive.add(path, str(path.relative_to(self._root)), recursive=False, filter=_nobodys)
            archive.addfile(tarfile.TarInfo(last))


def _nobodys(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Return a member as the person's who unpacks it, and open to nobody else."""
    mode = 0o700 if member.isdir() or member.mode & 0o100 else 0o600
    return member.replace(uid=0, gid=0, uname="", gname="", mode=mode, deep=False)


def pieces(file: IO[bytes], what: str) -> Iterator[bytes]:
    """Yield a file from its beginning; somebody at a terminal sees how far a large one is."""
    size, passed = file.seek(0, os.SEEK_END), 0
    file.seek(0)
    shown = size > _LARGE and sys.stderr.isatty()
    while chunk := file.read(_CHUNK):
        yield chunk
        before, passed = passed >> 20, passed + len(chunk)
        if shown and (passed >> 20 > before or passed == size):
            end = "\n" if passed == size else ""
            print(f"\r{what}: {passed >> 20} of {size >> 20} MiB", end=end, file=sys.stderr, flush=True)  # noqa: T201


def unpack(file: IO[bytes], kind: str, destination: str) -> None:
    """Put what a site sent where it belongs. Raises OSError, and TransportError as unpack_tree does."""
    file.seek(0)
    if kind == "tree":
        unpack_tree(file, destination)
        return
    target = Path(destination)
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as copy:
        shutil.copyfileobj(file, copy)
    if kind == "program":
        target.chmod(target.stat().st_mode | 0o100)


def unpack_tree(file: IO[bytes], destination: str) -> None:
    """Unpack tar from a site: nothing outside the destination, no devices, no links that lead out of it.

    Raises TransportError, after all else is unpacked, if something was left out.
    """
    left_out = []

    def safe(member: tarfile.TarInfo, path: str) -> tarfile.TarInfo | None:
        try:
            return tarfile.data_filter(member, path)
        except tarfile.FilterError:
            left_out.append(member.name.removeprefix("./"))
            return None

    Path(destination).mkdir(parents=True, exist_ok=True)
    try:
        with tarfile.open(fileobj=file, mode="r:") as archive:
            archive.extractall(destination, filter=safe)  # noqa: S202 -- filtered
    except tarfile.TarError as error:
        raise TransportError(f"what the site sent is no tar archive: {error}") from error
    if left_out:
        raise TransportError(
            f"left behind, as nothing may lead out of it: {', '.join(left_out[:5])}",
            hint="all else was brought; outputs are files and directories",
        )

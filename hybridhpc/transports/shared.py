"""A session over a connection that an ssh process shares, without an ssh process of our own.

Spoken is the protocol of ssh's control sockets, version 4 (PROTOCOL.mux, OpenSSH 5.4 and later): a hello from both
sides, a wish for a session, the three pipes it gets. Where anything is not as expected, `ssh` itself is run instead.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from pathlib import Path
from typing import IO

_HELLO, _NEW_SESSION, _OPENED = 0x00000001, 0x10000002, 0x80000006
_VERSION = 4
_NO_ESCAPE = 0xFFFFFFFF
_LONGEST = 1 << 16
"""Bytes of a message; these are short."""


class SharedSession:
    """See talk.Line."""

    def __init__(self, control: socket.socket, pipes: tuple[int, int, int]) -> None:
        self._control = control
        self.stdin: IO[bytes] = os.fdopen(pipes[0], "wb", buffering=0)
        self.stdout: IO[bytes] = os.fdopen(pipes[1], "rb", buffering=0)
        self.stderr: IO[bytes] = os.fdopen(pipes[2], "rb", buffering=0)

    def end(self, until: float) -> None:
        """See talk.Line. The connection stays, and this session's part in it goes."""
        self._control.close()

    def let_go(self) -> None:
        """See talk.Line."""
        self._control.close()


def open_session(path: Path, command: str, within: float) -> SharedSession | None:
    """Start a command over the connection that is shared at this path; None if there is none, or it will not."""
    control = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    ends: list[int] = []
    try:
        control.settimeout(max(0.1, within))
        control.connect(str(path))
        _send(control, struct.pack(">II", _HELLO, _VERSION))
        if _receive(control)[:8] != struct.pack(">II", _HELLO, _VERSION):
            raise OSError("another version")
        for _ in range(3):
            ends += os.pipe()
        flags = struct.pack(">5I", 0, 0, 0, 0, _NO_ESCAPE)  # no terminal, X11, agent, subsystem, escape character
        wish = struct.pack(">II", _NEW_SESSION, 0) + _text("") + flags + _text("") + _text(command)
        _send(control, wish)
        for end in (ends[0], ends[3], ends[5]):
            socket.send_fds(control, [b"\0"], [end])
        if struct.unpack_from(">I", _receive(control))[0] != _OPENED:
            raise OSError("no session")
        pipes = ends[1], ends[2], ends[4]
    except (OSError, struct.error):
        control.close()
        _close(ends)
        return None
    _close([ends[0], ends[3], ends[5]])
    return SharedSession(control, pipes)


def _close(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        with contextlib.suppress(OSError):
            os.close(descriptor)


def _text(text: str) -> bytes:
    return struct.pack(">I", len(text.encode())) + text.encode()


def _send(control: socket.socket, message: bytes) -> None:
    control.sendall(struct.pack(">I", len(message)) + message)


def _receive(control: socket.socket) -> bytes:
    """Return a message. Raises OSError."""
    (length,) = struct.unpack(">I", _exactly(control, 4))
    if length > _LONGEST:
        raise OSError("no message of ssh")
    return _exactly(control, length)


def _exactly(control: socket.socket, length: int) -> bytes:
    found = b""
    while len(found) < length:
        piece = control.recv(length - len(found))
        if not piece:
            raise OSError("the connection is not shared any more")
        found += piece
    return found

"""A conversation over pipes, bounded in time: bytes in, bytes out, and what the other end complained of."""

from __future__ import annotations

import contextlib
import fcntl
import os
import selectors
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import IO, Protocol

from hybridhpc.errors import Undelivered

_CHUNK = 1 << 16
_MOST_WORDS = 1 << 16
_LAST_WORDS = 2.0
"""Seconds for an other end that has fallen silent to go by itself and say why."""
_ending: list[subprocess.Popen[bytes]] = []
"""Children that have said all that was wanted; they are collected when they have ended."""


class Line(Protocol):
    """What a conversation goes over: three pipes, and somebody at their other ends."""

    stdin: IO[bytes]
    stdout: IO[bytes]
    stderr: IO[bytes]

    def end(self, until: float) -> None:
        """Let the other end go by itself until then (time.monotonic()), and end it afterwards."""
        ...

    def let_go(self) -> None:
        """Leave it to itself: all that was wanted has been said."""
        ...


class Child:
    """See Line: a process in a session of its own."""

    def __init__(self, argv: Sequence[str], env: Mapping[str, str]) -> None:
        _ending[:] = [process for process in _ending if process.poll() is None]
        pipe = subprocess.PIPE
        try:
            process = subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe, env=env, start_new_session=True)
        except OSError as error:
            raise Undelivered(f"{argv[0]}: {(error.strerror or str(error)).lower()}", hint="install OpenSSH") from error
        assert process.stdin and process.stdout and process.stderr  # noqa: S101 -- for mypy: all three are pipes
        self._process, self.stdin, self.stdout, self.stderr = process, process.stdin, process.stdout, process.stderr

    def end(self, until: float) -> None:
        """See Line.end. Its own children end with it."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(max(0.0, until - time.monotonic()))
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def let_go(self) -> None:
        """See Line.let_go."""
        _ending.append(self._process)


class Talk:
    """What is said over one line. The other end may outlive the conversation."""

    def __init__(
        self, line: Line, send: Iterable[bytes], hear: Callable[[bytes], bool], *, listening: bool = True
    ) -> None:
        self._line = line
        self._send = iter(send)
        self._hear = hear
        self._listening = listening
        self._rest = memoryview(b"")
        self._complaints = bytearray()
        self._sent_all = False
        self._content = False
        self.delivered = False
        """Whether the other end has read all that was to be sent: if not, the site cannot have got it."""
        self.late = False

    @property
    def words(self) -> str:
        """What the other end complained of."""
        return self._complaints.decode("utf-8", "replace")

    def hold(self, within: float, *, idle: bool) -> bool:
        """Send and hear until `hear` is content; False if the other end went before, or the time is up.

        `within` so many seconds, counted anew from every byte if `idle`.
        """
        until = time.monotonic() + within
        stdin, stdout, stderr = pipes = (self._line.stdin, self._line.stdout, self._line.stderr)
        for stream in pipes:
            os.set_blocking(stream.fileno(), False)
        with selectors.DefaultSelector() as selector:
            selector.register(stdin, selectors.EVENT_WRITE, self._say)
            selector.register(stdout, selectors.EVENT_READ, self._listen)
            selector.register(stderr, selectors.EVENT_READ, self._overhear)
            while stdout in selector.get_map() and (left := until - time.monotonic()) > 0:
                for key, _ in selector.select(left):
                    if not key.data(key.fileobj):
                        selector.unregister(key.fileobj)
                    until = time.monotonic() + within if idle else until
        self.late = not self._content and time.monotonic() >= until
        self.delivered = self._sent_all and (stdin.closed or _unread(stdin) == 0)
        if self._content:
            self._line.let_go()
        else:
            self._line.end(min(until, time.monotonic() + _LAST_WORDS))
            # A shared connection may keep standard error open: its end is not waited for.
            with contextlib.suppress(BlockingIOError):
                while self._overhear(stderr):
                    pass
        for stream in pipes:
            stream.close()
        return self._content

    def _say(self, stream: IO[bytes]) -> bool:
        """Send a piece; False if there is nothing more to send, or nobody to read it."""
        self._rest = self._rest or memoryview(next(self._send, b""))
        if not self._rest:
            self._sent_all = True
            if not self._listening:
                stream.close()
            return False
        try:
            self._rest = self._rest[os.write(stream.fileno(), self._rest[:_CHUNK]) :]
        except BlockingIOError:
            return True
        except BrokenPipeError:
            return False
        return True

    def _listen(self, stream: IO[bytes]) -> bool:
        """Hear a piece; False if that was all that is wanted, or all there is."""
        chunk = os.read(stream.fileno(), _CHUNK)
        self._content = bool(chunk) and self._hear(chunk)
        return bool(chunk) and not self._content

    def _overhear(self, stream: IO[bytes]) -> bool:
        chunk = os.read(stream.fileno(), _CHUNK)
        self._complaints += chunk[: _MOST_WORDS - len(self._complaints)]
        return bool(chunk)


def _unread(stream: IO[bytes]) -> int:
    """Return how many bytes of a pipe its reader has not taken; 0 if this system does not tell."""
    try:
        return int.from_bytes(fcntl.ioctl(stream.fileno(), termios.FIONREAD, b"\0\0\0\0"), sys.byteorder)
    except OSError:
        return 0

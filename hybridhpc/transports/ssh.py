"""The transport by paramiko: connections of this very process, pooled and kept alive. For what asks often and long.

It reads the same configuration as ssh (but for `Include` and `Match exec`); what only ssh can do, `openssh` does.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import paramiko

from hybridhpc.errors import HpcError, Undelivered
from hybridhpc.sites.site import Site
from hybridhpc.transports import ssh_config, ssh_faults
from hybridhpc.transports.errands import BOOTSTRAP
from hybridhpc.transports.remote import RemoteTransport
from hybridhpc.transports.ssh_login import Login

_CONNECT = 10.0
"""Seconds for each step of making a connection; a slow banner counts."""
_SESSIONS = 8
"""Sessions at once over one connection: sshd's MaxSessions is 10."""
_GLANCE = 0.2
"""Seconds between looks at what the other side complains of."""
_CHUNK = 1 << 16


class ParamikoTransport(RemoteTransport):
    """See RemoteTransport. Transports to the same host in one process share their connections."""

    def _carry(
        self,
        send: Sequence[bytes] | Iterator[bytes],
        hear: Callable[[bytes], bool],
        *,
        within: float,
        idle: bool = False,
        listening: bool = True,
    ) -> HpcError | None:
        """See RemoteTransport._carry."""
        until = time.monotonic() + within
        try:
            with _pool_of(self._site, self._env).session(within) as channel:
                return _Conversation(self._site, channel, within, until, idle).hold(send, hear, listening)
        except HpcError as error:
            return error


class _Conversation:
    """What is said over one channel."""

    def __init__(self, site: Site, channel: paramiko.Channel, within: float, until: float, idle: bool) -> None:
        self._site, self._channel, self._within, self._until, self._idle = site, channel, within, until, idle
        self._sent_all = False
        self._words = b""

    def hold(
        self, send: Sequence[bytes] | Iterator[bytes], hear: Callable[[bytes], bool], listening: bool
    ) -> HpcError | None:
        try:
            self._channel.settimeout(max(0.1, self._left()))
            self._channel.exec_command(BOOTSTRAP)
            for piece in send:
                self._channel.settimeout(max(0.1, self._left()))
                self._channel.sendall(piece)
                self._progress()
            self._sent_all = True
            if not listening:
                self._channel.shutdown_write()
            return None if self._listen(hear) else self._fault()
        except TimeoutError:
            return self._late()
        except (OSError, EOFError, paramiko.SSHException) as error:
            self._words += str(error).encode()
            return self._fault()

    def _left(self) -> float:
        return self._until - time.monotonic()

    def _progress(self) -> None:
        if self._idle:
            self._until = time.monotonic() + self._within

    def _listen(self, hear: Callable[[bytes], bool]) -> bool:
        """Hear until `hear` is content; False if the other side ended before. Raises TimeoutError."""
        while (left := self._left()) > 0:
            while self._channel.recv_stderr_ready():
                self._words = (self._words + self._channel.recv_stderr(_CHUNK))[:_CHUNK]
            self._channel.settimeout(min(left, _GLANCE))
            try:
                chunk = self._channel.recv(_CHUNK)
            except TimeoutError:
                continue
            if not chunk:
                return False
            self._progress()
            if hear(chunk):
                return True
        raise TimeoutError

    def _late(self) -> HpcError:
        return ssh_faults.late(self._site, delivered=self._sent_all)

    def _fault(self) -> HpcError:
        return ssh_faults.fault(self._site, self._words.decode("utf-8", "replace"), delivered=self._sent_all)


class _Pool:
    """The connections to one host."""

    def __init__(self, site: Site, env: Mapping[str, str]) -> None:
        self._site = site
        self._login = Login(site, env)
        self._free = threading.Lock()
        self._making = threading.Lock()
        self._clients: dict[paramiko.SSHClient, int] = {}
        """With the number of sessions each has."""

    @contextlib.contextmanager
    def session(self, within: float) -> Iterator[paramiko.Channel]:
        """Yield a channel on a connection that lives and has room. Raises Undelivered."""
        client = self._take() or self._make(within)
        try:
            channel = self._open(client, within)
            try:
                yield channel
            finally:
                channel.close()
        finally:
            with self._free:
                self._clients[client] -= 1

    def _take(self) -> paramiko.SSHClient | None:
        with self._free:
            for client, sessions in list(self._clients.items()):
                link = client.get_transport()
                if link is None or not link.is_active():
                    if not sessions:
                        del self._clients[client]
                elif sessions < _SESSIONS:
                    self._clients[client] += 1
                    return client
        return None

    def _make(self, within: float) -> paramiko.SSHClient:
        """Make a connection, one at a time: whoever waited meanwhile may find room on it."""
        with self._making:
            client = self._take()
            if client is not None:
                return client
            client = self._login.connect(min(within, _CONNECT))
            with self._free:
                self._clients[client] = 1
            return client

    def _open(self, client: paramiko.SSHClient, within: float) -> paramiko.Channel:
        try:
            link = client.get_transport()
            if link is None:
                raise EOFError
            return link.open_session(timeout=max(0.1, within))
        except (OSError, EOFError, paramiko.SSHException) as error:
            client.close()
            if "Timeout" in str(error):
                raise ssh_faults.late(self._site, delivered=False) from error
            raise Undelivered(
                f"{self._site.host} opened no session: {error}", hint="is it up? `hpc sites` asks"
            ) from error


_POOLS: dict[tuple[str, str, int], _Pool] = {}
_POOLS_LOCK = threading.Lock()


def _pool_of(site: Site, env: Mapping[str, str]) -> _Pool:
    """Return the connections to a site's host. A configuration that was edited may mean another user or key."""
    file = ssh_config.own_file(site, env)
    key = (site.host or "", str(file), file.stat().st_mtime_ns if file.exists() else 0)
    with _POOLS_LOCK:
        if key not in _POOLS:
            _POOLS[key] = _Pool(site, env)
        return _POOLS[key]

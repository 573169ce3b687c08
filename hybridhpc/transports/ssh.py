"""The transport by paramiko: connections of this very process, pooled and kept alive. For what asks often and long.

It reads the same configuration as ssh (but for `Include`); what only ssh can do, `openssh` does.
"""

from __future__ import annotations

import contextlib
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import paramiko

from hybridhpc.errors import HpcError, TransportError, Undelivered
from hybridhpc.sites.site import Site
from hybridhpc.transports import ssh_faults
from hybridhpc.transports.errands import BOOTSTRAP
from hybridhpc.transports.remote import RemoteTransport, host_and_port

_CONNECT = 10.0
"""Seconds for each step of making a connection; a slow banner counts."""
_ALIVE = 15
"""Seconds between signs of life on an idle connection."""
_SESSIONS = 8
"""Sessions at once over one connection: sshd's MaxSessions is 10."""
_GLANCE = 0.2
"""Seconds between looks at what the other side complains of."""
_CHUNK = 1 << 16


class ParamikoTransport(RemoteTransport):
    """See RemoteTransport. Transports to the same host in one process share their connections."""

    def __init__(self, site: Site, env: Mapping[str, str]) -> None:
        super().__init__(site, env)
        self._pool = _pool_of(site, env)

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
            with self._pool.session(within) as channel:
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
        kind = TransportError if self._sent_all else Undelivered
        return kind(f"{self._site.host} gave no answer in time", hint="is it up? `hpc sites` asks")

    def _fault(self) -> HpcError:
        return ssh_faults.fault(self._site, self._words.decode("utf-8", "replace"), delivered=self._sent_all)


class _Pool:
    """The connections to one host."""

    def __init__(self, site: Site, env: Mapping[str, str]) -> None:
        self._site = site
        self._config = _configuration(site, env)
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
            client = _connect(self._site, self._config, self._site.host or "", min(within, _CONNECT))
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
            late = "Timeout" in str(error)
            why = "gave no answer in time" if late else f"opened no session: {error}"
            raise Undelivered(f"{self._site.host} {why}", hint="is it up? `hpc sites` asks") from error


_POOLS: dict[tuple[str, str], _Pool] = {}
_POOLS_LOCK = threading.Lock()


def _pool_of(site: Site, env: Mapping[str, str]) -> _Pool:
    with _POOLS_LOCK:
        key = (site.host or "", site.ssh_config or env.get("HOME", ""))
        if key not in _POOLS:
            _POOLS[key] = _Pool(site, env)
        return _POOLS[key]


def _configuration(site: Site, env: Mapping[str, str]) -> paramiko.SSHConfig:
    """Read the configuration. Raises Undelivered if it is broken; one that is missing is empty."""
    file = Path(site.ssh_config) if site.ssh_config else Path(env.get("HOME", "/")) / ".ssh" / "config"
    try:
        return paramiko.SSHConfig.from_path(str(file))
    except FileNotFoundError:
        return paramiko.SSHConfig()
    except (OSError, paramiko.SSHException) as error:
        raise Undelivered(
            f"{file} cannot be read: {error}", hint="transport: openssh reads all that ssh does"
        ) from error


def _connect(
    site: Site, config: paramiko.SSHConfig, host: str, within: float, sock: paramiko.Channel | None = None
) -> paramiko.SSHClient:
    """Log in to a host, through others where the configuration says so. Raises Undelivered, AuthExpired among them."""
    user, target = _target(config, host)
    found = config.lookup(host_and_port(host.rpartition("@")[2])[0])
    client = paramiko.SSHClient()
    client.set_missing_host_key_policy(_Refuse())
    try:
        for file in _known_hosts(found):
            with contextlib.suppress(FileNotFoundError):
                client.load_system_host_keys(str(file))
        client.connect(
            *target,
            username=user,
            key_filename=list(found.get("identityfile", [])) or None,  # type: ignore[arg-type]
            look_for_keys="identityfile" not in found,
            allow_agent=found.get("identityagent") != "none",
            sock=sock or _way(site, config, found, client, target, within),
            timeout=within,
            banner_timeout=within,
            auth_timeout=within,
        )
    except (OSError, EOFError, paramiko.SSHException) as error:
        client.close()
        raise _refused(site, error, target) from error
    link = client.get_transport()
    if link is not None:
        link.set_keepalive(_ALIVE)
    return client


def _target(config: paramiko.SSHConfig, host: str) -> tuple[str | None, tuple[str, int]]:
    """Return user and address of [USER@]HOST[:PORT] as the configuration knows it."""
    user, _, address = host.rpartition("@")
    name, port = host_and_port(address)
    found = config.lookup(name)
    return user or found.get("user"), (
        str(found["hostname"]),
        int(port or found.get("port", str(paramiko.config.SSH_PORT))),
    )


def _known_hosts(found: paramiko.SSHConfigDict) -> list[Path]:
    words = found.get("userknownhostsfile", "~/.ssh/known_hosts ~/.ssh/known_hosts2").split()
    words += found.get("globalknownhostsfile", "/etc/ssh/ssh_known_hosts").split()
    return [Path(word).expanduser() for word in words]


_HOPS: weakref.WeakKeyDictionary[paramiko.SSHClient, paramiko.SSHClient] = weakref.WeakKeyDictionary()
"""Jump hosts, by the connection that goes through them: they stay as long as it does."""


def _way(
    site: Site,
    config: paramiko.SSHConfig,
    found: paramiko.SSHConfigDict,
    client: paramiko.SSHClient,
    target: tuple[str, int],
    within: float,
) -> paramiko.Channel | paramiko.ProxyCommand | None:
    """Return what carries the connection: a channel of a jump host, a command, or None for the network itself."""
    jumps = [jump for jump in found.get("proxyjump", "none").split(",") if jump != "none"]
    channel = None
    for jump, after in zip(jumps, [*jumps[1:], ""], strict=False):
        hop = _connect(site, config, jump, within, channel)
        link = hop.get_transport()
        if link is None:
            raise EOFError(f"jump host {jump} ended the connection")
        if channel is not None:
            _HOPS[hop] = _HOPS[client]
        _HOPS[client] = hop
        goal = _target(config, after)[1] if after else target
        channel = link.open_channel("direct-tcpip", goal, ("127.0.0.1", 0), timeout=within)
    command = found.get("proxycommand", "none")
    return channel or (None if command == "none" else paramiko.ProxyCommand(command))


class _Refuse(paramiko.MissingHostKeyPolicy):
    """Says what ssh says, so that one place knows what to do about it."""

    def missing_host_key(self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> None:
        raise paramiko.SSHException(f"No {key.get_name()} host key is known for {hostname} and it is wanted")


def _refused(site: Site, error: Exception, target: tuple[str, int]) -> HpcError:
    """Return the error for a connection that was not made."""
    name = target[0] if target[1] == paramiko.config.SSH_PORT else f"[{target[0]}]:{target[1]}"
    if isinstance(error, HpcError):
        return error
    if isinstance(error, paramiko.BadHostKeyException):
        return ssh_faults.fault(site, f"Host key for {name} has changed", delivered=False)
    if isinstance(error, paramiko.PasswordRequiredException):
        return ssh_faults.denied(site, "the key has a passphrase, and no agent holds it: add it with ssh-add")
    if isinstance(error, paramiko.AuthenticationException):
        return ssh_faults.denied(site, str(error).rstrip("."))
    return ssh_faults.fault(site, str(error) or type(error).__name__, delivered=False)

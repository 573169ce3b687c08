"""Logs in by paramiko as the ssh configuration says: names, users, ports, keys, jump hosts. Host keys are checked."""

from __future__ import annotations

import contextlib
import getpass
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path

import paramiko

from hybridhpc import clock
from hybridhpc.errors import HpcError, Undelivered
from hybridhpc.sites.site import Site
from hybridhpc.transports import ssh_config, ssh_faults
from hybridhpc.transports.ssh_config import host_and_port
from hybridhpc.transports.ssh_keys import out_of_time
from hybridhpc.transports.ssh_known import KnownKey, known_keys, objection
from hybridhpc.transports.ssh_offers import Offers

_ALIVE = 15
"""Seconds between signs of life on an idle connection."""
_KINDS = {"rsa-sha2-512": "ssh-rsa", "rsa-sha2-256": "ssh-rsa"}
"""Kinds of keys by signature algorithm, where they are not called the same."""
_HOPS: weakref.WeakKeyDictionary[paramiko.SSHClient, paramiko.SSHClient] = weakref.WeakKeyDictionary()
"""Jump hosts, by the connection that goes through them: they stay as long as it does."""


class Login:
    """How one site is logged in to. Raises Undelivered if its configuration cannot be read."""

    def __init__(self, site: Site, env: Mapping[str, str]) -> None:
        self._site = site
        self._env = env
        self._file = ssh_config.own_file(site, env)
        self._config = self._read()

    def _read(self) -> paramiko.SSHConfig:
        """Read the configuration; the person's own may be missing."""
        ssh_config.require(self._site)
        try:
            return paramiko.SSHConfig.from_text(ssh_config.read_for_paramiko(self._file))
        except FileNotFoundError:
            return paramiko.SSHConfig()
        except (OSError, ValueError, paramiko.SSHException) as error:
            raise Undelivered(
                f"{self._file} cannot be read: {error}", hint="transport: openssh reads all that ssh does"
            ) from error

    def connect(self, within: float) -> paramiko.SSHClient:
        """Log in to the site. Raises Undelivered, AuthExpired among them."""
        try:
            return self._connect(self._site.host or "", within)
        except HpcError as error:
            if unread := ssh_config.unread_by_paramiko(self._file):
                error.hint += f"; {unread}, as transport: openssh does"
            raise

    def _connect(self, host: str, within: float, sock: paramiko.Channel | None = None) -> paramiko.SSHClient:
        """Log in to a host, through others where the configuration says so."""
        found = self._lookup(host_and_port(host.rpartition("@")[2])[0])
        user, target = self._target(host)
        known, offers = _Checked(found, target), Offers(found, user, target[0], self._env)
        client = paramiko.SSHClient()
        client.set_missing_host_key_policy(known)
        try:
            client.connect(
                *target,
                username=user,
                auth_strategy=offers,  # type: ignore[arg-type]
                transport_factory=known.transport,
                sock=sock or self._way(found, client, target, within),
                timeout=within,
                banner_timeout=within,
                auth_timeout=within,
            )
        except (OSError, EOFError, paramiko.SSHException) as error:
            client.close()
            raise self._refused(error, offers) from error
        link = client.get_transport()
        if link is not None:
            link.set_keepalive(_ALIVE)
        return client

    def _lookup(self, name: str) -> paramiko.SSHConfigDict:
        """Return what the configuration says of a host. Raises Undelivered if paramiko cannot tell."""
        try:
            return self._config.lookup(name)
        except (ImportError, OSError, ValueError, paramiko.SSHException) as error:
            raise Undelivered(
                f"{self._file} says of {name} what transport: ssh cannot follow: {error}",
                hint="transport: openssh reads all that ssh does",
            ) from error

    def _target(self, host: str) -> tuple[str, tuple[str, int]]:
        """Return user and address of [USER@]HOST[:PORT] as the configuration knows it."""
        user, _, address = host.rpartition("@")
        name, port = host_and_port(address)
        found = self._lookup(name)
        return user or found.get("user") or getpass.getuser(), (
            str(found["hostname"]),
            int(port or found.get("port", str(paramiko.config.SSH_PORT))),
        )

    def _way(
        self, found: paramiko.SSHConfigDict, client: paramiko.SSHClient, target: tuple[str, int], within: float
    ) -> paramiko.Channel | paramiko.ProxyCommand | None:
        """Return what carries the connection: a channel of a jump host, a command, or None for the network itself."""
        jumps = [jump for jump in found.get("proxyjump", "none").split(",") if jump != "none"]
        channel = None
        for jump, after in zip(jumps, [*jumps[1:], ""], strict=False):
            hop = self._connect(jump, within, channel)
            link = hop.get_transport()
            if link is None:
                raise EOFError(f"jump host {jump} ended the connection")
            if channel is not None:
                _HOPS[hop] = _HOPS[client]
            _HOPS[client] = hop
            goal = self._target(after)[1] if after else target
            channel = link.open_channel("direct-tcpip", goal, ("127.0.0.1", 0), timeout=within)
        command = found.get("proxycommand", "none")
        return channel or (None if command == "none" else paramiko.ProxyCommand(command))

    def _refused(self, error: Exception, offers: Offers) -> HpcError:
        """Return the error for a connection that was not made."""
        if isinstance(error, HpcError):
            return error
        if ssh_faults.is_denied(str(error)):
            if offers.locked:
                return ssh_faults.locked(self._site, offers.locked[0])
            return ssh_faults.denied(self._site, str(error), why=out_of_time(offers.certificates, clock.now()))
        if isinstance(error, paramiko.AuthenticationException):
            return ssh_faults.denied(self._site, str(error).rstrip("."))
        return ssh_faults.fault(
            self._site, str(error) or type(error).__name__, delivered=False, options_of=self._options_of
        )

    def _options_of(self, host: str) -> Mapping[str, str]:
        """See ssh_faults.OptionsOf."""
        name, port = host_and_port(host.rpartition("@")[2])
        return {**self._lookup(name), **({"port": port} if port else {})}


class _Checked(paramiko.MissingHostKeyPolicy):
    """Judges a host's key by the files of known hosts, as ssh does, and says what ssh says.

    paramiko asks since it is given none of these keys itself.
    """

    def __init__(self, found: paramiko.SSHConfigDict, target: tuple[str, int]) -> None:
        words = found.get("userknownhostsfile", "~/.ssh/known_hosts ~/.ssh/known_hosts2").split()
        words += found.get("globalknownhostsfile", "/etc/ssh/ssh_known_hosts").split()
        host, port = target
        alias = found.get("hostkeyalias")
        usual = port == paramiko.config.SSH_PORT
        self._name = alias or (host if usual else f"[{host}]:{port}")
        self._known = _read(words, self._name)
        self._without_port = () if alias or usual else _read(words, host)

    def transport(self, sock: object, /, **_: object) -> paramiko.Transport:
        """Return a connection that asks for the kinds of keys first that are known: see SSHClient.connect."""
        link = paramiko.Transport(sock)  # type: ignore[arg-type]
        kinds = {key.kind for key in (*self._known, *self._without_port)}
        options = link.get_security_options()
        options.key_types = sorted(options.key_types, key=lambda kind: _KINDS.get(kind, kind) not in kinds)
        return link

    def missing_host_key(self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> None:
        """See MissingHostKeyPolicy. A key that is known for the host alone serves on any port, as with ssh."""
        shown = key.get_name(), key.asbytes()
        wrong = objection(self._known, self._name, *shown)
        if wrong and objection(self._without_port, self._name, *shown):
            raise paramiko.SSHException(wrong)


def _read(words: Sequence[str], name: str) -> tuple[KnownKey, ...]:
    found: list[KnownKey] = []
    for file in (Path(word).expanduser() for word in words):
        with contextlib.suppress(OSError):
            found += known_keys(file.read_text("utf-8", "replace"), str(file), name)
    return tuple(found)

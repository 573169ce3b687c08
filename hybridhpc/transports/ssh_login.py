"""Logs in by paramiko as the ssh configuration says: names, users, ports, keys, jump hosts. Host keys are checked."""

from __future__ import annotations

import contextlib
import os
import weakref
from collections.abc import Mapping
from pathlib import Path

import paramiko

from hybridhpc.errors import HpcError, Undelivered
from hybridhpc.sites.site import Site
from hybridhpc.transports import ssh_config, ssh_faults
from hybridhpc.transports.ssh_config import host_and_port

_ALIVE = 15
"""Seconds between signs of life on an idle connection."""
_HOPS: weakref.WeakKeyDictionary[paramiko.SSHClient, paramiko.SSHClient] = weakref.WeakKeyDictionary()
"""Jump hosts, by the connection that goes through them: they stay as long as it does."""


class Login:
    """How one site is logged in to. Raises Undelivered if its configuration cannot be read."""

    def __init__(self, site: Site, env: Mapping[str, str]) -> None:
        self._site = site
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
        known = _KnownHosts(found, target)
        client = paramiko.SSHClient()
        client.set_missing_host_key_policy(_Refuse(known.name))
        try:
            known.load(client)
            client.connect(
                *target,
                username=user,
                key_filename=_keys(found) or None,  # type: ignore[arg-type]
                look_for_keys="identityfile" not in found,
                allow_agent=found.get("identityagent") != "none",
                sock=sock or self._way(found, client, target, within),
                timeout=within,
                banner_timeout=within,
                auth_timeout=within,
            )
        except (OSError, EOFError, paramiko.SSHException) as error:
            client.close()
            raise self._refused(error, known) from error
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

    def _target(self, host: str) -> tuple[str | None, tuple[str, int]]:
        """Return user and address of [USER@]HOST[:PORT] as the configuration knows it."""
        user, _, address = host.rpartition("@")
        name, port = host_and_port(address)
        found = self._lookup(name)
        return user or found.get("user"), (
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

    def _refused(self, error: Exception, known: _KnownHosts) -> HpcError:
        """Return the error for a connection that was not made."""
        if isinstance(error, HpcError):
            return error
        if isinstance(error, paramiko.BadHostKeyException):
            words = f"Host key for {known.name} has changed\nOffending key in {known.holder()}:0"
            return ssh_faults.fault(self._site, words, delivered=False)
        if isinstance(error, paramiko.PasswordRequiredException):
            return ssh_faults.denied(self._site, "the key has a passphrase, and no agent holds it: add it with ssh-add")
        if isinstance(error, paramiko.AuthenticationException):
            return ssh_faults.denied(self._site, str(error).rstrip("."))
        return ssh_faults.fault(
            self._site, str(error) or type(error).__name__, delivered=False, options_of=self._options_of
        )

    def _options_of(self, host: str) -> Mapping[str, str]:
        """See ssh_faults.OptionsOf."""
        name, port = host_and_port(host.rpartition("@")[2])
        return {**self._lookup(name), **({"port": port} if port else {})}


def _keys(found: paramiko.SSHConfigDict) -> list[str]:
    """Return the key files of a host that can be read: ssh passes over the others, and paramiko would fail."""
    files = (str(Path(file).expanduser()) for file in found.get("identityfile", []))
    return [file for file in files if os.access(file, os.R_OK)]


class _KnownHosts:
    """The files of known hosts for one host, and its name in them."""

    def __init__(self, found: paramiko.SSHConfigDict, target: tuple[str, int]) -> None:
        words = found.get("userknownhostsfile", "~/.ssh/known_hosts ~/.ssh/known_hosts2").split()
        words += found.get("globalknownhostsfile", "/etc/ssh/ssh_known_hosts").split()
        self._files = [Path(word).expanduser() for word in words]
        self._alias = found.get("hostkeyalias")
        host, port = target
        self._address = host if port == paramiko.config.SSH_PORT else f"[{host}]:{port}"
        self.name = self._alias or self._address

    def load(self, client: paramiko.SSHClient) -> None:
        """Let a client know these hosts; of an alias (ssh_config(5), HostKeyAlias) paramiko knows nothing."""
        for file in self._files:
            with contextlib.suppress(FileNotFoundError):
                if self._alias is None:
                    client.load_system_host_keys(str(file))
                    continue
                for kind, key in (paramiko.HostKeys(str(file)).lookup(self._alias) or {}).items():
                    client.get_host_keys().add(self._address, kind, key)

    def holder(self) -> Path:
        """Return the file that has a key of the host."""
        for file in self._files:
            with contextlib.suppress(OSError):
                if paramiko.HostKeys(str(file)).lookup(self.name):
                    return file
        return self._files[0]


class _Refuse(paramiko.MissingHostKeyPolicy):
    """Says what ssh says, so that one place knows what to do about it."""

    def __init__(self, name: str) -> None:
        self._name = name

    def missing_host_key(self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> None:
        raise paramiko.SSHException(f"No {key.get_name()} host key is known for {self._name} and it is wanted")

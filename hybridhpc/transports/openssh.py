"""The transport by the system's ssh over a shared connection: whatever `ssh HOST` can do on this machine works.

Jump hosts, agents, certificates, hardware keys and codes typed once are ssh's own business. Ours: host keys are always
checked, nothing is ever asked for behind a person's back, and nobody waits longer than they said they would.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from hybridhpc.errors import HpcError, TransportError, Undelivered
from hybridhpc.script.quote import shell_words
from hybridhpc.sites.site import Site
from hybridhpc.transports import ssh_faults
from hybridhpc.transports.errands import BOOTSTRAP
from hybridhpc.transports.local import private_directory
from hybridhpc.transports.remote import RemoteTransport, host_and_port
from hybridhpc.transports.shared import open_session
from hybridhpc.transports.talk import Child, Line, Talk

_ATTEMPTS = 3
"""Connections that a busy sshd drops before it has asked who we are (MaxStartups) are made again."""
_ENFORCED = (
    "BatchMode=yes",
    "StrictHostKeyChecking=yes",
    "LogLevel=ERROR",
    "RequestTTY=no",
    "RemoteCommand=none",
    "PermitLocalCommand=no",
    "ClearAllForwardings=yes",
    "ForwardAgent=no",
    "ForwardX11=no",
)
"""ssh_config(5). These win over the person's own configuration; what that says of the rest wins over our defaults."""
_DEFAULTS = """\
Include "{config}"
Host {host}
  ControlPath "{shared}"
Host *
  ControlMaster auto
  ControlPath "{jumps}"
  ControlPersist 30m
  ServerAliveInterval 5
  ServerAliveCountMax 3
  ConnectTimeout 10
{system}"""
_LONGEST = 107 - len("/123456-/") - 40 - len(".1234567890123456")
"""Bytes of a directory of sockets: a socket's path may have 107 (unix(7)), of which ssh takes these."""


class OpenSshTransport(RemoteTransport):
    """Runs `ssh` in a session of its own: Ctrl-C does not cut a submission in two, and no prompt finds a terminal."""

    def __init__(self, site: Site, env: Mapping[str, str]) -> None:
        super().__init__(site, env)
        self._shared = shared_path(site, env)
        options = [word for option in _ENFORCED for word in ("-o", option)]
        file = str(configuration(site, self._shared))
        there = destination(self._host)
        self._argv = ("ssh", "-F", file, *options, *there, BOOTSTRAP)
        self._log_in = shell_words(("ssh", "-F", file, *there, "true"))

    def _line(self, within: float) -> Line:
        """Return a session over the shared connection, or an ssh that makes one."""
        return open_session(self._shared, BOOTSTRAP, within) or Child(self._argv, self._env)

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
        for attempt in range(1, _ATTEMPTS + 1):
            talk = Talk(self._line(until - time.monotonic()), send, hear, listening=listening)
            if talk.hold(until - time.monotonic(), idle=idle):
                return None
            wrong = self._fault(talk)
            if attempt == _ATTEMPTS or not isinstance(send, Sequence) or not ssh_faults.is_passing(wrong):
                break
            time.sleep(max(0.0, min(0.2 * 2**attempt * (0.5 + os.urandom(1)[0] / 256), until - time.monotonic())))
        return wrong

    def _fault(self, talk: Talk) -> HpcError:
        """Say why a conversation ended before its end."""
        if not talk.late:
            return ssh_faults.fault(self._site, talk.words, delivered=talk.delivered, log_in=self._log_in)
        kind = TransportError if talk.delivered else Undelivered
        return kind(f"{self._host} gave no answer in time", hint="is it up? `hpc sites` asks")


def destination(host: str) -> tuple[str, ...]:
    """Return a site's host, [USER@]HOST[:PORT], as arguments for ssh."""
    name, port = host_and_port(host)
    return ("-p", port, name) if port else (name,)


def shared_path(site: Site, env: Mapping[str, str]) -> Path:
    """Return the socket of a site's shared connection.

    Another configuration, or one that was edited, may mean another user or key: it has another.

    Raises Undelivered if there is no directory that is ours alone.
    """
    own = Path(site.ssh_config or "~/.ssh/config").expanduser()
    edited = own.stat().st_mtime_ns if own.exists() else 0
    whose = f"{own}\n{edited}\n{site.host}"
    return _sockets(env) / hashlib.sha256(whose.encode()).hexdigest()[:16]


def configuration(site: Site, shared: Path) -> Path:
    """Return a configuration for ssh: the site's or the person's own, and behind it our defaults."""
    text = _DEFAULTS.format(
        config=site.ssh_config or "~/.ssh/config",
        host=host_and_port((site.host or "").rpartition("@")[2])[0],
        shared=shared,
        jumps=shared.with_name(f"{shared.name[:6]}-%C"),
        system="" if site.ssh_config else "Include /etc/ssh/ssh_config\n",
    )
    file = shared.with_suffix(f".{hashlib.sha256(text.encode()).hexdigest()[:8]}")
    if not file.exists():
        temporary = file.with_name(f".{os.urandom(6).hex()}")
        temporary.write_text(text)
        temporary.replace(file)
    return file


def _sockets(env: Mapping[str, str]) -> Path:
    """Return the directory of shared connections."""
    folder = Path(env.get("XDG_RUNTIME_DIR") or "/") / "hpc"
    if len(os.fsencode(folder)) > _LONGEST or not env.get("XDG_RUNTIME_DIR"):
        folder = Path(f"/tmp/hpc-{os.getuid()}")  # noqa: S108 -- checked below
    try:
        if folder.is_symlink():
            raise PermissionError(f"{folder} is a link")
        private_directory(folder)
    except OSError as error:
        raise Undelivered(
            f"no place for shared connections: {error}", hint="set XDG_RUNTIME_DIR to a directory of yours"
        ) from error
    return folder

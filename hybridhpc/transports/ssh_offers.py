"""The keys and certificates that paramiko offers for a person: those that ssh would offer. Nobody is ever asked.

paramiko's own way to log in prompts on standard output where a server wants a code beside the key, reads the answer
from standard input, and knows neither CertificateFile, IdentityAgent nor IdentitiesOnly of ssh_config(5).
"""

from __future__ import annotations

import base64
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import paramiko
from paramiko.agent import AgentKey, AgentSSH
from paramiko.pkey import PublicBlob

from hybridhpc.transports.ssh_keys import locked_key, read_certificates

_USUAL = ("~/.ssh/id_rsa", "~/.ssh/id_ecdsa", "~/.ssh/id_ed25519")
_AGENT_WITHIN = 5.0
"""Seconds for an agent to answer; it may ask its person."""


class Offers:
    """What one login offers. `found`: what the configuration says of the host."""

    def __init__(self, found: Mapping[str, object], user: str, host: str, env: Mapping[str, str]) -> None:
        self._found, self._user, self._host, self._env = found, user, host, env
        self._files = [*map(_expanded, self._words("identityfile") or _USUAL)]
        beside = [file.with_name(f"{file.name}-cert.pub") for file in self._files]
        self.certificates = read_certificates([*map(_expanded, self._words("certificatefile")), *beside])
        self.locked: list[str] = []
        """Key files whose passphrase nobody gave, and that no agent holds."""

    def _words(self, option: str) -> list[str]:
        value = self._found.get(option, [])
        return [value] if isinstance(value, str) else list(value)  # type: ignore[call-overload]

    def authenticate(self, transport: paramiko.Transport) -> None:
        """Log in; it is all that paramiko asks of an AuthStrategy. Raises AuthenticationException, in ssh's words."""
        wanted: Sequence[str] = ()
        for key in self._keys():
            try:
                wanted = transport.auth_publickey(self._user, key)
            except paramiko.BadAuthenticationType as error:
                wanted = error.allowed_types
            except paramiko.AuthenticationException:
                if not transport.is_active():
                    raise
                continue
            if not wanted:
                return
            if "publickey" not in wanted:
                break
        left = ",".join(wanted or self._allowed(transport))
        raise paramiko.AuthenticationException(f"{self._user}@{self._host}: Permission denied ({left})")

    def _allowed(self, transport: paramiko.Transport) -> Sequence[str]:
        try:
            return transport.auth_none(self._user) or ("none",)
        except paramiko.BadAuthenticationType as error:
            return error.allowed_types

    def _keys(self) -> Iterator[paramiko.PKey]:
        """Yield keys in ssh's order: certificates before bare keys, the agent's before those of files."""
        held = self._held()
        own = [*self._from_files({key.asbytes() for key in held})]
        if str(self._found.get("identitiesonly", "no")).lower() == "yes":
            named = {*self._public_parts(), *(each.public for each in self.certificates)}
            held = [key for key in held if key.asbytes() in named]
        for key in (*held, *own):
            for each in self.certificates:
                if each.public == key.asbytes():
                    key.load_certificate(each.line)
                    yield key
                    key.public_blob = None
            yield key

    def _public_parts(self) -> Iterator[bytes]:
        """Yield the public parts of the files: they say which keys of an agent are meant."""
        for file in self._files:
            for public in (file, file.with_name(f"{file.name}.pub")):
                try:
                    yield PublicBlob.from_string(public.read_text().strip()).key_blob
                except (OSError, ValueError):
                    continue

    def _from_files(self, held: set[bytes]) -> Iterator[paramiko.PKey]:
        """Yield the keys of files; ssh passes over those that cannot be read."""
        for file in self._files:
            if not os.access(file, os.R_OK) or not file.is_file():
                continue
            public = locked_key(file.read_bytes())
            if public is None:
                try:
                    yield _bare(paramiko.PKey.from_path(file))
                except (OSError, ValueError, TypeError, paramiko.SSHException):
                    continue
            elif not (public and base64.b64decode(public) in held):
                self.locked.append(str(file))

    def _held(self) -> Sequence[AgentKey]:
        """Return the keys of the agent that the configuration names, else of the environment's."""
        named = (self._words("identityagent") or ["SSH_AUTH_SOCK"])[0]
        place = self._env.get(named.removeprefix("$"), "") if "/" not in named else str(Path(named).expanduser())
        return _Agent(place).get_keys() if place else ()


class _Agent(AgentSSH):
    """An agent at a socket; one that is not there, or is silent, holds nothing."""

    def __init__(self, place: str) -> None:
        super().__init__()
        line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        line.settimeout(_AGENT_WITHIN)
        try:
            line.connect(place)
            self._connect(line)  # type: ignore[attr-defined]
        except (OSError, paramiko.SSHException):
            line.close()


def _expanded(word: str) -> Path:
    return Path(word).expanduser()


def _bare(key: paramiko.PKey) -> paramiko.PKey:
    key.public_blob = None
    return key

"""The transport by the system's ssh over a shared connection: whatever `ssh HOST` can do on this machine works.

Jump hosts, agents, certificates, hardware keys and codes typed once are ssh's own business. Ours: host keys are always
checked, nothing is ever asked for behind a person's back, and nobody waits longer than they said they would.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from hybridhpc import clock
from hybridhpc.errors import HpcError, Undelivered
from hybridhpc.script.quote import shell_words
from hybridhpc.sites.site import Site
from hybridhpc.transports import ssh_config, ssh_faults
from hybridhpc.transports.errands import BOOTSTRAP
from hybridhpc.transports.local import private_directory
from hybridhpc.transports.remote import RemoteTransport
from hybridhpc.transports.shared import open_session
from hybridhpc.transports.ssh_config import host_and_port
from hybridhpc.transports.ssh_keys import Certificate, certificate, locked_key, out_of_time, read_certificates
from hybridhpc.transports.talk import Child, Line, Talk

_ATTEMPTS = 3
"""Connections that a busy sshd drops before it has asked who we are (MaxStartups) are made again."""
_ASKED_WITHIN = 5.0
"""Seconds for an ssh that is asked why another one failed."""
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
StrictHostKeyChecking yes
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
        there = ssh_config.destination(self._host)
        self._ssh = ("ssh", "-F", file, *options)
        self._argv = (*self._ssh, *there, BOOTSTRAP)
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
        try:
            ssh_config.require(self._site)
        except HpcError as error:
            return error
        until = time.monotonic() + within
        for attempt in range(1, _ATTEMPTS + 1):
            talk = Talk(self._line(until - time.monotonic()), send, hear, listening=listening)
            if talk.hold(until - time.monotonic(), idle=idle):
                return None
            wrong = self._fault(talk, until - time.monotonic())
            if attempt == _ATTEMPTS or not isinstance(send, Sequence) or not ssh_faults.is_passing(wrong):
                break
            time.sleep(max(0.0, min(0.2 * 2**attempt * (0.5 + os.urandom(1)[0] / 256), until - time.monotonic())))
        return wrong

    def _fault(self, talk: Talk, left: float) -> HpcError:
        """Say why a conversation ended before its end."""
        if talk.late:
            return ssh_faults.late(self._site, delivered=talk.delivered)
        words = talk.words
        if not talk.delivered and ssh_faults.is_cut(words):
            words = self._jump_host_s_words(left) or words
        if not talk.delivered and ssh_faults.is_denied(words):
            return self._denied(words)
        return ssh_faults.fault(
            self._site, words, delivered=talk.delivered, log_in=self._log_in, options_of=self._options_of
        )

    def _denied(self, words: str) -> HpcError:
        """Say of a login that was refused what of the person's own explains it: a locked key, an old certificate."""
        own = self._said_of(self._host)
        jumps = [jump for value in own.get("proxyjump", []) for jump in value.split(",") if jump != "none"]
        certificates: list[Certificate] = []
        for options in (own, *map(self._said_of, jumps)):
            held = self._held_keys(options.get("identityagent", [""])[0])
            files = [Path(word).expanduser() for word in options.get("identityfile", [])]
            if key := next((file for file in files if _is_locked(file, held)), None):
                return ssh_faults.locked(self._site, str(key), self._log_in)
            named = [Path(word).expanduser() for word in options.get("certificatefile", [])]
            beside = [file.with_name(f"{file.name}-cert.pub") for file in files]
            certificates += read_certificates([*named, *beside])
            certificates += [each for line in held if (each := certificate(line, "that your agent holds"))]
        return ssh_faults.denied(
            self._site, ssh_faults.essence(words), self._log_in, why=out_of_time(certificates, clock.now())
        )

    def _held_keys(self, agent: str) -> list[str]:
        """Return what an agent (ssh_config(5), IdentityAgent) holds, a line each; nothing if it is silent."""
        if agent == "none":
            return []
        named = {"SSH_AUTH_SOCK": str(Path(agent).expanduser())} if agent.startswith(("/", "~")) else {}
        told = self._question(("ssh-add", "-L"), _ASKED_WITHIN, **named)
        return told.stdout.decode("utf-8", "replace").splitlines()

    def _jump_host_s_words(self, left: float) -> str:
        """Return what keeps a jump host from carrying us; with ControlPersist ssh keeps it to itself (seen: 9.2)."""
        own = self._options_of(self._host)
        jumps = [jump for jump in own.get("proxyjump", "none").split(",") if jump != "none"]
        goal = f"[{own.get('hostname')}]:{own.get('port')}"
        for number, jump in enumerate(jumps):
            way = ("-J", ",".join(jumps[:number])) if number else ()
            told = self._ask_ssh((*way, "-W", goal, *ssh_config.destination(jump)), min(left, _ASKED_WITHIN))
            if told.returncode:
                return told.stderr.decode("utf-8", "replace")
        return ""

    def _options_of(self, host: str) -> dict[str, str]:
        """Return what ssh itself takes the configuration to say of a host; nothing if it does not tell."""
        return {name: values[-1] for name, values in self._said_of(host).items()}

    def _said_of(self, host: str) -> dict[str, list[str]]:
        """Return the same with every value: some options may be given several times."""
        told = self._ask_ssh(("-G", *ssh_config.destination(host)), _ASKED_WITHIN)
        found: dict[str, list[str]] = {}
        for line in told.stdout.decode("utf-8", "replace").splitlines():
            name, _, value = line.partition(" ")
            found.setdefault(name, []).append(value)
        return found

    def _ask_ssh(self, words: Sequence[str], within: float) -> subprocess.CompletedProcess[bytes]:
        """Run ssh for a question of ours."""
        return self._question((*self._ssh, *words), within)

    def _question(self, argv: Sequence[str], within: float, **named: str) -> subprocess.CompletedProcess[bytes]:
        """Run a program for a question of ours; one that takes too long said nothing."""
        env = {**self._env, **named}
        try:
            return subprocess.run(
                argv, env=env, stdin=subprocess.DEVNULL, capture_output=True, timeout=within, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            return subprocess.CompletedProcess(argv, 0, b"", b"")


def _is_locked(file: Path, held: Sequence[str]) -> bool:
    """Whether ssh would offer a key file if its passphrase were known. `held`: by the agent, which needs no file."""
    public = locked_key(file.read_bytes()) if file.is_file() and os.access(file, os.R_OK) else None
    return public is not None and not (public and any(public in line for line in held))


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

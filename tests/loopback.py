"""A real sshd on a loopback address, of this test's own: key, known hosts and configuration; no password, no PAM."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

SSHD = shutil.which("sshd", path="/usr/sbin:/usr/bin:/usr/local/sbin")
NO_SSHD = "needs root and openssh-server"


def can_run() -> bool:
    """Whether a server can be started here: it has to become the user that logs in."""
    return SSHD is not None and os.getuid() == 0


def new_key(file: Path, *words: str, passphrase: str = "") -> None:
    """Make a key pair."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-f", file, *words], check=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Loopback:
    """One server. `host` is its name in `config`; `server_options` are lines for its sshd_config."""

    def __init__(self, place: Path, *server_options: str, user: str = "root", host: str = "there") -> None:
        self.place, self.host, self.port = place, host, _free_port()
        place.mkdir(parents=True, exist_ok=True)
        for name in ("host_key", "key"):
            if not (place / name).exists():
                new_key(place / name)
        self.key, self.known = place / "key", place / "known_hosts"
        shutil.copy(place / "key.pub", place / "authorized_keys")
        place.chmod(0o711)
        (place / "authorized_keys").chmod(0o644)
        (place / "sshd_config").write_text(self._server_config(server_options))
        self.know()
        self.config = place / "config"
        self.configure(f"User {user}", f"IdentityFile {self.key}")
        self.pid = 0
        self.start()

    def _server_config(self, options: tuple[str, ...]) -> str:
        lines = [
            *options,
            "ListenAddress 127.0.0.1",
            f"Port {self.port}",
            f"HostKey {self.place}/host_key",
            f"PidFile {self.place}/pid",
            f"AuthorizedKeysFile {self.place}/authorized_keys",
            "PasswordAuthentication no",
            "KbdInteractiveAuthentication no",
            "UsePAM no",
            "StrictModes no",
            "PermitRootLogin prohibit-password",
            "MaxStartups 100",
            "MaxSessions 100",
            "PrintMotd no",
            "LogLevel QUIET",
        ]
        return "\n".join(lines) + "\n"

    def know(self, key: Path | None = None) -> None:
        """Write the host key into the file of known hosts."""
        words = (key or self.place / "host_key").with_suffix(".pub").read_text().split()
        self.known.write_text(f"[127.0.0.1]:{self.port} {words[0]} {words[1]}\n")

    def configure(self, *lines: str) -> None:
        """Write the client's configuration."""
        common = ["HostName 127.0.0.1", f"Port {self.port}", "IdentitiesOnly yes", f"UserKnownHostsFile {self.known}"]
        body = "\n".join(f"  {line}" for line in (*lines, *common))
        self.config.write_text(f"Host {self.host}\n{body}\n")

    def start(self) -> None:
        """Start the server and wait until it listens."""
        Path("/run/sshd").mkdir(exist_ok=True)
        subprocess.run([str(SSHD), "-f", self.place / "sshd_config", "-E", self.place / "log"], check=True)
        for _ in range(500):
            written = (self.place / "pid").read_text() if (self.place / "pid").exists() else ""
            if written.endswith("\n"):
                self.pid = int(written)
                return
            time.sleep(0.01)
        raise AssertionError(f"sshd did not start: {(self.place / 'log').read_text()}")

    def sessions(self) -> list[int]:
        """Return the server's processes that serve a connection."""
        found: list[int] = []
        if not self.pid:
            return found
        for status in Path("/proc").glob("[0-9]*/stat"):
            try:
                words = status.read_text().rpartition(") ")[2].split()
            except OSError:
                continue
            if int(words[1]) == self.pid:
                found.append(int(status.parent.name))
        return found

    def cut(self) -> None:
        """Kill what serves the connections that there are."""
        for pid in self.sessions():
            with contextlib.suppress(OSError):
                for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
                    if Path(f"/proc/{child}/comm").read_text().strip() == "sshd":
                        os.kill(int(child), signal.SIGKILL)
                os.kill(pid, signal.SIGKILL)

    def stop(self) -> None:
        """End the server and its connections; shared ones of the clients end with them."""
        self.cut()
        if self.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGTERM)
        self.pid = 0

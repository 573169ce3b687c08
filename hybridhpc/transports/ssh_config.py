"""The ssh configuration of a site: which file it is, whether it is there, and what of it paramiko does not read."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from hybridhpc.errors import Undelivered
from hybridhpc.sites.site import Site

_UNREAD = re.compile(r"\s*(?:(include)|match\s.*\bexec)\b", re.IGNORECASE)


def own_file(site: Site, env: Mapping[str, str]) -> Path:
    """Return the site's configuration, else the person's."""
    return Path(site.ssh_config) if site.ssh_config else Path(env.get("HOME", "/")) / ".ssh" / "config"


def require(site: Site) -> None:
    """Raise Undelivered if the site names a file that cannot be read: ssh's Include passes over it in silence."""
    file = site.ssh_config
    if file and not (Path(file).is_file() and os.access(file, os.R_OK)):
        why = "cannot be read" if Path(file).exists() else "does not exist"
        raise Undelivered(
            f"{site.place_of('ssh_config')} {file} {why}",
            hint="correct it, or leave it out: then ~/.ssh/config is read",
        )


def read_for_paramiko(file: Path) -> str:
    """Return a configuration in which `Match exec` matches nothing. Raises OSError.

    Where paramiko can run its commands, they read our standard input (seen: paramiko 5.1 with invoke).
    """
    lines = file.read_text("utf-8", "replace").splitlines()
    return "\n".join("Host !*" if (found := _UNREAD.match(line)) and not found[1] else line for line in lines)


def unread_by_paramiko(file: Path) -> str:
    """Say which lines of a configuration `transport: ssh` does not read; empty if there are none."""
    try:
        lines = file.read_text("utf-8", "replace").splitlines()
    except OSError:
        return ""
    found = [(number, match) for number, line in enumerate(lines, 1) if (match := _UNREAD.match(line))]
    words = " and ".join(f"{'Include' if match[1] else 'Match exec'} ({file}:{number})" for number, match in found[:5])
    return f"transport: ssh does not read {words}" if words else ""


def destination(host: str) -> tuple[str, ...]:
    """Return a site's host, [USER@]HOST[:PORT], as arguments for ssh."""
    name, port = host_and_port(host)
    return ("-p", port, name) if port else (name,)


def host_and_port(host: str) -> tuple[str, str]:
    """Divide HOST:PORT; the port is empty if there is none, as in a bare IPv6 address."""
    name, colon, port = host.rpartition(":")
    return (name, port) if colon and port.isdigit() and ":" not in name else (host, "")

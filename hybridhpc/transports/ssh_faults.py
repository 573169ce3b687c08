"""What ssh says when it fails, as an error with its reason and what to do about it. Pure."""

from __future__ import annotations

import re

from hybridhpc.errors import AuthExpired, TransportError, Undelivered
from hybridhpc.sites.site import Site

_CHANGED = r"REMOTE HOST IDENTIFICATION HAS CHANGED|[Hh]ost key for .* has changed|HOST IDENTIFICATION"
_UNKNOWN = r"No \S+ host key is known for|Host key verification failed|authenticity of host"
_DENIED = r"Permission denied|Too many authentication failures|No more authentication methods|Authentication failed"
_PASSING = r"kex_exchange_identification|Connection (?:closed|reset) by|banner exchange"
_KNOWN_AS = re.compile(r"ssh-keygen -f (\S+) -R (\S+)|host key is known for (\S+)|[Hh]ost key for (\S+) has changed")


def is_passing(error: Exception) -> bool:
    """Whether a connection was dropped before anything was sent, as a busy sshd does: worth another attempt."""
    return isinstance(error, Undelivered) and re.search(_PASSING, str(error)) is not None


def fault(site: Site, words: str, *, delivered: bool, log_in: str = "") -> TransportError:
    """Return the error for what ssh said.

    `delivered`: the site may have got everything that was sent, so that what it did is unknown. `log_in`: a command
    that makes the connection we would share, and may ask a person for a passphrase or a code.
    """
    said = _essence(words)
    if delivered:
        why = f": {said}" if said else ""
        return TransportError(f"the connection to {site.host} ended early{why}", hint="what it did there is not known")
    if re.search(_CHANGED, words):
        return _changed_key(site, words)
    if re.search(_UNKNOWN, words):
        return _unknown_key(site, words)
    if re.search(_DENIED, words):
        return denied(site, said, log_in)
    hint = f"try it by hand: {_by_hand(site)}"
    return Undelivered(f"{site.host} is not reached: {said or 'ssh ended without a word'}", hint=hint)


def denied(site: Site, said: str, log_in: str = "") -> AuthExpired:
    """Return the error for a login that was refused."""
    by_hand = (
        f"log in once, the connection then serves hpc: {log_in}" if log_in else f"try it by hand: {_by_hand(site)}"
    )
    renew = f"; renew it: {site.renew}" if site.renew else ""
    return AuthExpired(
        f"AUTH_EXPIRED: {site.host} does not let you in: {said}{renew}",
        hint=f"{by_hand}; `ssh-add -l` lists the keys that your agent holds",
    )


def _changed_key(site: Site, words: str) -> Undelivered:
    file, name = _known_as(site, words)
    where = f" -f {file}" if file else ""
    return Undelivered(
        f"{site.host} shows another host key than the one known for it: somebody may be listening in",
        hint=f"ask its administrator whether the key was changed; only then: ssh-keygen{where} -R '{name}'",
    )


def _unknown_key(site: Site, words: str) -> Undelivered:
    _, name = _known_as(site, words)
    host, _, port = name.removeprefix("[").partition("]:")
    at = f"-p {port} {host}" if port else name
    return Undelivered(
        f"the host key of {site.host} is not known, so whether it is the right machine cannot be told",
        hint=f"see it with `ssh-keyscan {at} | ssh-keygen -lf -`, ask its administrator whether it is right; "
        f"then: ssh-keyscan {at} >> ~/.ssh/known_hosts",
    )


def _known_as(site: Site, words: str) -> tuple[str, str]:
    """Return the file of known hosts and the name under which the host stands or would stand in it."""
    plain = words.replace('"', "").replace("'", "")
    file = name = ""
    for found in _KNOWN_AS.finditer(plain):
        file, name = found[1] or file, found[2] or found[3] or found[4] or name
    return file, name or (site.host or "").rpartition("@")[2]


def _by_hand(site: Site) -> str:
    config = f" -F {site.ssh_config}" if site.ssh_config else ""
    return f"ssh{config} {site.host}"


def _essence(words: str) -> str:
    """Return what was said on one line, without ornament and without who says it."""
    lines = [line.strip() for line in words.splitlines()]
    kept = [re.sub(r"^ssh: ", "", line) for line in lines if line and not line.startswith("@")]
    return " ".join(kept)[:500].rstrip(".")

"""What ssh says when it fails, as an error with its reason and what to do about it. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from hybridhpc.errors import AuthExpired, TransportError, Undelivered
from hybridhpc.script.quote import shell_word, shell_words
from hybridhpc.sites.site import Site
from hybridhpc.transports.ssh_config import destination

OptionsOf = Callable[[str], Mapping[str, str]]
"""Returns what the configuration says of a host, by option in lower case, as `ssh -G HOST` does. Raises nothing."""

LATE = " gave no answer in time"
_CHANGED = r"REMOTE HOST IDENTIFICATION HAS CHANGED|[Hh]ost key for .* has changed|HOST IDENTIFICATION"
_UNKNOWN = r"No \S+ host key is known for|Host key verification failed|authenticity of host"
_DENIED = r"Permission denied|Too many authentication failures|No more authentication methods|Authentication failed"
_PASSING = r"kex_exchange_identification|Connection (?:closed|reset) by|banner exchange"
_LEFT = re.compile(r"Permission denied \(([\w,@.-]+)\)")
_REVOKED = r"REVOKED HOST KEY"
_CERTIFIED = re.compile(r"(\S+) is known by the certificates of an authority alone \((.*)\)")
_NO_NAME = r"Could not resolve hostname|Name or service not known|nodename nor servname|Temporary failure in name"
_KNOWN_AS = re.compile(r"host key is known for (\S+)|[Hh]ost key for (\S+) has changed")
_HELD_BY = re.compile(r"^Offending .*\bkey in (.+):\d+\s*$", re.MULTILINE)


def is_passing(error: Exception) -> bool:
    """Whether a connection was dropped before anything was sent, as a busy sshd does: worth another attempt."""
    return isinstance(error, Undelivered) and is_cut(str(error))


def is_cut(words: str) -> bool:
    """Whether ssh says no more than that a connection was dropped."""
    return re.search(_PASSING, words) is not None


def _nothing_known(_: str) -> Mapping[str, str]:
    return {}


def fault(
    site: Site, words: str, *, delivered: bool, log_in: str = "", options_of: OptionsOf = _nothing_known
) -> TransportError:
    """Return the error for what ssh said.

    `delivered`: the site may have got everything that was sent, so that what it did is unknown. `log_in`: a command
    that makes the connection we would share, and may ask a person for a passphrase or a code.
    """
    said = essence(words)
    if delivered:
        why = f": {said}" if said else ""
        return TransportError(f"the connection to {site.host} ended early{why}", hint="what it did there is not known")
    if re.search(_REVOKED, words):
        return _revoked_key(site, words)
    if certified := _CERTIFIED.search(words):
        hint = f"transport: openssh checks certificates of hosts ({certified[2]}), transport: ssh does not"
        return Undelivered(f"the key of {certified[1]} alone does not tell whether it is the right machine", hint=hint)
    if invalid := re.search(r"Certificate invalid: (.+?)\s*$", words, re.MULTILINE):
        return Undelivered(
            f"{site.host} shows a host certificate that is not valid ({invalid[1]}), and its key is not known",
            hint="ask its administrator to renew the certificate",
        )
    if re.search(_CHANGED, words):
        return _changed_key(site, words)
    if re.search(_UNKNOWN, words):
        return _unknown_key(site, words, options_of)
    if is_denied(words):
        return denied(site, said, log_in)
    hint = f"try it by hand: {by_hand(site)}"
    if re.search(_NO_NAME, words):
        hint = f"correct {site.place_of('host')} {site.host}, or add that host to your ssh configuration; {hint}"
    return Undelivered(f"{site.host} is not reached: {said or 'ssh ended without a word'}", hint=hint)


def late(site: Site, *, delivered: bool) -> TransportError:
    """Return the error for a site of which nothing was heard in time."""
    kind = TransportError if delivered else Undelivered
    return kind(f"{site.host}{LATE}", hint=f"try it by hand: {by_hand(site)}")


def is_denied(words: str) -> bool:
    """Whether ssh says that a login was refused."""
    return re.search(_DENIED, words) is not None


def locked(site: Site, key: str, log_in: str = "") -> AuthExpired:
    """Return the error for a login that wants a key whose passphrase nobody gave: hpc never asks for one."""
    add = (
        f'add it to your agent: ssh-add {shell_word(key)} (no agent runs? first: eval "$(ssh-agent)"), or name the one '
    )
    add += "that holds it as IdentityAgent in your ssh configuration"
    return denied(site, f"the key {key} has a passphrase, and no agent holds it", log_in, mend=add)


def denied(site: Site, said: str, log_in: str = "", *, mend: str = "", why: str = "") -> AuthExpired:
    """Return the error for a login that was refused.

    `mend`: what else than to log in by hand helps. `why`: what of the person's own is out of date.
    """
    typed = _wants_typing(said)
    if why:
        how = f"with a new one this works: {by_hand(site)}"
        how += "" if site.renew else "; `renew:` in the site file can say here how to get it"
    elif log_in:
        how = f"log in once{', typing what it asks for' if typed else ''}; the connection then serves hpc: {log_in}"
    elif typed:
        how = "transport: openssh shares a connection for which a code is typed once; transport: ssh can ask nobody"
    else:
        how = f"try it by hand: {by_hand(site)}"
    if mend:
        how = f"{mend}; or {how}"
    elif not (why or typed):
        how += "; `ssh-add -l` lists the keys that your agent holds"
    what = why or ("it wants a password or a code" if typed else "")
    reason = f" ({what})" if what else ""
    renew = f"; renew it: {site.renew}" if site.renew else ""
    return AuthExpired(f"AUTH_EXPIRED: {site.host} does not let you in: {said.rstrip('.')}{reason}{renew}", hint=how)


def _wants_typing(said: str) -> bool:
    """Whether keys are of no (more) use for a login: it goes on with what a person types."""
    left = _LEFT.search(said)
    return left is not None and "publickey" not in left[1] and bool(re.search("keyboard|password", left[1]))


def _changed_key(site: Site, words: str) -> Undelivered:
    held = _HELD_BY.search(words)
    where = f" -f {shell_word(held[1])}" if held else ""
    return Undelivered(
        f"{site.host} shows another host key than the one known for it: somebody may be listening in",
        hint="ask its administrator whether the key was changed; "
        f"only then: ssh-keygen{where} -R {shell_word(_known_as(words) or _named(site))}",
    )


def _revoked_key(site: Site, words: str) -> Undelivered:
    holder = re.search(r"(?:key|keys file|key file) (?:in|by) (\S+)", words)
    where = f" in {holder[1]}" if holder else ""
    return Undelivered(
        f"{site.host} shows a host key that is marked as revoked{where}: it may be somebody else's machine",
        hint="do not log in; ask its administrator for its new key",
    )


def _unknown_key(site: Site, words: str, options_of: OptionsOf) -> Undelivered:
    """The key is added by ssh itself: it alone knows under which name, in which file, and by which jump hosts."""
    host, options = _whose(site, _known_as(words), options_of)
    config = ("-F", site.ssh_config) if site.ssh_config else ()
    command = shell_words(("ssh", *config, "-o", "StrictHostKeyChecking=ask", *destination(host), "true"))
    files = options.get("userknownhostsfile", "~/.ssh/known_hosts").split()
    kept = next((file for file in files if file not in ("none", "/dev/null")), "")
    if kept:
        hint = f"`{command}` shows its fingerprint: compare it with what its administrator publishes, and say yes only "
        hint += f"if it is the same; the key is then in {kept}"
    else:
        everybodys = options.get("globalknownhostsfile", "/etc/ssh/ssh_known_hosts").split()[0]
        hint = f"your ssh configuration keeps no host keys (UserKnownHostsFile {files[0]}): name a file there and run "
        hint += f"`{command}`, or have this machine's administrator add the key to {everybodys}"
    return Undelivered(
        f"the host key of {host} is not known, so whether it is the right machine cannot be told", hint=hint
    )


def _whose(site: Site, name: str, options_of: OptionsOf) -> tuple[str, Mapping[str, str]]:
    """Return the host that is known by a name, the site's own or a jump host on the way, and what is said of it."""
    own = options_of(site.host or "")
    jumps = [jump for jump in own.get("proxyjump", "none").split(",") if jump != "none"]
    for jump in jumps:
        options = options_of(jump)
        if name and _known_name(options) == name.lower():
            return jump, options
    return site.host or "", own


def _known_name(options: Mapping[str, str]) -> str:
    """Return the name of a host in files of known hosts: sshd(8), SSH_KNOWN_HOSTS FILE FORMAT."""
    host, port = options.get("hostname", ""), options.get("port", "22")
    return options.get("hostkeyalias") or (host if port == "22" else f"[{host}]:{port}").lower()


def _known_as(words: str) -> str:
    """Return the name under which a host stands or would stand in a file of known hosts; empty if none is said."""
    found = [match[1] or match[2] for match in _KNOWN_AS.finditer(words)]
    return found[-1] if found else ""


def _named(site: Site) -> str:
    return (site.host or "").rpartition("@")[2]


def by_hand(site: Site) -> str:
    """Return the ssh command that a person types for a site."""
    config = ("-F", site.ssh_config) if site.ssh_config else ()
    return shell_words(("ssh", *config, *destination(site.host or "")))


def essence(words: str) -> str:
    """Return what was said on one line, without ornament and without who says it."""
    lines = [line.strip() for line in words.splitlines()]
    kept = [re.sub(r"^ssh: ", "", line) for line in lines if line and not line.startswith("@")]
    return " ".join(kept)[:500].rstrip(".")

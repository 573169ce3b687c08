"""Files of known hosts, as sshd(8) describes them under SSH_KNOWN_HOSTS FILE FORMAT. Pure.

paramiko's own reader knows no patterns, no markers and one key of a kind per host, and fails at `@cert-authority`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Iterator, Sequence

from hybridhpc.values import dataclass

REVOKED = "@revoked"
AUTHORITY = "@cert-authority"


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownKey:
    """A key that a file knows for a host. `holder`: the file and its line, as FILE:LINE."""

    marker: str
    kind: str
    blob: bytes
    holder: str


def known_keys(text: str, file: str, name: str) -> Iterator[KnownKey]:
    """Yield what a file says of a host by its name there: HOST, [HOST]:PORT or an alias. No key, no word."""
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        marker = words.pop(0) if words and words[0].startswith("@") else ""
        if len(words) < 3 or line.lstrip().startswith("#") or not _is_named(words[0], name.lower()):
            continue
        try:
            blob = base64.b64decode(words[2], validate=True)
        except (binascii.Error, ValueError):
            continue
        yield KnownKey(marker=marker, kind=words[1], blob=blob, holder=f"{file}:{number}")


def objection(known: Sequence[KnownKey], name: str, kind: str, blob: bytes) -> str:
    """Return what ssh would say against a key that a host shows; empty: it is the host's."""
    same = [key for key in known if key.blob == blob]
    plain = [key for key in known if not key.marker and key.kind == kind]
    if revoked := [key for key in same if key.marker == REVOKED]:
        return f"REVOKED HOST KEY DETECTED\nOffending key in {revoked[0].holder}"
    if any(not key.marker for key in same):
        return ""
    if plain:
        return f"Host key for {name} has changed\nOffending key in {plain[0].holder}"
    if certified := [key for key in known if key.marker == AUTHORITY]:
        return f"{name} is known by the certificates of an authority alone ({AUTHORITY}, {certified[0].holder})"
    return f"No {kind} host key is known for {name} and it is wanted"


def _is_named(patterns: str, name: str) -> bool:
    """Whether a line is about a host: a hash of its name, or patterns of which one matches and no `!` one does."""
    if patterns.startswith("|"):
        return _is_hash(patterns, name)
    hits = [pattern for pattern in patterns.lower().split(",") if _matches(pattern.removeprefix("!"), name)]
    return bool(hits) and not any(pattern.startswith("!") for pattern in hits)


def _is_hash(word: str, name: str) -> bool:
    """HashKnownHosts: |1|SALT|HMAC-SHA1 of the name."""
    try:
        _, version, salt, digest = word.split("|")
        made = hmac.digest(base64.b64decode(salt), name.encode(), hashlib.sha1)
        return version == "1" and hmac.compare_digest(made, base64.b64decode(digest))
    except (binascii.Error, ValueError):
        return False


def _matches(pattern: str, name: str) -> bool:
    return re.fullmatch(re.escape(pattern).replace(r"\*", ".*").replace(r"\?", "."), name) is not None

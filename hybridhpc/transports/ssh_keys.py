"""What of a person's own may keep them out: keys that wait for a passphrase, certificates out of their time.

ssh in batch mode passes over the former, a server over the latter, and neither says more than that it is denied.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from hybridhpc.values import dataclass

_ARMOUR = re.compile(rb"-----BEGIN OPENSSH PRIVATE KEY-----(.*?)-----END", re.DOTALL)
_MAGIC = b"openssh-key-v1\0"
_PEM_LOCKED = (b"BEGIN ENCRYPTED PRIVATE KEY", b"Proc-Type: 4,ENCRYPTED")
_CERTIFIED = "-cert-v01@openssh.com"
_KEY_FIELDS = {"ssh-ed25519": 1, "ssh-rsa": 2, "sk-ssh-ed25519": 2, "sk-ecdsa-sha2-nistp256": 3}
"""How many strings a public key has behind its kind; ecdsa-sha2-*: 2."""
_YEAR_9999 = 253_402_300_799


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """A person's certificate. `line`: as its file has it; `public`: the key it is for; times in epoch seconds."""

    name: str
    line: str
    public: bytes
    valid_after: int
    valid_before: int


def certificate(line: str, name: str) -> Certificate | None:
    """Read OpenSSH's PROTOCOL.certkeys from a line of a file, or of `ssh-add -L`; None if it is none."""
    kind, _, rest = line.strip().partition(" ")
    if not kind.endswith(_CERTIFIED):
        return None
    plain = kind.removesuffix(_CERTIFIED)
    try:
        body = base64.b64decode(rest.split()[0])
    except (binascii.Error, ValueError, IndexError):
        return None
    _, nonce = _string(body, 0)
    _, begin = _string(body, nonce)
    end = begin
    for _ in range(_KEY_FIELDS.get(plain, 2)):
        _, end = _string(body, end)
    _, at = _string(body, end + 12)  # behind the serial (8 bytes) and the kind of certificate (4): its id
    _, at = _string(body, at)  # who may log in with it
    if len(body) < at + 16:
        return None
    own = f"{plain}@openssh.com" if plain.startswith("sk-") else plain
    public = len(own).to_bytes(4) + own.encode() + body[begin:end]
    after, before = int.from_bytes(body[at : at + 8]), int.from_bytes(body[at + 8 : at + 16])
    return Certificate(name=name, line=line.strip(), public=public, valid_after=after, valid_before=before)


def read_certificates(files: Iterable[Path]) -> list[Certificate]:
    """Read the certificates among some files; those that are not there are none."""
    there = [file for file in files if file.is_file() and os.access(file, os.R_OK)]
    read = (certificate(file.read_text("utf-8", "replace"), str(file)) for file in there)
    return [each for each in read if each]


def out_of_time(certificates: Sequence[Certificate], now: float) -> str:
    """Say of the last of some certificates that its time is over, or has not come; empty if one of them is valid."""
    if not certificates or any(each.valid_after <= now < each.valid_before for each in certificates):
        return ""
    last = max(certificates, key=lambda each: each.valid_before)
    if last.valid_before <= now:
        return f"the certificate {last.name} was valid until {_moment(last.valid_before)}"
    return f"the certificate {last.name} is not valid before {_moment(last.valid_after)}"


def _moment(seconds: int) -> str:
    return f"{datetime.fromtimestamp(min(seconds, _YEAR_9999), UTC):%Y-%m-%d %H:%M} UTC"


def locked_key(content: bytes) -> str | None:
    """Return the public part, as `ssh-add -L` spells it, of a private key that has a passphrase; None if it has none.

    Empty if that part cannot be read without the passphrase, as in PEM.
    """
    if any(words in content for words in _PEM_LOCKED):
        return ""
    armoured = _ARMOUR.search(content)
    if armoured is None:
        return None
    try:
        body = base64.b64decode(armoured[1])
        return _public_part(body) if body.startswith(_MAGIC) else None
    except (binascii.Error, ValueError):
        return None


def _public_part(body: bytes) -> str | None:
    """Read OpenSSH's PROTOCOL.key: cipher, kdf, its options, the number of keys, the public key."""
    cipher, at = _string(body, len(_MAGIC))
    if cipher == b"none":
        return None
    for _ in range(2):
        _, at = _string(body, at)
    public, _ = _string(body, at + 4)
    return base64.b64encode(public).decode()


def _string(body: bytes, at: int) -> tuple[bytes, int]:
    end = at + 4 + int.from_bytes(body[at : at + 4])
    return body[at + 4 : end], end

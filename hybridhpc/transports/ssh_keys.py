"""Private keys that wait for a passphrase: ssh in batch mode passes over them, and is denied. Pure."""

from __future__ import annotations

import base64
import binascii
import re

_ARMOUR = re.compile(rb"-----BEGIN OPENSSH PRIVATE KEY-----(.*?)-----END", re.DOTALL)
_MAGIC = b"openssh-key-v1\0"
_PEM_LOCKED = (b"BEGIN ENCRYPTED PRIVATE KEY", b"Proc-Type: 4,ENCRYPTED")


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

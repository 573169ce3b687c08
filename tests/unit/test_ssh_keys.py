"""Which private keys wait for a passphrase, told without it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridhpc.transports.ssh_keys import locked_key


def made(folder: Path, passphrase: str, *words: str) -> tuple[bytes, str]:
    """Return a new private key, and its public part."""
    file = folder / "key"
    argv = ["ssh-keygen", "-q", "-N", passphrase, "-f", file, *words]
    subprocess.run(argv, check=True, capture_output=True, timeout=60)
    return file.read_bytes(), (folder / "key.pub").read_text().split()[1]


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa"])
def test_openssh_s_own_keys_tell_their_public_part(tmp_path: Path, kind: str) -> None:
    content, public = made(tmp_path, "open sesame", "-t", kind)
    assert locked_key(content) == public


def test_pem_tells_only_that_it_is_locked(tmp_path: Path) -> None:
    assert locked_key(made(tmp_path, "open sesame", "-t", "ecdsa", "-m", "PEM")[0]) == ""


@pytest.mark.parametrize("words", [("-t", "ed25519"), ("-t", "ecdsa", "-m", "PEM")])
def test_a_key_without_passphrase_is_not_locked(tmp_path: Path, words: tuple[str, ...]) -> None:
    assert locked_key(made(tmp_path, "", *words)[0]) is None


@given(st.binary(max_size=200))
def test_nothing_in_a_file_makes_a_traceback(content: bytes) -> None:
    locked_key(content)
    locked_key(b"-----BEGIN OPENSSH PRIVATE KEY-----" + content + b"-----END")

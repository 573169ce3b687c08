"""Which private keys wait for a passphrase, told without it; what certificates and files of known hosts say."""

from __future__ import annotations

import base64
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridhpc.transports.ssh_keys import certificate, locked_key, out_of_time
from hybridhpc.transports.ssh_known import known_keys, objection


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
    words = content.decode("latin-1")
    certificate(f"ssh-ed25519-cert-v01@openssh.com {base64.b64encode(content).decode()}", "x")
    certificate(words, "x")
    list(known_keys(f"{words}\n|1|{words} a b\n* ssh-rsa {words}", "f", "host"))
    locked_key(content)
    locked_key(b"-----BEGIN OPENSSH PRIVATE KEY-----" + content + b"-----END")


@pytest.mark.parametrize("kind", [("ed25519",), ("ecdsa",), ("ecdsa", "-b", "521"), ("rsa", "-b", "2048")])
def test_a_certificate_tells_its_time_and_its_key(tmp_path: Path, kind: tuple[str, ...]) -> None:
    made(tmp_path, "", "-t", *kind)
    words = ["-q", "-s", "key", "-I", "me", "-n", "a,b", "-V", "20260102030405Z:20270102030405Z"]
    subprocess.run(["ssh-keygen", *words, "key.pub"], cwd=tmp_path, check=True, capture_output=True, timeout=60)
    read = certificate((tmp_path / "key-cert.pub").read_text(), "c")
    assert read
    assert base64.b64encode(read.public).decode() == (tmp_path / "key.pub").read_text().split()[1]
    assert (read.valid_after, read.valid_before) == (1767323045, 1798859045)
    assert out_of_time([read], 1767323045) == out_of_time([], 0) == ""
    assert out_of_time([read], 1798859045) == "the certificate c was valid until 2027-01-02 03:04 UTC"
    assert out_of_time([read], 5) == "the certificate c is not valid before 2026-01-02 03:04 UTC"


def test_a_certificate_for_ever_is_never_old(tmp_path: Path) -> None:
    made(tmp_path, "", "-t", "ed25519")
    words = ["-q", "-s", "key", "-I", "me", "key.pub"]
    subprocess.run(["ssh-keygen", *words], cwd=tmp_path, check=True, capture_output=True, timeout=60)
    read = certificate((tmp_path / "key-cert.pub").read_text(), "c")
    assert read and out_of_time([read], 4e9) == ""


def test_what_speaks_against_a_key_is_what_ssh_says() -> None:
    mine, other = base64.b64encode(b"mine").decode(), base64.b64encode(b"other").decode()

    def said(text: str) -> str:
        return objection(list(known_keys(text, "f", "login")), "login", "ssh-rsa", b"mine")

    assert said(f"login ssh-rsa {mine}") == said(f"# login\nLOGIN,x ssh-rsa {mine} me") == ""
    assert said(f"l?g* ssh-rsa {other}\nlogin ssh-rsa {mine}") == ""
    assert said(f"\nlogin ssh-rsa {other}") == "Host key for login has changed\nOffending key in f:2"
    assert said(f"login ssh-ed25519 {other}").startswith("No ssh-rsa host key is known for login")
    assert said(f"@revoked * ssh-rsa {mine}\nlogin ssh-rsa {mine}").startswith("REVOKED HOST KEY")
    assert said(f"@cert-authority * ssh-rsa {mine}").startswith("login is known by the certificates")
    assert said(f"@cert-authority * ssh-rsa {other}\nlogin ssh-rsa {mine}") == ""
    assert said(f"*,!login ssh-rsa {mine}").startswith("No ssh-rsa")

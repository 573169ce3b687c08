"""Logins that want a code beside the key: typed once into ssh, and nobody is asked for it behind their back."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hybridhpc.command import Command
from hybridhpc.errors import AuthExpired
from hybridhpc.transports.base import Transport
from tests.loopback import Loopback
from tests.ssh.conftest import SECRET

HELLO = Command(argv=("echo", "hello"))


def test_a_code_is_typed_once_and_serves_every_command(
    wary: Loopback, reach: Callable[..., Transport], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """By the command that is shown. Where the connection is not shared with ssh, it is said which transport does."""
    transport = reach(wary)
    with pytest.raises(AuthExpired, match=r"Permission denied \(\S+\) \(it wants a password or a code\)$") as caught:
        transport.run(HELLO)
    assert capfd.readouterr() == ("", "")
    if "OpenSsh" not in type(transport).__name__:
        assert caught.value.hint.startswith("transport: openssh shares a connection for which a code is typed once")
        return
    found = re.fullmatch(r"log in once, typing what it asks for; .* serves hpc: (ssh .*)", caught.value.hint)
    assert found
    asked, asking = tmp_path / "asked", tmp_path / "ask"
    asking.write_text(f"#!/bin/sh\necho once >>{asked}\necho '{SECRET}'\n")
    asking.chmod(0o700)
    env = {**os.environ, "SSH_ASKPASS": str(asking), "SSH_ASKPASS_REQUIRE": "force"}
    subprocess.run(["sh", "-c", found[1]], env=env, check=True, capture_output=True, timeout=20)
    assert [reach(wary).run(HELLO).text for _ in range(20)] == ["hello\n"] * 20
    assert asked.read_text() == "once\n"


@pytest.mark.parametrize("reach", ["ssh"], indirect=True)
def test_nothing_is_read_from_standard_input(
    wary: Loopback, reach: Callable[..., Transport], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It may be a script that is piped in."""
    (tmp_path / "in").write_text(f"{SECRET}\n")
    with (tmp_path / "in").open() as file:
        monkeypatch.setattr(sys, "stdin", file)
        with pytest.raises(AuthExpired):
            reach(wary).run(HELLO)
        assert file.read() == f"{SECRET}\n"

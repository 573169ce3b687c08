"""A host key that is not known or has changed: refused, and what a person is told to do works when it is done."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from hybridhpc.command import Command
from hybridhpc.errors import Undelivered
from hybridhpc.transports.base import Transport
from tests.loopback import Loopback, new_key

Reach = Callable[..., Transport]
Servers = Callable[..., Loopback]
HELLO = Command(argv=("echo", "hello"))


def obey(hint: str, place: Path) -> None:
    """Paste the command of a hint into a shell, and say yes to what it asks."""
    found = re.search("`(ssh .*?)`", hint)
    assert found, hint
    asking = place / "yes"
    asking.write_text("#!/bin/sh\necho yes\n")
    asking.chmod(0o700)
    env = {**os.environ, "SSH_ASKPASS": str(asking), "SSH_ASKPASS_REQUIRE": "force"}
    subprocess.run(["sh", "-c", found[1]], env=env, check=True, capture_output=True, timeout=20)


def refusal(transport: Transport) -> Undelivered:
    with pytest.raises(Undelivered) as caught:
        transport.run(HELLO)
    assert "StrictHostKeyChecking=no" not in caught.value.hint
    return caught.value


def configured(server: Loopback, *lines: str) -> None:
    server.configure("User root", f"IdentityFile {server.key}", *lines)


@pytest.mark.parametrize("lines", [(), ("HostKeyAlias login",), ("StrictHostKeyChecking no",)])
def test_what_is_advised_for_an_unknown_key_makes_it_known(
    new_server: Servers, reach: Reach, tmp_path: Path, lines: tuple[str, ...]
) -> None:
    server = new_server()
    server.known.unlink()
    configured(server, *lines)
    wrong = refusal(reach(server))
    assert "the host key of there is not known" in wrong.message
    assert str(server.known) in wrong.hint and "~/.ssh/known_hosts" not in wrong.hint
    assert not server.known.exists()
    obey(wrong.hint, tmp_path)
    assert server.known.exists()
    assert reach(server).run(HELLO).text == "hello\n"


@pytest.mark.parametrize("spelled", ["jump", "root@jump:{port}"])
def test_the_unknown_key_of_a_jump_host_is_that_host_s(
    new_server: Servers, reach: Reach, tmp_path: Path, spelled: str
) -> None:
    """It is checked though the configuration says otherwise."""
    jump, target = new_server("jump", host="jump"), new_server("target")
    jump.known.write_text("")
    configured(jump, "StrictHostKeyChecking no")
    name = spelled.format(port=jump.port)
    configured(target, f"ProxyJump {name}")
    target.config.write_text(jump.config.read_text() + target.config.read_text())
    wrong = refusal(reach(target))
    assert f"the host key of {name} is not known" in wrong.message and str(jump.known) in wrong.hint
    assert jump.known.read_text() == ""
    obey(wrong.hint, tmp_path)
    assert reach(target).run(HELLO).text == "hello\n"


def test_where_no_keys_are_kept_that_is_said(new_server: Servers, reach: Reach) -> None:
    server = new_server()
    words = server.config.read_text().replace(str(server.known), "/dev/null")
    server.config.write_text(words + "  GlobalKnownHostsFile /etc/ssh/company_hosts\n")
    wrong = refusal(reach(server))
    assert "UserKnownHostsFile /dev/null" in wrong.hint and "/etc/ssh/company_hosts" in wrong.hint


def test_another_host_key_is_refused_with_the_fix(new_server: Servers, reach: Reach, tmp_path: Path) -> None:
    server = new_server()
    new_key(server.place / "other")
    server.know(server.place / "other")
    wrong = refusal(reach(server))
    assert "another host key" in wrong.message and "administrator" in wrong.hint
    command = wrong.hint.rpartition("only then: ")[2]
    assert command == f"ssh-keygen -f {server.known} -R '[127.0.0.1]:{server.port}'"
    subprocess.run(["sh", "-c", command], check=True, capture_output=True)
    obey(refusal(reach(server)).hint, tmp_path)
    assert reach(server).run(HELLO).text == "hello\n"


def test_a_configuration_that_is_not_there_is_named(server: Loopback, reach: Reach, tmp_path: Path) -> None:
    wrong = refusal(reach(server, file="/sites/lab.yaml", lines=(("ssh_config", 3),), ssh_config=f"{tmp_path}/none"))
    assert wrong.message == f"/sites/lab.yaml:3: ssh_config: {tmp_path}/none does not exist"


@pytest.mark.parametrize("reach", ["ssh"], indirect=True)
def test_what_paramiko_does_not_read_is_said_where_it_fails(server: Loopback, reach: Reach, tmp_path: Path) -> None:
    file = tmp_path / "config"
    file.write_text("Include more\nHost nowhere\n  HostName 127.0.0.1\n  Port 1\n")
    assert f"does not read Include ({file}:1)" in refusal(reach(server, host="nowhere", ssh_config=str(file))).hint
    file.write_text(f"Match host nowhere exec true\n{file.read_text()}")
    wrong = refusal(reach(server, host="nowhere", ssh_config=f"{tmp_path}/./config"))
    assert f"Match exec ({tmp_path}/config:1) and Include" in wrong.hint.replace("/./", "/")

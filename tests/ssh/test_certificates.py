"""Certificates of people and of machines: what ssh takes is taken, and what keeps somebody out is said."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from hybridhpc.command import Command
from hybridhpc.errors import AuthExpired, Undelivered
from hybridhpc.transports.base import Transport
from tests.loopback import Loopback, new_key

Reach = Callable[..., Transport]
Servers = Callable[..., Loopback]
HELLO = Command(argv=("echo", "hello"))


def sign(authority: Path, key: Path, *words: str) -> Path:
    """Certify a key, and return the certificate's file."""
    subprocess.run(["ssh-keygen", "-q", "-s", authority, "-I", "me", *words, key], check=True, capture_output=True)
    return key.with_name(f"{key.name}-cert.pub")


def trusting(server: Loopback) -> Path:
    """Let a server trust an authority alone, and return the authority's key."""
    authority = server.place / "authority"
    new_key(authority)
    (server.place / "authorized_keys").write_text(f"cert-authority {authority.with_suffix('.pub').read_text()}")
    return authority


def refusal(transport: Transport) -> Undelivered:
    with pytest.raises(Undelivered) as caught:
        transport.run(HELLO)
    return caught.value


@pytest.mark.parametrize("validity", ["-2h:-1h", "+1h:+2h"])
def test_a_certificate_out_of_its_time_is_named(new_server: Servers, reach: Reach, validity: str) -> None:
    server = new_server()
    file = sign(trusting(server), server.key, "-n", "root", "-V", validity)
    assert "`renew:` in the site file" in refusal(reach(server)).hint
    server.configure("User root", f"IdentityFile {server.key}")
    wrong = refusal(reach(server, renew="step ssh login"))
    assert isinstance(wrong, AuthExpired)
    when = "was valid until" if validity.startswith("-") else "is not valid before"
    assert f"(the certificate {file} {when} 20" in wrong.message
    assert wrong.message.endswith("UTC); renew it: step ssh login")
    assert wrong.hint == f"with a new one this works: ssh -F {server.config} there"


def test_a_certificate_for_somebody_else_is_not_called_old(new_server: Servers, reach: Reach) -> None:
    server = new_server()
    sign(trusting(server), server.key, "-n", "somebody", "-V", "-1h:+1h")
    assert "valid" not in refusal(reach(server)).message


def test_a_certificate_in_a_file_of_its_own_is_offered(new_server: Servers, reach: Reach) -> None:
    server = new_server()
    certificate = sign(trusting(server), server.key, "-n", "root", "-V", "-1h:+1h")
    shutil.move(certificate, server.place / "elsewhere")
    assert isinstance(refusal(reach(server)), AuthExpired)
    server.configure("User root", f"IdentityFile {server.key}", f"CertificateFile {server.place}/elsewhere")
    assert reach(server).run(HELLO).text == "hello\n"


@pytest.mark.parametrize("beside", [True, False])
def test_a_key_that_an_agent_holds_comes_with_its_certificate(
    new_server: Servers, reach: Reach, agent: Path, beside: bool
) -> None:
    """Whether the agent holds the certificate, too, or it lies beside the public key. IdentityAgent names the agent."""
    server = new_server()
    certificate = sign(trusting(server), server.key, "-n", "root", "-V", "-1h:+1h")
    kept = server.place / "kept"
    if beside:
        shutil.move(certificate, kept)
    subprocess.run(["ssh-add", "-q", server.key], check=True, env={**os.environ, "SSH_AUTH_SOCK": str(agent)})
    if beside:
        shutil.move(kept, certificate)
    server.key.unlink()
    server.configure("User root", f"IdentityFile {server.key}", f"IdentityAgent {agent}")
    assert reach(server).run(HELLO).text == "hello\n"


@pytest.fixture
def certified(new_server: Servers) -> Callable[[str], Loopback]:
    """Give what makes a server that shows a certificate of its own, and is known by the authority alone."""

    def make(validity: str) -> Loopback:
        server = new_server("certified")
        authority = server.place / "of_hosts"
        new_key(authority)
        shown = sign(authority, server.place / "host_key", "-h", "-n", "127.0.0.1", "-V", validity)
        server.stop()
        (server.place / "pid").unlink(missing_ok=True)
        with (server.place / "sshd_config").open("a") as file:
            file.write(f"HostCertificate {shown}\n")
        server.start()
        server.known.write_text(f"@cert-authority *,!other {authority.with_suffix('.pub').read_text()}")
        return server

    return make


def test_a_machine_that_an_authority_vouches_for_is_known(certified: Callable[..., Loopback], reach: Reach) -> None:
    """To ssh; paramiko reads no certificates of hosts, and it is said who does."""
    server = certified("-1h:+1h")
    transport = reach(server)
    if "OpenSsh" in type(transport).__name__:
        assert transport.run(HELLO).text == "hello\n"
    else:
        wrong = refusal(transport)
        assert "does not tell whether it is the right machine" in wrong.message
        assert f"transport: openssh checks certificates of hosts (@cert-authority, {server.known}:1)" in wrong.hint
    server.known.write_text(f"{server.known.read_text()}[127.0.0.1]:* {(server.place / 'host_key.pub').read_text()}")
    assert reach(server).run(HELLO).text == "hello\n"


@pytest.mark.parametrize("reach", ["openssh"], indirect=True)
def test_an_old_certificate_of_a_machine_is_told_from_an_unknown_key(
    certified: Callable[..., Loopback], reach: Reach
) -> None:
    wrong = refusal(reach(certified("-2h:-1h")))
    assert "a host certificate that is not valid (expired)" in wrong.message
    assert "administrator" in wrong.hint


def test_a_host_key_that_is_revoked_is_refused(new_server: Servers, reach: Reach) -> None:
    """Even if another line knows it."""
    server = new_server()
    with server.known.open("a") as file:
        file.write(f"@revoked * {(server.place / 'host_key.pub').read_text()}")
    wrong = refusal(reach(server))
    assert "marked as revoked" in wrong.message and wrong.hint.startswith("do not log in")


def test_known_hosts_are_read_as_ssh_reads_them(new_server: Servers, reach: Reach) -> None:
    """Hashed names, patterns, several keys for one name, a key that is known without its port, lines that are none."""
    server = new_server()
    own, name = (server.place / "host_key.pub").read_text(), f"[127.0.0.1]:{server.port}"
    new_key(server.place / "twin")
    twin = (server.place / "twin.pub").read_text()

    def knowing(text: str) -> Transport:
        server.known.write_text(text)
        server.configure("User root", f"IdentityFile {server.key}")
        return reach(server)

    for text in (f"{name} {twin}{name} {own}", f"[127.0.0.?]:* {own}", f"127.0.0.1 {own}", f"a b c\n \n{name} {own}"):
        assert knowing(text).run(HELLO).text == "hello\n", text
    server.known.write_text(f"{name} {own}")
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", server.known], check=True, capture_output=True)
    assert "127.0.0.1" not in server.known.read_text()
    assert knowing(server.known.read_text()).run(HELLO).text == "hello\n"
    assert "is not known" in refusal(knowing(f"!{name},*:* {own}")).message
    assert "another host key" in refusal(knowing(f"[127.0.0.1]:* {twin}")).message

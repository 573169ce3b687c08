"""Links that break, stall or are full, and logins that are refused: said in time, and never more than is known."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hybridhpc.command import Command, Errand
from hybridhpc.errors import AuthExpired, HpcError, TransportError, Undelivered
from hybridhpc.transports.base import Transport
from tests.loopback import Loopback, new_key

Reach = Callable[..., Transport]
HELLO = Command(argv=("echo", "hello"))


def later(path: Path, seconds: float = 1.5, timeout: float = 20) -> Command:
    return Command(argv=("sh", "-c", f"sleep {seconds}; touch '{path}'"), timeout=timeout)


def answer_of(transport: Transport, command: Command, *, scrubbed: bool = True) -> list[object]:
    """Run a command in a thread; the list gets its answer."""
    told: list[object] = []

    def work() -> None:
        try:
            told.append(transport.run(command, scrubbed=scrubbed))
        except HpcError as error:
            told.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    told.append(thread)
    return told


def when_it_runs(server: Loopback, word: str) -> None:
    """Wait until a command with this word in its arguments runs."""
    for _ in range(200):
        for line in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = line.read_bytes().split(b"\0")
            except OSError:
                continue
            if words[0] == b"sh" and any(word.encode() in part for part in words):
                return
        time.sleep(0.02)
    raise AssertionError(f"{word} does not run")


def test_a_hundred_in_a_row_and_twenty_at_once(server: Loopback, reach: Reach) -> None:
    transport = reach(server)
    for number in range(100):
        assert transport.run(Command(argv=("echo", str(number)))).text == f"{number}\n"
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda number: transport.run(Command(argv=("echo", str(number)))).text, range(20)))
    assert answers == [f"{number}\n" for number in range(20)]


def test_twenty_at_once_where_ten_sessions_are_allowed(new_server: Callable[..., Loopback], reach: Reach) -> None:
    server = new_server("sshd", "MaxSessions 10")
    transport = reach(server)
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda number: transport.run(Command(argv=("echo", str(number)))).text, range(20)))
    assert answers == [f"{number}\n" for number in range(20)]


@pytest.mark.parametrize("question", [True, False])
def test_a_link_cut_in_the_middle_leaves_the_outcome_open(
    new_server: Callable[..., Loopback], reach: Reach, tmp_path: Path, question: bool
) -> None:
    """A submission goes on to its end, a question does not."""
    server = new_server()
    transport = reach(server)
    transport.run(HELLO)
    trace = tmp_path / "done"
    told = answer_of(transport, later(trace), scrubbed=question)
    when_it_runs(server, str(trace))
    server.cut()
    thread = told.pop(0) if isinstance(told[0], threading.Thread) else told.pop()
    assert isinstance(thread, threading.Thread)
    thread.join(10)
    assert isinstance(told[0], TransportError) and not isinstance(told[0], Undelivered)
    time.sleep(2)
    assert trace.exists() is not question
    assert transport.run(HELLO).text == "hello\n"


def test_a_peer_that_stalls_costs_no_more_than_the_time_limit(
    new_server: Callable[..., Loopback], reach: Reach
) -> None:
    server = new_server()
    transport = reach(server)
    transport.run(HELLO)
    stopped = server.sessions()
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    began = time.monotonic()
    with pytest.raises(TransportError, match="no answer in time"):
        transport.run(Command(argv=("echo", "x"), timeout=0.5))
    assert time.monotonic() - began < 4
    for pid in stopped:
        os.kill(pid, signal.SIGCONT)


@pytest.fixture
def mute(tmp_path: Path) -> Iterator[int]:
    """Give the port of a machine that takes connections and says nothing."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield int(listening.getsockname()[1])


def test_a_machine_that_says_nothing_is_given_up_in_time(
    server: Loopback, reach: Reach, mute: int, tmp_path: Path
) -> None:
    (tmp_path / "config").write_text(f"Host there\n  HostName 127.0.0.1\n  Port {mute}\n")
    began = time.monotonic()
    (answer,) = reach(server, ssh_config=str(tmp_path / "config")).run_all([Errand(command=HELLO)], within=1)
    assert isinstance(answer, Undelivered)
    assert time.monotonic() - began < 3


def test_a_port_where_nobody_listens_is_not_reached(server: Loopback, reach: Reach, mute: int, tmp_path: Path) -> None:
    (tmp_path / "config").write_text("Host there\n  HostName 127.0.0.1\n  Port 1\n")
    with pytest.raises(Undelivered, match="not reached"):
        reach(server, ssh_config=str(tmp_path / "config")).run(HELLO)


def test_a_host_that_nobody_knows_names_its_key(server: Loopback, reach: Reach) -> None:
    with pytest.raises(Undelivered, match=r"nowhere.invalid is not reached") as caught:
        reach(server, file="/s.yaml", lines=(("host", 1),), host="nowhere.invalid").run(HELLO)
    assert caught.value.hint.startswith("correct /s.yaml:1: host: nowhere.invalid, or add that host")


def test_a_wrong_key_names_what_renews_it(new_server: Callable[..., Loopback], reach: Reach) -> None:
    server = new_server()
    (server.place / "authorized_keys").write_text("")
    with pytest.raises(AuthExpired, match=r"AUTH_EXPIRED: there does not let you in: .*; renew it: aws sso login"):
        reach(server, renew="aws sso login").run(HELLO)


def test_an_edited_configuration_is_heeded_at_once(new_server: Callable[..., Loopback], reach: Reach) -> None:
    """Even though the connection that it made before is still shared."""
    server = new_server()
    assert reach(server).run(HELLO).text == "hello\n"
    new_key(server.place / "other")
    server.configure("User root", f"IdentityFile {server.place}/other")
    with pytest.raises(AuthExpired):
        reach(server).run(HELLO)


def sign(server: Loopback, validity: str) -> None:
    """Let the server trust an authority alone, and certify the person's key by it."""
    authority = server.place / "authority"
    new_key(authority)
    (server.place / "authorized_keys").write_text(f"cert-authority {authority.with_suffix('.pub').read_text()}")
    words = ["ssh-keygen", "-q", "-s", authority, "-I", "me", "-n", "root", "-V", validity, server.key]
    subprocess.run(words, check=True, capture_output=True)


def test_a_certificate_lets_in_until_it_expires(new_server: Callable[..., Loopback], reach: Reach) -> None:
    server = new_server()
    sign(server, "-1h:+1h")
    assert reach(server).run(HELLO).text == "hello\n"
    expired = new_server("later")
    sign(expired, "-2h:-1h")
    with pytest.raises(AuthExpired, match="AUTH_EXPIRED"):
        reach(expired).run(HELLO)


def test_a_key_with_a_passphrase_needs_an_agent(
    new_server: Callable[..., Loopback], reach: Reach, agent: Path, tmp_path: Path
) -> None:
    server = new_server()
    new_key(server.place / "locked", passphrase="open sesame")
    shutil.copy(server.place / "locked.pub", server.place / "authorized_keys")
    server.configure("User root", f"IdentityFile {server.place}/locked", f"IdentityAgent {agent}")
    with pytest.raises(AuthExpired, match="AUTH_EXPIRED") as caught:
        reach(server).run(HELLO)
    assert "has a passphrase, and no agent holds it" in caught.value.message
    assert "ssh-add" in f"{caught.value.message} {caught.value.hint}"
    assert re.search(f"^add it to your agent: ssh-add {server.place}/locked .*(log in once|by hand)", caught.value.hint)
    asking = tmp_path / "ask"
    asking.write_text("#!/bin/sh\necho open sesame\n")
    asking.chmod(0o700)
    env = {**os.environ, "SSH_ASKPASS": str(asking), "SSH_ASKPASS_REQUIRE": "force", "SSH_AUTH_SOCK": str(agent)}
    subprocess.run(["ssh-add", "-q", server.place / "locked"], env=env, check=True, capture_output=True)
    assert reach(server).run(HELLO).text == "hello\n"
    stranger = new_server("stranger")
    stranger.configure("User root", f"IdentityFile {server.place}/locked", f"IdentityAgent {agent}")
    with pytest.raises(AuthExpired) as caught:
        reach(stranger).run(HELLO)
    assert "passphrase" not in caught.value.message, "the agent holds it, and the server does not want it"


def test_a_key_that_does_not_exist_is_passed_over(new_server: Callable[..., Loopback], reach: Reach) -> None:
    server = new_server()
    server.configure("User root", f"IdentityFile {server.place}/none", f"IdentityFile {server.key}")
    assert reach(server).run(HELLO).text == "hello\n"


def test_a_jump_host_is_gone_through(new_server: Callable[..., Loopback], reach: Reach) -> None:
    jump, target = new_server("jump", host="jump"), new_server("target", "AllowUsers root@127.0.0.1")
    target.configure("User root", f"IdentityFile {target.key}", "ProxyJump jump")
    target.config.write_text(jump.config.read_text() + target.config.read_text())
    assert reach(target).run(HELLO).text == "hello\n"
    assert jump.sessions()


def test_several_jump_hosts_are_gone_through_one_after_the_other(
    new_server: Callable[..., Loopback], reach: Reach
) -> None:
    """Each with its own port and key; the second and the target are found from the one before alone."""
    first, second = new_server("first", host="first"), new_server("second", host="second")
    target = new_server("target")
    target.configure("User root", f"IdentityFile {target.key}", "ProxyJump first,second")
    target.config.write_text("".join(server.config.read_text() for server in (first, second, target)))
    assert reach(target).run(HELLO).text == "hello\n"
    assert first.sessions() and second.sessions()
    second.stop()
    first.stop()
    target.config.write_text(target.config.read_text() + "# edited")
    with pytest.raises(Undelivered, match="not reached"):
        reach(target).run(HELLO)


@pytest.fixture
def slow_to_greet(server: Loopback) -> Iterator[int]:
    """Give the port of a machine that waits before it greets, and says more than its version (RFC 4253, 4.2)."""

    def carry(source: socket.socket, goal: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(1 << 16):
                goal.sendall(piece)
            goal.shutdown(socket.SHUT_WR)

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = listening.accept()
                far = socket.create_connection(("127.0.0.1", server.port))
                time.sleep(2)
                near.sendall(b"Authorised use only.\r\nThis is a login node\r\n")
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=carry, args=pair, daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=serve, daemon=True).start()
        yield int(listening.getsockname()[1])
        listening.shutdown(socket.SHUT_RDWR)


def test_a_slow_and_wordy_greeting_is_waited_for(
    server: Loopback, reach: Reach, slow_to_greet: int, tmp_path: Path
) -> None:
    words = server.config.read_text().replace(f"Port {server.port}", f"Port {slow_to_greet}")
    (tmp_path / "config").write_text(f"{words}  HostKeyAlias [127.0.0.1]:{server.port}\n")
    assert reach(server, ssh_config=str(tmp_path / "config")).run(HELLO).text == "hello\n"

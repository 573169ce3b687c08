"""How commands get to a site behind ssh, side by side: `python -m tests.bench.ssh [ROUNDS]` (root and sshd needed).

A whole process that asks one question, and one process that asks a hundred, one after the other. Read the ratios.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.loopback import Loopback

_PROGRAM = """\
import sys
from hybridhpc import registry
from hybridhpc.command import Command
from hybridhpc.config import environment
from hybridhpc.sites.site import Site
site = Site(name="s", file=None, scheduler="slurm", transport=sys.argv[1], host="there", ssh_config=sys.argv[2])
transport = registry.transport(site, environment())
for _ in range(int(sys.argv[3])):
    transport.run(Command(argv=("true",)))
"""


def main(rounds: int) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory(dir="/tmp") as place:
        server = Loopback(Path(place) / "sshd")
        env = {**os.environ, "XDG_RUNTIME_DIR": place}
        ssh = ["ssh", "-F", str(server.config), "-o", "BatchMode=yes"]
        shared = [*ssh, "-o", f"ControlPath={place}/c", "-o", "ControlMaster=auto", "-o", "ControlPersist=60"]

        def ours(transport: str, times: int) -> list[str]:
            return [sys.executable, "-c", _PROGRAM, transport, str(server.config), str(times)]

        ways: dict[str, Callable[[], None]] = {
            "ssh, fresh connection": lambda: run([*ssh, "there", "true"], env),
            "ssh, shared connection": lambda: run([*shared, "there", "true"], env),
            "python -c pass": lambda: run([sys.executable, "-c", "pass"], env),
            "transport openssh, 1 call": lambda: run(ours("openssh", 1), env),
            "transport ssh (paramiko), 1 call": lambda: run(ours("ssh", 1), env),
            "transport openssh, 100 calls": lambda: run(ours("openssh", 100), env),
            "transport ssh (paramiko), 100 calls": lambda: run(ours("ssh", 100), env),
        }
        try:
            show(ways, rounds)
        finally:
            server.stop()


def run(argv: list[str], env: dict[str, str]) -> None:
    """Run a program that must succeed."""
    subprocess.run(argv, env=env, check=True, capture_output=True, stdin=subprocess.DEVNULL)


def show(ways: dict[str, Callable[[], None]], rounds: int) -> None:
    """Time all ways in turn, after a first round that does not count."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            if number:
                found[name].append(time.perf_counter() - began)
    first = statistics.median(next(iter(found.values())))
    for name, times in found.items():
        middle = statistics.median(times)
        print(f"{name:38}{middle * 1000:9.0f} ms  {middle / first:6.2f} x a fresh ssh")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)

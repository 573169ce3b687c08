"""People who are interrupted: submissions, cancellations and questions, killed at random moments of their lives."""

from __future__ import annotations

import random
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

from tests.torture.world import World, descendants, kill

SUBMIT_VICTIMS = ("client", "client and all it started", "submit-once", "sbatch", "ssh", "sshd")
VICTIMS = ("agent", *SUBMIT_VICTIMS)
"""What is killed in every run, each often enough to mean something."""
_NAMES = {"submit-once": ("sh", "dash"), "sbatch": ("sbatch",)}
LOOK = 0.004
"""Seconds between two looks for a process that is to be killed as soon as it is there."""


class Toll:
    """How many kills there were of what, in which step."""

    def __init__(self) -> None:
        self.by_step: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()

    def add(self, step: str, victim: str) -> None:
        with self._lock:
            self.by_step[step, victim] += 1

    @property
    def total(self) -> int:
        return sum(self.by_step.values())

    @property
    def by_victim(self) -> Counter[str]:
        found = Counter(dict.fromkeys(VICTIMS, 0))
        for (_, victim), times in self.by_step.items():
            found[victim] += times
        return found

    def rather_thin(self, dice: random.Random) -> str:
        """Choose who is killed in a submission: rather those of whom few were."""
        killed = self.by_victim
        return dice.choices(SUBMIT_VICTIMS, [1 / (1 + killed[victim]) for victim in SUBMIT_VICTIMS])[0]


class Crowd:
    """People at work. `wanted` and `unwanted` are the names of their jobs, `told` those whose ref was printed."""

    def __init__(self, world: World, toll: Toll, seed: int, *, most: int, restartable: bool) -> None:
        self.world, self.toll = world, toll
        self.chance = random.Random(seed)
        self.most, self.restartable = most, restartable
        self.wanted: set[str] = set()
        self.unwanted: set[str] = set()
        self.told: dict[str, str] = {}
        self._number = 0
        self._lock = threading.Lock()

    def new_job(self) -> tuple[str, random.Random] | None:
        """Write a spec, and return its name and the dice for what befalls it; None if there are enough."""
        with self._lock:
            if self._number >= self.most:
                return None
            self._number += 1
            name, dice = self.world.name(f"job-{self._number}"), random.Random(self.chance.random())
            self.wanted.add(name)
        if self.restartable:
            self.world.restartable_job(name, seconds=dice.choice((0, 1, 4)), keys="where: auto\n")
        else:
            self.world.fragile_job(name, seconds=dice.choice((0, 0, 0.5, 2)))
        return name, dice

    def submit(self, name: str, dice: random.Random, *, deadly: bool) -> bool:
        """Submit once, perhaps to be killed; return whether the ref was printed."""
        process = self.world.person.start("submit", f"{name}.yaml", "--quiet")
        if deadly:
            with suppress(OSError):  # who was to be killed had just ended
                self._kill_in(process, "submit", self.toll.rather_thin(dice), dice)
        ref = process.communicate()[0].strip()
        if ref:
            self.told[name] = ref
        return bool(ref)

    def submit_until_told(self, name: str, dice: random.Random, patience: float) -> bool:
        """Do what a person does: repeat the command until a ref is printed."""
        end = time.monotonic() + patience
        while time.monotonic() < end:
            if self.submit(name, dice, deadly=False):
                return True
            time.sleep(0.5)
        return False

    def one_life(self) -> bool:
        """One job from its submission on, with what people do about it; False if there are enough."""
        made = self.new_job()
        if made is None:
            return False
        name, dice = made
        if self.restartable:
            time.sleep(dice.uniform(0, 8))
        for _ in range(dice.choice((1, 1, 2))):
            if self.submit(name, dice, deadly=True):
                break
        if name not in self.told and dice.random() < 0.6:
            self.submit_until_told(name, dice, patience=20)
        if name in self.told:
            what = dice.random()
            if what < 0.12 and not self.restartable:
                self._cancel(name, dice)
            elif what < 0.5:
                self._ask(name, dice)
        return True

    def _cancel(self, name: str, dice: random.Random) -> None:
        with self._lock:
            self.wanted.discard(name)
            self.unwanted.add(name)
        process = self.world.person.start("cancel", self.told[name])
        self._kill_in(process, "cancel", "client", dice)
        process.communicate()
        for _ in range(20):
            if self.world.person.try_hpc("cancel", self.told[name]).returncode == 0:
                return
            time.sleep(0.5)

    def _ask(self, name: str, dice: random.Random) -> None:
        verb = dice.choice((["wait"], ["status"], ["logs", "-f"], ["status", "--json"]))
        process = self.world.person.start(*verb, self.told[name])
        self._kill_in(process, "follow", "client", dice)
        process.communicate()

    def _kill_in(self, process: subprocess.Popen[str], step: str, victim: str, dice: random.Random) -> None:
        """Kill somebody of a command at a random moment of its life, unless it ends before."""
        end = time.monotonic() + dice.uniform(0.02, 0.9)
        if victim in _NAMES:
            self._kill_child(process, step, victim, dice)
            return
        while process.poll() is None and time.monotonic() < end:
            time.sleep(LOOK)
        if process.poll() is not None:
            return
        if victim == "sshd":
            self.world.sshd.cut()
        for pid in self._doomed(process.pid, victim):
            kill(pid)
        self.toll.add(step, victim)

    def _doomed(self, client: int, victim: str) -> list[int]:
        """Return the processes to kill at a random moment, other than the server's."""
        if victim == "ssh":
            return self.world.ssh_clients()
        everybody = descendants(client) if victim == "client and all it started" else ()
        return [*everybody, client] if victim.startswith("client") else []

    def _kill_child(self, process: subprocess.Popen[str], step: str, victim: str, dice: random.Random) -> None:
        """Kill a program that a command started, here or at the far end of its connection, some time after it began."""
        roots: tuple[Callable[[], int], ...] = (lambda: process.pid, lambda: self.world.sshd.pid)
        while process.poll() is None:
            for root in roots:
                found = [pid for pid, name in descendants(root()).items() if name in _NAMES[victim]]
                if found:
                    time.sleep(dice.choice((0, 0, 0.003, 0.01, 0.03)))
                    kill(dice.choice(found))
                    self.toll.add(step, victim)
                    return
            time.sleep(LOOK / 8)

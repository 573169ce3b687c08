"""People who are interrupted: submissions, cancellations and questions, killed at random moments of their lives."""

from __future__ import annotations

import random
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress

from tests.torture.world import World, descendants, kill

SUBMIT_VICTIMS = ("client", "client and all it started", "submit-once", "sbatch", "ssh", "sshd")
AGENT_VICTIMS = ("agent", "submit-once", "sbatch")
OTHER_VICTIMS = ("client", "ssh", "sshd")
"""Of commands that submit nothing."""
VICTIMS = ("agent", *SUBMIT_VICTIMS)
"""What is killed in every run, each often enough to mean something."""
STEPS = ("submit", "re-place", "follow")
"""What an agent is at."""
_NAMES = {"submit-once": ("sh", "dash"), "sbatch": ("sbatch",)}
TOGETHER = (1, 1, 1, 1, 8)
"""How many jobs a command submits."""
MOSTLY_ONE = (*(1,) * 14, 8)
"""The same where there are few jobs for all the kills."""
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

    def rather_thin(self, dice: random.Random, victims: Sequence[str]) -> str:
        """Choose who is killed: rather those of whom few were."""
        killed = self.by_victim
        return dice.choices(victims, [1 / (1 + killed[victim]) ** 2 for victim in victims])[0]

    def thin_step(self, dice: random.Random) -> str:
        """Choose at which step something of an agent is killed: rather one at which little was."""
        weights = [1 / (1 + sum(self.by_step[step, victim] for victim in AGENT_VICTIMS)) for step in STEPS]
        return dice.choices(STEPS, weights)[0]


class Crowd:
    """People at work. `wanted` and `unwanted` are the names of their jobs, `told` those whose refs were printed."""

    def __init__(self, world: World, toll: Toll, seed: int, *, most: int, restartable: bool) -> None:
        self.world, self.toll = world, toll
        self.chance = random.Random(seed)
        self.most, self.restartable = most, restartable
        self.wanted: set[str] = set()
        self.unwanted: set[str] = set()
        self.told: set[str] = set()
        self.commands: list[list[str]] = []
        self._number = 0
        self._lock = threading.Lock()

    def new_jobs(self) -> tuple[list[str], random.Random] | None:
        """Write specs for one command: their names, and the dice for what befalls them; None if there are enough."""
        with self._lock:
            dice = random.Random(self.chance.random())
            together = dice.choice(MOSTLY_ONE if self.restartable else TOGETHER)
            first, count = self._number + 1, min(together, self.most - self._number)
            self._number += count
            names = [self.world.name(f"job-{number}") for number in range(first, first + count)]
            self.wanted |= set(names)
        for name in names:
            if self.restartable:
                self.world.restartable_job(name, seconds=dice.choice((0, 1, 4)), keys="where: auto\n")
            else:
                self.world.fragile_job(name, seconds=dice.choice((0, 0, 0.5, 2)))
        return (names, dice) if names else None

    def submit(self, names: Sequence[str], dice: random.Random, *, deadly: bool) -> bool:
        """Submit once, perhaps to be killed; return whether all refs were printed: else the command is repeated."""
        process = self.world.person.start("submit", *(f"{name}.yaml" for name in names), "--quiet")
        if deadly:
            with suppress(OSError):  # who was to be killed had just ended
                step = "submit" if len(names) == 1 else "submit many"
                self._kill_in(process, step, self.toll.rather_thin(dice, SUBMIT_VICTIMS), dice)
        if len(process.communicate()[0].split()) == len(names):
            self.told |= set(names)
        return names[0] in self.told

    def submit_until_told(self, names: Sequence[str], dice: random.Random, patience: float) -> bool:
        """Do what a person does: repeat the command until all refs are printed."""
        end = time.monotonic() + patience
        while time.monotonic() < end:
            if self.submit(names, dice, deadly=False):
                return True
            time.sleep(0.5)
        return False

    def one_life(self) -> bool:
        """The jobs of one command from its submission on, with what people do about one; False if there are enough."""
        made = self.new_jobs()
        if made is None:
            # Asking goes on.
            if self.restartable and self.told:
                self._ask(self.chance.choice(sorted(self.told)), self.chance)
            return self.restartable
        names, dice = made
        self.commands.append(names)
        if self.restartable:
            time.sleep(dice.uniform(0, 8))
        for _ in range(dice.choice((2, 3, 4) if self.restartable else (1, 2, 3))):
            if self.submit(names, dice, deadly=True):
                break
        if names[0] not in self.told and dice.random() < 0.6:
            self.submit_until_told(names, dice, patience=20)
        if names[0] in self.told:
            self._go_on(names[-1], dice)
        return True

    def _go_on(self, name: str, dice: random.Random) -> None:
        """Cancel a job whose ref is known, ask about it, or leave it alone."""
        what = dice.random()
        if what < 0.12 and not self.restartable:
            self._cancel(name, dice)
        elif what < 0.5:
            self._ask(name, dice)

    def _cancel(self, name: str, dice: random.Random) -> None:
        with self._lock:
            self.wanted.discard(name)
            self.unwanted.add(name)
        process = self.world.person.start("cancel", name)
        self._kill_in(process, "cancel", self.toll.rather_thin(dice, OTHER_VICTIMS), dice)
        process.communicate()
        for _ in range(20):
            if self.world.person.try_hpc("cancel", name).returncode == 0:
                return
            time.sleep(0.5)

    def _ask(self, name: str, dice: random.Random) -> None:
        verb = dice.choice((["wait"], ["status"], ["logs", "-f"], ["status", "--json"]))
        process = self.world.person.start(*verb, name)
        self._kill_in(process, "follow", self.toll.rather_thin(dice, OTHER_VICTIMS), dice)
        with suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=20)
        process.kill()

    def _kill_in(self, process: subprocess.Popen[str], step: str, victim: str, dice: random.Random) -> None:
        """Kill somebody of a command at a random moment of its life, unless it ends before."""
        end = time.monotonic() + dice.uniform(0.02, 0.9)
        if victim in _NAMES:
            self.kill_child(process, step, victim, dice)
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

    def kill_child(
        self, process: subprocess.Popen[str], step: str, victim: str, dice: random.Random, patience: float = 60
    ) -> None:
        """Kill a program that a command started, here or at the far end of its connection, some time after it began."""
        roots: tuple[Callable[[], int], ...] = (lambda: process.pid, lambda: self.world.sshd.pid)
        end = time.monotonic() + patience
        while process.poll() is None and time.monotonic() < end:
            for root in roots:
                found = [pid for pid, name in descendants(root()).items() if name in _NAMES[victim]]
                if found:
                    time.sleep(dice.choice((0, 0, 0.003, 0.01, 0.03)))
                    kill(dice.choice(found))
                    self.toll.add(step, victim)
                    return
            time.sleep(LOOK / 8)

"""`python -m tests.torture --seed N`: kill everything at random for some minutes, and count what became of the jobs.

Exit status 0 only if no job was lost, none ran twice and no allocation is left; 1 otherwise, 77 where there is no lab.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.lab.install import RefusedError
from tests.lab.place import from_environment, is_made
from tests.lab.up import down, up
from tests.torture.judge import Verdict, judge
from tests.torture.kills import AGENT_VICTIMS, VICTIMS, Crowd, Toll
from tests.torture.world import World, kill

REFUSED = 77
MOST_MINUTES = 20.0
PORT = 27000
NODE_JOBS = 100
NODES = ("dgx1", "dgx2", "dgx3", "ada1", "ada2", "cpu1", "cpu2")
"""Of those that are lost in a demonstration; each partition keeps some."""


class Torture:
    """One run."""

    def __init__(self, world: World, words: argparse.Namespace) -> None:
        self.world = world
        self.words = words
        self.toll = Toll()
        self.faults: dict[str, int] = {}
        restartable = words.demonstration
        self.crowd = Crowd(world, self.toll, words.seed, most=words.jobs, restartable=restartable)
        self.rerun: set[str] = set()
        self.dice = random.Random(words.seed + 1)
        self.deadline = time.monotonic() + words.minutes * 60
        self.over = threading.Event()
        self.calm = threading.Event()

    def run(self) -> Verdict:
        """Disturb, then let everything come to its end, then count."""
        agents = [threading.Thread(target=self._keep_agent, args=(n,), daemon=True) for n in range(self.words.agents)]
        for thread in agents:
            thread.start()
        people = [threading.Thread(target=self._people, daemon=True) for _ in range(self.words.people)]
        faults = threading.Thread(target=self._disturb, daemon=True)
        for thread in (*people, faults):
            thread.start()
        for thread in (*people, faults):
            thread.join()
        self._say("no more kills of clients; nodes are lost now")
        if self.words.node_jobs:
            self._lose_nodes()
        self.calm.set()
        self._say("no more kills; everything comes to its end")
        self._settle()
        self.over.set()
        for thread in agents:
            thread.join()
        rerun = self.crowd.wanted if self.words.demonstration else self.rerun
        crowd, by_results = self.crowd, self.words.demonstration
        return judge(self.world, crowd.wanted, crowd.unwanted, rerun=rerun, by_results=by_results)

    def _say(self, text: str) -> None:
        left = max(0.0, self.deadline - time.monotonic())
        print(f"torture: {text} ({self.toll.total} kills, {left / 60:.1f} minutes left)", file=sys.stderr, flush=True)

    def _may_go_on(self) -> bool:
        """People go on until there were kills enough, of each kind too, or time is needed for what follows."""
        reserve = 180 if self.words.minutes > 3 else 25
        enough = self.toll.total >= self.words.kills and min(self.toll.by_victim.values()) >= self.words.each
        return not enough and time.monotonic() < self.deadline - reserve

    def _people(self) -> None:
        while self._may_go_on():
            with suppress(subprocess.SubprocessError, OSError):
                if not self.crowd.one_life():
                    return

    def _keep_agent(self, number: int) -> None:
        """Keep an agent alive, and kill it again and again."""
        dice = random.Random(self.words.seed * 100 + number)
        agent = self.world.agent()
        while not self.over.is_set():
            self.over.wait(dice.uniform(0.5, 2.0))
            if self.over.is_set():
                break
            if not self.calm.is_set() and agent.poll() is None:
                self._harm(agent, dice)
            if agent.poll() is not None:
                agent = self.world.agent()
        agent.terminate()
        agent.wait()

    def _harm(self, agent: subprocess.Popen[str], dice: random.Random) -> None:
        """Kill an agent, or what it has started, at a step at which that was done seldom."""
        step, end = self.toll.thin_step(dice), time.monotonic() + 3
        while self._step() != step and time.monotonic() < end and not self.calm.is_set():
            time.sleep(0.02)
        step, victim = self._step(), self.toll.rather_thin(dice, AGENT_VICTIMS)
        if victim != "agent" and step != "follow":
            self.crowd.kill_child(agent, step, victim, dice, patience=1)
        elif agent.poll() is None:
            time.sleep(dice.choice((0, 0, 0.02, 0.1, 0.3)))
            kill(agent.pid)
            agent.wait()
            self.toll.add(step, "agent")

    def _step(self) -> str:
        """Say what the agents are at, from the ledger."""
        with suppress(sqlite3.Error):
            phases = dict(self._ask("SELECT phase, MAX(attempt) FROM attempts GROUP BY phase"))
            if "PROPOSED" in phases or phases.get("INTENT", 0) > 1:
                return "re-place"
            if "INTENT" in phases:
                return "submit"
        return "follow"

    def _ask(self, sql: str) -> list[tuple[Any, ...]]:
        database = sqlite3.connect(f"file:{self.world.state}/ledger.sqlite?mode=ro", uri=True, timeout=5)
        with closing(database):
            return database.execute(sql).fetchall()

    def _disturb(self) -> None:
        """Break other things, one after the other."""
        world, dice = self.world, self.dice
        faults: list[tuple[str, Callable[[], None]]] = [
            ("others take all nodes", lambda: world.fill_near(dice.uniform(1, 5))),
            ("others take all nodes", lambda: world.fill_near(dice.uniform(1, 5))),
            ("partition closed", lambda: world.close(dice.choice(("ada", "cpu")), dice.uniform(4, 8))),
            ("partition closed", lambda: world.close("ada", dice.uniform(4, 8))),
            ("controller frozen", lambda: world.freeze(dice.uniform(0.5, 8))),
            ("ssh cut", lambda: world.cut_ssh(dice.uniform(0.1, 3))),
            ("disk full", lambda: world.fill_disk(dice.uniform(0.2, 2))),
        ]
        if self.words.demonstration:
            faults += [
                (
                    "node lost",
                    lambda: world.lose_node(dice.choice(NODES), dice.uniform(0, 2), told=dice.random() < 0.8),
                ),
                ("node lost", lambda: world.lose_node(dice.choice(NODES), dice.uniform(0, 2), told=True)),
                ("controller lost", lambda: world.lose_controller(dice.uniform(0, 3))),
            ]
        while self._may_go_on():
            name, fault = dice.choice(faults)
            with suppress(subprocess.SubprocessError, OSError):
                fault()
                self.faults[name] = self.faults.get(name, 0) + 1
            time.sleep(dice.uniform(0.5, 4))

    def _lose_nodes(self) -> None:
        """A hundred jobs run while their nodes vanish one after the other; each must end well once."""
        world, dice = self.world, self.dice
        names = [world.name(f"node-{number}") for number in range(self.words.node_jobs)]
        for name in names:
            world.restartable_job(name, seconds=7)
        answer = world.person.try_hpc("submit", *(f"{name}.yaml" for name in names), "--where", "big", "--quiet")
        if answer.returncode:
            print(answer.stderr[-500:], file=sys.stderr)
        for name in dice.sample(names, len(names) // 2):
            # Slurm leaves these to the agent.
            self.world.lab.run("scontrol", "update", f"jobname={name}", "requeue=0", check=False)
        self.crowd.wanted |= set(names)
        self.rerun |= set(names)
        self.crowd.told |= set(names)
        for _ in range(self.words.node_kills):
            time.sleep(dice.uniform(1, 3))
            node = f"dgx{dice.randint(1, 12)}"
            world.lose_node(node, dice.uniform(1, 3), told=dice.random() < 0.8)
            self.toll.add("run", "node")

    def _settle(self) -> None:
        """Repeat what was never told; wait until the ledger says that nothing will follow."""
        dice = random.Random(0)
        with suppress(subprocess.SubprocessError):
            self.world.mend_nodes()
        for names in self.crowd.commands:
            if not self.crowd.told.issuperset(names):
                self.crowd.submit_until_told(names, dice, patience=60)
        while time.monotonic() < self.deadline:
            with suppress(Exception):
                jobs = json.loads(self.world.person.try_hpc("status", "--all", "--json").stdout)
                live = [job["name"] for job in jobs if job["state"] not in FINAL]
                if (
                    not live
                    and not self.world.of_jobs()
                    and not self._ask("SELECT 1 FROM jobs WHERE settled < 2 LIMIT 1")
                ):
                    return
            time.sleep(1)


FINAL = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "PREEMPTED", "NODE_FAIL", "OUT_OF_MEMORY"}


def main(argv: list[str]) -> int:
    """Run one torture and return the exit status."""
    words = parser().parse_args(argv)
    words.minutes = min(words.minutes, MOST_MINUTES)
    words.node_jobs = 0 if words.demonstration else words.node_jobs
    place = from_environment()
    if "HPC_LAB_DIR" not in os.environ:
        place = replace(place, directory=Path(tempfile.mkdtemp(prefix="hpc-torture-", dir="/var/tmp")), port=PORT)
    was_there = is_made(place)
    try:
        lab = up(place, ["onprem"], accounting=False)[0]
    except RefusedError as refused:
        print(f"torture: refused: {refused}", file=sys.stderr)
        return REFUSED
    if lab.cluster.accounting and not words.demonstration:
        print(f"torture: refused: {place.directory} keeps accounts, and writes no file to count in", file=sys.stderr)
        return REFUSED
    home = place.home / f"torture-{os.getpid()}"
    world = World(lab, home)
    torture = Torture(world, words)
    try:
        verdict = torture.run()
        report(torture, verdict)
        was_there = was_there or (words.keep and not verdict.good)
        if was_there and words.keep:
            shutil.copytree(world.state, home / "kept", dirs_exist_ok=True)
        return 0 if verdict.good else 1
    finally:
        world.end()
        if not was_there:
            down(place)
        elif not words.keep:
            shutil.rmtree(home, ignore_errors=True)


def report(torture: Torture, verdict: Verdict) -> None:
    """Print the table and the summary line."""
    print(f"{'step':<10} {'killed':<28} {'times':>5}")
    for (step, victim), times in sorted(torture.toll.by_step.items()):
        print(f"{step:<10} {victim:<28} {times:>5}")
    for victim, times in sorted(torture.toll.by_victim.items()):
        few = "  few" if victim in VICTIMS and times < torture.words.each else ""
        print(f"{'in all':<10} {victim:<28} {times:>5}{few}")
    for fault, times in sorted(torture.faults.items()):
        print(f"{'fault':<10} {fault:<28} {times:>5}")
    for what, names in (("lost", verdict.lost), ("run twice", verdict.twice), ("leaked", verdict.leaked)):
        for name in names:
            print(f"{what}: {name}")
    crowd = torture.crowd
    jobs = f"{len(crowd.wanted) + len(crowd.unwanted)} jobs, {len(crowd.unwanted)} of them cancelled"
    counts = f"lost {len(verdict.lost)}, run twice {len(verdict.twice)}, leaked allocations {len(verdict.leaked)}"
    print(f"seed {torture.words.seed}: {torture.toll.total} kills, {jobs}: jobs {counts}")


def parser() -> argparse.ArgumentParser:
    """Return what reads the command line."""
    found = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    found.add_argument("--seed", type=int, default=1)
    found.add_argument("--kills", type=int, default=520, help="of clients, their programs and agents")
    found.add_argument("--each", type=int, default=50, help="of each kind of process at least")
    found.add_argument("--minutes", type=float, default=MOST_MINUTES, help="at most; never more than 20")
    found.add_argument("--people", type=int, default=4, help="commands at once")
    found.add_argument("--agents", type=int, default=2)
    found.add_argument("--node-jobs", type=int, default=NODE_JOBS)
    found.add_argument("--jobs", type=int, default=100_000, help="at most so many are submitted by people")
    found.add_argument(
        "--demonstration", action="store_true", help="restartable jobs, --where auto, all faults at once"
    )
    found.add_argument("--node-kills", type=int, default=8)
    found.add_argument("--keep", action="store_true", help="if it finds fault, leave all behind, to look at")
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""A place for jobs in a test's own directory, driven through the command line as hybridhpc drives it."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hybridhpc.here import slots, watch
from hybridhpc.here.place import open_place
from hybridhpc.here.slots import Task

PATIENCE = 20.0
UNTIL_GO = "while [ ! -e go ]; do sleep 0.05; done"
"""Shell: wait for the test's word."""


class Here:
    """The embedded site with its own root, its own environment and two CPUs, however many there are."""

    def __init__(self, directory: Path) -> None:
        self.root = directory / "root"
        self.work = directory / "work"
        self.root.mkdir(mode=0o700)
        self.work.mkdir()
        self.numbers = itertools.count(1)
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("SLURM", "HPC_"))}
        self.umask = 0o022
        self.env = {**clean, "HPC_HERE_CPUS": "2", "HPC_HERE_MEMORY": "1000"}

    def command(self, verb: str, *words: str) -> list[str]:
        """Spell a command."""
        return [sys.executable, "-P", "-m", "hybridhpc.here", verb, "--root", str(self.root), *words]

    def call(self, verb: str, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        command = self.command(verb, *words)
        return subprocess.run(
            command, env=self.env, cwd=self.work, umask=self.umask, capture_output=True, text=True, check=False
        )

    def ask(self, verb: str, *words: str) -> Any:
        """Run a command that must succeed, and return its answer."""
        answer = self.call(verb, *words)
        assert answer.returncode == 0, answer.stderr
        return json.loads(answer.stdout)

    def submission(self, script: str, *options: str, args: tuple[str, ...] = ()) -> list[str]:
        """Put a script into a new job's directory and return the words that submit it."""
        token = f"token-{next(self.numbers)}"
        job_dir = self.root / token / "1"
        job_dir.mkdir(parents=True, mode=0o700)
        path = job_dir / "script"
        path.write_text(script if script.startswith("#!") else f"#!/bin/bash\n{script}\n")
        path.chmod(0o700)
        named = ("--token", token, "--attempt", "1", "--job-dir", str(job_dir), f"--chdir={self.work}")
        return [*named, "--memory=100", *options, "--", str(path), *args]

    def submit(self, script: str, *options: str, args: tuple[str, ...] = ()) -> int:
        """Submit a script and return the job's id."""
        return int(self.ask("submit", *self.submission(script, *options, args=args))["job_id"])

    def tasks(self, job: int) -> list[Task]:
        """Look at a job's tasks without any command that would repair something."""
        place = open_place(str(self.root))
        try:
            return slots.tasks(place, job, None)
        finally:
            place.db.close()

    def wait(self, job: int, wanted: Callable[[Task], bool] = lambda task: task.ended_at is not None) -> Task:
        """Wait until something holds for all tasks of a job; return its first task."""
        until(lambda: all(wanted(task) for task in self.tasks(job)), lambda: f"{self.tasks(job)}")
        return self.tasks(job)[0]

    def ends(self, *jobs: int) -> list[str]:
        """Wait for jobs to end and return their states."""
        return [self.wait(job).state for job in jobs]

    def path(self, name: str) -> Path:
        """Return where a job leaves something."""
        return self.work / name

    def go(self) -> None:
        """Give the word that UNTIL_GO waits for."""
        self.path("go").touch()

    def words(self, name: str) -> list[str]:
        """Wait for a file that a job writes in one go, and return its words."""
        until(lambda: self.path(name).exists() and self.path(name).read_text().endswith("\n"), lambda: name)
        return self.path(name).read_text().split()

    def end(self) -> None:
        """Cancel what still runs and see that nothing of it is left."""
        place = open_place(str(self.root))
        for (job,) in place.db.execute("SELECT id FROM jobs").fetchall():
            slots.cancel(place, job, None)
        for task in slots.started_tasks(place):
            job = watch.Job(slots.mark_and_directory(place, task)[0], task.supervisor or 0, None)
            watch.kill_all(lambda job=job: watch.members(job), lambda: None, patience=5)  # type: ignore[misc]
        until(lambda: not slots.started_tasks(place) or not self.ask("survey"), lambda: "left over", 10)
        place.db.close()


def until(true: Callable[[], bool], words: Callable[[], str], patience: float = PATIENCE) -> None:
    """Wait for something to become true."""
    end = time.monotonic() + patience
    while not true():
        assert time.monotonic() < end, f"in vain: {words()}"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    """Whether a process lives (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def kill(pid: int) -> None:
    """Kill a process that was started here, as the kernel would."""
    os.kill(pid, signal.SIGKILL)
    until(lambda: not alive(pid), lambda: f"process {pid} lives")

"""A person with sites, and an agent whose clock a test moves and whose passes it asks for."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import time
from collections.abc import Callable, Mapping

from hybridhpc.agent import Agent, Memory
from hybridhpc.client import Client
from hybridhpc.evidence import read_markers
from hybridhpc.ledger.base import Event, Record
from hybridhpc.model import JobState, Move
from tests.people import Person


class Keeper:
    """Looks after a person's jobs; `sites` are the texts of site files by name, the first one the default."""

    def __init__(self, person: Person, sites: Mapping[str, str]) -> None:
        self.person = person
        self.later = 0.0
        self.told: list[Event] = []
        self.default = next(iter(sites))
        folder = person.home / "config" / "sites"
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in sites.items():
            (folder / f"{name}.yaml").write_text(text)
        self.client = Client(person.env, str(person.home), lambda: time.time() + self.later)

    def run_pass(self, moving: Move = Move.ADVISE) -> list[str]:
        """Let the agent do what is due; return what it did."""
        memory = Memory(owner="test")  # as cron starts it: it remembers nothing
        before = len(self.told)
        assert Agent(self.client.anew(), memory, self.told.append, moving).run_pass()
        return [event.kind for event in self.told[before:]]

    def submit(self, text: str, *, where: str = "") -> str:
        spec = self.person.spec(text)
        where = where or self.default
        return str(json.loads(self.person.hpc("submit", spec, "--where", where, "--json"))["token"])

    def record(self, token: str) -> Record:
        return self.client.ledger.current([token])[0]

    def until(self, token: str, true: Callable[[Record], bool], patience: float = 20.0) -> Record:
        end = time.monotonic() + patience
        while True:
            (record,) = self.client.refresh([self.record(token)])
            if true(record):
                return record
            assert time.monotonic() < end, record
            time.sleep(0.05)

    def ended(self, token: str, patience: float = 20.0) -> Record:
        return self.until(token, lambda record: record.state.final, patience)

    def running(self, token: str, patience: float = 20.0) -> Record:
        return self.until(token, lambda record: record.state is JobState.RUNNING, patience)

    def began(self, token: str, patience: float = 20.0) -> Record:
        """Wait until its script has begun, which it says itself, and is not only said to run."""
        record = self.running(token, patience)
        self.wait_for(lambda: bool(read_markers(self.client.reach(record)[2], record.job_dir).begun), patience)
        return record

    @staticmethod
    def wait_for(true: Callable[[], bool], patience: float = 20.0) -> None:
        end = time.monotonic() + patience
        while not true():
            assert time.monotonic() < end
            time.sleep(0.05)


SITE = (
    "name: {name}\nscheduler: here\ntransport: local\njob_root: {root}\npoll_interval: 1s\nnode_price: {price} USD/h\n"
)


def with_two_sites(person: Person) -> Keeper:
    """Return somebody's keeper with two sites on this machine: `one`, and `two`, which costs more."""
    prices = {"one": 0, "two": 0.1}
    texts = {name: SITE.format(name=name, root=person.home / name, price=price) for name, price in prices.items()}
    return Keeper(person, texts)


def lose_node(keeper: Keeper, record: Record) -> None:
    """Kill the supervisor of a job that runs on this machine, as a node that vanishes would end it."""
    with sqlite3.connect(keeper.person.home / record.site / "here.sqlite") as database:
        (pid,) = database.execute("SELECT supervisor FROM tasks WHERE job = ?", (record.job_id,)).fetchone()
    os.kill(pid, signal.SIGKILL)
    assert keeper.ended(record.token).state is JobState.NODE_FAIL


def forget_job(keeper: Keeper, record: Record) -> None:
    """Let a site on this machine know nothing of a job any more."""
    with sqlite3.connect(keeper.person.home / record.site / "here.sqlite") as database:
        database.execute("DELETE FROM tasks WHERE job = ?", (record.job_id,))
        database.execute("DELETE FROM jobs WHERE id = ?", (record.job_id,))

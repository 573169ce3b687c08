"""Kill `hpc submit` at random moments, repeat the command as a person would, and count the jobs that ran."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.people import Person

SEED = int(os.environ.get("HPC_CRASH_SEED", "7"))
KILLS_HERE = 200
KILLS_SLURM = 60
SWEEP = 200
KILLED: list[int] = []


def descendants(pid: int) -> list[int]:
    """Return the living processes that a process started, and theirs."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            children.setdefault(int(fields[1]), []).append(int(entry.name))
        except (OSError, ValueError, IndexError):
            continue
    found = list(children.get(pid, []))
    for child in found:
        found += children.get(child, [])
    return found


def kill(pid: int, *, with_children: bool) -> None:
    for victim in [*(descendants(pid) if with_children else []), pid]:
        try:
            os.kill(victim, signal.SIGKILL)
        except ProcessLookupError:
            continue


def submit_and_kill(person: Person, words: list[str], chance: random.Random, duration: float) -> bool:
    """Begin a submission and kill it, alone or with all it started, at a moment of its life; was the ref printed?"""
    process = person.start("submit", *words)
    try:
        process.wait(chance.uniform(0.02, duration))
    except subprocess.TimeoutExpired:
        kill(process.pid, with_children=chance.random() < 0.5)
        KILLED.append(process.pid)
    return bool(process.communicate()[0].strip())


def torment(person: Person, place: str, counter: Path, kills: int) -> int:
    """Submit specs, each killed once or twice and then repeated until it prints a ref, until so many were killed.

    Returns the number of specs; all must run once.
    """
    chance = random.Random(SEED)
    spec = person.spec("name: warm-up\nresources: {cpus: 1, memory: 20MiB}\ntime: 5m\nrun: 'true'\n", "warm.yaml")
    began = time.monotonic()
    person.hpc("submit", spec, "--where", place, "--quiet")
    duration = (time.monotonic() - began) * 1.2

    def one(number: int) -> None:
        own = random.Random(chance.random() + number)
        text = f"name: job-{number}\nresources: {{cpus: 1, memory: 20MiB}}\ntime: 5m\nrun: echo {number} >> {counter}\n"
        words = [person.spec(text, f"job-{number}.yaml"), "--where", place, "--quiet"]
        for _ in range(own.choice((1, 2, 2))):
            if submit_and_kill(person, words, own, duration):
                return
        repeat(lambda: person.try_hpc("submit", *words))

    KILLED.clear()
    jobs = 0
    with ThreadPoolExecutor(2) as pool:
        while len(KILLED) < kills:
            more = range(jobs, jobs + max(10, kills - len(KILLED)))
            list(pool.map(one, more))
            jobs = more.stop
            assert jobs < 3 * kills, "most submissions ended before their kill: the measured duration is too short"
    return jobs


def repeat(command: Callable[[], subprocess.CompletedProcess[str]]) -> None:
    """Do what a person does: the same again, until it works."""
    for _ in range(5):
        answer = command()
        if answer.returncode == 0:
            return
        time.sleep(0.5)
    raise AssertionError(answer.stderr)


def judge(person: Person, counter: Path, specs: int) -> None:
    """Every job ran exactly once, and the ledger knows each by one final record."""
    refs = [job["ref"] for job in json.loads(person.hpc("status", "--all", "--json"))]
    person.hpc("wait", *refs, "--timeout", "5m")
    runs = Counter(int(line) for line in counter.read_text().split())
    lost = [number for number in range(specs) if runs[number] == 0]
    doubled = [number for number in range(specs) if runs[number] > 1]
    assert (lost, doubled) == ([], [])
    jobs = json.loads(person.hpc("status", "--all", "--json"))
    names = Counter(job["name"] for job in jobs)
    assert all(names[f"job-{number}"] == 1 for number in range(specs))
    assert {job["state"] for job in jobs} == {"COMPLETED"}


@pytest.mark.timeout(600)
def test_two_hundred_killed_submissions_to_here_make_two_hundred_jobs(person: Person, tmp_path: Path) -> None:
    counter = tmp_path / "counter"
    specs = torment(person, "here", counter, KILLS_HERE)
    judge(person, counter, specs)


@pytest.mark.lab
@pytest.mark.timeout(600)
def test_killed_submissions_to_slurm_make_one_job_each(lab_person: Person, tmp_path: Path) -> None:
    counter = lab_person.home / "counter"
    specs = torment(lab_person, "onprem", counter, KILLS_SLURM)
    judge(lab_person, counter, specs)


def test_fifty_submissions_of_one_file_at_once_make_fifty_jobs(person: Person, tmp_path: Path) -> None:
    counter = tmp_path / "counter"
    text = f"name: same\nresources: {{cpus: 1, memory: 20MiB}}\ntime: 5m\nrun: echo 1 >> {counter}\n"
    spec = person.spec(text, "same.yaml")
    processes = [person.start("submit", spec, "--where", "here", "--quiet", "--json") for _ in range(50)]
    answers = [json.loads(process.communicate()[0]) for process in processes]
    assert len({answer["ref"] for answer in answers}) == 50
    person.hpc("wait", *(answer["ref"] for answer in answers), "--timeout", "3m")
    assert counter.read_text().split() == ["1"] * 50


def test_a_loop_of_finished_submissions_makes_a_job_each_time(person: Person) -> None:
    spec = person.spec("name: loop\nrun: 'true'\n", "loop.yaml")
    refs = {person.hpc("submit", spec, "--quiet").strip() for _ in range(4)}
    assert len(refs) == 4


@pytest.mark.parametrize("after", [0.1, 0.2, 0.3, 0.4])
def test_an_interrupted_submission_can_be_cancelled_and_never_runs(
    person: Person, tmp_path: Path, after: float
) -> None:
    trace = tmp_path / "trace"
    spec = person.spec(f"name: unwanted\nrun: sleep 2; touch {trace}\n", "job.yaml")
    process = person.start("submit", spec, "--where", "here", "--quiet")
    time.sleep(after)
    kill(process.pid, with_children=True)
    process.communicate()
    for job in json.loads(person.hpc("status", "--all", "--json")):
        person.hpc("cancel", job["token"])
    time.sleep(2.5)
    assert not trace.exists()
    assert all(job["state"] == "CANCELLED" for job in json.loads(person.hpc("status", "--all", "--json")))


def torment_sweep(person: Person, place: str, counter: Path, kills: int, jobs: int = SWEEP) -> None:
    """Submit many distinct specs with one command, kill that at random moments, and repeat it until it succeeds."""
    chance = random.Random(SEED)
    own = "resources: {cpus: 1, memory: 20MiB}\ntime: 5m\n"
    files = [
        person.spec(f"name: job-{number}\n{own}run: echo {number} >> {counter}\n", f"sweep-{number}.yaml")
        for number in range(jobs)
    ]
    words = [*files, "--where", place, "--quiet"]
    KILLED.clear()
    # The first kills come before so many jobs can be through on any machine; later ones, further along.
    for number in range(kills):
        if submit_and_kill(person, words, chance, 0.8 * 1.6**number):
            break
    else:
        repeat(lambda: person.try_hpc("submit", *words))
    assert KILLED, "the sweep was submitted before it could be killed"


@pytest.mark.timeout(600)
def test_a_killed_sweep_is_taken_up_and_each_point_runs_once(person: Person, tmp_path: Path) -> None:
    counter = tmp_path / "counter"
    torment_sweep(person, "here", counter, kills=5)
    judge(person, counter, SWEEP)


@pytest.mark.lab
@pytest.mark.timeout(600)
def test_a_killed_sweep_to_slurm_is_taken_up_and_each_point_runs_once(lab_person: Person, tmp_path: Path) -> None:
    counter = lab_person.home / "counter"
    torment_sweep(lab_person, "onprem", counter, kills=5)
    judge(lab_person, counter, SWEEP)

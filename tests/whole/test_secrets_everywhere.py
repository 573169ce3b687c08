"""A secret from end to end: the payload has it, and it is looked for everywhere else, on `here` and on a real Slurm."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from hybridhpc.client import Client
from hybridhpc.errors import SchedulerError
from hybridhpc.ledger.base import Phase
from tests.job_scripts import await_true
from tests.lab.lab import Lab
from tests.people import Person

VALUE = "xyzzy-plugh-4711"
FOLDER = ".hpc-secrets"
SUM = hashlib.sha256(VALUE.encode()).hexdigest()
RUN = (
    f"run: test $(printf %s $TOKEN | sha256sum | cut -c-64) = {SUM} && echo right;"
    " touch ../up; until rm ../go; do sleep 0.1; done\n"
)


def spec(more: str = "", reference: str = "secret://env/MY_TOKEN", run: str = RUN) -> str:
    return f"name: s\ntime: 2m\nresources: {{memory: 50MiB}}\nsecrets: {{TOKEN: {reference}}}\n{more}{run}"


def holders(*places: Path) -> set[Path]:
    """Return the files below directories that hold the value."""
    found = set()
    for path in (path for place in places for path in place.rglob("*")):
        try:
            if path.is_file() and VALUE.encode() in path.read_bytes():
                found.add(path)
        except FileNotFoundError:
            continue
    return found


@contextmanager
def watched_processes() -> Iterator[set[str]]:
    """Look at the arguments of all processes, as anybody can, as long as this lasts; yields those with the value."""
    seen: set[str] = set()
    over = threading.Event()

    def watch() -> None:
        while not over.is_set():
            for entry in Path("/proc").iterdir():
                if entry.name.isdecimal():
                    try:
                        words = (entry / "cmdline").read_bytes()
                    except OSError:
                        continue
                    if VALUE.encode() in words:
                        seen.add(words.decode(errors="replace"))
            over.wait(0.02)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def environments_with_it() -> list[str]:
    """Return the command lines of the processes that have the value in their environment."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            try:
                if VALUE.encode() in (entry / "environ").read_bytes():
                    found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
            except OSError:
                continue
    return found


def jobs_of(person: Person, where: str) -> Path:
    return person.home / ("jobs" if where == "onprem" else "state/here")


def life(person: Person, where: str, jobs: Path, marks: Path, *beside: Path) -> None:
    """Submit, look at everything while it runs, let it end, look again. `marks`: where the job and we leave signs."""
    person.env["MY_TOKEN"] = VALUE
    text = spec("workdir: code\n", run=RUN.replace("../", f"{marks}/"))
    (person.home / "code").mkdir()
    marks.mkdir()
    marks.chmod(0o777)
    with watched_processes() as seen:
        answer = person.try_hpc("submit", person.spec(text), "--where", where, "--json")
        assert answer.returncode == 0, answer.stderr
        ref = json.loads(answer.stdout)["ref"]
        await_true((marks / "up").exists, lambda: person.hpc("why", ref), 60)
        (where_it_lies,) = holders(person.home, jobs, *beside)
        assert where_it_lies.parts[-2:] == (FOLDER, "TOKEN")
        assert where_it_lies.is_relative_to(jobs)
        assert where_it_lies.stat().st_mode & 0o777 == 0o600
        assert [path.stat().st_mode & 0o777 for path in list(where_it_lies.parents)[:3]] == [0o700] * 3
        # ssh itself is a child of the shell that has the variable; it hands nothing on.
        having = [line for line in environments_with_it() if not line.startswith("ssh")]
        assert all("run.sh" in line or "sleep" in line for line in having)
        said = [person.try_hpc(*words) for words in (("status", "--json"), ("why", ref), ("logs", ref), ("sites",))]
        if where == "onprem":
            job = ref.partition(":")[2]
            for words in (("scontrol", "show", "job", "-d", job), ("scontrol", "write", "batch_script", job, "-")):
                said.append(subprocess.run(words, env=person.env, capture_output=True, text=True, check=False))
        said.append(person.try_hpc("render", "job.yaml", "--where", where))
        (marks / "go").touch()
        said.append(person.try_hpc("wait", ref))
        said.append(person.try_hpc("logs", ref))
    assert "right" in said[-1].stdout
    assert not seen
    assert all(VALUE not in one.stdout + one.stderr for one in (answer, *said))
    assert holders(person.home, jobs, *beside) == set()
    assert not list(jobs.rglob(FOLDER))


def test_on_this_machine_only_the_payload_has_it(person: Person) -> None:
    life(person, "here", jobs_of(person, "here"), person.home / "marks")


@pytest.mark.lab
def test_on_slurm_only_the_payload_has_it(lab_person: Person, lab: Lab) -> None:
    life(lab_person, "onprem", jobs_of(lab_person, "onprem"), lab_person.home / "marks", lab.home)


@pytest.mark.lab
def test_on_slurm_behind_ssh_only_the_payload_has_it(lab_person: Person, lab: Lab) -> None:
    (site_file,) = (lab_person.home / "config" / "sites").iterdir()
    shutil.copy(lab.ssh_site_path, site_file)
    home = lab.cluster.user_home
    marks = home / f"marks-{secrets.token_hex(4)}"
    try:
        life(lab_person, "onprem", home / ".hybridhpc" / "jobs", marks, lab.home)
    finally:
        shutil.rmtree(marks, ignore_errors=True)


@pytest.mark.lab
def test_every_task_on_every_node_has_it_and_nobody_else(lab_person: Person) -> None:
    lab_person.env["MY_TOKEN"] = VALUE
    run = 'run: test "$TOKEN" = xyzzy-"plugh-4711" && echo right $SLURM_PROCID\n'
    more = 'nodes: 2\nlauncher: srun\ntasks_per_node: 2\nsetup: test -n "$TOKEN" && echo set up\n'
    answer = lab_person.try_hpc("submit", lab_person.spec(spec(more, run=run)), "--where", "onprem", "-f")
    assert answer.returncode == 0, answer.stderr
    words = sorted(line for line in answer.stdout.splitlines() if line.startswith(("right", "set")))
    assert words == ["right 0", "right 1", "right 2", "right 3", "set up", "set up"]
    assert not list(jobs_of(lab_person, "onprem").rglob(FOLDER))


@pytest.mark.lab
def test_a_requeued_job_still_has_it_and_a_cancelled_one_leaves_none(lab_person: Person) -> None:
    lab_person.env["MY_TOKEN"] = VALUE
    run = 'run: echo "$SLURM_RESTART_COUNT:${#TOKEN}" >>"$HPC_JOB_DIR/runs"; sleep 60\n'
    text = spec("retries: {preempted: 3}\n", run=run)
    ref = json.loads(lab_person.hpc("submit", lab_person.spec(text), "--where", "onprem", "--json"))["ref"]
    jobs = jobs_of(lab_person, "onprem")

    def runs() -> list[str]:
        return [line for file in jobs.rglob("runs") for line in file.read_text().split()]

    await_true(lambda: len(runs()) == 1, lambda: lab_person.hpc("why", ref), 60)
    subprocess.run(["scontrol", "requeue", ref.partition(":")[2]], env=lab_person.env, check=True)
    subprocess.run(
        ["scontrol", "update", f"job={ref.partition(':')[2]}", "starttime=now"], env=lab_person.env, check=False
    )
    await_true(lambda: len(runs()) == 2, lambda: f"{runs()} {lab_person.hpc('why', ref)}", 150)
    assert [line.partition(":")[2] for line in runs()] == [str(len(VALUE))] * 2
    lab_person.hpc("cancel", ref)
    lab_person.try_hpc("wait", ref)
    assert holders(jobs) == set()


@pytest.mark.lab
def test_what_its_scheduler_refuses_leaves_none(lab_person: Person) -> None:
    lab_person.env["MY_TOKEN"] = VALUE
    lab_person.hpc("submit", lab_person.spec(spec(run="run: 'true'\n")), "--where", "onprem")
    lab_person.hpc("wait", "s")
    client = Client(lab_person.env, str(lab_person.home))
    plan = client.ledger.find("s").plan
    refused = replace(plan, options=(*plan.options, "--partition=nowhere"))
    (ended,) = client.submit([(refused, "another")])
    assert isinstance(ended, SchedulerError)
    assert [record.phase for record in client.ledger.records()] == [Phase.REFUSED, Phase.SUBMITTED]
    assert holders(jobs_of(lab_person, "onprem")) == set()


def test_the_last_task_of_an_array_takes_it_along(person: Person) -> None:
    person.env["MY_TOKEN"] = VALUE
    run = "run: test ${#TOKEN} = 16 && sleep 0.$SLURM_ARRAY_TASK_ID\n"
    ref = json.loads(person.hpc("submit", person.spec(spec("array: 0-5%2\n", run=run)), "--json"))["ref"]
    person.hpc("wait", ref)
    assert not list(jobs_of(person, "here").rglob(FOLDER))


def test_what_a_killed_job_leaves_is_removed_when_its_end_is_learnt(person: Person) -> None:
    person.env["MY_TOKEN"] = VALUE
    text = spec(run='run: kill -9 $(awk "/^PPid/ {print \\$2}" /proc/$PPID/status) $PPID; sleep 60\n')
    ref = json.loads(person.hpc("submit", person.spec(text), "--json"))["ref"]
    person.try_hpc("wait", ref)
    assert json.loads(person.hpc("status", ref, "--json"))[0]["state"] in ("FAILED", "NODE_FAIL")
    assert holders(person.home) == set()


def test_a_secret_that_cannot_be_had_is_refused_before_anything_is_done(person: Person) -> None:
    for verb in ("plan", "submit"):
        answer = person.try_hpc(verb, person.spec(spec()))
        assert answer.returncode == 3
        assert "job.yaml:4: secrets.TOKEN: MY_TOKEN is not set in your environment" in answer.stderr
    assert json.loads(person.hpc("status", "--json")) == []


def test_an_interrupted_job_can_be_cancelled_without_its_secret(person: Person) -> None:
    person.env["MY_TOKEN"] = VALUE
    person.spec(spec(run="run: 'true'\n"))
    for delay in (0.1, 0.15, 0.2, 0.25, 0.3):
        process = person.start("submit", "job.yaml")
        time.sleep(delay)
        process.kill()
        process.communicate()
    del person.env["MY_TOKEN"]
    for job in json.loads(person.hpc("status", "--json")):
        person.hpc("cancel", job["token"])
    assert holders(person.home) == set()

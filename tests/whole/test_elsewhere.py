"""What a place turns away goes elsewhere, and what comes after each other goes together: whole commands.

The cheaper of two places is a Slurm whose sbatch finds nothing wrong with a job (`--test-only`) and then takes at most
so many; the other one is this machine.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.fake_slurm import FakeSlurm
from tests.people import Person

SMALL = "resources: {cpus: 1, memory: 20MiB}\ntime: 5m\n"
SITES = {
    "cheap": "scheduler: slurm\nnode_price: 0 USD/h\n",
    "dear": "scheduler: here\nnode_price: 1 USD/h\n",
}
SBATCH = """
cat >/dev/null
case "$*" in *--test-only*) echo "sbatch: Job 1 to start at 1 using 1 processors on nodes dgx1" >&2; exit 0 ;; esac
[ "$(ls "$FAKE_SLURM/taken" | wc -l)" -lt "$(cat "$FAKE_SLURM/most")" ] || {
    echo "sbatch: error: QOSMaxSubmitJobPerUserLimit" >&2
    echo "sbatch: error: Batch job submission failed: Job violates accounting/QOS policy" >&2
    exit 1
}
printf '%s\n' "$@" | sed -n 's/^--job-name=//p' >"$FAKE_SLURM/taken/$$"
echo $$
"""


class World:
    """A person with the two places."""

    def __init__(self, person: Person, slurm: FakeSlurm) -> None:
        self.person, self.slurm = person, slurm
        person.env |= {"FAKE_SLURM": str(slurm.home), "PATH": f"{slurm.bin}:{person.env['PATH']}"}
        folder = person.home / "config" / "sites"
        folder.mkdir(parents=True)
        for name, text in SITES.items():
            root = person.home / name
            (folder / f"{name}.yaml").write_text(f"name: {name}\ntransport: local\njob_root: {root}\n{text}")
        slurm.program("sbatch", SBATCH)
        (slurm.home / "taken").mkdir()
        self.takes(0)

    def takes(self, most: int) -> None:
        """Let the cheap place take so many jobs in all."""
        (self.slurm.home / "most").write_text(f"{most}\n")

    def files(self, count: int, more: str = "") -> list[str]:
        run = f"run: echo $HPC_NAME >> {self.person.home}/ran\n"
        return [self.person.spec(f"name: job-{n}\n{SMALL}{more}{run}", f"{n}.yaml") for n in range(count)]

    def ran(self) -> Counter[str]:
        return Counter((self.person.home / "ran").read_text().split())

    def taken(self) -> Counter[str]:
        """Return the jobs that the cheap place took, by name."""
        return Counter(file.read_text().strip() for file in (self.slurm.home / "taken").iterdir())


@pytest.fixture
def world(person: Person, tmp_path: Path) -> World:
    return World(person, FakeSlurm(tmp_path / "slurm"))


CUT = """
import os, signal, sys
from hybridhpc.cli.main import main
from hybridhpc.ledger.sqlite import SqliteLedger

left = int(sys.argv.pop(1))

def moment():
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), {signal})

def cut(real):
    def between(*args, **more):
        moment()
        answer = real(*args, **more)
        moment()
        return answer
    return between

for name in ("intend", "submitted", "refused", "announced"):
    setattr(SqliteLedger, name, cut(getattr(SqliteLedger, name)))
main()
"""
"""Runs hpc and ends it just before or just after it writes something down for the n-th time."""


@pytest.mark.parametrize("moment", [2, 3, 5, 7, 8, 9, 11])
def test_a_command_that_is_cut_anywhere_is_repeated_and_makes_each_job_once(world: World, moment: int) -> None:
    """Of four files the cheap place takes one; the others go to the dear one, and the last comes after another.

    Every moment between two things that are written down, or done at a place; half of the commands end by Ctrl-C.
    """
    world.takes(1)
    after = f"name: job-3\n{SMALL}after: [job-2]\nrun: echo job-3 >> {world.person.home}/ran\n"
    words = ("submit", *world.files(3), world.person.spec(after, "3.yaml"), "--where", "cheap,dear", "--quiet")
    way = signal.SIGINT if moment in (3, 7, 9) else signal.SIGKILL
    cut = [sys.executable, "-c", CUT.format(signal=int(way)), str(moment), *words]
    done = subprocess.run(cut, env=world.person.env, cwd=world.person.home, capture_output=True, text=True, timeout=60)
    assert done.returncode == (130 if way is signal.SIGINT else -way), done.stderr
    assert done.stdout == "" and "Traceback" not in done.stderr
    refs = world.person.hpc(*words).split()
    assert Counter(ref.partition(":")[0] for ref in refs) == {"cheap": 1, "dear": 3}
    world.person.hpc("wait", *(ref for ref in refs if ref.startswith("dear:")), "--timeout", "1m")
    assert world.taken() + world.ran() == dict.fromkeys(("job-0", "job-1", "job-2", "job-3"), 1)
    assert len(json.loads(world.person.hpc("status", "--json"))) == 4


def test_many_files_go_where_they_are_taken_and_one_sentence_says_so(world: World) -> None:
    world.takes(4)
    done = world.person.try_hpc("submit", *world.files(12), "--where", "cheap,dear")
    assert done.returncode == 0, done.stderr
    assert Counter(ref.partition(":")[0] for ref in done.stdout.split()) == {"cheap": 4, "dear": 8}
    (said,) = [line for line in done.stderr.splitlines() if "does not take" in line or "do not take" in line]
    assert said.startswith("8 jobs: cheap/gpu does not take them: sbatch: QOSMaxSubmitJobPerUserLimit")
    assert said.endswith("; they go to dear/local")
    assert "12 jobs submitted as job-" in done.stderr and ": 4 to cheap, 8 to dear" in done.stderr


def test_a_sweep_goes_elsewhere_as_a_whole(world: World) -> None:
    run = f"run: echo $N >> {world.person.home}/ran\n"
    spec = world.person.spec(f"name: tune\n{SMALL}matrix: {{N: 1-5}}\n{run}")
    done = world.person.try_hpc("submit", spec, "--where", "cheap,dear", "--quiet")
    assert "cheap/gpu does not take it: sbatch: QOSMaxSubmitJobPerUserLimit" in done.stderr
    assert done.stderr.count("; it goes to dear/local") == 1
    world.person.hpc("wait", "tune", "--timeout", "1m")
    assert world.ran() == dict.fromkeys("12345", 1)


def test_of_a_sweep_of_several_arrays_the_points_that_were_refused_are_submitted_when_it_is_repeated(
    world: World,
) -> None:
    settings = world.slurm.home / "settings"
    settings.write_text(settings.read_text() + "MaxArraySize            = 3\n")
    world.takes(1)
    run = f"run: echo $N >> {world.person.home}/ran\n"
    spec = world.person.spec(f"name: tune\n{SMALL}matrix: {{N: 1-5}}\n{run}")
    words = ("submit", spec, "--where", "cheap,dear", "--quiet")
    done = world.person.try_hpc(*words)
    assert done.returncode == 7 and "QOSMaxSubmitJobPerUserLimit" in done.stderr
    again = world.person.try_hpc(*words)
    assert again.returncode == 0 and again.stdout == done.stdout
    assert "it goes to dear/local" in again.stderr
    world.person.hpc("wait", "dear:1", "--timeout", "1m")
    assert world.taken() == {"tune": 1}
    assert world.ran() == dict.fromkeys("345", 1)


def test_what_nothing_takes_is_one_error_and_the_others_are_submitted(world: World) -> None:
    world.takes(1)
    done = world.person.try_hpc("submit", *world.files(4), "--where", "cheap", "--quiet")
    assert done.returncode == 5
    assert done.stdout.startswith("cheap:")
    assert "1.yaml, " in done.stderr and "3.yaml: no site can run this job" in done.stderr
    assert done.stderr.count("cheap/gpu: the scheduler refuses it: sbatch: QOSMaxSubmitJobPerUserLimit") == 1
    assert "3 not: repeat the command for those" in done.stderr


def test_of_jobs_that_come_after_each_other_all_go_where_all_of_them_can(world: World) -> None:
    world.takes(9)
    person = world.person
    run = f"run: echo $HPC_NAME >> {person.home}/ran\n"
    person.spec(f"name: prep\n{SMALL}{run}", "prep.yaml")
    person.spec(f"name: then\n{SMALL}where: dear\nafter: [prep]\n{run}", "then.yaml")
    shown = person.hpc("plan", "then.yaml", "prep.yaml", "--no-chart")
    assert "because then, which comes after it, can only run there" in shown
    answers = json.loads(person.hpc("plan", "then.yaml", "prep.yaml", "--json"))
    assert [answer["placement"] for answer in answers] == ["dear/local"] * 2
    assert [answer["because"] for answer in answers] == ["then, which comes after it, can only run there", None]
    barred = [each["refused"] for each in answers[0]["candidates"] if each["site"] == "cheap"]
    assert "then, which comes after it, cannot run there" in barred[0]
    done = person.try_hpc("submit", "then.yaml", "prep.yaml")
    assert "because then, which comes after it, can only run there" in done.stderr
    assert [ref.partition(":")[0] for ref in done.stdout.split()] == ["dear", "dear"]
    person.hpc("wait", *done.stdout.split(), "--timeout", "1m")
    assert (person.home / "ran").read_text() == "prep\nthen\n"


def test_a_chain_that_the_first_place_turns_away_goes_elsewhere_together(world: World) -> None:
    world.person.spec(f"name: prep\n{SMALL}run: 'true'\n", "prep.yaml")
    world.person.spec(f"name: then\n{SMALL}after: [prep]\nrun: 'true'\n", "then.yaml")
    words = ("prep.yaml", "then.yaml", "--where", "cheap,dear")
    planned = json.loads(world.person.hpc("plan", *words, "--json"))
    assert [answer["placement"] for answer in planned] == ["cheap/gpu"] * 2
    done = world.person.try_hpc("submit", *words, "--quiet")
    assert [ref.partition(":")[0] for ref in done.stdout.split()] == ["dear", "dear"]
    assert "prep: cheap/gpu does not take it: " in done.stderr and "\nthen goes to dear, too\n" in done.stderr


@pytest.mark.lab
def test_on_a_real_slurm_all_go_where_their_files_can_be_written(lab_person: Person) -> None:
    """Two sites that are one Slurm: where job_root lies below a file, nothing can be brought."""
    folder = lab_person.home / "config" / "sites"
    text = (folder / "onprem.yaml").read_text()
    (lab_person.home / "file").touch()
    lost = re.sub(r"(?m)^job_root:.*$", f"job_root: {lab_person.home}/file/jobs", text)
    (folder / "lost.yaml").write_text(re.sub(r"(?m)^name:.*$", "name: lost", re.sub(r"[0-9.]+ USD/h", "0 USD/h", lost)))
    files = [lab_person.spec(f"name: job-{n}\n{SMALL}run: 'true'\n", f"{n}.yaml") for n in range(6)]
    files.append(lab_person.spec(f"name: then\n{SMALL}after: [job-5]\nrun: 'true'\n", "then.yaml"))
    done = lab_person.try_hpc("submit", *files, "--where", "lost,onprem")
    assert [ref.partition(":")[0] for ref in done.stdout.split()] == ["onprem"] * 7, done.stderr
    assert re.search(r"(?m)^job-0 and 5 like it +lost/", done.stderr)
    assert (
        done.stderr.count("6 jobs: lost/") == 1 and "file/jobs" in done.stderr and "they go to onprem/" in done.stderr
    )
    assert "then goes to onprem, too" in done.stderr
    lab_person.hpc("wait", *done.stdout.split(), "--timeout", "2m")


@pytest.mark.parametrize("written", ["spec", "script"])
def test_a_walltime_that_a_qos_never_allows_is_refused(company_person: Person, written: str) -> None:
    """Slurm would take the job, say nothing of it when asked, and never start it."""
    text = {
        "spec": "resources: {cpus: 1}\nslurm: {qos: debug}\ntime: %dm\nrun: hostname\n",
        "script": "#!/bin/sh\n#SBATCH --qos=debug -p cpu -t %d\nhostname\n",
    }[written]
    name = {"spec": "job.yaml", "script": "job.sbatch"}[written]
    too_long = company_person.try_hpc("plan", company_person.spec(text % 31, name), "--where", "onprem")
    assert too_long.returncode == 5
    assert "walltime 00:31:00 is over the limit of 00:30:00 of QOS debug" in " ".join(too_long.stdout.split())
    assert "placement: onprem/" in company_person.hpc("plan", company_person.spec(text % 30, name), "--where", "onprem")

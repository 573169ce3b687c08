"""The verbs against a real Slurm, as a person uses them."""

from __future__ import annotations

import json
import subprocess

import pytest

from tests.people import Person

pytestmark = pytest.mark.lab

SCRIPT = """#!/bin/bash
#SBATCH --job-name="two words"
#SBATCH --time=2
#SBATCH -o out-%j.txt --comment 'mine, not yours'
echo "args: $*"
srun hostname
"""


def test_a_spec_goes_to_slurm_and_comes_back(lab_person: Person) -> None:
    text = "name: on-slurm\nnodes: 2\nresources: {gpus: h100:4, cpus: 4, memory: 1GiB}\ntime: 2m\nlauncher: srun\n"
    spec = lab_person.spec(text + "tasks_per_node: 1\nrun: echo $MASTER_PORT $NNODES $NODE_RANK $GPUS_PER_NODE\n")
    answer = lab_person.try_hpc("submit", spec, "--where", "auto", "-f")
    assert answer.returncode == 0, answer.stderr
    lines = sorted(answer.stdout.split("\n")[1:3])
    assert [line.split()[1:] for line in lines] == [["2", "0", "4"], ["2", "1", "4"]]
    (job,) = json.loads(lab_person.hpc("status", "--json"))
    assert (job["site"], job["partition"], job["state"], job["exit_code"]) == ("onprem", "batch", "COMPLETED", 0)
    assert job["cost_usd"] >= 0


def test_a_failing_job_is_told_with_its_exit_code(lab_person: Person) -> None:
    spec = lab_person.spec("run: exit 3\ntime: 1m\nresources: {memory: 50MiB}\n")
    answer = lab_person.try_hpc("submit", spec, "--where", "onprem", "-f")
    assert answer.returncode == 10
    (job,) = json.loads(lab_person.hpc("status", "--json"))
    assert (job["state"], job["exit_code"]) == ("FAILED", 3)


def test_an_sbatch_script_keeps_its_arguments_name_and_output(lab_person: Person) -> None:
    lab_person.spec(SCRIPT, "job.sbatch")
    answer = json.loads(
        lab_person.hpc("submit", "--json", "--mem=100", "job.sbatch", "a b", "--flag", "--where", "auto")
    )
    lab_person.hpc("wait", answer["ref"])
    output = (lab_person.home / f"out-{answer['job_id']}.txt").read_text()
    assert output.startswith("args: a b --flag\n")
    assert lab_person.hpc("logs", answer["ref"]) == output


def test_an_array_on_slurm_is_one_job_with_a_log_per_task(lab_person: Person) -> None:
    spec = lab_person.spec("array: 0-3\ntime: 1m\nresources: {memory: 50MiB}\nrun: echo task $SLURM_ARRAY_TASK_ID\n")
    ref = json.loads(lab_person.hpc("submit", spec, "--where", "onprem", "--json"))["ref"]
    lab_person.hpc("wait", ref)
    assert lab_person.hpc("logs", ref, "--task", "2") == "task 2\n"
    assert len(json.loads(lab_person.hpc("status", "--json"))) == 1


def test_a_pending_job_is_explained_and_cancelled(lab_person: Person) -> None:
    whole = "nodes: 8\nresources: {gpus: h100:8, memory: 1GiB}\ntime: 10m\nrun: sleep 60\n"
    first = json.loads(lab_person.hpc("submit", lab_person.spec(whole), "--where", "onprem", "--json"))["ref"]
    second = json.loads(lab_person.hpc("submit", "job.yaml", "--where", "onprem", "--json"))["ref"]
    assert "PENDING" in lab_person.hpc("why", second)
    lab_person.hpc("cancel", second, first)
    states = {job["ref"]: job["state"] for job in json.loads(lab_person.hpc("status", "--json"))}
    assert states[second] == "CANCELLED"


def test_what_slurm_refuses_is_refused_with_its_words_and_no_job_is_left(lab_person: Person) -> None:
    lab_person.spec("#!/bin/bash\n#SBATCH -J nowhere --time=1 --exclude=nowhere7\ntrue\n", "job.sbatch")
    answer = lab_person.try_hpc("submit", "job.sbatch", "--where", "onprem")
    assert answer.returncode in (5, 7)
    assert "nowhere7" in answer.stderr or "node" in answer.stderr.lower()
    assert queue(lab_person, "nowhere") == set()


def test_a_held_script_stays_held(lab_person: Person) -> None:
    lab_person.spec("#!/bin/bash\n#SBATCH --hold --time=1\ntrue\n", "held.sbatch")
    ref = json.loads(lab_person.hpc("submit", "--json", "held.sbatch", "--where", "onprem"))["ref"]
    (job,) = json.loads(lab_person.hpc("status", ref, "--json"))
    assert (job["state"], job["reason"]) == ("PENDING", "JobHeldUser")
    lab_person.hpc("cancel", ref)


def queue(person: Person, name: str) -> set[str]:
    done = subprocess.run(
        ["squeue", "-h", "-n", name, "-o", "%i"], env=person.env, capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_a_script_that_asks_to_wait_is_waited_for(lab_person: Person) -> None:
    lab_person.spec("#!/bin/bash\n#SBATCH --wait --time=1 --mem=50\nsleep 1; exit 4\n", "wait.sbatch")
    answer = lab_person.try_hpc("submit", "wait.sbatch", "--where", "onprem")
    assert answer.returncode == 10
    assert "exit code 4" in answer.stderr

"""Whose turn it is, with real jobs: slots, order, arrays, dependencies, and submitting exactly once."""

from __future__ import annotations

import os
import signal
import subprocess
import time

from hybridhpc.here import slots
from hybridhpc.here.place import open_place
from hybridhpc.here.queue import Machine
from tests.here.machine_of_two import UNTIL_GO, Here, until

SPAN = """#!/usr/bin/env python3
import os, sys, time
began = time.time(); time.sleep(float(sys.argv[1])); line = f"{began} {time.time()} {os.environ['SLURM_JOB_ID']}\\n"
os.write(os.open("spans", os.O_WRONLY | os.O_CREAT | os.O_APPEND), line.encode())
"""


def spans(here: Here) -> list[tuple[float, float, int]]:
    """Return when each job began and ended, in order of their beginning."""
    rows = [line.split() for line in here.path("spans").read_text().splitlines()]
    return sorted((float(begin), float(end), int(job)) for begin, end, job in rows)


def most_at_once(found: list[tuple[float, float, int]]) -> int:
    return max(sum(1 for begin, end, _ in found if begin <= moment < end) for moment, _, _ in found)


def test_ten_jobs_on_two_slots_run_two_at_a_time_in_order(here: Here) -> None:
    jobs = [here.submit(SPAN, "--cpus=1", args=("0.5",)) for _ in range(10)]
    assert here.ends(*jobs) == ["COMPLETED"] * 10
    found = spans(here)
    assert most_at_once(found) == 2
    started = [here.tasks(job)[0].started_at for job in jobs]
    assert started == sorted(started)  # type: ignore[type-var]


def test_memory_is_a_slot_too(here: Here) -> None:
    jobs = [here.submit(SPAN, "--memory=501", args=("0.2",)) for _ in range(3)]
    assert here.ends(*jobs) == ["COMPLETED"] * 3
    assert most_at_once(spans(here)) == 1


def test_a_wide_job_is_not_overtaken_by_narrow_ones(here: Here) -> None:
    narrow = here.submit(UNTIL_GO, "--cpus=1")
    wide = here.submit(SPAN, "--cpus=2", args=("0.1",))
    later = [here.submit(SPAN, "--cpus=1", args=("0.1",)) for _ in range(3)]
    reasons = {job["id"]: job["reason"] for job in here.ask("survey")["jobs"] if job["state"] == "PENDING"}
    assert reasons == {str(wide): "Resources"} | {str(job): "Priority" for job in later}
    here.go()
    assert here.ends(narrow, wide, *later) == ["COMPLETED"] * 5
    assert spans(here)[0][2] == wide


def test_without_a_wish_a_job_gets_one_cpu_and_its_share_of_memory(here: Here) -> None:
    words = [
        word for word in here.submission("echo $SLURM_CPUS_ON_NODE $SLURM_MEM_PER_NODE > got") if "mem" not in word
    ]
    here.ask("submit", *words)
    assert here.words("got") == ["1", "500"]


def test_an_array_runs_each_index_once_and_at_most_so_many_at_once(here: Here) -> None:
    here.env["HPC_HERE_CPUS"] = "4"
    line = "echo $SLURM_ARRAY_JOB_ID $SLURM_ARRAY_TASK_ID $SLURM_ARRAY_TASK_COUNT $SLURM_ARRAY_TASK_MIN"
    line += " $SLURM_ARRAY_TASK_MAX $SLURM_ARRAY_TASK_STEP"
    python = SPAN.split("\n", 1)[1].replace('"', '\\"').replace("$", "\\$")
    job = here.submit(f'{UNTIL_GO}; {line}\npython3 -c "{python}" 0.25', "--array=1-9:2%2")
    narrow = here.submit("true", "--cpus=1")
    assert here.ends(narrow) == ["COMPLETED"]
    assert here.tasks(job)[0].ended_at is None, "a throttled array blocks nobody behind it"
    here.go()
    assert here.ends(job) == ["COMPLETED"]
    assert [task.name for task in here.tasks(job)] == [f"{job}_{index}" for index in (1, 3, 5, 7, 9)]
    assert most_at_once(spans(here)) == 2
    for index in (1, 3, 5, 7, 9):
        assert here.path(f"{job}_{index}.log").read_text().split() == [str(job), str(index), "5", "1", "9", "2"]


def test_one_task_of_an_array_can_be_cancelled(here: Here) -> None:
    job = here.submit(f"{UNTIL_GO}; [ $SLURM_ARRAY_TASK_ID != 3 ]", "--array=0-3%2")
    here.ask("cancel", f"{job}_2")
    here.go()
    here.wait(job)
    assert [task.state for task in here.tasks(job)] == ["COMPLETED", "COMPLETED", "CANCELLED", "FAILED"]


def test_dependencies_are_kept(here: Here) -> None:
    good = here.submit("sleep 0.3", "--cpus=1")
    bad = here.submit("sleep 0.3; exit 1", "--cpus=1")
    both = (f"afterany:{good}:{bad}", f"afterok:{good},afterany:{bad}")
    wishes = (f"afterok:{good}", f"afternotok:{bad}", f"after:{good}", *both)
    met = [here.submit("true", f"--dependency={wish}") for wish in wishes]
    never = [here.submit("true", f"--dependency={wish}") for wish in (f"afterok:{bad}", f"afternotok:{good}")]
    never.append(here.submit("true", f"--dependency=afterok:{never[0]}"))
    assert here.ends(*met) == ["COMPLETED"] * len(met)
    ended = here.wait(good).ended_at
    assert all(task.started_at is not None and ended is not None for task in map(here.wait, met))
    assert (here.wait(met[0]).started_at or 0) >= (ended or 0)
    assert [(here.wait(job).state, here.wait(job).reason) for job in never] == [
        ("CANCELLED", "DependencyNeverSatisfied")
    ] * 3


def test_a_dependency_on_an_array_waits_for_all_its_tasks_and_one_on_a_task_for_that(here: Here) -> None:
    array = here.submit("sleep 0.2; exit $SLURM_ARRAY_TASK_ID", "--array=0-1")
    one = here.submit("true", f"--dependency=afterok:{array}_0")
    whole = here.submit("true", f"--dependency=afterok:{array}")
    assert here.ends(one, whole) == ["COMPLETED", "CANCELLED"]


def test_fifty_submissions_at_once_as_the_first_ones_make_fifty_jobs(here: Here) -> None:
    submissions = [here.submission("echo $SLURM_JOB_ID >> ran", "--memory=10") for _ in range(50)]
    processes = [
        subprocess.Popen(here.command("submit", *words), env=here.env, cwd=here.work, stdout=subprocess.DEVNULL)
        for words in submissions
    ]
    assert [process.wait() for process in processes] == [0] * 50
    tokens = here.ask("find")["tokens"]
    assert sorted(tokens.values()) == sorted(words[1] for words in submissions)
    assert here.ends(*map(int, tokens)) == ["COMPLETED"] * 50
    assert sorted(map(int, here.path("ran").read_text().split())) == sorted(map(int, tokens))


def test_the_same_submission_repeated_is_the_same_job(here: Here) -> None:
    words = here.submission("echo ran >> ran")
    processes = [
        subprocess.Popen(here.command("submit", *words), env=here.env, cwd=here.work, stdout=subprocess.PIPE)
        for _ in range(8)
    ]
    answers = {process.communicate()[0] for process in processes}
    assert len(answers) == 1
    here.wait(1)
    assert here.ask("submit", *words)["job_id"] == "1"
    words[3] = "2"
    assert here.ask("submit", *words)["job_id"] == "2"
    assert here.ends(1, 2) == ["COMPLETED", "COMPLETED"]
    assert here.words("ran") == ["ran", "ran"]


def test_a_submission_killed_at_any_moment_and_repeated_runs_once(here: Here) -> None:
    for number in range(12):
        words = here.submission("echo $SLURM_JOB_ID >> ran", "--memory=10")
        process = subprocess.Popen(
            here.command("submit", *words), env=here.env, cwd=here.work, stdout=subprocess.DEVNULL, process_group=0
        )
        time.sleep(0.012 * number)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        here.ask("submit", *words)
    until(lambda: not here.ask("survey")["jobs"], lambda: "jobs are left")
    assert sorted(map(int, here.path("ran").read_text().split())) == list(range(1, 13))


def test_a_job_whose_submitter_died_before_starting_anything_is_started_by_the_next_command(here: Here) -> None:
    here.ask("survey")
    words = here.submission("true", "--hold")
    job = int(here.ask("submit", *words)["job_id"])
    place = open_place(str(here.root))
    slots.release(place, job)
    place.db.close()
    time.sleep(0.2)
    assert here.tasks(job)[0].state == "PENDING"
    here.ask("status", str(job))
    assert here.ends(job) == ["COMPLETED"]


def test_gpus_are_given_out_by_index_and_hidden_from_the_rest(here: Here) -> None:
    place = open_place(str(here.root))
    machine = here.ask("check")["machine"]
    two = Machine(machine["host"], 2, (), 1000, ("h100", "h100"))
    slots.record_machine(place, two)
    here.env["HPC_HERE_TASK"] = "elsewhere:1"
    line = (
        'echo "$CUDA_VISIBLE_DEVICES;$CUDA_DEVICE_ORDER" > gpus.$SLURM_JOB_ID; while [ ! -e done ]; do sleep 0.05; done'
    )
    one = here.submit(line, "--gpus=h100:1")
    other = here.submit(line, "--gpus=1")
    for job in (one, other):
        here.words(f"gpus.{job}")
    waiting = here.submit("true", "--gpus=1")
    assert here.tasks(waiting)[0].state == "PENDING"
    here.path("done").touch()
    none = here.submit('echo "[$CUDA_VISIBLE_DEVICES]" > gpus')
    assert here.ends(one, other, waiting, none) == ["COMPLETED"] * 4
    assert here.words(f"gpus.{one}") + here.words(f"gpus.{other}") == ["0;PCI_BUS_ID", "1;PCI_BUS_ID"]
    assert here.words("gpus") == ["[]"]
    assert here.call("submit", *here.submission("true", "--gpus=a100:1")).returncode == 3
    place.db.close()


def test_only_what_never_began_is_taken_back(here: Here) -> None:
    first = here.submit(UNTIL_GO, "--cpus=2")
    here.wait(first, lambda task: task.started_at is not None)
    second, array = here.submit("touch second"), here.submit("touch array-$SLURM_ARRAY_TASK_ID", "--array=0-3")
    taken = [here.ask("withdraw", str(job))["taken"] for job in (second, array, first, second, 999)]
    assert taken == ["taken", "taken", "stays", "earlier", "absent"]
    here.go()
    assert here.ends(first, second, array) == ["COMPLETED", "CANCELLED", "CANCELLED"]
    assert not here.path("second").exists()


def test_of_a_job_that_is_about_to_start_either_all_is_taken_back_or_nothing(here: Here) -> None:
    for number in range(12):
        job = here.submit(f"touch ran-{number}")
        taken = here.ask("withdraw", str(job))["taken"]
        state = here.ends(job)
        assert (state, here.path(f"ran-{number}").exists()) in ((["CANCELLED"], False), (["COMPLETED"], True))
        assert (taken == "taken") is (state == ["CANCELLED"])

"""How jobs end that do not end by themselves: limits, cancel, kill -9 of any process, a restart of the machine."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from hybridhpc.here import slots, tend
from hybridhpc.here.cgroup import keeping
from hybridhpc.here.place import open_place
from hybridhpc.here.slots import Task
from tests.here.machine_of_two import UNTIL_GO, Here, alive, kill

DAEMON = "(setsid bash -c 'sleep 300 & echo $! > part; mv part daemon; wait' &)"
"""A child that left session, group and parent, with a child of its own."""
ALLOCATE = """#!/usr/bin/env python3
import sys, time
block = bytearray(int(sys.argv[1]) << 20)
time.sleep(float(sys.argv[2]))
"""


@pytest.fixture(params=["kernel", "watching"])
def held(request: pytest.FixtureRequest, here: Here) -> Here:
    """A machine whose jobs are held to their memory by a control group, and one where they are watched."""
    if request.param == "watching":
        here.env["HPC_HERE_NO_CGROUP"] = "1"
    elif not keeping().base:
        pytest.skip(f"no control group can be made here: {keeping().why}")
    return here


def started(task: Task) -> bool:
    return task.started_at is not None


def leader(here: Here, job: int) -> int:
    """Return the process of a job's script."""
    return int(here.words(f"leader.{job}")[0])


def test_a_job_ends_at_its_walltime_with_all_its_processes(here: Here) -> None:
    job = here.submit(f"{DAEMON}; sleep 300", "--walltime=1")
    daemon = int(here.words("daemon")[0])
    task = here.wait(job)
    assert (task.state, task.signal) == ("TIMEOUT", signal.SIGTERM)
    assert task.started_at is not None
    assert 1.0 <= (task.ended_at or 0) - task.started_at < 4
    assert not alive(daemon)
    assert "walltime of 1 s" in task.reason


def test_after_its_walltime_a_job_has_a_grace_to_save_its_work_and_no_more(here: Here) -> None:
    here.env["HPC_HERE_CPUS"] = "3"
    stubborn = here.submit("trap 'echo asked > asked' TERM; while :; do sleep 0.1; done", "--walltime=1")
    child = here.submit("(trap '' TERM; sleep 1.5; echo saved > child) & wait", "--walltime=1")
    script = here.submit("trap 'sleep 0.5; echo saved > script; exit 0' TERM; sleep 300 & wait", "--walltime=1")
    assert here.ends(child, script, stubborn) == ["TIMEOUT"] * 3
    assert here.words("asked") + here.words("child") + here.words("script") == ["asked", "saved", "saved"]
    assert here.wait(stubborn).signal == signal.SIGKILL


def test_a_job_is_warned_before_its_walltime_if_it_asks(here: Here) -> None:
    script = "trap 'echo warned > warned; exit 0' USR1; sleep 300 & wait"
    task = here.wait(here.submit(script, "--walltime=62", "--signal=B:USR1@60"))
    assert (task.state, here.words("warned")) == ("COMPLETED", ["warned"])


def test_a_job_that_takes_twice_its_memory_ends_out_of_memory(held: Here) -> None:
    job = held.submit(ALLOCATE, args=("200", "300"))
    task = held.wait(job)
    assert (task.state, task.signal) == ("OUT_OF_MEMORY", signal.SIGKILL)
    assert "100 MiB" in task.reason


def test_memory_taken_and_given_back_between_two_looks_counts(held: Here) -> None:
    assert held.ends(held.submit(ALLOCATE, args=("200", "0"))) == ["OUT_OF_MEMORY"]


def test_memory_is_counted_over_all_processes_of_a_job(held: Here) -> None:
    held.path("half").write_text(ALLOCATE)
    job = held.submit("python3 half 60 300 & setsid python3 half 60 300 & wait")
    assert held.ends(job) == ["OUT_OF_MEMORY"]


def test_memory_that_processes_share_counts_once(held: Here) -> None:
    script = "#!/usr/bin/env python3\nimport os, time\nblock = bytearray(60 << 20)\n"
    script += "child = os.fork()\nos.fork()\ntime.sleep(0.7)\n"
    assert held.ends(held.submit(script)) == ["COMPLETED"]


def test_a_job_within_its_memory_completes(held: Here) -> None:
    assert held.ends(held.submit(ALLOCATE, args=("60", "0.6"))) == ["COMPLETED"]


def test_cancel_ends_daemons_too(held: Here) -> None:
    job = held.submit(f"{DAEMON}; echo $$ > leader.1; wait; sleep 300")
    pids = [int(held.words("daemon")[0]), leader(held, job)]
    held.ask("cancel", str(job))
    task = held.wait(job)
    assert (task.state, task.reason) == ("CANCELLED", "cancelled")
    assert not any(alive(pid) for pid in pids)


def test_cancelling_a_pending_job_lets_the_next_one_start(here: Here) -> None:
    running = here.submit("sleep 300", "--cpus=1")
    wide = here.submit("true", "--cpus=2")
    narrow = here.submit("true", "--cpus=1")
    here.ask("cancel", str(wide))
    assert here.ends(wide, narrow) == ["CANCELLED", "COMPLETED"]
    assert here.tasks(wide)[0].started_at is None
    here.ask("cancel", str(running))
    assert here.ends(running) == ["CANCELLED"]


def test_cancelling_twice_or_after_the_end_changes_nothing(here: Here) -> None:
    job = here.submit("exit 4")
    assert here.ends(job) == ["FAILED"]
    here.ask("cancel", str(job))
    assert here.wait(job).exit_code == 4
    assert here.call("cancel", "77").returncode == 3


def test_a_killed_supervisor_leaves_no_process_and_an_honest_state(held: Here) -> None:
    job = held.submit(f"{DAEMON}; echo $$ > leader.1; sleep 300")
    pids = [int(held.words("daemon")[0]), leader(held, job)]
    after = held.submit("true", "--cpus=2")
    kill(held.tasks(job)[0].supervisor or 0)
    rows = held.ask("status", str(job))[str(job)]
    assert (rows[0]["state"], rows[0]["exit_code"]) == ("NODE_FAIL", None)
    assert "its supervisor" in rows[0]["reason"]
    assert not any(alive(pid) for pid in pids)
    assert held.ends(after) == ["COMPLETED"]
    group = held.tasks(job)[0].control_group
    assert group is None or not Path(group).exists()


@pytest.mark.parametrize(("marker", "end"), [("0 1795200000", ("COMPLETED", 0)), ("5", ("FAILED", 5))])
def test_a_job_that_wrote_its_exit_marker_keeps_its_true_end(here: Here, marker: str, end: tuple[str, int]) -> None:
    job = here.submit(f"sleep 300 & echo '{marker}' > $HPC_JOB_DIR/exit.-.0; echo $$ > leader.1; wait")
    leader(here, job)
    kill(here.tasks(job)[0].supervisor or 0)
    row = here.ask("status", str(job))[str(job)][0]
    assert (row["state"], row["exit_code"]) == end


def test_an_exit_marker_cut_short_proves_nothing(here: Here) -> None:
    job = here.submit(": > $HPC_JOB_DIR/exit.-.0; echo $$ > leader.1; sleep 300")
    leader(here, job)
    kill(here.tasks(job)[0].supervisor or 0)
    assert here.ask("status", str(job))[str(job)][0]["state"] == "NODE_FAIL"


def test_killing_the_script_or_its_payload_is_told_as_it_was(here: Here) -> None:
    script = here.submit("echo $$ > leader.1; sleep 300 & echo $! > part; mv part payload; wait")
    payload = int(here.words("payload")[0])
    kill(leader(here, script))
    task = here.wait(script)
    assert (task.state, task.signal, task.exit_code) == ("FAILED", 9, None)
    assert not alive(payload)
    other = here.submit("sleep 300 & echo $! > part; mv part payload2; wait $!; exit $?")
    kill(int(here.words("payload2")[0]))
    task = here.wait(other)
    assert (task.state, task.signal, task.exit_code) == ("FAILED", None, 137)


def test_tasks_of_one_array_do_not_end_each_other(here: Here) -> None:
    job = here.submit("echo $$ > leader.$SLURM_ARRAY_TASK_ID; " + UNTIL_GO, "--array=1-2")
    leader(here, 2), leader(here, 1)
    kill(here.tasks(job)[0].supervisor or 0)
    here.ask("status", str(job))
    here.go()
    here.wait(job)
    assert [task.state for task in here.tasks(job)] == ["NODE_FAIL", "COMPLETED"]


def test_a_supervisor_that_is_told_to_end_ends_its_job_and_says_so(here: Here) -> None:
    job = here.submit("echo $$ > leader.1; sleep 300")
    script = leader(here, job)
    os.kill(here.tasks(job)[0].supervisor or 0, signal.SIGTERM)
    task = here.wait(job)
    assert (task.state, alive(script)) == ("NODE_FAIL", False)
    assert "told to end (SIGTERM)" in task.reason


def test_after_a_restart_of_the_machine_running_jobs_are_lost_and_pending_ones_start(here: Here) -> None:
    job = here.submit("echo $$ > leader.1; sleep 300", "--cpus=2")
    leader(here, job)
    pending = here.submit("true")
    kill(here.tasks(job)[0].supervisor or 0)
    place = open_place(str(here.root))
    tend.repair(place, boot="another boot")
    place.db.close()
    task = here.tasks(job)[0]
    assert (task.state, task.reason) == ("NODE_FAIL", "machine was restarted")
    here.ask("survey")
    assert here.ends(pending) == ["COMPLETED"]


def test_a_living_supervisor_is_never_taken_for_dead(here: Here) -> None:
    job = here.submit(UNTIL_GO)
    here.wait(job, started)
    for _ in range(5):
        assert here.ask("status", str(job))[str(job)][0]["state"] == "RUNNING"
    here.go()
    assert here.ends(job) == ["COMPLETED"]


def test_a_job_whose_end_cannot_be_known_is_unknown_and_keeps_its_slots(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = here.submit("echo $$ > leader.1; sleep 300", "--cpus=2")
    leader(here, job)
    here.submit("true")
    kill(here.tasks(job)[0].supervisor or 0)
    monkeypatch.setattr(tend, "_PATIENCE", 0.05)
    monkeypatch.setattr(tend.watch, "members", lambda found: {99_999_999})
    monkeypatch.setattr(tend.watch, "send", lambda pids, number: None)
    place = open_place(str(here.root))
    tend.repair(place, boot="b")
    assert here.tasks(job)[0].state == "UNKNOWN"
    machine = slots.recorded_machine(place)
    assert machine is not None
    assert slots.outlook(place, machine).grant is None
    place.db.close()
    monkeypatch.undo()
    assert here.ask("status", str(job))[str(job)][0]["state"] == "NODE_FAIL"

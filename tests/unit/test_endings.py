"""How a job ended, in words: nothing that misleads, for every end that Slurm and here have."""

from __future__ import annotations

import pytest

from hybridhpc.model import JobState, JobStatus
from hybridhpc.schedulers.slurm_endings import exit_words, explain_end, reason_words
from hybridhpc.schedulers.slurm_states import JOB_STATES


def words(state: JobState, native: str = "", *, wanted: bool | None = True, **more: object) -> str:
    status = JobStatus(job_id="1", state=state, native_state=native or state.value, **more)
    return "\n".join(explain_end(status, wanted=wanted))


@pytest.mark.parametrize(
    ("code", "signal", "said"),
    [
        (1, None, "exit code 1"),
        (126, None, "exit code 126 (cannot be executed)"),
        (127, None, "exit code 127 (command not found)"),
        (137, None, "exit code 137 (SIGKILL)"),
        (139, None, "exit code 139 (SIGSEGV)"),
        (255, None, "exit code 255"),
        (None, 9, "signal 9 (SIGKILL)"),
        (None, 40, "signal 40"),
        (None, 53, "it was not launched"),
        (None, None, ""),
        (0, None, "exit code 0"),
    ],
)
def test_what_ended_the_script_itself(code: int | None, signal: int | None, said: str) -> None:
    assert exit_words(JobState.FAILED, code, signal) == said


@pytest.mark.parametrize("state", [state for state in JobState if state.final and state is not JobState.FAILED])
def test_an_exit_code_that_is_not_the_script_s_is_not_shown(state: JobState) -> None:
    for code, signal in ((0, None), (1, None), (None, 15), (None, 125)):
        said = words(state, exit_code=code, signal=signal)
        assert "exit code" not in said
        assert "signal" not in said
        assert exit_words(state, code, signal) == ""


def test_who_cancelled_it_is_said_as_far_as_it_is_known() -> None:
    assert words(JobState.CANCELLED, wanted=False) == "you cancelled it before it began"
    assert words(JobState.CANCELLED, wanted=False, started_at=5.0) == "you cancelled it"
    root = words(JobState.CANCELLED, "CANCELLED by 0", started_at=5.0)
    assert root == "user id 0 of its site (root) cancelled it"
    assert words(JobState.CANCELLED, "CANCELLED by 1001") == "user id 1001 of its site cancelled it before it began"
    assert words(JobState.CANCELLED) == "it was cancelled at its site, not by `hpc cancel`, before it began"
    assert words(JobState.CANCELLED, wanted=None, started_at=5.0) == "it was cancelled"
    assert words(JobState.CANCELLED, wanted=False, reason="JobHeldUser") == "you cancelled it before it began"
    never = words(JobState.CANCELLED, reason="DependencyNeverSatisfied")
    assert "the job it waits for ended the wrong way" in never


def test_what_slurm_tells_apart_is_told_apart() -> None:
    assert "did not boot" in words(JobState.NODE_FAIL, "BOOT_FAIL", exit_code=0)
    assert "failed, or did not boot" in words(JobState.NODE_FAIL, "NODE_FAIL", exit_code=0)
    assert "--deadline" in words(JobState.TIMEOUT, "DEADLINE")
    assert "walltime" in words(JobState.TIMEOUT, reason="TimeLimit")
    assert "make room for another job" in words(JobState.PREEMPTED)
    assert "raise `memory`" in words(JobState.OUT_OF_MEMORY, signal=125, reason="OutOfMemory")
    assert "not loaded" in words(JobState.FAILED, exit_code=127, reason="NonZeroExitCode")
    assert "could not enter its directory" in words(JobState.FAILED, signal=53, reason="JobLaunchFailure")
    assert "killed by hand" in words(JobState.FAILED, signal=9, reason="RaisedSignal:9(Killed)")


def test_every_end_but_a_good_one_has_words() -> None:
    for native, (_, state, _) in JOB_STATES.items():
        if state.final and state is not JobState.COMPLETED:
            assert words(state, native, exit_code=1), native


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        ("None", ""), ("NonZeroExitCode", ""), ("NonZeroExitCode (2 FAILED, 3 COMPLETED)", "2 FAILED, 3 COMPLETED"),
        ("RaisedSignal:9(Killed)", ""), ("TimeLimit", ""), ("NodeDown", ""), ("Priority", ""), ("JobHeldUser", ""),
        ("JobArrayTaskLimit (10 CANCELLED)", "10 CANCELLED"), ("JobLaunchFailure", "JobLaunchFailure"), ("", ""),
        ("asked for more than its 50 MiB", "asked for more than its 50 MiB"),
    ],
)  # fmt: skip
def test_a_reason_that_the_state_says_already_is_left_out(reason: str, said: str) -> None:
    assert reason_words(reason) == said

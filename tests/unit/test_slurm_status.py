"""What became of jobs, from the answers of squeue and sacct."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridhpc.command import CommandResult
from hybridhpc.errors import SchedulerError
from hybridhpc.model import JobState, JobStatus
from hybridhpc.schedulers import slurm_status as status

STATES = st.sampled_from(JobState)


def answer(stdout: str, *, exit_code: int = 0, stderr: str = "") -> CommandResult:
    return CommandResult(argv=("squeue",), exit_code=exit_code, stdout=stdout.encode(), stderr=stderr.encode())


def line(job: str, state: str, *, start: str = "20", end: str = "30", code: str = "0", nodes: str = "dgx1") -> str:
    fields = (job, state, "10", start, end, code, "0", nodes, "None")
    return "".join(f"{field}\x1f" for field in fields) + "\n"


def task(state: JobState, job_id: str = "11_1") -> JobStatus:
    return JobStatus(job_id=job_id, state=state, native_state=state.value)


def test_one_question_serves_any_number_of_jobs() -> None:
    (one,) = status.status_commands(["11_3", "11", "12+1", "13;cluster", "no job"])
    assert "--jobs=11,12,13" in one.argv and "--me" in one.argv
    (many,) = status.status_commands([str(number) for number in range(5000)])
    assert not any(word.startswith("--jobs") for word in many.argv)
    assert status.status_commands([]) == ()


def test_sacct_is_asked_a_thousand_jobs_at_a_time() -> None:
    commands = status.last_words_commands([str(number) for number in range(2500)])
    assert len(commands) == 3 and commands[2].argv[-1].startswith("--jobs=2000,")


@pytest.mark.parametrize(
    ("code", "exit_code", "signal"),
    [("768", 3, None), ("9", None, 9), ("51200", 200, None), ("0", 0, None), ("3:0", 3, None), ("0:9", None, 9),
     ("0:15", None, 15), ("137", None, 9), ("", None, None), ("N/A", None, None)],
)  # fmt: skip
def test_exit_codes_and_signals_are_read_in_both_spellings(
    code: str, exit_code: int | None, signal: int | None
) -> None:
    found = status.parse_status([answer(line("5", "FAILED", code=code))])["5"]
    assert (found.exit_code, found.signal) == (exit_code, signal)


def test_a_live_job_has_no_end_and_no_exit_code() -> None:
    running = status.parse_status([answer(line("5", "RUNNING"))])["5"]
    assert (running.started_at, running.ended_at, running.exit_code) == (20.0, None, None)
    pending = status.parse_status([answer(line("5", "PENDING", nodes=""))])["5"]
    assert (pending.submitted_at, pending.started_at, pending.ended_at) == (10.0, None, None)


def test_a_job_cancelled_before_it_started_never_started() -> None:
    cancelled = status.parse_status([answer(line("5", "CANCELLED", start="30", nodes=""))])["5"]
    assert (cancelled.started_at, cancelled.ended_at) == (None, 30.0)


def test_an_array_holds_each_task_and_the_whole() -> None:
    text = line("11_[2-5:2%2]", "PENDING", nodes="") + line("11_0", "RUNNING") + line("11_1", "FAILED", code="768")
    found = status.parse_status([answer(text)])
    assert {job: one.state for job, one in found.items()} == {
        "11_0": JobState.RUNNING,
        "11_1": JobState.FAILED,
        "11_2": JobState.PENDING,
        "11_4": JobState.PENDING,
        "11": JobState.RUNNING,
    }
    assert "1 FAILED" in found["11"].reason and "2 PENDING" in found["11"].reason


def test_a_heterogeneous_job_is_folded_too() -> None:
    found = status.parse_status([answer(line("12+0", "COMPLETED") + line("12+1", "FAILED", code="256"))])
    assert found["12"].state is JobState.FAILED and found["12"].exit_code == 1


def test_one_bad_line_spoils_one_job() -> None:
    text = "garbage\n" + line("5", "RUNNING") + "6\x1fRUN\n" + line("7", "NEW_WORD") + line("x", "RUNNING") + "\x00\xff"
    found = status.parse_status([answer(text)])
    assert {job: one.state for job, one in found.items()} == {"5": JobState.RUNNING, "7": JobState.UNKNOWN}


def test_an_unknown_job_is_absent_and_an_unreached_controller_is_an_error() -> None:
    none = answer("", exit_code=1, stderr="slurm_load_jobs error: Invalid job id specified")
    assert status.parse_status([none]) == {}
    down = answer("", exit_code=1, stderr="Unable to contact slurm controller (connect failure)")
    with pytest.raises(SchedulerError, match="Unable to contact"):
        status.parse_status([down])


def test_no_accounting_is_an_answer() -> None:
    refused = answer("", exit_code=1, stderr="Slurm accounting storage is disabled")
    assert status.parse_last_words([refused], {}) == {}


def told(rows: Iterable[tuple[str, ...]]) -> CommandResult:
    return answer("\n".join("\x1f".join(row) for row in rows))


# Seen on 22.05 and 24.11: a lost node, a wiped controller, a job that got the id anew.
LOST = ("2", "NODE_FAIL", "0:0", "484", "522", "525", "dgx1")
REQUEUED = ("2", "REQUEUED", "3:0", "525", "526", "532", "dgx1")
CLOSED = ("2", "CANCELLED", "0:0", "532", "None", "538", "None assigned")
ANOTHER = ("2", "COMPLETED", "0:0", "541", "543", "543", "dgx2")


@pytest.mark.parametrize(
    ("rows", "submitted", "native"),
    [
        ((LOST, REQUEUED, CLOSED, ANOTHER), 484.4, "CANCELLED"),
        ((ANOTHER, CLOSED, LOST, REQUEUED), 484.4, "CANCELLED"),
        ((LOST, REQUEUED, CLOSED, ANOTHER), 541.0, "COMPLETED"),
        ((LOST, REQUEUED), 484.0, "REQUEUED"),
        ((LOST, ANOTHER), 300.0, ""),
        ((ANOTHER,), 484.0, ""),
        ((LOST, REQUEUED, CLOSED, ANOTHER), None, "COMPLETED"),
    ],
)
def test_of_several_jobs_of_one_id_ours_is_told_by_its_moment(
    rows: tuple[tuple[str, ...], ...], submitted: float | None, native: str
) -> None:
    found = status.parse_last_words([told(rows)], {} if submitted is None else {"2": submitted})
    assert (found["2"].native_state if found else "") == native


def test_what_nobody_cancelled_says_so() -> None:
    by_whom = ("2", "CANCELLED by 0", *CLOSED[2:])
    assert "nobody" in status.parse_last_words([told([CLOSED])], {})["2"].reason
    assert status.parse_last_words([told([by_whom])], {})["2"].reason == ""


def test_sacct_s_ways_of_saying_nothing_are_understood() -> None:
    rows = (("5", "CANCELLED by 1001", "0:0", "10", "None", "30", "None assigned"),
            ("6", "RUNNING", "0:0", "10", "20", "Unknown", "dgx[1-2]"))  # fmt: skip
    found = status.parse_last_words([told(rows)], {})
    assert (found["5"].state, found["5"].started_at, found["5"].nodes) == (JobState.CANCELLED, None, "")
    assert (found["6"].started_at, found["6"].ended_at, found["6"].nodes) == (20.0, None, "dgx[1-2]")


@given(st.lists(STATES, min_size=1, max_size=8))
def test_a_whole_is_final_only_if_all_its_tasks_are(found: list[JobState]) -> None:
    whole = status.fold([task(state, f"11_{number}") for number, state in enumerate(found)])
    assert whole is not None and whole.job_id == "11"
    assert whole.state.final == all(state.final for state in found)
    assert whole.state in found


@given(st.lists(STATES, min_size=1, max_size=8), st.randoms())
def test_the_order_of_the_tasks_does_not_matter(found: list[JobState], chance: object) -> None:
    tasks = [task(state) for state in found]
    shuffled = list(tasks)
    chance.shuffle(shuffled)  # type: ignore[attr-defined]
    first, second = status.fold(tasks), status.fold(shuffled)
    assert first is not None and second is not None and first.state is second.state


def test_a_whole_is_completed_only_if_all_tasks_are_seen() -> None:
    two = [task(JobState.COMPLETED, "11_0"), task(JobState.COMPLETED, "11_1")]
    assert status.fold(two, 2).state is JobState.COMPLETED  # type: ignore[union-attr]
    assert status.fold(two, 3).state is JobState.UNKNOWN  # type: ignore[union-attr]
    failed = [*two, task(JobState.FAILED, "11_2")]
    assert status.fold(failed, 9).state is JobState.FAILED  # type: ignore[union-attr]
    assert status.fold([]) is None


@given(st.text(max_size=200))
def test_no_answer_makes_a_traceback(text: str) -> None:
    status.parse_status([answer(text)])
    status.parse_last_words([answer(text)], {"1": 1.0})

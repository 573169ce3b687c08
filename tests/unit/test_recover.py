"""What an attempt's end was, by its evidence, and what follows from it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hybridhpc.decide.recover import (
    MARKED_WITHIN,
    Cause,
    Evidence,
    Look,
    Next,
    find_cause,
    find_requeue,
    is_remnant,
    look_at,
    next_step,
    over_allowance,
)
from hybridhpc.model import (
    Checkpoint,
    Goal,
    JobSpec,
    JobState,
    JobStatus,
    Resources,
    Retries,
    Script,
    Seconds,
    Stuck,
    Usd,
    UsdPerHour,
    Work,
)
from hybridhpc.schedulers.words import CLOSED


def ended(state: JobState, **more: object) -> JobStatus:
    fields = {"job_id": "1", "native_state": state.value, "started_at": 1000.0, "ended_at": 1100.0, **more}
    return JobStatus(state=state, **fields)  # type: ignore[arg-type]


def spec(*, checkpoint: bool = True, max_cost: float | None = None, **retries: int) -> JobSpec:
    goal = Goal(value_of_time=UsdPerHour(30.0), max_cost=None if max_cost is None else Usd(max_cost))
    work = Work(run="x", retries=Retries(**retries), checkpoint=Checkpoint(directory="ckpt") if checkpoint else None)
    return JobSpec(name="j", file="/f", digest="", resources=Resources(), payload=work, goal=goal)


SCRIPT = JobSpec(name="j", file="/f", digest="", resources=Resources(), payload=Script(content=b"", path="/f"))


@pytest.mark.parametrize(
    ("evidence", "cause"),
    [
        (Evidence(status=ended(JobState.COMPLETED), began=True), None),
        (Evidence(status=ended(JobState.RUNNING), began=True), None),
        (Evidence(status=ended(JobState.PREEMPTED), began=True), Cause.PREEMPTED),
        (Evidence(status=ended(JobState.NODE_FAIL), began=True), Cause.NODE_FAIL),
        (Evidence(status=ended(JobState.NODE_FAIL), began=True, spot=True), Cause.PREEMPTED),
        (Evidence(status=ended(JobState.NODE_FAIL), began=False), Cause.BOOT_FAIL),
        (Evidence(status=ended(JobState.NODE_FAIL), began=False, marks=False), Cause.NODE_FAIL),
        (Evidence(status=ended(JobState.TIMEOUT), began=True), Cause.TIMEOUT),
        # Slurm asks what reaches its walltime to end: one that was not asked had lost its node.
        (Evidence(status=ended(JobState.TIMEOUT), began=True, unasked=True), Cause.NODE_FAIL),
        (Evidence(status=ended(JobState.TIMEOUT), began=True, unasked=True, spot=True), Cause.PREEMPTED),
        (Evidence(status=ended(JobState.TIMEOUT), began=True, unasked=True, fresh=True), None),
        (Evidence(status=ended(JobState.TIMEOUT), began=True, unasked=True, marks=False), Cause.TIMEOUT),
        (Evidence(status=ended(JobState.OUT_OF_MEMORY), began=True), Cause.OUT_OF_MEMORY),
        (Evidence(status=ended(JobState.CANCELLED), began=True), Cause.CANCELLED),
        (Evidence(status=ended(JobState.FAILED, exit_code=1), began=True), Cause.FAILED),
        # Asked for a checkpoint two minutes before the end, it ended by itself: that is its walltime.
        (
            Evidence(
                status=ended(JobState.FAILED, exit_code=1, ended_at=4500.0),
                walltime=Seconds(3600),
                grace=Seconds(120),
                began=True,
            ),
            Cause.TIMEOUT,
        ),
        (Evidence(status=ended(JobState.FAILED, exit_code=143), began=True, spot=True), Cause.PREEMPTED),
        (Evidence(status=ended(JobState.FAILED, exit_code=143), began=True), Cause.FAILED),
        # What cannot be known is not acted on; only what surely never began is.
        (Evidence(status=ended(JobState.UNKNOWN), began=True, absent_for=1e6), None),
        (Evidence(status=ended(JobState.UNKNOWN), began=False, absent_for=10.0), None),
        (Evidence(status=ended(JobState.UNKNOWN), began=False, absent_for=1e6, marks=False), None),
        (Evidence(status=ended(JobState.UNKNOWN), began=False, absent_for=121.0), Cause.LOST),
        (Evidence(status=ended(JobState.UNKNOWN), began=True, expired=True, absent_for=121.0), Cause.NODE_FAIL),
        (Evidence(status=ended(JobState.UNKNOWN), began=True, expired=True, absent_for=10.0), None),
        # What accounting has closed and nobody cancelled is gone, too.
        (Evidence(status=ended(JobState.CANCELLED, reason=CLOSED), began=False, absent_for=10.0), None),
        (Evidence(status=ended(JobState.CANCELLED, reason=CLOSED), began=False, absent_for=121.0), Cause.LOST),
        (Evidence(status=ended(JobState.CANCELLED, reason=CLOSED), began=True, absent_for=121.0), None),
        # What was done stays done, whatever became of its node or controller afterwards.
        (Evidence(status=ended(JobState.NODE_FAIL), began=True, done=True), None),
        (Evidence(status=ended(JobState.TIMEOUT), began=True, done=True), None),
    ],
)
def test_the_cause_follows_from_the_evidence(evidence: Evidence, cause: Cause | None) -> None:
    assert find_cause(evidence) is cause


@pytest.mark.parametrize(
    ("status", "unwanted", "look"),
    [
        (ended(JobState.COMPLETED), True, Look.DONE),
        (ended(JobState.FAILED), False, Look.OVER),
        (ended(JobState.UNKNOWN), True, Look.OVER),
        (ended(JobState.RUNNING), True, Look.UNWANTED),
        (ended(JobState.RUNNING, restarts=2), False, Look.REQUEUED),
        (ended(JobState.RUNNING, restarts=1, stuck=Stuck.HELD), False, Look.NOTHING),
        (ended(JobState.PENDING, restarts=1, stuck=Stuck.HELD), False, Look.HELD),
        (ended(JobState.PENDING, stuck=Stuck.IN_VAIN), False, Look.IN_VAIN),
        (ended(JobState.PENDING, reason="Dependency"), False, Look.NOTHING),
        (ended(JobState.CANCELLED, stuck=Stuck.IN_VAIN), False, Look.IN_VAIN),
        (ended(JobState.CANCELLED, stuck=Stuck.IN_VAIN), True, Look.OVER),
    ],
)
def test_what_a_job_is_looked_at_for(status: JobStatus, unwanted: bool, look: Look) -> None:
    assert look_at(status, unwanted=unwanted, accounted=1) is look


def test_a_requeue_is_told_by_markers() -> None:
    pending = ended(JobState.PENDING, restarts=1)
    assert find_requeue(Evidence(status=pending, began_before=False), 1000.0) is Cause.BOOT_FAIL
    assert find_requeue(Evidence(status=pending, began_before=True), 1000.0) is Cause.NODE_FAIL
    assert find_requeue(Evidence(status=pending, began_before=True, spot=True), 1000.0) is Cause.PREEMPTED
    assert find_requeue(Evidence(status=pending, began_before=True, ended_before=True), 1000.0) is Cause.PREEMPTED
    assert find_requeue(Evidence(status=pending, marks=False), 1000.0) is Cause.PREEMPTED


def test_a_requeue_is_not_judged_while_its_script_may_still_be_ending() -> None:
    pending = replace(ended(JobState.PENDING, restarts=1), submitted_at=1000.0)
    assert find_requeue(Evidence(status=pending, began_before=True), 1000.0 + MARKED_WITHIN - 1) is None
    assert find_requeue(Evidence(status=pending, began_before=True), 1000.0 + MARKED_WITHIN) is Cause.NODE_FAIL
    assert find_requeue(Evidence(status=pending), 1000.0 + MARKED_WITHIN - 1) is None, "nor its start be seen"
    assert find_requeue(Evidence(status=pending), 1000.0 + MARKED_WITHIN) is Cause.BOOT_FAIL
    assert find_requeue(Evidence(status=pending, began_before=True, ended_before=True), 1001.0) is Cause.PREEMPTED
    assert find_requeue(Evidence(status=pending, began_before=True), 400.0) is Cause.NODE_FAIL, "its clock is ahead"


@pytest.mark.parametrize(
    ("state", "restarts", "accounted", "begun", "remnant"),
    [
        (JobState.PENDING, 0, 0, (), True),  # cancelled before it began, and that was forgotten
        (JobState.PENDING, 0, 0, (0,), True),
        (JobState.PENDING, 1, 0, (0,), False),  # requeued since
        (JobState.PENDING, 1, 0, (0, 1), True),  # its second run has begun already
        (JobState.PENDING, 1, 1, (), True),
        (JobState.RUNNING, 0, 0, (0,), False),  # a rendered script ends by itself
        (JobState.COMPLETED, 0, 0, (0,), False),
    ],
)
def test_a_job_that_is_over_and_waits_without_a_requeue_is_a_remnant(
    state: JobState, restarts: int, accounted: int, begun: tuple[int, ...], remnant: bool
) -> None:
    assert is_remnant(ended(state, restarts=restarts), accounted, begun) is remnant


@pytest.mark.parametrize(
    ("cause", "wish", "past", "what"),
    [
        (Cause.PREEMPTED, spec(preempted=2), {}, Next.AGAIN),
        (Cause.PREEMPTED, spec(preempted=2), {Cause.PREEMPTED: 2}, Next.GIVE_UP),
        (Cause.PREEMPTED, spec(node_fail=2), {}, Next.GIVE_UP),
        (Cause.NODE_FAIL, spec(node_fail=1), {}, Next.AGAIN),
        (Cause.TIMEOUT, spec(timeout=1), {}, Next.AGAIN),
        (Cause.TIMEOUT, spec(timeout=1, checkpoint=False), {}, Next.GIVE_UP),
        (Cause.OUT_OF_MEMORY, spec(failed=9), {}, Next.GIVE_UP),
        (Cause.CANCELLED, spec(failed=9, preempted=9), {}, Next.GIVE_UP),
        (Cause.FAILED, spec(failed=1), {}, Next.AGAIN),
        (Cause.BOOT_FAIL, spec(), {}, Next.ELSEWHERE),
        (Cause.BOOT_FAIL, spec(), {Cause.BOOT_FAIL: 2, Cause.LOST: 1}, Next.GIVE_UP),
        (Cause.LOST, spec(), {}, Next.AGAIN),
        (Cause.REFUSED, spec(), {}, Next.ELSEWHERE),
        (Cause.PREEMPTED, SCRIPT, {}, Next.GIVE_UP),
        (Cause.PREEMPTED, None, {}, Next.GIVE_UP),
        (None, spec(preempted=9), {}, Next.NOTHING),
    ],
)
def test_the_next_step_is_what_retries_allow(
    cause: Cause | None, wish: JobSpec | None, past: dict[Cause, int], what: Next
) -> None:
    assert next_step(cause, wish, past, 0.0, wanted=True).next is what


def test_nothing_is_tried_again_beyond_the_ceiling_or_against_the_person() -> None:
    rich = spec(preempted=5, max_cost=10.0)
    assert next_step(Cause.PREEMPTED, rich, {}, 9.99, wanted=True).next is Next.AGAIN
    broke = next_step(Cause.PREEMPTED, rich, {}, 10.0, wanted=True)
    assert (broke.next, "$10.00" in broke.why) == (Next.GIVE_UP, True)
    assert next_step(Cause.PREEMPTED, rich, {}, 0.0, wanted=False).next is Next.GIVE_UP


def test_a_scheduler_that_is_not_reached_has_not_refused() -> None:
    tries = [next_step(Cause.UNREACHED, spec(), {Cause.UNREACHED: times}, 0.0, wanted=True) for times in (0, 3, 29, 30)]
    assert [step.next for step in tries] == [Next.ELSEWHERE, Next.ELSEWHERE, Next.ELSEWHERE, Next.GIVE_UP]
    assert [step.pause for step in tries[:3]] == [60.0, 480.0, 3600.0]


def test_a_job_that_fails_by_itself_is_tried_again_after_a_growing_pause() -> None:
    pauses = [next_step(Cause.FAILED, spec(failed=9), {Cause.FAILED: n}, 0.0, wanted=True).pause for n in range(9)]
    assert pauses[:3] == [60.0, 120.0, 240.0]
    assert max(pauses) == 3600.0


def test_requeues_by_the_scheduler_are_counted_together() -> None:
    past = {Cause.PREEMPTED: 1, Cause.NODE_FAIL: 2}
    assert not over_allowance(Cause.NODE_FAIL, spec(preempted=2, node_fail=1), past)
    assert over_allowance(Cause.NODE_FAIL, spec(preempted=1, node_fail=1), past)
    assert not over_allowance(Cause.NODE_FAIL, SCRIPT, past)

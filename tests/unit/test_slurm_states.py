"""Slurm's words for the states of jobs and nodes."""

from __future__ import annotations

import pytest

from hybridhpc.model import JobState
from hybridhpc.schedulers import slurm_states as states
from hybridhpc.schedulers.words import has_begun


@pytest.mark.parametrize("word", states.JOB_STATES)
def test_every_state_has_a_long_and_often_a_short_name(word: str) -> None:
    short, state, meaning = states.JOB_STATES[word]
    assert state is not JobState.UNKNOWN and meaning
    assert states.job_state(word) is states.job_state(word.lower()) is state
    if short:
        assert states.job_state(short) is state


@pytest.mark.parametrize(
    ("native", "state"),
    [
        ("CANCELLED by 1001", JobState.CANCELLED),
        ("CANCELLED+", JobState.CANCELLED),
        ("COMPLETING", JobState.RUNNING),
        ("CONFIGURING", JobState.RUNNING),
        ("REQUEUED", JobState.PENDING),
        ("REQUEUE_HOLD", JobState.PENDING),
        ("SPECIAL_EXIT", JobState.PENDING),
        ("EXPEDITING", JobState.RUNNING),
        ("NODE_FAIL", JobState.NODE_FAIL),
        ("BOOT_FAIL", JobState.NODE_FAIL),
        ("DEADLINE", JobState.TIMEOUT),
        ("REVOKED", JobState.CANCELLED),
        ("SOMETHING_NEW", JobState.UNKNOWN),
        ("", JobState.UNKNOWN),
        ("COMPLETE", JobState.UNKNOWN),
    ],
)
def test_native_words_become_ours_and_an_unknown_word_stays_unknown(native: str, state: JobState) -> None:
    assert states.job_state(native) is state


@pytest.mark.parametrize(
    ("native", "begun"),
    [("RUNNING", True), ("R", True), ("COMPLETED", True), ("TIMEOUT", True), ("CONFIGURING", False), ("CF", False),
     ("PENDING", False), ("BOOT_FAIL", False), ("NODE_FAIL", None), ("CANCELLED by 1001", None), ("COMPLETING", None),
     ("DEADLINE", None), ("PREEMPTED", None), ("NEVER_HEARD_OF", None)],
)  # fmt: skip
def test_nodes_that_boot_are_no_beginning_and_what_ended_by_its_nodes_says_nothing(
    native: str, begun: bool | None
) -> None:
    assert has_begun(states.job_state(native), native) is begun


def test_what_may_still_change_is_never_final() -> None:
    running = ("RUNNING", "COMPLETING", "CONFIGURING", "RESIZING", "SIGNALING", "STAGE_OUT", "EXPEDITING")
    waiting = ("PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD", "LAUNCH_FAILED")
    assert not any(states.job_state(word).final for word in (*running, *waiting, "STOPPED", "SUSPENDED"))


@pytest.mark.parametrize(
    ("native", "usable", "off"),
    [
        ("idle", True, False),
        ("mixed", True, False),
        ("allocated", True, False),
        ("allocated+", True, False),
        ("completing", True, False),
        ("planned", True, False),
        ("mixed-", True, False),
        ("idle~", True, True),
        ("mixed#", True, True),
        ("idle%", True, True),
        ("idle!", True, True),
        ("powering_up", True, True),
        ("powered_down", True, True),
        ("idle@", True, False),
        ("reboot^", True, True),
        ("idle*", False, False),
        ("down", False, False),
        ("down~", False, True),
        ("down*", False, False),
        ("drained$", False, False),
        ("draining", False, False),
        ("idle$", False, False),
        ("maint", False, False),
        ("reserved", False, False),
        ("inval", False, False),
        ("fail*", False, False),
        ("unknown*", False, False),
        ("external", False, False),
        ("something_new", False, False),
        ("", False, False),
    ],
)
def test_nodes_are_usable_or_not_and_off_or_not(native: str, usable: bool, off: bool) -> None:
    assert (states.node_usable(native), states.node_powered_down(native)) == (usable, off)


@pytest.mark.parametrize(
    "reason",
    [
        "JobHeldUser",
        "JobHeldAdmin",
        "Dependency",
        "DependencyNeverSatisfied",
        "PartitionConfig",
        "PartitionNodeLimit",
        "PartitionTimeLimit",
        "BadConstraints",
        "BeginTime",
        "JobArrayTaskLimit",
        "QOSMaxJobsPerUserLimit",
        "AssocGrpGRES",
        "launch failed requeued held",
        "job requeued in held state",
        "(JobHeldUser)",
    ],
)
def test_a_held_dependent_or_hopeless_job_takes_no_place(reason: str) -> None:
    assert states.is_blocked(reason)


@pytest.mark.parametrize("reason", ["Priority", "Resources", "None", "", "ReqNodeNotAvail, UnavailableNodes:cpu[1-2]"])
def test_a_job_that_waits_for_nodes_takes_its_place(reason: str) -> None:
    assert not states.is_blocked(reason)

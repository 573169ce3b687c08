"""A job in a line of `hpc status`."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from hybridhpc.cli._output import live_word, record_row
from hybridhpc.cli._sweep import counts
from hybridhpc.ledger.base import Phase
from hybridhpc.model import JobState


@pytest.mark.parametrize(
    ("reason", "shown"), [("None", ""), ("Resources", "Resources"), ("", ""), ("None (4 PENDING)", "4 PENDING")]
)
def test_a_reason_that_is_none_is_not_shown(reason, shown):
    record = SimpleNamespace(
        phase=Phase.SUBMITTED,
        ref="lab:1",
        token="t",
        name="job",
        state=JobState.PENDING,
        native_state="PENDING",
        started_at=None,
        reason=reason,
        cost=lambda now: 0.0,
    )
    assert record_row(record, 0.0)[-1] == shown


@pytest.mark.parametrize(
    ("state", "native", "shown"),
    [
        (JobState.RUNNING, "CONFIGURING", "CONFIGURING"),
        (JobState.RUNNING, "CF", "CONFIGURING"),
        (JobState.RUNNING, "RUNNING", "RUNNING"),
        (JobState.RUNNING, "", "RUNNING"),
        (JobState.NODE_FAIL, "BOOT_FAIL", "NODE_FAIL"),
        (JobState.PENDING, "PENDING", "PENDING"),
    ],
)
def test_a_job_whose_nodes_boot_is_not_called_running(state, native, shown):
    assert live_word(state, native) == shown
    assert counts([shown]) == {shown: 1}

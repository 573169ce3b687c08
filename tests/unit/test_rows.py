"""A job in a line of `hpc status`."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from hybridhpc.cli._output import record_row
from hybridhpc.ledger.base import Phase
from hybridhpc.model import JobState


@pytest.mark.parametrize(("reason", "shown"), [("None", ""), ("Resources", "Resources"), ("", "")])
def test_a_reason_that_is_none_is_not_shown(reason, shown):
    record = SimpleNamespace(
        phase=Phase.SUBMITTED,
        ref="lab:1",
        token="t",
        name="job",
        state=JobState.PENDING,
        started_at=None,
        reason=reason,
        cost=lambda now: 0.0,
    )
    assert record_row(record, 0.0)[-1] == shown

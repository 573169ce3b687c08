"""Between values and rows of the SQLite ledger. Pure."""

from __future__ import annotations

import json
from typing import Any

from hybridhpc.ledger.base import Intent, Phase, Record
from hybridhpc.model import JobState, JobStatus
from hybridhpc.schedulers.base import SAME_CLOCK
from hybridhpc.script.plan_text import parse_resources, render_plan
from hybridhpc.sites.snapshot import PastJob


def is_news(record: Record, columns: dict[str, Any]) -> bool:
    """Whether a status says anything that the record does not: mostly it does not, and writing costs a sync."""
    if columns["state"] != record.state.value or abs(record.ahead - float(columns["ahead"])) > SAME_CLOCK:
        return True
    rest = columns.keys() - {"state", "ahead"}
    return any(getattr(record, column) != columns[column] for column in rest)


def attempt_row(token: str, intent: Intent) -> tuple[object, ...]:
    """Return the row of a first attempt."""
    plan = intent.plan
    place = (plan.site, plan.partition, plan.tasks, plan.usd_per_hour)
    return (token, Phase.INTENT.value, *place, render_plan(plan), f"{intent.job_root}/{token}/1")


def status_columns(status: JobStatus) -> dict[str, Any]:
    """Return what a status says, by column."""
    columns: dict[str, Any] = {
        "state": status.state.value,
        "native_state": status.native_state,
        "reason": status.reason,
        "exit_code": status.exit_code,
        "signal": status.signal,
        "started_at": status.started_at,
        "ended_at": status.ended_at,
        "ahead": status.ahead,
        "absent_since": None,
    }
    # Accounting does not always say that a job was restarted, and squeue forgets it.
    known = {"submitted_at": status.submitted_at, "restarted": int(status.restarts > 0)}
    return columns | {name: value for name, value in known.items() if value}


def past_job(row: tuple[Any, ...]) -> PastJob:
    """Return what forecasts learn from."""
    name, site, partition, resources, submitted_at, started_at, ended_at, state, waited_else = row
    return PastJob(
        name=name,
        site=site,
        partition=partition,
        resources=parse_resources(json.loads(resources)),
        array=None,
        submitted_at=submitted_at,
        started_at=started_at,
        ended_at=ended_at,
        completed=state == JobState.COMPLETED.value,
        waited_else=bool(waited_else),
    )

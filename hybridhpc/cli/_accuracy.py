"""How good the forecasts of a ledger were, as a table or as JSON."""

from __future__ import annotations

from dataclasses import asdict

from hybridhpc.cli._output import table
from hybridhpc.client import Client
from hybridhpc.decide.accuracy import Accuracy, Score, by_partition, by_version, overall
from hybridhpc.model import JobState
from hybridhpc.units import format_duration

_HEADER = (
    "SITE", "PARTITION", "VERSION", "FORECASTS", "STARTED", "BY P90", "MEDIAN ERROR", "RAN", "BY P90", "MEDIAN ERROR",
)  # fmt: skip
MOST = 10_000
"""Forecasts that are judged, the latest."""
_LIVE = (JobState.PENDING, JobState.RUNNING, JobState.SUSPENDED)


def judged(client: Client) -> tuple[tuple[Accuracy, ...], tuple[Accuracy, ...], Accuracy]:
    """Return how good the forecasts were by partition, by version and in all. Asks the sites about live jobs first."""
    seen = client.refresh(client.ledger.records(live_only=True))
    still = {record.token for record in seen if record.state in _LIVE}
    outcomes, now = client.ledger.outcomes(limit=MOST), client.clock()
    groups = by_partition(outcomes, still, now), by_version(outcomes, still, now)
    return (*groups, overall(outcomes, still, now))


def accuracy_json(client: Client) -> dict[str, object]:
    """Return the stable keys of `hpc sites --accuracy --json`. Errors are seconds, shares 0 to 1."""
    partitions, versions, everything = judged(client)
    return {
        "partitions": [asdict(each) for each in partitions],
        "versions": [asdict(each) for each in versions],
        "all": asdict(everything),
    }


def accuracy_table(client: Client) -> str:
    """Return the table a person reads."""
    partitions, versions, everything = judged(client)
    rows = [_row(each.site, each) for each in partitions]
    rows += [_row("all", each) for each in versions] if len(versions) > 1 else []
    return table(_HEADER, [*rows, _row("all", everything)], right=frozenset(range(3, 10)))


def _row(name: str, group: Accuracy) -> tuple[str, ...]:
    place = (name, group.partition or "-", group.version or "-", str(group.forecasts))
    return (*place, *_cells(group.start), *_cells(group.run))


def _cells(score: Score) -> tuple[str, str, str]:
    within = "-" if score.within_p90 is None else f"{score.within_p90:.0%}"
    error = "-" if score.median_error is None else format_duration(score.median_error)
    return str(score.outcomes) + (f"+{score.overdue}" if score.overdue else ""), within, error

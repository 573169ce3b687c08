"""How often sites are asked while somebody waits: each at its own pace, seldom if it is silent."""

from __future__ import annotations

import random
from collections.abc import Sequence

from hybridhpc.client import Client
from hybridhpc.ledger.base import Record
from hybridhpc.model import JobState

QUICK = 0.2
"""Seconds between questions to a site on this machine."""
_SELDOM = 8
"""How many times its interval passes, at most, before a silent site is asked again."""
_SPREAD = 0.1
"""By which part of it an interval varies, so that many who wait do not ask in step."""


class Pace:
    """Asks each site at most once per interval for all jobs there; an interval doubles while nothing is answered."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._due: dict[str, float] = {}
        self._times: dict[str, int] = {}
        self._intervals = {site.name: float(site.poll_interval) for site in client.usable_sites}

    def refresh(self, records: Sequence[Record]) -> tuple[Record, ...]:
        """Ask the sites whose time has come, and return all records as they are then."""
        now = self._client.clock()
        asked = [record for record in records if not record.state.final and self._due.get(record.site, 0.0) <= now]
        fresh = {record.token: record for record in self._client.refresh(asked)} if asked else {}
        for site in {record.site for record in asked}:
            told = [record for record in fresh.values() if record.site == site]
            silent = all(record.state is JobState.UNKNOWN for record in told)
            self._times[site] = min(2 * self._times.get(site, 1), _SELDOM) if silent else 1
            self._due[site] = self._client.clock() + self._interval(told[0]) * self._times[site]
        return tuple(fresh.get(record.token, record) for record in records)

    def rest(self, records: Sequence[Record]) -> float:
        """Return how many seconds nobody is asked."""
        due = [self._due.get(record.site, 0.0) for record in records if not record.state.final]
        return max(0.0, min(due, default=0.0) - self._client.clock())

    def _interval(self, record: Record) -> float:
        own = self._intervals.get(record.site, QUICK)
        return QUICK if self._client.is_local(record) else own * random.uniform(1, 1 + _SPREAD)  # noqa: S311

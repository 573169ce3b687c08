"""While somebody waits, no site is asked more often than it likes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from types import SimpleNamespace
from typing import cast

import pytest

from hybridhpc.cli import _follow
from hybridhpc.cli._pace import Pace
from hybridhpc.client import Client
from hybridhpc.ledger.base import Record
from hybridhpc.model import JobState, Seconds
from hybridhpc.sites.site import Site


@dataclass
class Asked:
    """A client that counts questions, with a clock of its own."""

    time: float = 0.0
    silent: bool = False
    questions: dict[str, list[float]] = field(default_factory=dict)
    usable_sites: tuple[Site, ...] = tuple(
        Site(name=name, file=None, scheduler="slurm", transport=transport, poll_interval=Seconds(30))
        for name, transport in (("far", "openssh"), ("near", "local"))
    )

    def clock(self) -> float:
        return self.time

    def is_local(self, record: Record) -> bool:
        return record.site == "near"

    def refresh(self, records: Sequence[Record]) -> tuple[Record, ...]:
        for site in {record.site for record in records}:
            self.questions.setdefault(site, []).append(self.time)
        state = JobState.UNKNOWN if self.silent else JobState.RUNNING
        return tuple(SimpleNamespace(**{**vars(record), "state": state}) for record in records)  # type: ignore[misc]


def job(token: str, site: str) -> Record:
    return cast(Record, SimpleNamespace(token=token, site=site, state=JobState.PENDING, reason=""))


def wait(asked: Asked, *records: Record, seconds: float) -> None:
    pace = Pace(cast(Client, asked))
    while asked.time < seconds:
        records = pace.refresh(records)
        asked.time += pace.rest(records)


def test_a_site_far_away_is_asked_at_its_own_pace_beside_one_that_is_near() -> None:
    asked = Asked()
    wait(asked, job("a", "far"), job("b", "far"), job("c", "near"), seconds=100)
    assert 3 <= len(asked.questions["far"]) <= 4
    assert len(asked.questions["near"]) > 400
    assert all(later - before >= 30 for before, later in pairwise(asked.questions["far"]))


def test_a_silent_site_is_asked_less_and_less_often() -> None:
    asked = Asked(silent=True)
    wait(asked, job("a", "far"), seconds=2000)
    gaps = [later - before for before, later in pairwise(asked.questions["far"])]
    assert gaps[0] >= 60 and gaps[1] >= 120 and all(240 <= gap <= 264 for gap in gaps[2:])


@pytest.mark.parametrize(("state", "looks"), [(JobState.RUNNING, 14), (JobState.PENDING, 2)])
def test_between_two_questions_the_output_of_a_job_far_away_is_looked_at(
    monkeypatch: pytest.MonkeyPatch, state: JobState, looks: int
) -> None:
    paused: list[float] = []
    seen: list[float] = []
    monkeypatch.setattr(_follow, "pause", paused.append)
    record = cast(Record, SimpleNamespace(token="a", site="far", state=state))
    _follow._nap(cast(Client, Asked()), record, 30.0, lambda: seen.append(sum(paused)))
    assert sum(paused) == 30.0
    assert len(seen) == looks


@dataclass
class Late(Asked):
    """A client that is told only when the time to wait is over that the job has ended."""

    def refresh(self, records: Sequence[Record]) -> tuple[Record, ...]:
        asked = super().refresh(records)
        state = JobState.RUNNING if len(self.questions["far"]) < 2 else JobState.COMPLETED
        return tuple(SimpleNamespace(**{**vars(record), "state": state}) for record in asked)  # type: ignore[misc]

    def latest(self, records: Sequence[Record]) -> tuple[Record, ...]:
        return tuple(records)

    def over(self, records: Sequence[Record]) -> list[bool]:
        return [record.state.final for record in records]


def test_when_the_time_to_wait_is_over_all_are_asked_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Late()

    def pause(seconds: float) -> None:
        client.time += seconds

    monkeypatch.setattr(_follow, "pause", pause)
    (record,) = _follow.wait_for(cast(Client, client), (job("a", "far"),), any_one=False, until=10.0)
    assert record.state is JobState.COMPLETED
    assert client.questions["far"] == [0.0, 10.0]


def test_why_nothing_is_known_is_said_once_and_again_when_it_changes(capsys: pytest.CaptureFixture[str]) -> None:
    unknown = {"site": "far", "state": JobState.UNKNOWN}
    said: dict[str, str] = {}
    for reason in ("keys expired", "keys expired", "no answer"):
        _follow._say_unknown((cast(Record, SimpleNamespace(**unknown, reason=reason)),) * 2, said)
    assert capsys.readouterr().err == "far: keys expired\nfar: no answer\n"

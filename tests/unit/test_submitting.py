"""Several jobs at once: what was accepted is never taken for refused, and one bad site does not fail the others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from hybridhpc.command import CommandResult
from hybridhpc.errors import NotFound, TransportError, Undecided, Undelivered
from hybridhpc.ledger.base import Intent, Phase
from hybridhpc.ledger.sqlite import SqliteLedger
from hybridhpc.model import Resources
from hybridhpc.script.plan import Plan
from hybridhpc.sites.site import Site
from hybridhpc.submitting import Submitter

SITE = Site(name="far", file=None, scheduler="slurm", transport="local", job_root="/jobs")
PLAN = Plan(
    name="n", site="far", partition="p", resources=Resources(), usd_per_hour=1.0, script=b"#!/bin/sh\n", options=()
)
ACCEPTED = "job_id={}\nheld=\n\ndone\nend=0\n"
FREE = "JobId=7 JobName=x JobState=PENDING Reason=None Command=/x WorkDir=/ StdOut=/o/7.log\n"


class Cut:
    """A transport whose link is cut after its first errand."""

    def __init__(self, first: str) -> None:
        self.answers = [first]

    def resolve(self, path):
        return path

    def run_all(self, errands, *, within):
        if self.answers:
            return (CommandResult(argv=("sh",), exit_code=0, stdout=self.answers.pop().encode(), stderr=b""),)
        return (Undelivered("the link is cut"),) * len(errands)


def test_a_job_that_was_accepted_and_then_out_of_reach_is_undecided_and_not_refused(
    monkeypatch, tmp_path: Path
) -> None:
    transport = Cut(f"{ACCEPTED.format(7)}{ACCEPTED.format(8)}readback\n{FREE}")
    monkeypatch.setattr("hybridhpc.registry.transport", lambda site, env: transport)
    ledger = SqliteLedger(tmp_path / "ledger.sqlite")
    plans = [replace(PLAN, options=(option,)) for option in ("--nodes=1", "--nodes=2")]
    intents = [Intent(plan=plan, request="r", job_root="/jobs") for plan in plans]
    records = ledger.intend(intents, sweep="s", now=1.0)
    free, held = Submitter([SITE], {}, ledger, lambda: 2.0).carry_out(records, fresh=True)
    assert free.record.job_id == "7"
    assert isinstance(held, Undecided) and "submitted" in held.message and "the link is cut" in held.message
    assert [each.phase for each in ledger.current([record.token for record in records])] == [
        Phase.SUBMITTED,
        Phase.INTENT,
    ]


def test_of_a_site_that_cannot_be_spoken_to_nothing_is_written_down_and_the_others_take_theirs(
    monkeypatch, tmp_path: Path
) -> None:
    class Away(Cut):
        def resolve(self, path):
            raise TransportError("away: no answer within 20 s", hint="is it up?")

    sites = [replace(SITE, name=name) for name in ("away", "far")]
    ways = {"away": Away(""), "far": Cut(f"job_id=7\nreadback=\n{FREE}done\n")}
    monkeypatch.setattr("hybridhpc.registry.transport", lambda site, env: ways[site.name])
    ledger = SqliteLedger(tmp_path / "ledger.sqlite")
    jobs = [(replace(PLAN, site=site), site) for site in ("away", "far", "nosuch")]
    away, far, unknown = Submitter(sites, {}, ledger, lambda: 2.0).submit(jobs, sweep="s")
    assert isinstance(away, Undelivered) and (away.message, away.hint) == ("away: no answer within 20 s", "is it up?")
    assert isinstance(unknown, NotFound)
    assert far.record.job_id == "7"
    assert [record.site for record in ledger.records()] == ["far"]


def test_what_was_written_down_for_a_site_that_is_then_not_to_be_had_is_refused(monkeypatch, tmp_path: Path) -> None:
    """It may go elsewhere, and so must not be carried on here."""
    ways = [Cut(""), NotFound("no transport is called 'far'")]

    def transport(site, env):
        way = ways.pop(0)
        if isinstance(way, NotFound):
            raise way
        return way

    monkeypatch.setattr("hybridhpc.registry.transport", transport)
    ledger = SqliteLedger(tmp_path / "ledger.sqlite")
    (ended,) = Submitter([SITE], {}, ledger, lambda: 2.0).submit([(PLAN, "r")])
    assert isinstance(ended, NotFound)
    assert [record.phase for record in ledger.records()] == [Phase.REFUSED]


def test_what_a_site_said_at_length_is_an_event_and_not_the_reason(monkeypatch, tmp_path: Path) -> None:
    class Full(Cut):
        def put_tree(self, source, directory):
            raise Undelivered("/jobs/.work: its disk is full", evidence="tar: a: No space left on device " * 20)

    monkeypatch.setattr("hybridhpc.registry.transport", lambda site, env: Full(""))
    ledger = SqliteLedger(tmp_path / "ledger.sqlite")
    (ended,) = Submitter([SITE], {}, ledger, lambda: 2.0).submit([(replace(PLAN, workdir="/home/a/code"), "r")])
    (record,) = ledger.records()
    assert record.reason == ended.message == "far: /jobs/.work: its disk is full"
    (event,) = ledger.events(record.token)
    assert (event.kind, event.text.count("tar: a:")) == ("refused", 20)

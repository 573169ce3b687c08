"""Several jobs of one errand: what was accepted and not released is never taken for refused."""

from __future__ import annotations

from pathlib import Path

from hybridhpc.command import CommandResult
from hybridhpc.errors import Undecided, Undelivered
from hybridhpc.ledger.base import Intent, Phase
from hybridhpc.ledger.sqlite import SqliteLedger
from hybridhpc.model import Resources
from hybridhpc.script.plan import Plan
from hybridhpc.sites.site import Site
from hybridhpc.submitting import Submitter

SITE = Site(name="far", file=None, scheduler="slurm", transport="local", job_root="/jobs")
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
    plans = [
        Plan(
            name=n,
            site="far",
            partition="p",
            resources=Resources(),
            usd_per_hour=1.0,
            script=b"#!/bin/sh\n",
            options=(n,),
        )
        for n in ("--nodes=1", "--nodes=2")
    ]
    intents = [Intent(plan=plan, request="r", job_root="/jobs") for plan in plans]
    records = ledger.intend(intents, sweep="s", now=1.0)
    free, held = Submitter([SITE], {}, ledger, lambda: 2.0).carry_out(records, fresh=True)
    assert free.record.job_id == "7"
    assert isinstance(held, Undecided) and "submitted" in held.message and "the link is cut" in held.message
    assert [each.phase for each in ledger.current([record.token for record in records])] == [
        Phase.SUBMITTED,
        Phase.INTENT,
    ]

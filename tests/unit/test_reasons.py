"""Every reason that Slurm has is put into a sentence that says what to do, or what it waits for."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hybridhpc.schedulers.slurm_reasons import explain_reason, is_unavailable, never_starts, waits_for_limit
from hybridhpc.schedulers.slurm_states import is_blocked

ALL = (Path(__file__).parents[1] / "recorded" / "job-reasons.txt").read_text().split()
"""Of Slurm 22.05.8, 24.11.5 and 26.05.5: the reasons in libslurmfull.so, with those of squeue(1)."""


def test_there_are_all_of_them():
    assert len(ALL) > 200
    assert {"QOSMaxGRESPerUser", "MaxGRESRunMinsPerUser", "AssocMaxWallDurationPerJobLimit", "BeginTime"} <= {*ALL}


@pytest.mark.parametrize("reason", ALL)
def test_every_reason_has_a_sentence_and_what_never_starts_is_said_to(reason: str):
    words = explain_reason(reason)
    assert len(words.split()) >= 3
    assert words == explain_reason(f"({reason})")
    assert ("it will never start" in words) == never_starts(reason), words


def test_a_limit_is_told_by_whose_it_is_of_what_and_how():
    assert explain_reason("QOSMaxGRESPerUser") == (
        "with it more would be in use than its QOS allows for one person (GPUs or other generic resources): "
        "it starts when other jobs have ended, or never if it alone asks for more"
    )
    assert "its account" in explain_reason("AssocGrpGRES")
    assert "for one account" in explain_reason("MaxGRESPerAccount")
    assert "submitted jobs" in explain_reason("QOSMaxSubmitJobPerUserLimit")
    assert "decayed" in explain_reason("AssocGrpCPUMinutesLimit")
    assert "shorter walltime" in explain_reason("QOSGrpCPURunMinutesLimit")
    assert "run time" in explain_reason("AssocMaxWallDurationPerJobLimit")
    assert "least" in explain_reason("QOSMinGRES")
    assert explain_reason("Something_new") == ""


def test_what_never_starts_takes_no_place_in_a_queue():
    assert [reason for reason in ALL if never_starts(reason) and not is_blocked(reason)] == []


def test_limits_of_one_job_never_start_and_those_of_many_wait():
    of_one = [reason for reason in ALL if re.search(r"^(Assoc|QOS)Max.*Per(Job|Node)", reason)]
    assert len(of_one) > 30
    assert all(never_starts(reason) for reason in of_one)
    assert not never_starts("QOSMaxGRESPerUser")
    assert waits_for_limit("MaxGRESPerAccount")
    assert not waits_for_limit("MaxBatchRequeue")
    assert is_unavailable("QOSMaxGRESPerUser")

"""What Slurm makes of asks that are no plain figure, and that hpc forecasts, prices and refuses them accordingly."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import pytest

from hybridhpc.probe import survey
from hybridhpc.sites.catalog import parse_site
from hybridhpc.sites.site import Site
from hybridhpc.sites.snapshot import Snapshot
from tests.keeper import Keeper
from tests.lab.lab import Lab
from tests.people import Person

pytestmark = pytest.mark.lab

SLEEP = "#!/bin/sh\nsleep 60\n"


@contextmanager
def sent(lab: Lab, *options: str) -> Iterator[str]:
    """Send a job by plain sbatch; it is cancelled in the end."""
    words = ("sbatch", "--parsable", "--output=/dev/null", "--wrap=sleep 60", *options)
    job_id = lab.run(*words, user="alice").strip()
    try:
        yield job_id
    finally:
        lab.run("scancel", job_id)


def reason_of(lab: Lab, job_id: str) -> str:
    return lab.run("squeue", "--noheader", f"--jobs={job_id}", "--format=%r").strip()


def planned(person: Person, *words: str) -> list[dict[str, Any]]:
    """Plan a script with these options at home; every candidate, whether one will do or not."""
    person.spec(SLEEP, "job.sh")
    answer = person.try_hpc("plan", "--json", "--where=onprem", *words, "job.sh")
    assert answer.stdout, answer.stderr
    candidates: list[dict[str, Any]] = json.loads(answer.stdout)["candidates"]
    return candidates


def of_batch(candidates: list[dict[str, Any]]) -> dict[str, Any]:
    (found,) = [each for each in candidates if each["partition"] == "batch"]
    return found


@pytest.mark.parametrize("limit", ["0", "UNLIMITED", "infinite"])
def test_no_limit_at_a_partition_that_has_one_never_starts_and_is_refused(
    lab: Lab, lab_person: Person, limit: str
) -> None:
    with sent(lab, "-p", "batch", "-t", limit) as job_id:
        Keeper.wait_for(lambda: reason_of(lab, job_id) == "PartitionTimeLimit")
    choice = of_batch(planned(lab_person, "-t", limit))
    assert choice["refused"].startswith("asks for no walltime limit, which is over the partition's limit of 7-00:00:00")
    assert choice["would_admit"] == "--time=7-00:00:00 or less"


def test_of_a_range_of_nodes_slurm_gives_the_most_and_the_plan_has_its_price(lab: Lab, lab_person: Person) -> None:
    with sent(lab, "-p", "batch", "-t", "1", "-N", "2-4") as job_id:
        Keeper.wait_for(
            lambda: lab.run("squeue", "--noheader", f"--jobs={job_id}", "--format=%T %D").split() == ["RUNNING", "4"]
        )
    range_of, four, two = (of_batch(planned(lab_person, "--gpus-per-node=8", "-N", each)) for each in ("2-4", "4", "2"))
    assert range_of["cost_usd"] == four["cost_usd"] == 2 * two["cost_usd"] > 0
    assert "asks for 2 to 4 nodes: its start is that of 2, its price that of 4" in range_of["reason"]


def test_a_range_that_ends_beyond_the_limit_never_starts_and_is_refused(lab: Lab, lab_person: Person) -> None:
    with sent(lab, "-p", "batch", "-t", "1", "-N", "2-16") as job_id:
        Keeper.wait_for(lambda: reason_of(lab, job_id) == "PartitionNodeLimit")
    choice = of_batch(planned(lab_person, "-N", "2-16"))
    assert (
        choice["refused"] == "asks for up to 16 nodes, and partition batch gives a job at most 8: it would never start"
    )
    assert choice["would_admit"] == "--nodes=2-8"


def test_a_bare_job_id_goes_to_where_that_job_is_and_nowhere_if_that_is_not_known(company_person: Person) -> None:
    company_person.spec("#!/bin/sh\n#SBATCH -t 1 --chdir=/tmp\nsleep 30\n", "job.sh")
    unknown = company_person.try_hpc("plan", "-d", "afterok:999999", "job.sh")
    assert unknown.returncode == 5
    assert "--where SITE says whose" in re.sub(r"\s+", " ", unknown.stdout)
    ref = company_person.hpc("submit", "--where=onprem", "--quiet", "job.sh").split()[0]
    try:
        job_id = ref.partition(":")[2]
        plan = json.loads(company_person.hpc("plan", "--json", "-d", f"afterany:{job_id}", "job.sh"))
        assert plan["placement"].startswith("onprem/")
        refused = [each["refused"] for each in plan["candidates"] if each["site"] == "aws"]
        assert all(f"it comes after {job_id} (--dependency), which you have at onprem" in why for why in refused)
    finally:
        company_person.hpc("cancel", ref)


def test_a_double_dash_before_the_script_leaves_our_own_options_before_it(lab: Lab, lab_person: Person) -> None:
    lab_person.spec("#!/bin/sh\necho $# $1\n", "job.sh")
    ref = lab_person.hpc("submit", "--where=onprem/ada", "-t", "1", "--", "job.sh", "--", "x").split()[0]
    shown = lab.run("scontrol", "show", "job", ref.partition(":")[2])
    assert re.search(r"Partition=ada\b", shown)
    lab_person.hpc("wait", ref)
    assert lab_person.hpc("logs", ref).strip() == "2 --"


@pytest.mark.parametrize("begin", ["now+2hours", "23:59", "2030-01-01"])
def test_a_begin_is_forecast_for_when_slurm_has_it(lab: Lab, lab_person: Person, begin: str) -> None:
    with sent(lab, "-p", "batch", "-t", "1", f"--begin={begin}") as job_id:
        shown = lab.run("squeue", "--noheader", f"--jobs={job_id}", "--format=%S").strip()
        theirs = datetime.fromisoformat(shown).astimezone().timestamp() - time.time()
    choice = of_batch(planned(lab_person, "-t", "1", f"--begin={begin}"))
    assert choice["start_s"]["p50"] == pytest.approx(theirs, abs=30)
    assert choice["not_before_s"]["p50"] == pytest.approx(theirs, abs=30)
    assert f"--begin={begin}: it starts in" in choice["reason"]
    assert not choice["held"]
    assert of_batch(planned(lab_person, "-t", "1", "--hold"))["held"]


def test_a_job_is_forecast_after_those_it_comes_after_and_a_chain_after_itself(lab: Lab, lab_person: Person) -> None:
    with sent(lab, "-p", "batch", "-t", "30") as job_id:
        Keeper.wait_for(lambda: lab.run("squeue", "--noheader", f"--jobs={job_id}", "--format=%T").strip() == "RUNNING")
        choice = of_batch(planned(lab_person, "-t", "1", "-d", f"afterany:{job_id}"))
    assert choice["start_s"]["p50"] == pytest.approx(900, abs=60)
    assert choice["start_s"]["p90"] == pytest.approx(1800, abs=60)
    first = lab_person.spec("name: first\ntime: 2h\nrun: sleep 1\n", "first.yaml")
    second = lab_person.spec("name: second\ntime: 1h\nafter: {ok: [first]}\nrun: sleep 1\n", "second.yaml")
    one, two = json.loads(lab_person.hpc("plan", "--json", "--where=onprem/batch", second, first))
    assert (one["candidates"][0]["start_s"]["p50"], one["candidates"][0]["run_s"]["p50"]) == (0, 3600)
    (choice,) = (each for each in two["candidates"] if each["refused"] is None)
    assert choice["start_s"]["p50"] == pytest.approx(3600, abs=10)
    assert "it comes after first, which ends in 1h–2h" in choice["reason"]


def test_a_clock_that_is_minutes_off_is_known_at_every_version(company: Mapping[str, Lab]) -> None:
    """Here it is ours."""
    files = [lab.ssh_site_path for lab in company.values()]
    sites = [site for file in files if isinstance(site := parse_site(file.read_bytes(), str(file)), Site)]
    assert len(sites) == len(company)
    for shift in (600.0, -600.0):
        answers = survey(sites, os.environ, lambda shift=shift: time.time() - shift)
        for answer in answers.values():
            assert isinstance(answer, Snapshot), answer
            assert answer.ahead == pytest.approx(shift, abs=10)
    assert [answer.ahead for answer in survey(sites, os.environ, time.time).values()] == [0.0] * len(sites)

"""A controller that is frozen is told in the same words by every verb that asks what a site can do."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.lab.lab import Lab
from tests.people import Person

pytestmark = pytest.mark.lab


def hurried(person: Person, text: str) -> Person:
    """Return a person whose site is given two seconds."""
    sites = person.home / "config" / "sites"
    sites.mkdir(parents=True, exist_ok=True)
    (sites / "onprem.yaml").write_text(f"{text}\nprobe_deadline: 2s\n")
    return person


@pytest.fixture(params=["local", "ssh"])
def someone(request: pytest.FixtureRequest, tmp_path: Path, lab: Lab) -> Person:
    local = lab.site_path if request.param == "local" else lab.ssh_site_path
    return hurried(Person(tmp_path / "person", SLURM_CONF=str(lab.cluster.slurm_conf)), local.read_text())


def test_a_frozen_controller_is_told_in_the_same_words_everywhere(lab: Lab, someone: Person) -> None:
    someone.spec("#!/bin/sh\nsleep 1\n", "job.sh")
    lab.freeze()
    try:
        sites = someone.try_hpc("sites", "--json")
        plan = someone.try_hpc("plan", "--where=onprem", "job.sh")
        submitted = someone.try_hpc("submit", "--where=onprem", "job.sh")
    finally:
        lab.thaw()
    (silent,) = [each for each in json.loads(sites.stdout) if each["site"] == "onprem"]
    said = re.sub(r"\s+", " ", silent["error"])
    assert re.search(r"(squeue|sinfo|scontrol) gave no answer", said)
    for words in (plan.stdout, submitted.stdout + submitted.stderr):
        told = re.sub(r"(squeue|sinfo|scontrol)", "X", re.sub(r"\s+", " ", words))
        assert re.sub(r"(squeue|sinfo|scontrol)", "X", said) in told
        assert "is the scheduler alive?" in told
    assert (plan.returncode, submitted.returncode) == (6, 6)

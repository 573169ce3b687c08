"""Another package's scheduler and transport are used as ours are: what it takes is an entry point and a site file."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.people import Person

MODULE = """
import os
from hybridhpc.schedulers.slurm import SlurmScheduler
from hybridhpc.transports.local import LocalTransport

class Noting(LocalTransport):
    def run_all(self, errands, *, within):
        with open(os.environ["NOTES"], "a") as notes:
            notes.writelines(f"{errand.command.argv[0]}\\n" for errand in errands)
        return super().run_all(errands, within=within)

class Door(SlurmScheduler):
    pass
"""
POINTS = """
[hybridhpc.transports]
noting = their_package:Noting
gone = no_package:Gone
older = their_package:Older
[hybridhpc.schedulers]
slurm-door = their_package:Door
"""


@pytest.fixture
def extended(lab_person: Person) -> Person:
    """Give a person who has installed a package that adds to hybridhpc, and whose site uses it."""
    place = lab_person.home / "packages"
    described = place / "their_package-1.0.dist-info"
    described.mkdir(parents=True)
    (place / "their_package.py").write_text(MODULE)
    (described / "METADATA").write_text("Metadata-Version: 2.1\nName: their-package\nVersion: 1.0\n")
    (described / "entry_points.txt").write_text(POINTS)
    lab_person.env |= {"PYTHONPATH": str(place), "NOTES": str(lab_person.home / "notes")}
    return lab_person


def site_file(person: Person) -> Path:
    (file,) = (person.home / "config" / "sites").iterdir()
    return file


def using(person: Person, **words: str) -> None:
    text = site_file(person).read_text()
    for key, word in words.items():
        text = re.sub(rf"(?m)^{key}:.*$", f"{key}: {word}", text)
    site_file(person).write_text(text)


def test_jobs_go_through_another_package_s_door(extended: Person) -> None:
    using(extended, transport="noting", scheduler="slurm-door")
    spec = extended.spec("name: q\nresources: {cpus: 1, memory: 100MiB}\ntime: 1m\nrun: srun echo through\n")
    script = extended.spec("#!/bin/sh\n#SBATCH -J s -n1 -t1 -pcpu\nsrun echo through\n", "s.sbatch")
    for file in (spec, script):
        ref = extended.hpc("submit", file, "--where", site_file(extended).stem).strip()
        assert f"{ref} COMPLETED" in extended.hpc("wait", ref)
        assert "through" in extended.hpc("logs", ref)
    assert "sinfo" in (extended.home / "notes").read_text()


@pytest.mark.parametrize(
    ("transport", "said"),
    [
        ("gone", "gone cannot be loaded from no_package:Gone: No module named 'no_package'"),
        ("older", "older cannot be loaded from their_package:Older: module 'their_package' has no attribute 'Older'"),
        ("nothing", "'nothing' is none of local, ssh, openssh, gone, noting, older"),
    ],
)
def test_what_cannot_be_loaded_is_said_and_costs_its_site_alone(extended: Person, transport: str, said: str) -> None:
    using(extended, transport=transport)
    told = extended.try_hpc("sites")
    assert told.returncode == 0 and said in told.stdout and "Traceback" not in told.stdout + told.stderr
    assert extended.try_hpc("check").returncode == 12

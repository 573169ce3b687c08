"""Fixtures for all tests."""

from __future__ import annotations

import re
import shutil
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.lab.lab import Lab
from tests.people import Person

pytest_plugins = ["tests.lab.fixtures"]


def pytest_configure() -> None:
    """Let programs heed the signals that tests send them: what is ignored here would be ignored in them, too.

    It is below nohup (SIGHUP, which is still survived) and behind `&` in a script (SIGINT, SIGQUIT).
    """
    heeded = {
        signal.SIGHUP: lambda *_: None,
        signal.SIGINT: signal.default_int_handler,
        signal.SIGQUIT: signal.SIG_DFL,
    }
    for number, way in heeded.items():
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, way)


@pytest.fixture
def person(tmp_path: Path) -> Iterator[Person]:
    """Someone with nothing configured: jobs run on the embedded site."""
    yield Person(tmp_path / "person", HPC_HERE_CPUS="4")


@pytest.fixture
def lab_person(tmp_path: Path, lab: Lab) -> Person:
    """Someone on the lab's head node, with its site file; their jobs lie in a directory of their own."""
    someone = Person(tmp_path / "person", HPC_HERE_CPUS="4", SLURM_CONF=str(lab.cluster.slurm_conf))
    jobs = f"job_root: {someone.home / 'jobs'}"
    site_file = someone.home / "config" / "sites" / lab.site_path.name
    site_file.parent.mkdir(parents=True)
    site_file.write_text(re.sub(r"(?m)^job_root:.*$", jobs, lab.site_path.read_text()))
    return someone


@pytest.fixture
def company_person(tmp_path: Path, company: Mapping[str, Lab]) -> Person:
    """Someone far from the company's four clusters, who reaches each through its sshd."""
    someone = Person(tmp_path / "person", HPC_HERE_CPUS="4")
    sites = someone.home / "config" / "sites"
    sites.mkdir(parents=True)
    for lab in company.values():
        shutil.copy(lab.ssh_site_path, sites)
    return someone

"""Fixtures for all tests."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.people import Person

pytest_plugins = ["tests.lab.fixtures"]


@pytest.fixture
def person(tmp_path: Path) -> Iterator[Person]:
    """Someone with nothing configured: jobs run on the embedded site."""
    yield Person(tmp_path / "person", HPC_HERE_CPUS="4")

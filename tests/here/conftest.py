"""A machine of two CPUs with nothing on it, for every test that needs one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.here.machine_of_two import Here


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Here]:
    """Two CPU slots and 1000 MiB; nothing of it is left behind."""
    machine = Here(tmp_path)
    yield machine
    machine.end()

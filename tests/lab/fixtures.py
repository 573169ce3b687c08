"""The pytest fixture `lab`: a real Slurm cluster for the session, or a skip that says why there is none.

Load it with `pytest_plugins = ["tests.lab.fixtures"]` in the root conftest.py.
"""

from collections.abc import Iterator

import pytest

from tests.lab.install import RefusedError
from tests.lab.lab import Lab
from tests.lab.place import from_environment, is_made
from tests.lab.up import down, up


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """Give the cluster `onprem`, ready; take the lab down afterwards unless it was there before."""
    try:
        place = from_environment()
        was_there = is_made(place)
        labs = up(place)
    except RefusedError as refused:
        pytest.skip(f"no lab: {refused}")
    yield labs[0]
    if not was_there:
        down(place)

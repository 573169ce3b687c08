"""The pytest fixtures `lab` and `company`: real clusters for the session, or a skip that says why there are none.

Load them with `pytest_plugins = ["tests.lab.fixtures"]` in the root conftest.py.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

import pytest

from tests.lab.cluster import PORTS
from tests.lab.company import NAMES
from tests.lab.install import RefusedError
from tests.lab.lab import Lab
from tests.lab.place import Place, from_environment, is_made
from tests.lab.up import down, find, up


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """Give the cluster `onprem`, ready; a new one is without accounting, which no test of this fixture may need."""
    with _clusters(from_environment(), ["onprem"], accounting=False) as labs:
        yield labs["onprem"]


@pytest.fixture(scope="session")
def company() -> Iterator[Mapping[str, Lab]]:
    """Give all four clusters by name, ready: those of HPC_LAB_DIR where all are there, else new ones beside it."""
    place = from_environment()
    if not is_made(place) or {found.cluster.name for found in find(place)} != set(NAMES):
        beside = place.directory.with_name(f"{place.directory.name}-company")
        place = replace(place, directory=beside, port=place.port + PORTS * len(NAMES))
    with _clusters(place, NAMES, accounting=True) as labs:
        yield labs


@contextmanager
def _clusters(place: Place, names: Sequence[str], *, accounting: bool) -> Iterator[Mapping[str, Lab]]:
    """Bring clusters up for the session; take the lab down afterwards unless it was there before."""
    try:
        was_there = is_made(place)
        labs = up(place, names, accounting=accounting)
    except RefusedError as refused:
        pytest.skip(f"no lab: {refused}")
    yield {lab.cluster.name: lab for lab in labs}
    if not was_there:
        down(place)

"""Times, memory, money and GPUs as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridhpc import units
from hybridhpc.model import Gpus


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("12h", 43200),
        ("90m", 5400),
        ("1h30m", 5400),
        ("12:00:00", 43200),
        ("1-12:00:00", 129600),
        ("1.5h", 5400),
        ("2d", 172800),
    ],
)
def test_walltimes(text: str, seconds: int) -> None:
    assert units.parse_walltime(text) == seconds


@pytest.mark.parametrize("text", ["", "90", "0s", "-1h", "400d", "9" * 400 + "h", "soon", "1h 30", "١٢h", "nan", "inf"])
def test_what_is_no_walltime_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        units.parse_walltime(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30", 1800), ("30:15", 1815), ("1:0:0", 3600), ("2-3", 183600), ("1-2:30", 95400), ("UNLIMITED", None)],
)
def test_times_as_sbatch_reads_them(text: str, seconds: int | None) -> None:
    assert units.parse_slurm_time(text) == seconds


@given(st.integers(0, 400 * 86400))
def test_a_time_is_spelled_as_it_is_read(seconds: int) -> None:
    assert units.parse_slurm_time(units.format_walltime(seconds)) == seconds


@pytest.mark.parametrize(
    ("text", "mebibytes"),
    [
        ("64GiB", 65536),
        ("64GB", 65536),
        ("512M", 512),
        ("64+", 65536),
        ("64..", 65536),
        ("1.5TiB", 1572864),
        ("8", 8192),
    ],
)
def test_memory(text: str, mebibytes: int) -> None:
    assert units.parse_memory(text) == mebibytes


@pytest.mark.parametrize("text", ["", "0", "-1G", "512B", "9" * 400, "much", "2EiB", "1e9"])
def test_what_is_no_memory_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        units.parse_memory(text)


@given(st.integers(1, 2**30))
def test_memory_is_spelled_as_it_is_read(mebibytes: int) -> None:
    assert units.parse_memory(units.format_memory(mebibytes)) == mebibytes


@pytest.mark.parametrize(
    ("text", "gpus"),
    [("H100:8", Gpus(kind="H100", count=8)), ("H100", Gpus(kind="H100", count=1)), ("8", Gpus(count=8))],
)
def test_gpus(text: str, gpus: Gpus) -> None:
    assert units.parse_gpus(text) == gpus


@pytest.mark.parametrize("text", ["", ":", "H100:", ":8", "H100:x", "a b", "1000000", "H100:٣"])
def test_what_names_no_gpus_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        units.parse_gpus(text)


@pytest.mark.parametrize(("text", "price"), [("30 USD/h", 30), ("$2.10/h", 2.1), ("5", 5)])
def test_prices(text: str, price: float) -> None:
    assert units.parse_price(text) == price


@given(st.floats(0, 1e7))
def test_a_duration_has_at_most_two_units(seconds: float) -> None:
    assert len(units.format_duration(seconds).split()) <= 2

"""How Slurm spells things: one reading for each spelling, and no text that makes a traceback."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridhpc.model import Gpus
from hybridhpc.schedulers import lists
from hybridhpc.schedulers import slurm_text as text

ANYTHING = st.text(max_size=60)
INDICES = st.lists(st.integers(0, 5000), min_size=1, max_size=30, unique=True).map(sorted)


@pytest.mark.parametrize(
    ("words", "gpus"),
    [
        ("gpu:h100:8", Gpus(count=8, kind="h100")),
        ("gpu:h100:8(S:0-1)", Gpus(count=8, kind="h100")),
        ("gpu:h100:6(IDX:0-2,5-7)", Gpus(count=6, kind="h100")),
        ("gres:gpu:h100:2", Gpus(count=2, kind="h100")),
        ("gres/gpu:h100:2", Gpus(count=2, kind="h100")),
        ("gres/gpu=2", Gpus(count=2)),
        ("cpu=24,mem=10M,node=1,gres/gpu=8,gres/gpu:h100=8", Gpus(count=8, kind="h100")),
        ("gpu:4090:2", Gpus(count=2, kind="4090")),
        ("gpu:nvidia_h100_80gb_hbm3:4,gpu:t4:2", Gpus(count=6, kind="nvidia_h100_80gb_hbm3")),
        ("gpu", Gpus(count=1)),
        ("gpu:h100", Gpus(count=1, kind="h100")),
        ("gpu:0", Gpus(count=0)),
        ("shard:32,mps:200", None),
        ("N/A", None),
        ("(null)", None),
        ("", None),
    ],
)
def test_gpus_are_read_in_every_spelling(words: str, gpus: Gpus | None) -> None:
    assert text.parse_gpus(words) == gpus


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ("11", ("11", "")),
        ("11_3", ("11", "_3")),
        ("11_[0-3%2]", ("11", "_[0-3%2]")),
        ("11_[0-3,5,...", ("11", "_[0-3,5,...]")),
        ("12+0", ("12", "+0")),
        ("11;cluster", ("11", "")),
        ("", None),
        ("N/A", None),
        ("1 2", None),
        ("_3", None),
        ("11.batch", None),
    ],
)
def test_a_job_id_is_taken_apart(words: str, parts: tuple[str, str] | None) -> None:
    assert text.split_job_id(words) == parts


@pytest.mark.parametrize(
    ("words", "hosts"),
    [
        ("dgx1", ["dgx1"]),
        ("dgx[1-3],cpu1", ["dgx1", "dgx2", "dgx3", "cpu1"]),
        ("dgx[01-02,10]", ["dgx01", "dgx02", "dgx10"]),
        ("dgx[08-11],login", ["dgx08", "dgx09", "dgx10", "dgx11", "login"]),
        ("dgx2, dgx[1,4]", ["dgx2", "dgx1", "dgx4"]),
        ("r[1-2]n[1-2]", ["r1n1", "r1n2", "r2n1", "r2n2"]),
        ("r[1-2]n[1,3]", ["r1n1", "r1n3", "r2n1", "r2n3"]),
        ("a-[1-2].b", ["a-1.b", "a-2.b"]),
        ("dgx[1-", ["dgx[1-"]),
        ("dgx[", ["dgx"]),
        ("", []),
    ],
)
def test_hosts_are_listed_in_order(words: str, hosts: list[str]) -> None:
    assert list(lists.parse_hosts(words)) == hosts


@given(INDICES, st.integers(1, 9))
def test_listing_indices_undoes_writing_them(indices: list[int], throttle: int) -> None:
    written = ",".join(map(str, indices)) + f"%{throttle}"
    assert list(lists.parse_indices(written)) == indices
    assert lists.count_indices(written) == len(indices)


@given(st.integers(0, 10**9), st.integers(0, 10**9), st.integers(1, 10**6))
def test_counting_agrees_with_python_and_listing_is_bounded(low: int, length: int, step: int) -> None:
    written = f"{low}-{low + length}:{step}"
    wanted = range(low, low + length + 1, step)
    assert lists.count_indices(written) == len(wanted)
    assert lists.parse_indices(written) == tuple(wanted[: lists.MOST_INDICES])


def test_a_job_of_a_billion_hosts_or_tasks_does_not_fill_the_memory() -> None:
    assert len(lists.parse_hosts("n[0-999999999]")) <= lists.MAX_HOSTS + 1
    assert len(lists.parse_indices("0-4000000,5")) == lists.MOST_INDICES


@pytest.mark.parametrize(("words", "mebibytes"), [("1000M", 1000), ("3.50G", 3584), ("250T", 262144000), ("70", 70)])
def test_amounts_of_memory_are_mebibytes(words: str, mebibytes: int) -> None:
    assert text.parse_amount(words) == mebibytes


@pytest.mark.parametrize("words", ["N/A", "Unknown", "None", "(null)", "0", "", "2026-11-20T20:00:00", "-1"])
def test_no_time_is_no_time(words: str) -> None:
    assert text.parse_time(words) is None


@given(ANYTHING)
def test_no_text_makes_a_traceback(words: str) -> None:
    for parse in (
        text.parse_gpus,
        lists.parse_hosts,
        lists.parse_indices,
        lists.count_indices,
        text.parse_amount,
        text.parse_time,
        text.parse_limit,
        text.parse_tres,
        text.parse_count,
        text.split_job_id,
        text.is_unreachable,
    ):
        parse(words)
    list(text.fields_of(words, 3))


@given(st.lists(st.lists(st.text(st.characters(exclude_characters="\x1f\n"), max_size=8), min_size=3, max_size=3)))
def test_records_come_back_as_they_were_written(records: list[list[str]]) -> None:
    written = "".join("".join(f"{field}\x1f" for field in record) + "\n" for record in records)
    assert list(text.fields_of(written, 3)) == [[field.strip() for field in record] for record in records]


def test_a_line_that_is_no_record_is_left_out_and_the_others_stay() -> None:
    assert list(text.fields_of("1\x1fa\x1f\nbroken\n\n2\x1fb\x1f\n3\x1fb\x1fc\x1f\n", 2)) == [["1", "a"], ["2", "b"]]


@pytest.mark.parametrize(
    "words",
    [
        "squeue: error: Unable to contact slurm controller (connect failure)",
        "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation",
        "slurm_load_jobs error: Zero Bytes were transmitted or received",
        "scontrol: error: slurm_persist_conn_open: Connection refused",
    ],
)
def test_an_unreached_controller_is_recognised(words: str) -> None:
    assert text.is_unreachable(words)
    assert not text.is_unreachable("sbatch: error: invalid partition specified: nosuch")

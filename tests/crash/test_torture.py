"""A short torture: what `make torture` does in twenty minutes, in less than one; and that its judge can find fault."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.lab.lab import Lab
from tests.loopback import NO_SSHD, can_run
from tests.torture.__main__ import Torture, parser
from tests.torture.judge import completed_by_slurm, count, written_by_jobs
from tests.torture.world import World

COMPLETED = "JobId={id} UserId=root(0) Name={name} JobState={state} StartTime=2026-11-25T15:03:11 NodeList=n1 NodeCnt=1"


def judged(slurm: list[tuple[str, str]], counter: str, leaked: list[str]) -> tuple[tuple[str, ...], ...]:
    """Judge three jobs: a and b are wanted, b may begin again, c was cancelled."""
    lines = [COMPLETED.format(id=number, name=name, state=state) for number, (name, state) in enumerate(slurm)]
    begun, done = written_by_jobs(counter)
    verdict = count({"a", "b"}, {"c"}, completed_by_slurm(lines), begun, done, leaked=leaked, rerun={"b"})
    return verdict.lost, verdict.twice, verdict.leaked


GOOD = "begin a\nbegin b\nbegin b\ndone b\ndone a\n"


@pytest.mark.parametrize(
    ("slurm", "counter", "leaked", "found"),
    [
        ("a b", GOOD, [], ((), (), ())),
        ("a b c", GOOD + "begin c\ndone c\n", [], ((), (), ())),
        ("b", GOOD, [], (("a",), (), ())),
        ("a b", GOOD.replace("done a\n", ""), [], (("a",), (), ())),
        ("a a b", GOOD, [], ((), ("a",), ())),
        ("a b", GOOD + "begin a\n", [], ((), ("a",), ())),
        ("a b", GOOD + "done b\n", [], ((), ("b",), ())),
        ("a b", GOOD + "begin c\nbegin c\n", [], ((), ("c",), ())),
        ("a b", GOOD, ["7 a PENDING"], ((), (), ("7 a PENDING",))),
    ],
)
def test_the_judge_finds_every_fault(
    slurm: str, counter: str, leaked: list[str], found: tuple[tuple[str, ...], ...]
) -> None:
    records = [(name, "COMPLETED") for name in slurm.split()] + [("a", "CANCELLED"), ("b", "NODE_FAIL")]
    assert judged(records, counter, leaked) == found


def test_nothing_written_is_nothing_done() -> None:
    assert written_by_jobs("") == (Counter(), Counter())


@pytest.mark.lab
@pytest.mark.timeout(200)
def test_a_short_torture_loses_nothing_and_runs_nothing_twice(lab: Lab, tmp_path: Path) -> None:
    if not can_run():
        pytest.skip(NO_SSHD)
    words = [
        "--seed",
        "7",
        "--kills",
        "24",
        "--each",
        "1",
        "--minutes",
        "1.5",
        "--people",
        "2",
        "--jobs",
        "12",
        "--node-jobs",
        "0",
    ]
    world = World(lab, tmp_path / "world")
    try:
        torture = Torture(world, parser().parse_args(words))
        verdict = torture.run()
    finally:
        world.end()
    assert (verdict.lost, verdict.twice, verdict.leaked) == ((), (), ())
    assert torture.toll.total > 0

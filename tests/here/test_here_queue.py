"""The laws of the queue, and the reading of what a job asks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridhpc.here.queue import MET, NEVER, WAITS, Machine, Outlook, Taken, Waiting, dependency, look, never_fits
from hybridhpc.here.request import Refusal, file_name, read_array, read_dependency, read_job_id, read_options

MACHINE = Machine("m", 4, (), 1000, ("h100", "h100", "a100"))
WISH = Waiting(
    job=1, cpus=1, memory=10, gpus=0, gpu_kind=None, throttle=None, held=False, running=0, dependency=MET
)  # fmt: skip

wishes = st.builds(
    Waiting,
    job=st.just(0),
    cpus=st.integers(1, 5),
    memory=st.integers(1, 1200),
    gpus=st.integers(0, 4),
    gpu_kind=st.sampled_from([None, "h100", "a100", "v100"]),
    throttle=st.none() | st.integers(1, 2),
    held=st.booleans(),
    running=st.integers(0, 2),
    dependency=st.sampled_from([MET, MET, WAITS, NEVER]),
)
queues = st.lists(wishes, max_size=8).map(lambda jobs: [job._replace(job=place) for place, job in enumerate(jobs)])


def eligible(job: Waiting) -> bool:
    throttled = job.throttle is not None and job.running >= job.throttle
    fits = not never_fits(MACHINE, job.cpus, job.memory, job.gpus, job.gpu_kind)
    return not job.held and job.dependency == MET and not throttled and fits


def play(jobs: list[Waiting]) -> tuple[list[int], list[Taken], Outlook]:
    """Start jobs of one task each until nobody else can start."""
    order: list[int] = []
    taken: list[Taken] = []
    while True:
        seen = look(MACHINE, taken, [job for job in jobs if job.job not in order])
        if seen.grant is None:
            return order, taken, seen
        order.append(seen.grant.job)
        taken.append(Taken(seen.grant.cpus, jobs[seen.grant.job].memory, seen.grant.gpus))


@given(queues)
def test_slots_are_never_given_out_twice(jobs: list[Waiting]) -> None:
    _, taken, _ = play(jobs)
    cpus = [cpu for task in taken for cpu in task.cpus]
    gpus = [gpu for task in taken for gpu in task.gpus]
    assert len(cpus) == len(set(cpus)) <= MACHINE.cpus
    assert len(gpus) == len(set(gpus)) <= len(MACHINE.gpus)
    assert sum(task.memory for task in taken) <= MACHINE.memory


@given(queues)
def test_a_job_starts_with_exactly_what_it_asked_for(jobs: list[Waiting]) -> None:
    order, taken, _ = play(jobs)
    for number, task in zip(order, taken, strict=True):
        assert (len(task.cpus), len(task.gpus)) == (jobs[number].cpus, jobs[number].gpus)
        assert all(jobs[number].gpu_kind in (None, MACHINE.gpus[gpu]) for gpu in task.gpus)


@given(queues)
def test_no_job_starts_before_an_eligible_one_that_was_submitted_earlier(jobs: list[Waiting]) -> None:
    order, _, seen = play(jobs)
    able = [job.job for job in jobs if eligible(job)]
    assert order == able[: len(order)]
    if len(order) < len(able):
        assert seen.reasons[able[len(order)]] == "Resources"
        assert {seen.reasons[job] for job in able[len(order) + 1 :]} <= {"Priority"}


@given(queues)
def test_on_an_empty_machine_the_first_eligible_job_always_starts(jobs: list[Waiting]) -> None:
    grant = look(MACHINE, [], jobs).grant
    assert (grant.job if grant else None) == next((job.job for job in jobs if eligible(job)), None)


@given(queues)
def test_everyone_who_waits_is_told_why_and_who_never_can_is_named(jobs: list[Waiting]) -> None:
    seen = look(MACHINE, [], jobs)
    assert set(seen.reasons) == {job.job for job in jobs}
    assert seen.never == tuple(job.job for job in jobs if job.dependency == NEVER)


def test_a_job_too_big_for_the_machine_of_today_steps_aside() -> None:
    seen = look(MACHINE, [], [WISH._replace(cpus=9), WISH._replace(job=2)])
    assert (seen.grant and seen.grant.job, seen.reasons[1]) == (2, "asks 9 CPUs, this machine lends 4")


@pytest.mark.parametrize(
    ("kind", "states", "started", "word"),
    [
        ("after", ["PENDING"], 0, WAITS),
        ("after", ["RUNNING"], 1, MET),
        ("after", ["RUNNING", "PENDING"], 1, WAITS),
        ("afterok", ["RUNNING"], 1, WAITS),
        ("afterok", ["COMPLETED"], 1, MET),
        ("afterok", ["COMPLETED", "RUNNING"], 2, WAITS),
        ("afterok", ["TIMEOUT", "RUNNING"], 2, NEVER),
        ("afterok", ["UNKNOWN"], 1, WAITS),
        ("afterany", ["CANCELLED", "RUNNING"], 2, WAITS),
        ("afterany", ["CANCELLED", "NODE_FAIL"], 2, MET),
        ("afternotok", ["OUT_OF_MEMORY"], 1, MET),
        ("afternotok", ["COMPLETED", "FAILED"], 2, MET),
        ("afternotok", ["COMPLETED", "COMPLETED"], 2, NEVER),
        ("afternotok", ["FAILED", "RUNNING"], 2, WAITS),
    ],
)
def test_dependencies_mean_what_sbatch_says(kind: str, states: list[str], started: int, word: str) -> None:
    assert dependency(kind, states, started) == word


@pytest.mark.parametrize(
    ("text", "indices", "throttle"),
    [
        ("0-3", (0, 1, 2, 3), None),
        ("7", (7,), None),
        ("1,5,9-20:4%3", (1, 5, 9, 13, 17), 3),
        ("3-3", (3,), None),
        ("5,1,5", (1, 5), None),
    ],
)
def test_arrays_are_read_as_slurm_spells_them(text: str, indices: tuple[int, ...], throttle: int | None) -> None:
    assert read_array(text) == (indices, throttle)


@given(st.text(alphabet="0123456789-,:%ax_ ²٣", max_size=12))
def test_no_text_is_a_crash(text: str) -> None:
    for read in (read_array, read_dependency, read_job_id):
        try:
            read(text)
        except Refusal as refusal:
            assert str(refusal)


@given(st.lists(st.text(max_size=8), max_size=6))
def test_no_command_line_is_a_crash(words: list[str]) -> None:
    try:
        options, rest = read_options(words)
    except Refusal as refusal:
        assert str(refusal)
    else:
        assert len(options) + len(rest) <= len(words)


def test_the_last_of_equal_options_wins_and_the_rest_stays_as_it_is() -> None:
    options, rest = read_options(["--cpus=1", "--cpus", "2", "--hold", "--", "script", "--cpus=9", "--"])
    assert (options, rest) == ({"cpus": "2", "hold": "yes"}, ["script", "--cpus=9", "--"])


def test_file_names_are_filled_in_as_slurm_does() -> None:
    values = {"j": "12", "A": "10", "a": "2", "x": "n%j", "u": "me", "%": "%"}
    assert file_name("%x-%j-%5A_%a-%%j-%q-%u", values) == "n%j-12-00010_2-%j-%q-me"

"""What every scheduler promises, run for each there is: pairs of commands and parsers, and no surprise from either."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import hybridhpc
from hybridhpc import registry
from hybridhpc.command import Command, CommandResult
from hybridhpc.errors import HpcError
from hybridhpc.model import Gpus, JobSpec, JobState, JobStatus, Resources, Work
from hybridhpc.schedulers.base import Scheduler, Submission
from hybridhpc.sites.site import Site
from hybridhpc.sites.snapshot import Snapshot

SPEC = JobSpec(name="job", file="/f", digest="", resources=Resources(cpus=2), payload=Work(run="true"))
SUBMISSION = Submission(
    token="t" * 20, job_dir="/jobs/t/1", script="/jobs/t/1/script", options=(), args=("a b",), cwd="/jobs/t/1"
)
NOISE = st.one_of(st.binary(max_size=400), st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace")))


@pytest.fixture(params=sorted(registry.BUILT_IN["hybridhpc.schedulers"]))
def scheduler(request: pytest.FixtureRequest) -> Scheduler:
    return registry.scheduler(request.param)


def site_of(scheduler: Scheduler) -> Site:
    return Site(name="s", file=None, scheduler=scheduler.name, transport="local", job_root="/jobs")


def answer(stdout: bytes, *, exit_code: int = 0) -> CommandResult:
    return CommandResult(argv=("x",), exit_code=exit_code, stdout=stdout, stderr=b"")


def test_it_bears_the_name_it_is_known_by(scheduler: Scheduler) -> None:
    assert registry.scheduler(scheduler.name).name == scheduler.name


def test_what_it_needs_at_a_site_is_shipped_with_it(scheduler: Scheduler) -> None:
    folder = Path(hybridhpc.__file__).parent / "on_site"
    assert all((folder / name).is_file() for name in (*scheduler.on_site, *scheduler.to_withdraw))


def test_its_commands_are_argument_lists_with_a_time_limit(scheduler: Scheduler) -> None:
    site = site_of(scheduler)
    commands: list[Command] = [
        *scheduler.survey_commands(site),
        *scheduler.status_commands(site, ["1", "2_3"]),
        *scheduler.last_words_commands(site, ["1"]),
        scheduler.cancel_command(site, ["1"]),
        scheduler.withdraw_command(site, "1", "/jobs/t/1", 0),
        scheduler.find_command(site),
        scheduler.submit_command(site, [SUBMISSION]),
    ]
    for command in commands:
        assert all(isinstance(word, str) and "\0" not in word for word in command.argv)
        assert command.timeout > 0
    assert "a b" in scheduler.submit_command(site, [SUBMISSION]).argv


def test_nothing_is_asked_about_no_jobs(scheduler: Scheduler) -> None:
    commands = scheduler.status_commands(site_of(scheduler), [])
    assert commands == () or scheduler.parse_status([answer(b"{}") for _ in commands]) == {}


def test_the_options_of_a_spec_are_the_same_each_time(scheduler: Scheduler) -> None:
    asked = (SPEC, site_of(scheduler), "p", Gpus(kind="H100", count=2))
    assert scheduler.directives(*asked) == scheduler.directives(*asked)
    assert all(option.startswith("--") for option in scheduler.directives(*asked))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(noise=NOISE, exit_code=st.sampled_from([0, 1, 137]))
def test_no_answer_makes_a_parser_fail_in_an_unforeseen_way(scheduler: Scheduler, noise: bytes, exit_code: int) -> None:
    said = answer(noise, exit_code=exit_code)
    site = site_of(scheduler)
    surveyed = [said] * len(scheduler.survey_commands(site))
    for parse in (
        lambda: scheduler.parse_survey(site, surveyed, now=1.0),
        lambda: scheduler.parse_status([said]),
        lambda: scheduler.parse_last_words([said], {}),
        lambda: scheduler.parse_submit(said, [SUBMISSION]),
        lambda: scheduler.parse_cancel(said),
        lambda: scheduler.parse_withdraw(said),
        lambda: scheduler.parse_find(said, "t" * 20),
        lambda: scheduler.parse_plugins(said),
        lambda: scheduler.parse_start_estimate(said),
    ):
        try:
            found = parse()
        except HpcError:
            continue
        if isinstance(found, dict):
            assert all(isinstance(status, JobStatus) for status in found.values())
            assert not any(status.state is JobState.COMPLETED for status in found.values())
        assert not isinstance(found, Snapshot) or found.site == "s"


def test_an_empty_answer_never_calls_a_job_done(scheduler: Scheduler) -> None:
    site = site_of(scheduler)
    empty = b"{}" if scheduler.name == "here" else b""
    assert "1" not in scheduler.parse_status([answer(empty) for _ in scheduler.status_commands(site, ["1"])])

"""The dialect of the embedded site: commands and answers, and both together with the real thing."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import pytest

from hybridhpc.command import CommandResult
from hybridhpc.errors import SchedulerError, Undecided
from hybridhpc.model import Array, Checkpoint, Gpus, JobSpec, JobState, Mebibytes, Resources, Script, Seconds, Work
from hybridhpc.schedulers.base import Scheduler, Submission, Submitted
from hybridhpc.schedulers.here import HereScheduler
from hybridhpc.sites.site import Site
from tests.here.machine_of_two import Here, until

SITE = Site(name="here", file=None, scheduler="here", transport="local", job_root="/r", gres=(("H100", "h100"),))
SUBMISSION = Submission(
    token="t" * 20, job_dir="/jobs/t/1", script="/jobs/t/1/script", options=(), args=(), cwd="/jobs/t/1"
)
DIALECT: Scheduler = HereScheduler()
SPEC = JobSpec(name="n", file="/s.yaml", digest="d", resources=Resources(), payload=Work(run="true"))


def answer(text: str, code: int = 0, complaint: str = "") -> CommandResult:
    return CommandResult(argv=(), exit_code=code, stdout=text.encode(), stderr=complaint.encode())


def row(name: str, state: str, **more: object) -> dict[str, object]:
    times = {"submitted_at": 1.0, "started_at": None, "ended_at": None, "exit_code": None, "signal": None}
    return {"id": name, "state": state, "reason": "", "node": "m", **times, **more}


def test_every_command_names_this_python_and_the_root() -> None:
    commands = [
        *DIALECT.survey_commands(SITE),
        *DIALECT.status_commands(SITE, ["1", "2_3"]),
        DIALECT.cancel_command(SITE, ["1"]),
        DIALECT.find_command(SITE),
    ]
    assert {command.argv[:4] for command in commands} == {(sys.executable, "-P", "-m", "hybridhpc.here")}
    assert {command.argv[5] for command in commands} == {"--root=/r"}
    assert commands[1].argv[4:] == ("status", "--root=/r", "1", "2_3")
    assert DIALECT.status_commands(SITE, []) == ()


def test_a_spec_becomes_options() -> None:
    wishes = Resources(cpus=2, memory=Mebibytes(4096), walltime=Seconds(600))
    assert DIALECT.directives(replace(SPEC, resources=wishes), SITE, "local", Gpus(count=1, kind="H100")) == (
        "--name=n", "--cpus=2", "--memory=4096", "--gpus=h100:1", "--walltime=600", "--output=%j.log",
    )  # fmt: skip
    array = replace(SPEC, array=Array(text="0-3%2", tasks=4, throttle=2), resources=Resources(whole_nodes=True))
    options = DIALECT.directives(array, SITE, "local", None)
    assert options == ("--name=n", "--array=0-3%2", "--output=%A_%a.log", "--exclusive")


def test_a_checkpoint_asks_for_a_warning_and_native_outputs_win() -> None:
    work = Work(run="x", tasks_per_node=2, checkpoint=Checkpoint(directory="c"), slurm=(("output", "o"), ("qos", "q")))
    options = DIALECT.directives(replace(SPEC, payload=work), SITE, "local", None)
    assert options == ("--name=n", "--output=%j.log", "--ntasks=2", "--signal=B:USR1@120", "--output=o")


def test_a_script_keeps_slurms_names_for_its_output() -> None:
    script = replace(SPEC, payload=Script(content=b"#!/bin/sh\n", path="/x"))
    assert "--output=slurm-%j.out" in DIALECT.directives(script, SITE, "local", None)
    array = replace(script, array=Array(text="1", tasks=1))
    assert "--output=slurm-%A_%a.out" in DIALECT.directives(array, SITE, "local", None)


@pytest.mark.parametrize("broken", [answer("", 1, "boom"), answer("no json"), answer('{"x": 1}'), answer("", 137)])
def test_whether_a_job_was_submitted_is_not_guessed(broken: CommandResult) -> None:
    (told,) = DIALECT.parse_submit(broken, [SUBMISSION])
    assert isinstance(told, Undecided)


def test_a_refusal_keeps_its_words() -> None:
    (told,) = DIALECT.parse_submit(answer("", 3, "here: the job asks 9 CPUs"), [SUBMISSION])
    assert isinstance(told, SchedulerError) and "asks 9 CPUs" in told.message


def test_an_array_is_told_task_by_task_and_folded() -> None:
    rows = [row("12_0", "COMPLETED", started_at=5.0, ended_at=9.0, exit_code=0), row("12_1", "RUNNING", started_at=6.0)]
    found = DIALECT.parse_status([answer(json.dumps({"12": rows, "7": [row("7", "PENDING")]}))])
    assert {job: status.state.value for job, status in found.items()} == {
        "12_0": "COMPLETED", "12_1": "RUNNING", "12": "RUNNING", "7": "PENDING",
    }  # fmt: skip
    assert (found["12"].started_at, found["12"].ended_at, found["12"].exit_code) == (5.0, None, None)
    rows[1] = row("12_1", "FAILED", started_at=6.0, ended_at=8.0, exit_code=3)
    fold = DIALECT.parse_status([answer(json.dumps({"12": rows}))])["12"]
    assert (fold.state, fold.exit_code, fold.ended_at) == (JobState.FAILED, 3, 9.0)


def test_one_unreadable_row_spoils_one_job() -> None:
    rows = {"1": [{"id": "1", "state": "DANCING"}], "2": [row("2", "COMPLETED", exit_code=0)], "3": "x", "4": [None]}
    found = DIALECT.parse_status([answer(json.dumps(rows))])
    assert {job: status.state for job, status in found.items()} == {
        "1": JobState.UNKNOWN, "2": JobState.COMPLETED, "3": JobState.UNKNOWN, "4": JobState.UNKNOWN,
    }  # fmt: skip
    assert found["1"].native_state == "DANCING"


def test_a_survey_that_cannot_be_read_is_an_error_and_one_bad_job_is_not() -> None:
    facts = {
        "version": "1", "host": "m", "cpus": 4, "memory": 100, "gpus": ["h100"], "cpus_taken": 1, "memory_taken": 10,
        "gpus_taken": 0, "jobs": [{"id": "1"}],
    }  # fmt: skip
    snapshot = DIALECT.parse_survey(SITE, [answer(json.dumps(facts))], now=5.0)
    assert (snapshot.nodes[0].cpus_alloc, snapshot.nodes[0].gpu_kind, snapshot.jobs) == (1, "h100", ())
    for broken in ({**facts, "cpus": "many"}, {}, {**facts, "gpus": None}):
        with pytest.raises(SchedulerError):
            DIALECT.parse_survey(SITE, [answer(json.dumps(broken))], now=5.0)
    with pytest.raises(SchedulerError, match="boom"):
        DIALECT.parse_survey(SITE, [answer("", 1, "boom")], now=5.0)


def test_the_dialect_and_the_site_understand_each_other(here: Here) -> None:
    site = replace(SITE, job_root=str(here.root))

    def ask(words: tuple[str, ...]) -> CommandResult:
        found = here.call(words[4], *words[6:])
        return CommandResult(
            argv=words, exit_code=found.returncode, stdout=found.stdout.encode(), stderr=found.stderr.encode()
        )

    def submit(script: str, *options: str) -> str:
        words = here.submission(script)
        job_dir, path = words[5], words[-1]
        named = Submission(
            token=words[1], job_dir=job_dir, script=path, options=options, args=("a b",), cwd=str(here.work)
        )
        (submitted,) = DIALECT.parse_submit(ask(DIALECT.submit_command(site, [named]).argv), [named])
        assert isinstance(submitted, Submitted)
        assert submitted.log == f"{here.work}/%j.log" if "--array=0-1" not in options else f"{here.work}/%A_%a.log"
        assert DIALECT.parse_find(ask(DIALECT.find_command(site).argv), words[1]) == (submitted.job_id,)
        return submitted.job_id

    spec = replace(SPEC, resources=Resources(cpus=2, memory=Mebibytes(100), walltime=Seconds(60)))
    running = submit('[ "$1" = "a b" ]; sleep 300', *DIALECT.directives(spec, site, "local", None))
    array = submit("true", "--array=0-1", "--memory=50", f"--dependency=afterany:{running}")
    here.wait(int(running), lambda task: task.started_at is not None)
    snapshot = DIALECT.parse_survey(site, [ask(DIALECT.survey_commands(site)[0].argv)], now=9.0)
    (node,) = snapshot.nodes
    assert (node.cpus, node.cpus_alloc, node.memory, node.memory_alloc) == (2, 2, 1000, 100)
    first, second = snapshot.jobs
    assert (first.job_id, second.job_id) == (running, array)
    assert (first.line.state, first.line.walltime, first.line.node_names) == (JobState.RUNNING, 60, (node.name,))
    assert (second.line.tasks, second.line.blocked, second.line.reason) == (2, True, "Dependency")
    DIALECT.parse_cancel(ask(DIALECT.cancel_command(site, [running]).argv))
    with pytest.raises(SchedulerError, match="no such job here: 99"):
        DIALECT.parse_cancel(ask(DIALECT.cancel_command(site, ["99"]).argv))

    def statuses() -> dict[str, JobState]:
        asked = ask(DIALECT.status_commands(site, [running, array, "99"])[0].argv)
        return {job: status.state for job, status in DIALECT.parse_status([asked]).items()}

    ended = {
        running: JobState.CANCELLED, array: JobState.COMPLETED, f"{array}_0": JobState.COMPLETED,
        f"{array}_1": JobState.COMPLETED,
    }  # fmt: skip
    until(lambda: statuses() == ended, lambda: str(statuses()))

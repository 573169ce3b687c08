"""The dialect's pairs: submission, start estimate, finding, cancelling."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridhpc.command import CommandResult
from hybridhpc.errors import HpcError, SchedulerError, Undecided, Unreached
from hybridhpc.schedulers.base import Submission, Submitted
from hybridhpc.schedulers.slurm import SlurmScheduler
from hybridhpc.sites.site import Site

DIALECT = SlurmScheduler()
SITE = Site(name="lab", file=None, scheduler="slurm", transport="local")
DIR = "/jobs/0123abcd/1"
SUBMISSION = Submission(
    token="0123abcd",
    job_dir=DIR,
    script=f"{DIR}/job.sh",
    options=("--partition=batch", "--time=10"),
    args=("a b", "-x"),
    cwd="/home/a",
)
SHOWN = (
    "JobId={id} JobName=train UserId=a(1) GroupId=a(1) MCS_label=N/A Priority=0 Nice=0 Account=(null) QOS=(null)"
    " JobState=PENDING Reason=None Dependency=(null) TimeLimit={time} Partition={partition} NumNodes=1 NumCPUs=1"
    " TRES=cpu=1,node=1 Command=/jobs/job.sh a Partition=evil WorkDir=/jobs Comment=StdOut=/evil StdErr=/jobs/x"
    " StdIn=/dev/null StdOut={out} Power= TresPerNode=gres:gpu:h100:2 "
)


def answered(stdout: str = "", exit_code: int = 0, stderr: str = "", argv: tuple[str, ...] = ()) -> CommandResult:
    return CommandResult(argv=argv, exit_code=exit_code, stdout=stdout.encode(), stderr=stderr.encode())


def read(answer: CommandResult) -> Submitted:
    (told,) = DIALECT.parse_submit(answer, [SUBMISSION])
    if isinstance(told, Submitted):
        return told
    assert told is not None
    raise told


def shown(**fields: str) -> str:
    words = {"id": "7", "time": "00:10:00", "partition": "batch", "out": "/jobs/slurm-7.out", **fields}
    return f"readback=scontrol: show job 7\nreadback={SHOWN.format(**words)}\n"


def test_the_command_names_all_that_submit_once_needs() -> None:
    command = DIALECT.submit_command(SITE, [SUBMISSION])
    assert command.argv == (
        "sh", f"{DIR}/submit-once.sh", "path", "release", "/home/a", f"{DIR}/job.sh",
        "--partition=batch", "--time=10", f"{DIR}/job.sh", "a b", "-x",
    )  # fmt: skip
    assert dict(command.env) == {"HPC_JOB_DIR": DIR}
    assert DIALECT.on_site == ("submit-once.sh",)


def test_a_submitted_job_has_its_id_its_log_and_no_notes() -> None:
    submitted = read(answered(f"job_id=7\n{shown()}asked= -N 1\n\ndone\n"))
    assert (submitted.job_id, submitted.log, submitted.notes) == ("7", "/jobs/slurm-7.out", ())


def test_what_the_site_changed_is_said() -> None:
    text = f"note=a word\njob_id=7\n{shown(time='00:05:00', partition='slow')}asked= -p other --gres=gpu:4 # x\ndone\n"
    assert read(answered(text)).notes == (
        "a word",
        "the site changed partition from batch to slow",
        "the site changed the walltime from 00:10:00 to 00:05:00",
        "the site changed the GPUs per node from 4 to 2",
    )


def test_the_log_of_an_array_has_the_task_in_its_pattern() -> None:
    line = shown(id="7 ArrayJobId=7 ArrayTaskId=0-3", out="/jobs/out-7_4294967294.log")
    assert read(answered(f"job_id=7\n{line}done\n")).log == "/jobs/out-7_%a.log"


def test_a_job_name_with_newlines_hides_nothing() -> None:
    line = shown().replace("JobName=train", "JobName=a\nreadback=b StdOut=/evil Partition=c")
    assert read(answered(f"job_id=7\n{line}done\n")).log == "/jobs/slurm-7.out"


@pytest.mark.parametrize(("exit_code", "hint"), [(65, "nothing was submitted"), (69, "controller was not reached")])
def test_a_refusal_keeps_slurm_s_words(exit_code: int, hint: str) -> None:
    words = "words=sbatch: error: invalid partition specified: x allocation failure: Invalid partition name\n"
    with pytest.raises(SchedulerError, match="sbatch: invalid partition specified: x Invalid partition name") as caught:
        read(answered(words, exit_code))
    assert hint in caught.value.hint
    assert isinstance(caught.value, Unreached) == (exit_code == 69)


@pytest.mark.parametrize(
    "answer",
    [
        answered("words=Socket timed out on send/recv operation\n", 75),
        answered("job_id=7\n", 0),
        answered("job_id=7\n", 137),
        answered("done\n", 0),
        answered("job_id=seven\ndone\n", 0),
        answered("", 127, "sh: not found"),
        answered("", 2),
    ],
)
def test_half_an_answer_decides_nothing(answer: CommandResult) -> None:
    with pytest.raises(Undecided, match="not known"):
        read(answer)


@given(st.text(max_size=200), st.sampled_from([0, 1, 65, 75, 137]))
def test_no_answer_makes_a_traceback(text: str, exit_code: int) -> None:
    for answer in (answered(text, exit_code), answered(f"job_id=7\nreadback={text}\nasked={text}\ndone", exit_code)):
        try:
            read(answer)
        except HpcError as error:
            assert error.message


@pytest.mark.parametrize("extra", ["", " a", " on cluster x a"])
def test_a_start_estimate_is_read_in_all_its_forms(extra: str) -> None:
    words = f"sbatch: Job 4 to start at 1795218824{extra} using 1 processors on nodes dgx1 in partition batch\n"
    assert DIALECT.parse_start_estimate(answered(stderr=words)).start == 1795218824.0


def test_a_refused_estimate_is_a_value_and_silence_refuses_nothing() -> None:
    refused = answered("", 1, "sbatch: error: Batch job submission failed: Invalid account\n")
    assert DIALECT.parse_start_estimate(refused).refusal == "Invalid account"
    silent = answered("", 1, "sbatch: error: Unable to contact slurm controller (connect failure)")
    estimate = DIALECT.parse_start_estimate(silent)
    assert (estimate.start, estimate.refusal) == (None, "")
    command = DIALECT.start_estimate_command(SITE, ("-N2",), b"#!/bin/sh\n")
    assert command is not None and command.argv == ("env", "-u", "TZ", "sbatch", "--test-only", "-N2")
    assert command.stdin == b"#!/bin/sh\n"


def test_jobs_are_found_by_the_path_of_their_script_and_never_by_an_argument() -> None:
    rows = [
        ("7", "/jobs/0123abcd/1/job.sh"),
        ("8_[0-3]", "/jobs/0123abcd/1/job.sh an argument"),
        ("9+1", "/jobs/0123abcd/2/job.sh"),
        ("10", "/home/a/x.sh /jobs/0123abcd/1/job.sh"),
        ("11", "/jobs/0123abcde/1/job.sh"),
        ("12", "/jobs/x0123abcd/1/job.sh"),
        ("x", "/jobs/0123abcd/1/job.sh"),
    ]
    text = "".join("".join(f"{field}\x1f" for field in row) + "\n" for row in rows) + "broken\n"
    assert DIALECT.parse_find(answered(text), "0123abcd") == ("7", "8", "9")
    assert DIALECT.parse_find(answered(text), "") == ()
    with pytest.raises(SchedulerError):
        DIALECT.parse_find(answered("", 1, "Unable to contact slurm controller"), "0123abcd")


def test_cancelling_says_what_scancel_says() -> None:
    assert DIALECT.cancel_command(SITE, ["7", "8_1"]).argv == ("scancel", "7", "8_1")
    DIALECT.parse_cancel(answered())
    with pytest.raises(SchedulerError, match="Access/permission denied"):
        DIALECT.parse_cancel(answered("", 1, "scancel: error: Kill job error on job id 7: Access/permission denied"))


def lot_of(*numbers: int) -> list[Submission]:
    return [replace(SUBMISSION, token=str(number), job_dir=f"/jobs/{number}/1") for number in numbers]


def test_several_jobs_are_one_command_that_tells_how_many_words_are_each_one_s() -> None:
    first, second = lot_of(7, 8)
    command = DIALECT.submit_command(SITE, [first, replace(second, trusted=True)])
    assert command.argv[:3] == ("sh", "/jobs/7/1/submit-once.sh", "lot")
    its_own = ("/home/a", f"{DIR}/job.sh", "--partition=batch", "--time=10", f"{DIR}/job.sh", "a b", "-x")
    one, two = ("10", "/jobs/7/1", "path", "test", *its_own), ("10", "/jobs/8/1", "path", "trust", *its_own)
    assert command.argv[3:] == (*one, *two)


FREE = "JobId={} JobName=x JobState=PENDING Reason={} TimeLimit=00:05:00 Command=/x WorkDir=/ StdOut=/o/{}.log\n"


def test_of_several_jobs_only_what_was_seen_free_counts_and_each_has_its_own_answer() -> None:
    accepted = "".join(f"job_id={number}\nheld=\nasked= -t 5\n\ndone\nend=0\n" for number in (7, 8, 9))
    unheld = "note=scontrol is missing\njob_id=12\n\ndone\nend=0\n"
    refused = "words=sbatch: error: invalid partition\nend=65\nwords=what now\nend=75\n"
    seen = FREE.format(7, "None", 7) + FREE.format(8, "JobHeldUser", 8) + "end=0\njob_id=9\n"
    told = answered(f"{accepted}{refused}{unheld}readback\n{seen}")
    free, held, unseen, no, unknown, early, cut = DIALECT.parse_submit(told, lot_of(*range(7, 14)))
    assert isinstance(free, Submitted) and isinstance(early, Submitted)
    assert (free.job_id, free.log, held, unseen, early.job_id) == ("7", "/o/7.log", None, None, "12")
    assert free.notes == ("the site changed the walltime from 00:10:00 to 00:05:00",)
    assert isinstance(no, SchedulerError) and "invalid partition" in no.message
    assert isinstance(unknown, Undecided) and isinstance(cut, Undecided)


def test_while_the_controller_is_not_reached_a_held_job_is_not_asked_about_again_at_once() -> None:
    text = "job_id=7\nheld=\n\ndone\nend=0\nunreached=\nwords=Socket timed out\nend=75\nwords=not begun\nend=69\n"
    held, unknown, unbegun = DIALECT.parse_submit(answered(text), lot_of(7, 8, 9))
    assert isinstance(held, Undecided) and "submitted, but not released" in held.message
    assert isinstance(unknown, Undecided) and isinstance(unbegun, SchedulerError)

"""Laws of answers that want to do harm: whatever a site says, hpc ends soon, in words, and no terminal is steered."""

from __future__ import annotations

import io
import json
import re
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridhpc.cli._output import table
from hybridhpc.cli._terminal import OutputOfJobs, cell, clean, clean_lines
from hybridhpc.command import Command, CommandResult, Errand
from hybridhpc.errors import HpcError, TransportError
from hybridhpc.model import JobStatus
from hybridhpc.registry import scheduler
from hybridhpc.schedulers.base import Submission
from hybridhpc.schedulers.slurm_status import HISTORY_FIELDS, MEMORY_FIELDS
from hybridhpc.schedulers.slurm_survey import JOB_FIELDS, NODE_FIELDS
from hybridhpc.schedulers.slurm_text import SEPARATOR
from hybridhpc.sites.site import Site
from hybridhpc.transports.base import MAX_OUTPUT
from hybridhpc.transports.errands import Answers
from hybridhpc.transports.tree import Parcel

SITE = Site(name="s", file=None, scheduler="slurm", transport="local")
SUBMISSIONS = [
    Submission(token=name * 20, job_dir=f"/j/{name}", script=f"/j/{name}/x", options=(), args=(), cwd="/")
    for name in "abc"
]
HUGE = "9" * 5000
WORDS = [
    "", "1", "17_[0-99999999%3]", "17_3", f"{HUGE}_[0-{HUGE}]", "5+1", "-1", "0:9", f"{HUGE}:{HUGE}", HUGE, "1e309",
    "RUNNING", "PENDING", "COMPLETED", "CANCELLED by 0", "N/A", "(null)", "Unknown", "1700000000", "4294967294",
    "n[0-999999999999]", "n[1-3]x[0-9999]y[0-9999]", f"n[{HUGE}-{HUGE}]", f"gpu:h100:{HUGE}", "gpu:" * 200,
    f"cpu={HUGE},mem={HUGE}P,node={HUGE}", f"{HUGE}M", f"{HUGE}.5T", "UNLIMITED", "1-00:00:00", f"{HUGE}-{HUGE}:00:00",
    "\x1b[2J\x1b[H", "\x1b]52;c;cm0gLXJmIH4=\x07", "a\u202eb", "a\u2066b", "\x9b2J", "\r\nhere:1  all well", "\x00",
    "٣", "²", "a  b    c", "JobId=1 JobState=RUNNING", " JobState=", "PartitionName=p", "=", "====",
]  # fmt: skip
hostile = st.one_of(st.sampled_from(WORDS), st.text(max_size=30), st.integers().map(str))


def records(fields: int) -> st.SearchStrategy[bytes]:
    """Lines of about the right number of fields, and noise between them."""
    line = st.lists(hostile, min_size=max(0, fields - 1), max_size=fields + 1).map(SEPARATOR.join)
    right = st.lists(hostile, min_size=fields, max_size=fields).map(lambda words: SEPARATOR.join(words) + SEPARATOR)
    text = st.lists(st.one_of(right, right, line), max_size=5).map(
        lambda lines: "\n".join(lines).encode("utf-8", "replace")
    )
    return st.one_of(text, text, st.binary(max_size=300))


keyed = st.lists(
    st.tuples(st.sampled_from(["job_id", "readback", "asked", "note", "words", "cluster", "done", "x"]), hostile),
    max_size=8,
).map(lambda pairs: "\n".join(f"{key}={value}" for key, value in pairs).encode("utf-8", "replace") + b"\ndone\n")
described = st.lists(
    st.lists(
        st.tuples(st.sampled_from(["PartitionName", "MaxTime", "MaxNodes", "DefMemPerCPU", "State", "x"]), hostile)
    ),
    max_size=4,
).map(lambda lines: "\n".join(" ".join(f"{k}={v}" for k, v in line) for line in lines).encode("utf-8", "replace"))
names = st.sampled_from(["host", "cpus", "memory", "gpus", "jobs", "id", "state", "job_id", "log"])
document: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.none(), st.booleans(), st.floats(), st.integers(), hostile),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.one_of(names, hostile), inner, max_size=4),
    ),
    max_leaves=12,
)  # fmt: skip
documents = st.one_of(
    document.map(lambda value: json.dumps(value).encode("utf-8", "replace")),
    st.sampled_from([b"[" * 200_000, b'{"a":' * 50_000, b"\xff\xfe", f'{{"job_id": {HUGE}}}'.encode()]),
    st.binary(max_size=100),
)
codes = st.sampled_from([0, 0, 0, 1, 3, 65, 69, 75, 137, -1, 10**20])


def answer(stdout: bytes, code: int = 0, stderr: bytes = b"") -> CommandResult:
    return CommandResult(argv=("sh", "x"), exit_code=code, stdout=stdout, stderr=stderr)


def tried(parse: Callable[[], Any]) -> Any:
    """Return what is made of an answer; a refusal in words will do, anything else is a fault."""
    began = time.monotonic()
    try:
        found = parse()
    except HpcError as error:
        found = error
        assert all(clean(line) == line for line in clean_lines("\n".join(error.lines())).split("\n"))
    assert time.monotonic() - began < 5
    return found


def shown(found: object) -> None:
    """Show statuses as `hpc status` does."""
    if isinstance(found, dict):
        statuses = [status for status in found.values() if isinstance(status, JobStatus)]
        rows = [[each.job_id[:50], each.native_state, each.reason, each.nodes[:50]] for each in statuses]
        text = table(("JOB", "STATE", "REASON", "NODES"), rows)
        assert len(text.split("\n")) == len(rows) + 1
        assert all(c.isprintable() or c == "\n" for c in text)
        json.dumps([status.started_at for status in statuses], allow_nan=False)


QUESTIONS = settings(max_examples=80, deadline=None)


@QUESTIONS
@given(records(len(MEMORY_FIELDS)), records(len(HISTORY_FIELDS)), codes)
def test_what_slurm_says_of_jobs(memory: bytes, history: bytes, code: int) -> None:
    dialect = scheduler("slurm")
    shown(tried(lambda: dialect.parse_status([answer(memory, code)])))
    shown(tried(lambda: dialect.parse_last_words([answer(history, code)], {})))
    tried(lambda: dialect.parse_find(answer(memory, code), "token"))
    tried(lambda: dialect.parse_cancel(answer(memory, code, history)))


@QUESTIONS
@given(records(len(JOB_FIELDS)), records(len(NODE_FIELDS)), described)
def test_what_slurm_says_of_itself(jobs: bytes, nodes: bytes, described: bytes) -> None:
    answers = [answer(jobs), answer(nodes), answer(described)]
    tried(lambda: scheduler("slurm").parse_survey(SITE, answers, now=1.7e9))


@QUESTIONS
@given(keyed, codes, st.binary(max_size=100))
def test_what_a_submission_answers(said: bytes, code: int, stderr: bytes) -> None:
    tried(lambda: scheduler("slurm").parse_submit(answer(said, code, stderr), SUBMISSIONS[:1]))
    tried(lambda: scheduler("slurm").parse_submit(answer(said, code, stderr), SUBMISSIONS))
    tried(lambda: scheduler("slurm").parse_start_estimate(answer(said, code, stderr)))


@QUESTIONS
@given(documents, codes)
def test_what_the_embedded_site_says(said: bytes, code: int) -> None:
    dialect = scheduler("here")
    shown(tried(lambda: dialect.parse_status([answer(said, code)])))
    tried(lambda: dialect.parse_survey(SITE, [answer(said, code)], now=1.7e9))
    tried(lambda: dialect.parse_submit(answer(said, code), SUBMISSIONS[:1]))
    tried(lambda: dialect.parse_find(answer(said, code), "token"))


@given(st.lists(hostile, min_size=3, max_size=3))
def test_no_cell_imitates_a_table(words: list[str]) -> None:
    header, row = table(("A", "B", "C"), [["x", *words[:2]]]).split("\n")
    assert all(c.isprintable() for c in header + row)
    assert "  " not in cell(words[2])
    assert len(re.split("  +", row)) <= 3


@given(st.text())
def test_what_is_said_steers_no_terminal(text: str) -> None:
    said = clean_lines(text)
    assert said.count("\n") == text.count("\n")
    assert all(c.isprintable() or c == "\n" for c in said)


COLOURS = re.compile(r"\x1b\[[0-9;:]*[mK]")
hostile_bytes = st.one_of(
    st.binary(max_size=40),
    hostile.map(lambda text: text.encode("utf-8", "replace")),
    st.sampled_from([b"\x1b[31mred\x1b[0m", b"1%\r\x1b[K2%", b"\x1b", b"\x1b[", b"\xc3", b"\x1b[8mx", b"A\x1b[1A"]),
)  # fmt: skip


@given(st.lists(hostile_bytes, max_size=8))
def test_the_output_of_a_job_steers_no_terminal_however_it_is_cut(parts: list[bytes]) -> None:
    passing = OutputOfJobs()
    whole = "".join(passing.shown(part) for part in parts)
    rest = COLOURS.sub("", whole)
    assert "\x1b" not in rest
    assert all(c.isprintable() or c in "\n\r\t\b\xa0" for c in rest)
    assert "\x1b[" not in whole or whole.rindex("\x1b[0m") == max(match.start() for match in COLOURS.finditer(whole))


@pytest.mark.parametrize(
    ("parts", "screen"),
    [
        ([b"plain \xc3\xa9\n"], "plain é\n"),
        ([b"\xc3", b"\xa9"], "é"),
        ([b"\x1b[3", b"1mred"], "\x1b[31mred\x1b[0m"),
        ([b"\x1b[2Jgone"], "\\x1b[2Jgone"),
        ([b"\x1b]0;title\x07"], "\\x1b]0;title\\x07"),
        ([b"\xff\x9b2J"], "\\xff\\x9b2J"),
        (["a\u202eb".encode()], "a\\u202eb"),
    ],
)
def test_what_a_terminal_gets_of_a_jobs_output(parts: list[bytes], screen: str) -> None:
    passing = OutputOfJobs()
    assert "".join(passing.shown(part) for part in parts) == screen


MARK = "m4rk"
said = st.lists(
    st.one_of(
        hostile_bytes,
        st.builds(
            lambda word, rest: f"\n{MARK} {word} {rest}\n".encode("utf-8", "replace"),
            st.sampled_from(["here", "broken", "out", "err", "bad", "end", "done", "tree", "file", "link", "none"]),
            st.one_of(
                st.sampled_from(["0 0", "0 late", "0 bad", "0 -1", "-1 0", "7 0", f"0 {HUGE}", f"{HUGE} 0", "0 x"]),
                hostile,
            ),
        ),
    ),
    max_size=10,
)


@given(said)
def test_what_comes_over_ssh_is_an_answer_or_an_error(parts: list[bytes]) -> None:
    answers = Answers(mark=MARK, errands=(Errand(command=Command(argv=("x",))),))
    for part in parts:
        answers.hear(part)
    (answer,) = answers.all(TransportError("silent"))
    assert isinstance(answer, CommandResult | HpcError)
    parcel = Parcel(MARK, io.BytesIO())
    for part in parts:
        parcel.hear(part)
    assert parcel.exit_code in range(1000)


@pytest.mark.parametrize("beginning", [b"", f"\n{MARK} here u /h\n".encode(), f"\n{MARK} tree ".encode()])
def test_no_flood_over_ssh_is_kept(beginning: bytes) -> None:
    answers = Answers(mark=MARK, errands=(Errand(command=Command(argv=("x",))),))
    parcel = Parcel(MARK, io.BytesIO())
    began = time.monotonic()
    answers.hear(beginning)
    parcel.hear(beginning)
    for _ in range(200):
        answers.hear(b"x" * 1_000_000)
        if not parcel.ended:
            parcel.hear(b"x" * 10_000)
    assert len(answers.heard) < MAX_OUTPUT + 2_000_000
    assert len(parcel._held) < 100_000
    assert time.monotonic() - began < 20

"""A script sent by hpc to the Slurm it was written for is, to `scontrol show job`, as if plain sbatch had sent it."""

from __future__ import annotations

import json
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.lab.sbatch_corpus import Case, scripts
from tests.people import Person

pytestmark = pytest.mark.lab

CASES = 300
SEED = 20
OWN = re.compile(
    r"(JobId|ArrayJobId|HetJobId|SubmitTime|EligibleTime|AccrueTime|StartTime|EndTime|LastSchedEval|AllocNode:Sid|"
    r"HetJobIdSet|SuspendTime|Deadline)=\S+"
)
"""Ids and times. The session id of AllocNode:Sid is that of whoever calls sbatch: it differs between two terminals."""


@dataclass
class Sent:
    """What became of a script: what scontrol says of the job, or that it was refused."""

    shown: list[str] | None
    words: str


@pytest.mark.timeout(600)
def test_three_hundred_scripts_end_as_if_sbatch_had_sent_them(lab_person: Person) -> None:
    cases = [case for case in scripts(SEED, CASES + 20) if not waits(case)]
    assert len(cases) >= CASES
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda numbered: compare(lab_person, *numbered), enumerate(cases)))
    different = [result for result in results if result]
    assert not different, f"{len(different)} of {len(cases)} differ:\n" + "\n".join(different[:10])


def waits(case: Case) -> bool:
    """Whether sbatch would stay for ever: it waits for a job that is held."""
    said = case.script + " ".join((*case.flags, *case.environment)).encode()
    return re.search(rb"--wai?t?\b|-W\b|SBATCH_WAIT\b", said) is not None


def compare(person: Person, number: int, case: Case) -> str:
    """Send a case both ways, held; return how they differ, empty if they do not."""
    folder = person.home / f"case-{number}"
    folder.mkdir()
    script = folder / "job.sbatch"
    script.write_bytes(case.script)
    env = {**person.env, **case.environment}
    plain = by_sbatch(folder, case, env)
    ours = by_hpc(person, folder, case, env)
    if plain.shown == ours.shown or (ours.shown is None and (unlimited(plain) or never_starts(folder, case, env))):
        return ""
    return f"case {number}: {case.script!r} {case.flags} {case.environment}\n  sbatch {plain}\n  hpc    {ours}"


def unlimited(sent: Sent) -> bool:
    """Whether it asks for no limit: Slurm takes it, and never starts it at a partition that has one."""
    return any("TimeLimit=UNLIMITED" in line for line in sent.shown or ())


def never_starts(folder: Path, case: Case, env: dict[str, str]) -> bool:
    """Whether Slurm itself says that no node can ever run it: held it is taken all the same, and waits for ever."""
    words = ["sbatch", "--test-only", *case.flags, "job.sbatch", "argument"]
    return subprocess.run(words, env=env, cwd=folder, capture_output=True, timeout=60, check=False).returncode != 0


def by_sbatch(folder: Path, case: Case, env: dict[str, str]) -> Sent:
    words = ["sbatch", "--parsable", "--hold", *case.flags, "job.sbatch", "argument"]
    done = subprocess.run(words, env=env, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    return show(done.stdout.strip().split(";")[0], env) if done.returncode == 0 else Sent(None, done.stderr)


def by_hpc(person: Person, folder: Path, case: Case, env: dict[str, str]) -> Sent:
    words = ["hpc", "submit", "--json", "--hold", *case.flags, "job.sbatch", "argument", "--where", "onprem"]
    done = subprocess.run(words, env=env, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        return Sent(None, done.stderr)
    return show(json.loads(done.stdout)["job_id"], env)


def show(job_id: str, env: dict[str, str]) -> Sent:
    """Return what scontrol says of a job without its ids and times, and cancel it."""
    asked = {key: value for key, value in env.items() if not key.startswith("SBATCH_")}
    shown = subprocess.run(["scontrol", "show", "job", job_id], env=asked, capture_output=True, text=True, check=True)
    subprocess.run(["scancel", job_id], env=asked, check=True)
    text = OWN.sub(r"\1=", shown.stdout)
    text = re.sub(r"(?m)^ *(?:StdOut|StdErr|StdIn)=.*/", lambda folder: folder[0] + "\0", text)
    # The components of a heterogeneous job have consecutive ids, which stand in the names of their output files.
    for component in range(4):
        text = re.sub(rf"(\0.*?)(?<!\d){int(job_id) + component}(?!\d)", rf"\1ID+{component}", text)
    return Sent(sorted(line.strip() for line in text.splitlines()), "")

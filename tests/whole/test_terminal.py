"""What reaches a terminal, as a person has it: names and outputs that want to steer it do not."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
from pathlib import Path

from tests.people import HPC, Person

CLI = Path(__file__).parents[2] / "hybridhpc" / "cli"
PASSES = {"_output.py", "_progress.py", "_follow.py", "main.py", "completion.py"}
"""The modules that print; all others go through them."""
NAME = "a\x1b[2J\u202eb  COMPLETED  $0.00"
SCRIPT = f'#!/bin/bash\n#SBATCH --job-name="{NAME}"\n#SBATCH -t 1 --mem=50\n'
SCRIPT += 'printf "red\\033[31m \\033]0;title\\007 \\033[1A up\\n"\n'


def on_a_terminal(person: Person, *words: str) -> str:
    """Run hpc with a terminal for its output; return what it was sent."""
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "rb", buffering=0) as screen:
        done = subprocess.Popen([HPC, *words], env=person.env, cwd=person.home, stdout=theirs, stderr=theirs)
        os.close(theirs)
        said = b""
        try:
            while part := screen.read(65536):
                said += part
        except OSError:  # the other side is closed
            pass
        assert done.wait(60) == 0, said
    return said.decode()


def test_every_word_goes_through_what_cleans_it() -> None:
    printing = re.compile(
        r"click\.echo|\bprint\(|stdout\.(write|buffer)|stderr\.write|secho|click\.prompt|click\.confirm"
    )
    found = {path.name for path in CLI.glob("*.py") if printing.search(path.read_text())}
    assert found == PASSES


def test_a_name_steers_no_terminal_and_imitates_no_column(person: Person) -> None:
    (person.home / "job.sbatch").write_text(SCRIPT)
    followed = on_a_terminal(person, "submit", "job.sbatch", "--where", "here", "-f")
    (job,) = json.loads(person.hpc("status", "--all", "--json"))
    assert job["name"] == NAME
    shown = [
        on_a_terminal(person, verb, *words)
        for verb, *words in (["status"], ["why", job["ref"]], ["plan", "job.sbatch"])
    ]
    for text in (followed, *shown):
        rest = text.replace("\x1b[31m", "").replace("\x1b[0m", "")
        assert all(c.isprintable() or c in "\r\n" for c in rest), ascii(text)
    assert "a\\x1b[2J\\u202eb COMPLETED $0.00" in shown[0]


def test_what_is_said_of_a_job_does_not_stand_behind_a_line_that_it_left_open(person: Person) -> None:
    spec = person.spec("name: bar\nresources: {cpus: 1, memory: 20MiB}\ntime: 1m\nrun: printf 'step 9 of 9'\n")
    assert "step 9 of 9\r\nhere:1 bar: COMPLETED" in on_a_terminal(person, "submit", spec, "-f")
    piped = person.try_hpc("submit", spec, "-f", "--again")
    assert piped.stdout.endswith("step 9 of 9") and "\n\n" not in piped.stderr


def test_a_pipe_gets_every_byte_and_a_terminal_only_colours(person: Person) -> None:
    (person.home / "job.sbatch").write_text(SCRIPT)
    ref = person.hpc("submit", "job.sbatch", "--where", "here", "-f").split()[0]
    assert person.hpc("logs", ref) == "red\x1b[31m \x1b]0;title\x07 \x1b[1A up\n"
    assert on_a_terminal(person, "logs", ref) == "red\x1b[31m \\x1b]0;title\\x07 \\x1b[1A up\r\n\x1b[0m"

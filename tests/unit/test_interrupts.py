"""Ctrl-C before `hpc` can answer for it ends it without a word."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import os, signal, sys

during, handled = sys.argv[1:]

class Interrupting:
    def find_spec(self, name, *more):
        if name == during:
            os.kill(os.getpid(), signal.SIGINT)

signal.signal(signal.SIGINT, getattr(signal, handled))
sys.meta_path.insert(0, Interrupting())
sys.argv[:] = ["hpc", "status", "--help"]
from hybridhpc.__main__ import main
main()
"""
"""Runs hpc, with a SIGINT while the named module is imported."""


def interrupted(during: str, handled: str = "default_int_handler") -> tuple[int, str, str]:
    words = [sys.executable, "-c", PROGRAM, during, handled]
    done = subprocess.run(words, text=True, capture_output=True, timeout=20, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("during", ["hybridhpc.cli", "click", "hybridhpc.config"])
def test_ctrl_c_while_modules_are_read_ends_it_silently(during: str) -> None:
    assert interrupted(during) == (130, "", "")


def test_ctrl_c_while_a_verb_is_read_is_answered() -> None:
    code, printed, said = interrupted("hybridhpc.cli.status")
    assert (code, printed) == (130, "")
    assert said.lstrip().startswith("hpc: interrupted")
    assert "Traceback" not in said


def test_who_was_started_with_ctrl_c_ignored_goes_on_ignoring_it() -> None:
    code, printed, said = interrupted("click", "SIG_IGN")
    assert (code, said) == (0, "")
    assert printed.startswith("Usage: hpc status")

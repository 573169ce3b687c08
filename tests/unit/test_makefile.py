"""What `make` sets up for a target: no more than it needs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def set_up(*targets: str, at: Path) -> str:
    """Return what would be run where nothing was ever set up."""
    command = ("make", "--dry-run", "--no-print-directory", *targets, f"VENV={at}/venv", f"PYTHON={sys.executable}")
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def test_what_is_tried_on_the_lab_needs_no_torch_and_no_tests(tmp_path: Path) -> None:
    said = set_up("lab", "lab-smoke", "lab-down", "forecast-lab", "torture", "demonstration", "wheel", at=tmp_path)
    assert [line for line in said.splitlines() if "pip install" in line] == [
        f"{tmp_path}/venv/bin/pip install -q -e '.[ssh]'"
    ]


def test_the_tests_need_all(tmp_path: Path) -> None:
    assert ".[train,dev,bench,ssh]" in set_up("lint", at=tmp_path)

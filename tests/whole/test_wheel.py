"""The wheel works by itself: in an empty environment, outside the source tree."""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(300)
def test_an_installed_wheel_runs_a_job_outside_the_source_tree(tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(tmp_path / "dist"), str(ROOT)]
    subprocess.run(pip, check=True, capture_output=True, timeout=200)
    (wheel,) = (tmp_path / "dist").glob("hybridhpc-*.whl")
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", str(wheel)], check=True, capture_output=True, timeout=200)

    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    env = {"HOME": str(home), "PATH": "/usr/bin:/bin"}
    hpc = str(python.parent / "hpc")

    def run(*words: str) -> str:
        done = subprocess.run(
            [hpc, *words], env=env, cwd=home, capture_output=True, text=True, timeout=100, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    run("init")
    assert "hello from" in run("submit", "job.yaml", "--where", "auto", "-f")
    where = [str(python), "-c", "from hybridhpc.config import data_path; print(data_path('configs'))"]
    configs = Path(subprocess.run(where, env=env, cwd=home, capture_output=True, text=True, check=True).stdout.strip())
    assert str(ROOT) not in str(configs)
    assert "refjobs" in (configs / "jobs" / "train.yaml").read_text()
    assert "train.py" in run("render", str(configs / "jobs" / "train.yaml"))
    assert (configs / "jobs" / "../../hybridhpc/refjobs/train.py").resolve().is_file()

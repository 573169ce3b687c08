"""A person with a home, a ledger and a terminal: tests use hpc as they would."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

HPC = str(Path(sys.executable).parent / "hpc")


class Person:
    """Runs hpc in a home directory of its own."""

    def __init__(self, home: Path, **env: str) -> None:
        self.home = home
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("SLURM", "SBATCH", "HPC_"))}
        own = {
            "HOME": str(home),
            "HPC_CONFIG_DIR": str(home / "config"),
            "HPC_STATE_DIR": str(home / "state"),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }
        self.env = {**clean, **own, **env}

    def spec(self, text: str, name: str = "job.yaml") -> str:
        """Write a file into the home and return its name."""
        (self.home / name).write_text(text)
        return name

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Begin a command."""
        return subprocess.Popen(
            [HPC, *words], env=self.env, cwd=self.home, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def try_hpc(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, whatever that is."""
        return subprocess.run(
            [HPC, *words], env=self.env, cwd=self.home, capture_output=True, text=True, timeout=240, check=False
        )

    def hpc(self, *words: str) -> str:
        """Run a command that must succeed, and return what it printed."""
        answer = self.try_hpc(*words)
        assert answer.returncode == 0, f"hpc {' '.join(words)}: {answer.returncode}\n{answer.stdout}\n{answer.stderr}"
        return answer.stdout

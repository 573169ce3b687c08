"""A Slurm of five tiny programs that say what a test wrote down: for faults that a real one will not show on demand."""

from __future__ import annotations

import re
from pathlib import Path

US = "\x1f"
PROGRAMS = {
    "sinfo": 'cat "$FAKE_SLURM/nodes"',
    "squeue": 'cat "$FAKE_SLURM/jobs"',
    "scontrol": 'cat >/dev/null; cat "$FAKE_SLURM/settings"',
    "sbatch": 'cat >/dev/null; echo "sbatch: Job 1 to start at 1 using 1 processors on nodes dgx1" >&2',
    "scancel": "true",
}
SETTINGS = "PrivateData             = none\nSLURM_VERSION           = 24.11.5\nClusterName             = dgx\n"


class FakeSlurm:
    """The programs in a directory of their own, `bin`, beside the answers they give."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.bin = home / "bin"
        self.bin.mkdir(parents=True)
        for name, script in PROGRAMS.items():
            self.program(name, script)
        self.jobs()
        self.partitions("gpu")
        self.nodes()

    def program(self, name: str, script: str) -> None:
        """Put a program there, or another one in its place."""
        (self.bin / name).write_text(f"#!/bin/sh\n{script}\n")
        (self.bin / name).chmod(0o755)

    def complain(self, words: str, code: int = 1) -> None:
        """Let all its programs say these words on standard error, and fail."""
        (self.home / "words").write_text(words + "\n")
        for name in PROGRAMS:
            self.program(name, f'cat "$FAKE_SLURM/words" >&2; exit {code}')

    def nodes(self, *, state: str = "idle", gres: str = "gpu:h100:8", partition: str = "gpu") -> None:
        """Let sinfo name two nodes."""
        used = gres.rpartition(":")[0] + ":0"
        facts = ("0/112/0/112", "2000000", "0", gres, used, "(null)", "up", "7-00:00:00")
        lines = [US.join((name, partition, state, *facts, "")) for name in ("dgx1", "dgx2")]
        (self.home / "nodes").write_text("\n".join(lines) + "\n")

    def partitions(self, *names: str, state: str = "UP") -> None:
        """Let scontrol name partitions, the first one the default."""
        lines = [
            f"PartitionName={name} State={state} Default={'NO' if number else 'YES'} MaxTime=7-00:00:00\n"
            for number, name in enumerate(names)
        ]
        (self.home / "settings").write_text("".join(lines) + SETTINGS)

    def jobs(self, *lines: str) -> None:
        """Let squeue answer with these lines."""
        (self.home / "jobs").write_text("".join(f"{line}\n" for line in lines))


def ordinary_programs(home: Path) -> Path:
    """Return a directory of links to what this machine has, for a PATH without Slurm, containers and Python."""
    home.mkdir()
    left_out = re.compile(r"s(batch|info|queue|cancel|control|run|alloc|acct.*|diag)|apptainer|singularity|python.*")
    for program in [*Path("/usr/bin").iterdir(), *Path("/bin").iterdir()]:
        if not left_out.fullmatch(program.name) and not (home / program.name).is_symlink():
            (home / program.name).symlink_to(program)
    return home

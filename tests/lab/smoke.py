"""Smoke: hpc submits a small job to every running cluster by name and one with `--where auto`, and each is looked at.

It is a person far from the clusters, with a home and a ledger of their own: every word travels through ssh.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.lab.install import BrokenError
from tests.lab.lab import Lab

HPC = Path(sys.executable).with_name("hpc")
SPEC = "name: smoke\nresources: {cpus: 1, memory: 100MiB}\ntime: 2m\nrun: echo ran on $(hostname)\n"
# A node of a cloud boots, and then slurmctld lets the job run at its next 30 s timer.
PATIENCE = 180


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What was asked for (`where`), and the node the job ran on, or why it is not as it should be."""

    where: str
    node: str = ""
    fault: str = ""

    def __str__(self) -> str:
        return f"{self.where}: {self.fault or self.node}"


def smoke(labs: Sequence[Lab]) -> tuple[Outcome, ...]:
    """Submit to each of these clusters and once to whichever hpc chooses. Raises BrokenError where there is no hpc."""
    if not HPC.exists():
        raise BrokenError(f"there is no {HPC}: run this with the Python that hpc is installed for (make lab-smoke)")
    with tempfile.TemporaryDirectory(prefix="hpc-smoke-") as home:
        sites = Path(home, "config/sites")
        sites.mkdir(parents=True)
        for lab in labs:
            shutil.copy(lab.ssh_site_path, sites)
        Path(home, "job.yaml").write_text(SPEC)
        return tuple(_look(Path(home), labs))


def _look(home: Path, labs: Sequence[Lab]) -> Iterator[Outcome]:
    """Submit all before any is waited for: clouds boot side by side."""
    wheres = [*(lab.cluster.name for lab in labs), "auto"]
    submitted = [(where, _hpc(home, "submit", "job.yaml", "--again", "--where", where, "--json")) for where in wheres]
    for where, answer in submitted:
        if answer.returncode:
            yield Outcome(where=where, fault=f"not submitted: {_last(answer.stderr)}")
        else:
            yield _outcome(home, labs, where, json.loads(answer.stdout))


def _outcome(home: Path, labs: Sequence[Lab], where: str, job: dict[str, str]) -> Outcome:
    nodes = {lab.cluster.name: lab.cluster.nodes for lab in labs}
    ref, site = job["ref"], job["site"]
    waited = _hpc(home, "wait", ref)
    if waited.returncode:
        return Outcome(where=where, fault=f"{ref} did not complete: {_last(waited.stderr or waited.stdout)}")
    if site not in nodes or (where != "auto" and site != where):
        return Outcome(where=where, fault=f"{ref} went to {site}")
    log = _hpc(home, "logs", ref).stdout
    ran = [line.removeprefix("ran on ") for line in log.splitlines() if line.startswith("ran on ")]
    if len(ran) != 1 or ran[0] not in nodes[site]:
        return Outcome(where=where, fault=f"{ref} should say which node of {site} it ran on, and says {log!r}")
    return Outcome(where=where, node=ran[0])


def _hpc(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    outside = {key: value for key, value in os.environ.items() if not key.startswith(("HPC_", "SLURM", "SBATCH"))}
    own = {"HOME": str(home), "HPC_CONFIG_DIR": f"{home}/config", "HPC_STATE_DIR": f"{home}/state"}
    try:
        return subprocess.run(
            [HPC, *words], cwd=home, env={**outside, **own}, capture_output=True, text=True, timeout=PATIENCE
        )
    except subprocess.TimeoutExpired:
        said = f"hpc {' '.join(words)} takes longer than {PATIENCE} s"
        return subprocess.CompletedProcess(words, 1, stdout="", stderr=said)


def _last(text: str) -> str:
    return (text.strip().splitlines() or ["nothing was said"])[-1]

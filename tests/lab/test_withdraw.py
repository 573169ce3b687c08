"""Taking a pending job back, on a real Slurm: only what never began is cancelled, and what began goes on."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from hybridhpc.errors import Undecided
from hybridhpc.schedulers.base import Taken
from hybridhpc.schedulers.slurm import WITHDRAW, SlurmScheduler
from hybridhpc.sites.site import Site
from hybridhpc.transports.local import LocalTransport
from tests.lab.lab import Lab
from tests.lab.running import wait

pytestmark = pytest.mark.lab

DIALECT = SlurmScheduler()
SOURCE = Path(__file__).parents[2] / "hybridhpc" / "on_site"
RACES = 25


class Desk:
    """A person at the head node, and the jobs that they make and leave."""

    def __init__(self, lab: Lab, home: Path) -> None:
        self.lab, self.home = lab, home
        self.ids: list[str] = []
        self.path, self.why = os.environ["PATH"], ""
        shutil.copy(SOURCE / WITHDRAW, home)

    def sbatch(self, *options: str, run: str = "sleep 60") -> str:
        words = ("sbatch", "--parsable", "--mem=1M", "--time=5", "--output=/dev/null", *options, "--wrap", run)
        self.ids.append(self.lab.run(*words).strip())
        return self.ids[-1]

    def take_back(self, job: str, restarts: int = 0, *, path: str = "") -> Taken:
        env = {"PATH": path or self.path, "SLURM_CONF": str(self.lab.cluster.slurm_conf)}
        site = Site(name="lab", file=None, scheduler="slurm", transport="local")
        command = DIALECT.withdraw_command(site, job, str(self.home), restarts)
        found = DIALECT.parse_withdraw(LocalTransport(site, env).run(command))
        self.why = found.why
        return found.taken

    def state(self, job: str) -> str:
        states = self.lab.run("squeue", "-h", "-t", "all", "-j", job, "-o", "%T", check=False).split()
        return " ".join(sorted(set(states)))

    def await_state(self, job: str, state: str) -> None:
        wait(lambda: self.state(job) == state, 20, f"job {job} is {self.state(job)}, not {state}")

    def priority(self, job: str) -> str:
        return self.lab.run("squeue", "-h", "-j", job, "-o", "%Q").strip()


@pytest.fixture
def desk(lab: Lab, tmp_path: Path) -> Iterator[Desk]:
    someone = Desk(lab, tmp_path)
    yield someone
    if someone.ids:
        lab.run("scancel", *someone.ids, check=False)


def test_what_never_began_is_taken_back_and_repeating_it_says_that(desk: Desk) -> None:
    job = desk.sbatch("--begin=now+1hour")
    assert desk.take_back(job) is Taken.BACK
    assert desk.state(job) == "CANCELLED"
    assert desk.take_back(job) is Taken.EARLIER


def test_what_runs_stays_and_is_not_left_held(desk: Desk) -> None:
    job = desk.sbatch()
    desk.await_state(job, "RUNNING")
    assert desk.take_back(job) is Taken.STAYS
    assert desk.state(job) == "RUNNING"
    assert desk.priority(job) != "0"


def test_an_array_of_which_a_task_runs_stays_and_its_others_go_on(desk: Desk) -> None:
    job = desk.sbatch("--array=0-1%1", run="sleep 1")
    desk.await_state(job, "PENDING RUNNING")
    assert desk.take_back(job) is Taken.STAYS
    desk.await_state(job, "COMPLETED")


def test_an_array_that_never_began_is_taken_back_whole(desk: Desk) -> None:
    job = desk.sbatch("--array=0-9", "--begin=now+1hour")
    assert desk.take_back(job) is Taken.BACK
    assert desk.state(job) == "CANCELLED"


def test_a_heterogeneous_job_is_taken_back_with_all_its_components(desk: Desk) -> None:
    script = desk.home / "het.sh"
    script.write_text(
        "#!/bin/sh\n#SBATCH -p cpu -t 5 --mem=1M --begin=now+1hour\n"
        "#SBATCH hetjob\n#SBATCH -p cpu -t 5 --mem=1M\ntrue\n"
    )
    job = desk.lab.run("sbatch", "--parsable", str(script)).strip()
    desk.ids.append(job)
    assert desk.take_back(job) is Taken.BACK
    assert desk.state(job) == "CANCELLED"


def test_what_was_requeued_since_has_run_and_stays(desk: Desk) -> None:
    job = desk.sbatch("--requeue")
    desk.await_state(job, "RUNNING")
    desk.lab.run("scontrol", "requeue", job)
    desk.await_state(job, "PENDING")
    assert desk.take_back(job, restarts=0) is Taken.STAYS
    assert desk.priority(job) != "0"
    assert desk.take_back(job, restarts=1) is Taken.BACK


def test_what_has_ended_stays_as_it_is_and_what_is_unknown_is_absent(desk: Desk) -> None:
    job = desk.sbatch(run="true")
    desk.await_state(job, "COMPLETED")
    assert desk.take_back(job) is Taken.STAYS
    assert desk.take_back("99999999") is Taken.ABSENT


def test_without_scontrol_nothing_is_tried(desk: Desk) -> None:
    job = desk.sbatch("--begin=now+1hour")
    programs = desk.home / "bin"
    programs.mkdir()
    for name in ("sh", "squeue", "scancel", "grep", "tr"):
        (programs / name).symlink_to(shutil.which(name) or name)
    assert desk.take_back(job, path=str(programs)) is Taken.UNABLE
    assert desk.state(job) == "PENDING"


def test_a_frozen_controller_leaves_it_undecided_and_repeating_it_finds_out(desk: Desk) -> None:
    job = desk.sbatch("--begin=now+1hour")
    desk.lab.freeze()
    thaw = threading.Timer(5.5, desk.lab.thaw)
    thaw.start()
    try:
        with suppress(Undecided):
            assert desk.take_back(job) is Taken.BACK, desk.why
    finally:
        thaw.cancel()
        desk.lab.thaw()
    assert desk.take_back(job) in {Taken.BACK, Taken.EARLIER}


def test_a_job_that_is_about_to_start_is_either_cancelled_or_runs_to_its_end(desk: Desk) -> None:
    """The race itself: jobs that start at once, taken back at every moment around it."""
    taken = []
    for number in range(RACES):
        trace = desk.home / f"trace-{number}"
        job = desk.sbatch(run=f"touch {trace}")
        time.sleep(number * 0.004)
        taken.append((desk.take_back(job), trace, job))
    for outcome, trace, job in taken:
        if outcome is Taken.BACK:
            assert desk.state(job) == "CANCELLED"
            assert not trace.exists()
        else:
            desk.await_state(job, "COMPLETED")
            assert trace.exists()

"""hpc check: each fault is put into a set-up that is well, and must be named, alone, with its fix."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from hybridhpc.schedulers.slurm_survey import JOB_FIELDS
from tests.fake_slurm import US, FakeSlurm, ordinary_programs
from tests.people import HPC, Person

Found = list[dict[str, str]]
SITE = "job_root: {jobs}\npartitions:\n  gpu: {{gpu_price: 2.10 USD/h}}\n"
LACKS_NOTHING = ("torch", "numpy", "sklearn", "matplotlib")


class Setting:
    """A person on a login node whose set-up is well."""

    def __init__(self, home: Path, programs: Path) -> None:
        self.slurm = FakeSlurm(home / "slurm")
        self.programs = programs
        self.home = home / "me"
        path = ":".join(map(str, (Path(sys.executable).parent, self.slurm.bin, self.programs)))
        self.person = Person(
            self.home, PATH=path, FAKE_SLURM=str(self.slurm.home), HPC_HERE_CPUS="4", PYTHONPATH=str(home / "modules")
        )
        for name in LACKS_NOTHING:
            (home / "modules" / name).mkdir(parents=True)
        self.config, self.state, self.jobs = (self.home / name for name in ("config", "state", "jobs"))
        for directory in (self.config, self.config / "sites", self.state, self.jobs):
            directory.mkdir(mode=0o700)
        self.file = self.config / "sites" / "dgx.yaml"
        self.site()

    def site(self, more: str = "", text: str = SITE) -> None:
        """Write the site file, with more keys or all others."""
        self.file.write_text(text.format(jobs=self.jobs) + more)
        self.file.chmod(0o600)

    def ledger(self) -> Path:
        """Run a job, so that there is a ledger."""
        self.person.hpc("submit", self.person.spec("run: 'true'\n"), "--where", "here", "-f")
        return self.state / "ledger.sqlite"


def ruin(ledger: Path, content: bytes = b"no database " * 1000) -> None:
    """Write something else over a ledger, and lose what SQLite keeps beside it, which could bring it back."""
    for beside in ("-wal", "-shm"):
        ledger.with_name(ledger.name + beside).unlink(missing_ok=True)
    ledger.write_bytes(content)


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ordinary_programs(tmp_path_factory.mktemp("path") / "bin")


@pytest.fixture
def well(programs: Path) -> Iterator[Setting]:
    """Not in /tmp, which no real job_root should be in."""
    home = Path(tempfile.mkdtemp(prefix="hpc-check-", dir="/var/tmp"))
    try:
        yield Setting(home, programs)
    finally:
        remove(home)


def remove(home: Path) -> None:
    """Remove a directory in which the last process of a job may still be tidying up."""
    until = time.monotonic() + 10
    while home.exists() and time.monotonic() < until:
        shutil.rmtree(home, ignore_errors=True)


def check(person: Person, *before: str) -> tuple[int, Found]:
    """Return the exit code and what is not fine. Nothing may be said in a traceback, and every line has its keys."""
    command = [*before, HPC, "check", "--json"]
    answer = subprocess.run(command, env=person.env, cwd=person.home, capture_output=True, text=True, timeout=60)
    assert "Traceback" not in answer.stderr, answer.stderr
    found = json.loads(answer.stdout)
    for finding in found:
        assert list(finding) == ["level", "where", "what", "fix"]
        assert finding["level"] in ("fault", "warning", "fine")
        assert finding["what"] and bool(finding["fix"]) == (finding["level"] != "fine"), finding
    return answer.returncode, [finding for finding in found if finding["level"] != "fine"]


def text(finding: dict[str, str]) -> str:
    return f"{finding['where']}: {finding['what']}"


@dataclass(frozen=True)
class Seed:
    """A fault, what must be said about it (a pattern over place and words), and the fix."""

    name: str
    plant: Callable[[Setting], object]
    said: str
    fix: str
    level: str = "fault"
    also: str = ""
    """What else is bound to be found, for the same reason."""


def write(path: Path, content: str) -> None:
    path.write_text(content)
    path.chmod(0o600)


def garble_pages(well: Setting) -> None:
    """Overwrite the middle of the ledger, as a bad disk does, and leave its beginning."""
    ledger = well.ledger()
    with sqlite3.connect(ledger) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with ledger.open("r+b") as file:
        file.seek(4096)
        file.write(bytes(range(256)) * 32)


def with_schema(well: Setting, number: int) -> None:
    with sqlite3.connect(well.ledger()) as database:
        database.execute(f"PRAGMA user_version = {number}")


def with_unreadable_job(well: Setting) -> None:
    with sqlite3.connect(well.ledger()) as database:
        database.execute("UPDATE attempts SET plan = '{', state = 'PENDING'")


def without_slurm(well: Setting) -> None:
    well.person.env["PATH"] = f"{Path(sys.executable).parent}:{well.programs}"


def with_python(well: Setting, script: str) -> None:
    well.slurm.program("python", script)
    well.person.env["PATH"] = f"{well.slurm.bin}:{well.programs}"


def job_ahead(well: Setting) -> None:
    start = str(int(time.time()) + 900)
    told = {"JobArrayID": "7", "State": "RUNNING", "Partition": "gpu", "NumNodes": "1", "NumCPUs": "1"}
    told |= {"tres-alloc": "cpu=1,mem=1M,node=1", "TimeLimit": "60", "StartTime": start, "NodeList": "dgx1"}
    fields = (told.get(name, "") for name in JOB_FIELDS)
    well.slurm.jobs(US.join((*fields, "")))


def clock_behind(well: Setting) -> None:
    settings = well.slurm.home / "settings"
    settings.write_text(f"{settings.read_text()}Configuration data as of {int(time.time()) - 900}\n")


def owned_by_another(path: Path) -> None:
    if os.geteuid():
        pytest.skip("only root can give a directory away")
    os.chown(path, 65534, 65534)


def env(**values: str) -> Callable[[Setting], object]:
    return lambda well: well.person.env.update(values)


def site(more: str) -> Callable[[Setting], object]:
    return lambda well: well.site(more)


SEEDS = (
    Seed("broken YAML", site("labels: [a\n"), r"dgx\.yaml:\d+: .*", "."),
    Seed("an unknown key", site("gpu_prize: 2 USD/h\n"), r"dgx\.yaml:4: gpu_prize: ", "did you mean gpu_price"),
    Seed(
        "a value of the wrong kind",
        site("poll_interval: soon\n"),
        r"dgx\.yaml:4: poll_interval: ",
        "write 90m",
    ),
    Seed(
        "a site file that others can change",
        lambda well: well.file.chmod(0o666),
        r"dgx\.yaml: everybody can change it",
        r"chmod go-w .*dgx\.yaml",
    ),
    Seed(
        "a folder of site files that others can change",
        lambda well: well.file.parent.chmod(0o777),
        "config/sites: everybody can change it",
        "chmod go-w .*config/sites",
    ),
    Seed(
        "the ending .yml",
        lambda well: well.file.rename(well.file.with_suffix(".yml")),
        r"dgx\.yml: is not read",
        r"mv .*dgx\.yml .*dgx\.yaml",
    ),
    Seed(
        "a site file that is a link to nothing",
        lambda well: (well.file.parent / "gone.yaml").symlink_to("nowhere"),
        r"gone\.yaml: is a link that leads nowhere",
        r"rm .*gone\.yaml",
        also="could not be looked at|fault in hybridhpc",
    ),
    Seed(
        "two files of one name",
        lambda well: write(well.file.with_name("other.yaml"), f"name: dgx\n{well.file.read_text()}"),
        r"other\.yaml: is called dgx, as .*dgx\.yaml",
        "another `name:`",
    ),
    Seed(
        "a slurm_conf that does not exist",
        site("slurm_conf: /nowhere/slurm.conf\n"),
        "dgx: slurm_conf /nowhere/slurm.conf does not exist",
        r"slurm_conf in .*dgx\.yaml",
    ),
    Seed("a SLURM_CONF that does not exist", env(SLURM_CONF="/nowhere"), "dgx: slurm_conf /nowhere", "SLURM_CONF"),
    Seed("no Slurm on PATH", without_slurm, "dgx: not on PATH: sbatch, squeue", "bin directory on PATH"),
    Seed(
        "half a Slurm",
        lambda well: (well.slurm.bin / "scancel").unlink(),
        "dgx: not on PATH: scancel$",
        "slurm-client",
    ),
    Seed(
        "a controller that is down",
        lambda well: well.slurm.complain("slurm_load_jobs error: Unable to contact slurm controller (connect failure)"),
        "dgx: does not answer: .*Unable to contact",
        "slurmctld running.*scontrol ping",
    ),
    Seed(
        "a controller that hangs",
        lambda well: (well.site("probe_deadline: 1s\n"), well.slurm.program("squeue", "exec sleep 3")),
        r"dgx: does not answer: squeue gave no answer within 0\.9 s",
        "slurmctld running",
    ),
    Seed(
        "munge that is down",
        lambda well: well.slurm.complain("squeue: error: Munge encode failed: Failed to access /run/munge.socket"),
        "dgx: does not answer: .*Munge",
        "is munged running",
    ),
    Seed(
        "another Slurm's client",
        lambda well: well.slurm.complain("slurm_load_jobs error: Incompatible versions of client and server code"),
        "dgx: does not answer: .*Incompatible versions",
        "the cluster's own client",
    ),
    Seed(
        "a slurm.conf that is none",
        lambda well: well.slurm.complain("squeue: fatal: Unable to process configuration file"),
        "dgx: does not answer: .*configuration file",
        "point slurm_conf",
    ),
    Seed(
        "answers that nobody can read",
        lambda well: well.slurm.complain("squeue: the dog ate it", code=3),
        "dgx: does not answer: .*the dog ate it",
        "run `sinfo` yourself",
    ),
    Seed(
        "a host that is not there",
        site("transport: openssh\nhost: login.invalid\n"),
        "dgx: does not answer: login.invalid is not reached",
        "try it by hand: ssh login.invalid",
    ),
    Seed(
        "a partition that Slurm lacks",
        lambda well: well.site("  fat: {node_price: 1 USD/h}\n"),
        "dgx: the scheduler has no partition 'fat'",
        r"it has gpu; correct partitions in .*dgx\.yaml",
    ),
    Seed("GPUs that no node has", site("gres: {A100: a100}\n"), "dgx: no node has GPUs of type 'a100'", "it has h100"),
    Seed(
        "GPUs with capitals",
        lambda well: well.slurm.nodes(gres="gpu:H100:8"),
        "dgx: no spec can ask for its GPUs H100",
        "gres: {H100: H100}",
        level="warning",
    ),
    Seed(
        "no price",
        lambda well: well.site(text="job_root: {jobs}\n"),
        "dgx: no price is known for gpu",
        "gpu_price",
        level="warning",
    ),
    Seed(
        "a fabric that is none", site("fabric: token-ring\n"), r"dgx\.yaml:\d+: fabric: 'token-ring' is none of", "efa"
    ),
    Seed("a preamble that is no shell", site("preamble: 'if true'\n"), "dgx: the preamble is no shell", "preamble in"),
    Seed(
        "another version than pinned",
        site("version: '20.11'\n"),
        "dgx: is Slurm 24.11.5, not 20.11",
        "leave version out",
        level="warning",
    ),
    Seed(
        "a container runtime that is missing",
        site("container_runtime: singularity\n"),
        "dgx: singularity is not on PATH",
        "install singularity",
        level="warning",
    ),
    Seed(
        "nodes that are drained",
        lambda well: well.slurm.nodes(state="drained"),
        r"dgx/gpu: none of its 2 nodes can start a job \(drained\)",
        "sinfo -R .*state=resume",
        level="warning",
    ),
    Seed(
        "a partition that is drained",
        lambda well: well.slurm.partitions("gpu", state="DRAIN"),
        "dgx/gpu: the partition is down or draining",
        "partitionname=gpu state=up",
        level="warning",
    ),
    Seed(
        "limits that are hidden",
        lambda well: well.slurm.program("scontrol", "echo 'scontrol: Permission denied' >&2; exit 1"),
        "dgx: cannot see the limits of the partitions",
        "administrator",
        level="warning",
    ),
    Seed(
        "an account that Slurm refuses",
        lambda well: well.slurm.program(
            "sbatch", "echo 'sbatch: error: Batch job submission failed: Invalid account' >&2; exit 1"
        ),
        "dgx: refuses a job of one CPU: Invalid account",
        "sbatch --test-only",
        level="warning",
    ),
    Seed("a clock that is ahead", job_ahead, r"dgx: its clock is at least \d+ s ahead", "NTP", level="warning"),
    Seed("a clock that is behind", clock_behind, r"dgx: its clock is 9\d\d s behind", "NTP", level="warning"),
    Seed(
        "a job_root that others can change",
        lambda well: well.jobs.chmod(0o777),
        "me/jobs: everybody can change it",
        "chmod go-w .*jobs",
    ),
    Seed(
        "a job_root of another user",
        lambda well: owned_by_another(well.jobs),
        "me/jobs: belongs to nobody",
        "set job_root of dgx",
    ),
    Seed(
        "a job_root in /tmp",
        lambda well: well.site(text=SITE.replace("{jobs}", "/tmp/none-of-yours/jobs")),
        "dgx: job_root /tmp/none-of-yours/jobs",
        "all nodes share",
        level="warning",
    ),
    Seed(
        "a job_root that is a file",
        lambda well: (well.jobs.rmdir(), well.jobs.touch()),
        "me/jobs: is a file where a directory is needed",
        "mv .*jobs .*jobs.old, or set job_root of dgx",
    ),
    Seed(
        "a state directory that others can change",
        lambda well: well.state.chmod(0o777),
        "me/state: others can change what is in it",
        "chmod go-w .*state, or set HPC_STATE_DIR",
    ),
    Seed(
        "a state directory of another user",
        lambda well: owned_by_another(well.state),
        "me/state: belongs to nobody",
        "set HPC_STATE_DIR",
    ),
    Seed(
        "a file in the way of the state directory",
        lambda well: (well.state.rmdir(), well.state.touch()),
        "me/state: is a file where a directory is needed",
        "HPC_STATE_DIR",
    ),
    Seed(
        "a ledger that is no database",
        lambda well: ruin(well.ledger()),
        "ledger.sqlite: is damaged: file is not a database",
        r"mv .*ledger\.sqlite\* ",
    ),
    Seed("a ledger with a hole in it", garble_pages, "ledger.sqlite: is damaged: ", r"mv .*ledger\.sqlite\* "),
    Seed("an empty ledger", lambda well: ruin(well.ledger(), b""), "is damaged: it is empty", "mv .*ledger"),
    Seed(
        "a job in the ledger that is none", with_unreadable_job, "ledger.sqlite holds a job that cannot", "mv .*ledger"
    ),
    Seed(
        "a ledger of a newer hybridhpc",
        lambda well: with_schema(well, 99),
        "ledger: .*has schema 99; this hybridhpc reads \\d+",
        "use the hybridhpc that wrote it; or set HPC_STATE_DIR",
    ),
    Seed(
        "an ssh configuration that is not there",
        lambda well: write(well.config / "sites" / "far.yaml", "host: far\nssh_config: /nonexistent/config\n"),
        r"far\.yaml:2: ssh_config: /nonexistent/config does not exist",
        "correct it, or leave it out",
    ),
    Seed(
        "an ssh configuration of which paramiko reads only a part",
        lambda well: (
            write(well.home / "ssh", "Include more\nHost far\n  HostName 127.0.0.1\n  Port 1\n"),
            write(well.config / "sites" / "far.yaml", f"host: far\ntransport: ssh\nssh_config: {well.home}/ssh\n"),
        ),
        r"far: transport: ssh does not read Include \(.*/ssh:1\)",
        "write transport: openssh into .*far.yaml",
        level="warning",
        also="far: does not answer",
    ),
    Seed(
        "a setting that is none",
        lambda well: write(well.config / "config.yaml", "gaol: cheap\n"),
        r"config\.yaml:1: 'gaol: cheap' is no setting",
        r"did you mean goal\? keys are goal, move, where",
    ),
    Seed(
        "a setting that stands twice",
        lambda well: write(well.config / "config.yaml", "where: [here, dgx]\nwhere: here\n"),
        r"config\.yaml:2: where stands twice, first on line 1",
        "keep one of them",
    ),
    Seed(
        "a setting with a typing mistake",
        lambda well: write(well.config / "config.yaml", "move: avdise\n"),
        r"config\.yaml:1: move: 'avdise' is none of off, advise, on",
        r"did you mean advise\?",
    ),
    Seed(
        "a setting that makes no sense",
        lambda well: write(well.config / "config.yaml", "where: auto\ngoal: splendid\n"),
        r"config\.yaml:2: goal: 'splendid'",
        "write cheap, balanced, fast",
    ),
    Seed(
        "a settings file that others can change",
        lambda well: (write(well.config / "config.yaml", "where: here\n"), (well.config / "config.yaml").chmod(0o666)),
        r"config\.yaml: everybody can change it",
        r"chmod go-w .*config\.yaml",
    ),
    Seed(
        "a settings file ending in .yml",
        lambda well: write(well.config / "config.yml", "where: here\n"),
        r"config\.yml: is not read",
        r"mv .*config\.yml .*config\.yaml",
    ),
    Seed("an HPC_GOAL that is none", env(HPC_GOAL="gratis"), "environment HPC_GOAL: 'gratis'", "write cheap"),
    Seed(
        "an HPC_WHERE that is none",
        env(HPC_WHERE="a b"),
        "environment HPC_WHERE: 'a b' is no place",
        "write auto",
    ),
    Seed(
        "an HPC_WHERE that nobody knows",
        env(HPC_WHERE="dgx,mars/red"),
        "environment HPC_WHERE: names 'mars'",
        "known are dgx, here",
    ),
    Seed(
        "a variable of sbatch",
        env(SBATCH_PARTITION="fat"),
        "environment: SBATCH_PARTITION=fat changes every submission",
        "unset SBATCH_PARTITION",
        level="warning",
    ),
    Seed(
        "a HOME that is none",
        env(HOME="/nonexistent/home"),
        "/nonexistent/home: HOME is no directory",
        "set HOME, or HPC_STATE_DIR",
        level="warning",
    ),
    Seed(
        "nonsense for the embedded site",
        env(HPC_HERE_CPUS="many"),
        "here: does not answer: .*HPC_HERE_CPUS",
        "unset it",
    ),
    Seed(
        "an embedded site whose database is damaged",
        lambda well: (well.ledger(), (well.state / "here" / "here.sqlite").write_bytes(b"no database" * 1000)),
        "here: does not answer: .*not a database",
        "move its here.sqlite aside",
    ),
    Seed(
        "no python on PATH",
        lambda well: well.person.env.update(PATH=f"{well.slurm.bin}:{well.programs}"),
        "train: there is no `python` on PATH",
        "activate a virtual environment",
        level="warning",
    ),
    Seed(
        "a python without torch",
        lambda well: with_python(well, f'exec {sys.executable} -S -E "$@"'),
        "train: .* would lack torch, numpy, sklearn, matplotlib",
        "first on PATH",
        level="warning",
    ),
    Seed(
        "a python that does not work",
        lambda well: with_python(well, "echo broken libpython >&2; exit 127"),
        "train: .*python does not work: broken libpython",
        "put another on PATH",
        level="warning",
    ),
)


@pytest.mark.parametrize("seed", SEEDS, ids=lambda seed: seed.name)
def test_a_seeded_fault_is_the_only_one_named_and_has_its_fix(well: Setting, seed: Seed) -> None:
    seed.plant(well)
    code, found = check(well.person)
    (finding,) = [each for each in found if not (seed.also and re.search(seed.also, text(each)))]
    assert finding["level"] == seed.level
    assert re.search(seed.said, text(finding)), finding
    assert re.search(seed.fix, finding["fix"]), finding
    assert code == (12 if any(each["level"] == "fault" for each in found) else 0)


def test_a_set_up_that_is_well_is_called_so(well: Setting) -> None:
    assert check(well.person) == (0, [])
    assert well.person.hpc("check").endswith("all is well\n")
    for words in ("ok       dgx: answers (slurm 24.11.5)", "ok       python: 3."):
        assert words in well.person.hpc("check", "--verbose")


def test_a_person_with_nothing_configured_is_well(well: Setting) -> None:
    for directory in (well.config, well.state, well.jobs):
        shutil.rmtree(directory)
    assert check(well.person) == (0, [])
    assert not well.state.joinpath("ledger.sqlite").exists()


def test_people_read_each_fault_with_its_fix_and_the_number_of_both_kinds(well: Setting) -> None:
    well.file.chmod(0o666)
    well.person.env["SBATCH_QOS"] = "high"
    answer = well.person.try_hpc("check")
    assert answer.returncode == 12
    assert re.search(r"FAULT    .*dgx\.yaml: everybody .*\n         fix: chmod go-w", answer.stdout)
    assert re.search(r"warning  environment: SBATCH_QOS=high .*\n         fix: unset SBATCH_QOS", answer.stdout)
    assert answer.stdout.endswith("looked at: 1 fault, 1 warning\n")
    assert "hpc: 1 fault\n" in answer.stderr


def test_everything_else_is_looked_at_where_hpc_can_barely_work(well: Setting) -> None:
    well.ledger().write_bytes(b"nothing " * 1000)
    write(well.config / "config.yaml", "nonsense\n")
    well.site("nonsense: 1\n")
    write(well.file.with_name("second.yaml"), "name: second\njob_root: /proc/nowhere\n")
    well.slurm.complain("Unable to contact slurm controller")
    well.person.env |= {"HOME": "/nonexistent", "HPC_HERE_CPUS": "-1", "SBATCH_QOS": "high"}
    code, found = check(well.person)
    said = "\n".join(map(text, found))
    assert code == 12
    for words in (
        "is damaged",
        "no setting",
        "dgx.yaml:4: nonsense",
        "second: does not answer",
        "here: does not answer",
    ):
        assert words in said
    for words in ("/nonexistent: HOME", "SBATCH_QOS", "/proc"):
        assert words in said


def test_a_look_that_fails_is_a_finding_and_the_others_go_on(well: Setting) -> None:
    well.person.env |= {"HPC_CONFIG_DIR": "/" + "x" * 5000, "SBATCH_QOS": "high"}
    code, found = check(well.person)
    assert code == 12
    assert any("File name too long" in finding["what"] for finding in found)
    assert any("SBATCH_QOS" in finding["what"] for finding in found)


def test_answers_of_random_bytes_are_no_reason_for_a_traceback(well: Setting) -> None:
    noise = random.Random(7)
    for _ in range(3):
        for name in ("nodes", "jobs", "settings"):
            good = (well.slurm.home / name).read_bytes() or b"1\x1fRUNNING\x1f" * 9
            spots = [noise.randrange(len(good)) for _ in range(9)]
            garbled = bytearray(good)
            for spot in spots:
                garbled[spot] = noise.randrange(256)
            (well.slurm.home / name).write_bytes(bytes(garbled) + noise.randbytes(200))
        code, _ = check(well.person)
        assert code in (0, 12)


def test_a_group_that_is_a_persons_own_may_write_and_another_may_not(well: Setting) -> None:
    if os.geteuid():
        pytest.skip("only root can give a file to any group")
    well.file.chmod(0o660)
    well.jobs.chmod(0o770)
    os.chown(well.file, -1, 0)
    os.chown(well.jobs, -1, 0)
    assert check(well.person) == (0, [])
    os.chown(well.file, -1, 1)
    os.chown(well.jobs, -1, 1)
    code, found = check(well.person)
    assert code == 12
    assert [finding["where"] for finding in found] == [str(well.file), str(well.jobs)]
    assert all(re.match(r"the group \w+ can change it", finding["what"]) for finding in found)


def test_a_submission_that_was_cut_short_is_named_and_one_that_goes_on_is_not(well: Setting) -> None:
    pid = well.slurm.home / "pid"
    asked = "for word; do case $word in --test-only | --help) exit 0 ;; esac; done"
    well.slurm.program("sbatch", f'{asked}; echo $$ >"{pid}.new"; mv "{pid}.new" "{pid}"; exec sleep 60')
    submission = well.person.start("submit", well.person.spec("name: cut\nrun: 'true'\n"), "--where", "dgx")
    while not pid.exists():
        assert submission.poll() is None, submission.communicate()
        time.sleep(0.02)
    assert check(well.person) == (0, [])
    submission.kill()
    submission.communicate()
    code, (finding,) = check(well.person)
    assert (code, finding["level"]) == (0, "warning")
    assert "the submission of cut to dgx was interrupted" in finding["what"]
    assert "repeat its command" in finding["fix"]
    os.killpg(os.getpgid(int(pid.read_text())), signal.SIGKILL)


def own_mounts(mount: str) -> list[str]:
    """Return the words before a command that alone sees one more mount; skip where that may not be."""
    words = [shutil.which("unshare") or "unshare", "--mount", "/bin/sh", "-c", f'{mount} && exec "$@"', "sh"]
    if os.geteuid() or subprocess.run([*words, "true"], capture_output=True).returncode:
        pytest.skip("this user may not mount")
    return words


@pytest.mark.parametrize("where", ["jobs", "state"])
def test_a_full_disk_is_named(well: Setting, where: str) -> None:
    place = well.home / where
    before = own_mounts(f"mount -t tmpfs -o size=1m,mode=700 none {place}")
    code, found = check(well.person, *before)
    assert code == 12
    assert {text(finding) for finding in found} == {f"{place}: less than 100 MiB are free"}
    assert "make room, or set" in found[0]["fix"]


@pytest.mark.parametrize("where", ["jobs", "state"])
def test_a_directory_on_a_disk_for_reading_only_is_named(well: Setting, where: str) -> None:
    place = well.home / where
    before = own_mounts(f"mount -t tmpfs -o ro,mode=700 none {place}")
    code, found = check(well.person, *before)
    (finding,) = found
    assert (code, text(finding)) == (12, f"{place}: you cannot write here")
    assert "of your own" in finding["fix"]


def test_a_home_that_cannot_be_written_is_named(well: Setting) -> None:
    place = well.home.parent / "other"
    place.mkdir()
    well.person.env["HOME"] = str(place)
    code, (finding,) = check(well.person, *own_mounts(f"mount -t tmpfs -o ro none {place}"))
    assert (code, text(finding)) == (0, f"{place}: HOME cannot be written")
    assert "HPC_STATE_DIR" in finding["fix"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_job_root_that_cannot_be_written_is_named(well: Setting) -> None:
    well.jobs.chmod(0o500)
    code, (finding,) = check(well.person)
    assert (code, text(finding)) == (12, f"{well.jobs}: you cannot write here")
    assert finding["fix"].startswith("chmod u+rwx")


@pytest.mark.lab
def test_a_real_cluster_that_is_well_has_no_faults(lab_person: Person) -> None:
    code, found = check(lab_person)
    assert code == 0
    assert {finding["what"] for finding in found if finding["where"] == "onprem"} <= {
        f"job_root {lab_person.home}/jobs is in a directory that nodes seldom share"
    }


def spoil(person: Person, pattern: str, instead: str) -> None:
    """Let the site file name a copy of the cluster's slurm.conf in which something is wrong."""
    conf = Path(person.env["SLURM_CONF"])
    own = person.home / "slurm.conf"
    own.write_text(
        re.sub(f"(?m)^{pattern}.*$", instead, re.sub("(?m)^MessageTimeout=.*$", "MessageTimeout=1", conf.read_text()))
    )
    assert instead in own.read_text()
    file = person.home / "config" / "sites" / "onprem.yaml"
    file.write_text(re.sub("(?m)^slurm_conf:.*$", f"slurm_conf: {own}", file.read_text()))


@pytest.mark.lab
@pytest.mark.parametrize(
    ("pattern", "instead", "fix"),
    [
        ("SlurmctldPort=", "SlurmctldPort=1", "is slurmctld running"),
        ("AuthInfo=", "AuthInfo=socket=/nowhere/munge.socket", "is munged running"),
        ("ClusterName=", "Nonsense", "point slurm_conf"),
    ],
    ids=["a dead port", "a dead munge", "a line that is none"],
)
def test_a_real_cluster_that_cannot_be_reached_is_named_with_the_fix(
    lab_person: Person, pattern: str, instead: str, fix: str
) -> None:
    spoil(lab_person, pattern, instead)
    code, found = check(lab_person)
    (finding,) = [finding for finding in found if finding["level"] == "fault"]
    assert code == 12
    assert text(finding).startswith("onprem: does not answer: ")
    assert fix in finding["fix"]


def test_a_damaged_ledger_is_restored_from_its_backup_by_the_command_that_check_names(well: Setting) -> None:
    ledger = well.ledger()
    before = json.loads(well.person.hpc("status", "--all", "--json"))
    for aside in ("damaged", "damaged-2"):
        ruin(ledger)
        assert "hpc check" in well.person.try_hpc("status").stderr
        _, found = check(well.person)
        (fix,) = [finding["fix"] for finding in found if "is damaged" in finding["what"]]
        assert "That is the backup of 20" in fix
        subprocess.run(fix.split("`")[1], shell=True, check=True)
        assert (well.state / aside / "ledger.sqlite").exists()
        after = json.loads(well.person.hpc("status", "--all", "--json"))
        assert [job["token"] for job in after] == [job["token"] for job in before]
    assert not [finding for finding in check(well.person)[1] if "ledger" in finding["where"]]


def test_a_site_whose_words_cannot_be_read_is_no_row_of_dashes_without_a_reason(well: Setting) -> None:
    for name in ("sinfo", "squeue", "scontrol"):
        well.slurm.program(name, "echo 'module: command not found'")
    assert "dgx: it has no partitions, or names them in words that cannot be read" in well.person.hpc("sites")
    code, found = check(well.person)
    assert code == 12
    assert any("it has no partitions" in text(finding) for finding in found if finding["level"] == "fault")


def test_what_a_site_hides_stands_below_the_table_of_sites(well: Setting) -> None:
    settings = well.slurm.home / "settings"
    settings.write_text(settings.read_text().replace("= none", "= jobs"))
    assert "dgx: unseen: other people's jobs: PrivateData=jobs" in well.person.hpc("sites")

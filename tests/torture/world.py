"""The world that is broken: a real Slurm, a person with two sites in it (one behind ssh), and what disturbs them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from tests.lab.lab import Lab
from tests.loopback import Loopback
from tests.people import Person

NEAR = """name: near
scheduler: slurm
transport: local
slurm_conf: {conf}
job_root: {home}/near
poll_interval: 1s
probe_deadline: 8s
only_listed: true
partitions:
  ada: {{node_price: 0.01 USD/h}}
"""
FAR = """name: far
scheduler: slurm
transport: openssh
host: there
ssh_config: {config}
slurm_conf: {conf}
job_root: {home}/far
poll_interval: 1s
probe_deadline: 8s
only_listed: true
partitions:
  cpu: {{node_price: 20 USD/h}}
"""
BIG = """name: big
scheduler: slurm
transport: local
slurm_conf: {conf}
job_root: {home}/big
poll_interval: 1s
only_listed: true
partitions:
  batch: {{node_price: 0.01 USD/h}}
"""
SMALL = "resources: {cpus: 1, memory: 20MiB}\ntime: 2m\n"
DISK = "48m"
"""Of the file system that holds the ledger, and is filled up now and then."""


class World:
    """Everything that is there; `end` puts it back."""

    def __init__(self, lab: Lab, home: Path) -> None:
        self.lab, self.home = lab, home
        self.prefix = f"t{os.getpid()}"
        home.mkdir(parents=True)
        self.sshd = Loopback(home / "sshd", f"SetEnv SLURM_CONF={lab.cluster.slurm_conf}")
        state = home / "person" / "state"
        self.person = Person(home / "person", SLURM_CONF=str(lab.cluster.slurm_conf), XDG_RUNTIME_DIR=str(home / "run"))
        (home / "run").mkdir(mode=0o700)
        state.mkdir(mode=0o700)
        self.has_disk = _mount(state)
        self.state = state
        self.counter = home / "counter"
        self.counter.touch()
        sites = self.person.home / "config" / "sites"
        sites.mkdir(parents=True)
        for name, text in (("near", NEAR), ("far", FAR), ("big", BIG)):
            filled = text.format(conf=lab.cluster.slurm_conf, home=home, config=self.sshd.config)
            (sites / f"{name}.yaml").write_text(filled)
        self.completions = lab.cluster.directory / "log" / "jobcomp.txt"
        self.completed_before = self.completions.stat().st_size if self.completions.exists() else 0

    def name(self, word: str) -> str:
        """Return a name that tells this run's jobs from all others in the queue."""
        return f"{self.prefix}-{word}"

    def fragile_job(self, name: str, *, seconds: float) -> None:
        """Write a spec of a job that must begin once only."""
        self.person.spec(
            f"name: {name}\n{SMALL}retries: {{failed: 9}}\nwhere: [near, far]\n"
            f"run: |\n  echo begin {name} >> {self.counter}\n  sleep {seconds}\n  echo done {name} >> {self.counter}\n",
            f"{name}.yaml",
        )

    def restartable_job(self, name: str, *, seconds: float, keys: str = "") -> None:
        """Write a spec of a job that goes on from a checkpoint: one that was done has nothing left to do.

        A controller that forgot that it lost a node has its jobs as running until their walltime: hence `timeout`.
        """
        self.person.spec(
            f"name: {name}\n{SMALL}{keys}retries: {{node_fail: 50, preempted: 50, failed: 50, timeout: 50}}\n"
            f"checkpoint: {{dir: ckpt, grace: 10s}}\n"
            f"run: |\n  mkdir -p ckpt; echo begin {name} >> {self.counter}\n"
            f"  ! grep -qx 'done {name}' {self.counter} || exit 0\n"
            f"  [ -e ckpt/half ] || sleep {seconds}\n  touch ckpt/half\n  sleep {seconds}\n"
            f"  echo done {name} >> {self.counter}\n",
            f"{name}.yaml",
        )

    def agent(self) -> subprocess.Popen[str]:
        """Start an agent in a hurry."""
        command = [sys.executable, "-m", "tests.torture.agent", "--json"]
        env = self.person.env | {"HPC_MOVE": "on", "PYTHONPATH": str(Path(__file__).parents[2])}
        log = (self.home / "agent.log").open("a")
        return subprocess.Popen(
            command, env=env, cwd=self.person.home, stdout=log, stderr=log, text=True, start_new_session=True
        )

    def fill_near(self, seconds: float) -> None:
        """Let another's job of highest priority take all nodes of `near`, as soon as they are free."""
        with suppress(subprocess.SubprocessError):
            words = (
                "sbatch",
                "-p",
                "ada",
                "-N3",
                "--exclusive",
                "--mem=1M",
                "-t",
                "60",
                "-J",
                "filler",
                "-o",
                "/dev/null",
            )
            job = self.lab.run(*words, "--parsable", "--wrap", f"sleep {seconds}", seconds=20).strip()
            self.lab.run("scontrol", "update", f"jobid={job}", "priority=1000000", seconds=20)

    def close(self, partition: str, seconds: float) -> None:
        """Let nothing start in a partition for a while: what waits there is placed anew."""
        if partition == "ada":
            self.fill_near(seconds)
            time.sleep(1)
        try:
            self.lab.run("scontrol", "update", f"partitionname={partition}", "state=down", seconds=20)
            time.sleep(seconds)
        finally:
            self.lab.run("scontrol", "update", f"partitionname={partition}", "state=up", seconds=60)

    def fill_disk(self, seconds: float) -> None:
        """Let the file system of the ledger be full for a while."""
        if not self.has_disk:
            return
        ballast = self.state / "ballast"
        try:
            with ballast.open("wb", buffering=0) as file, suppress(OSError):
                while file.write(b"x" * 65536):
                    pass
            time.sleep(seconds)
        finally:
            ballast.unlink(missing_ok=True)

    def freeze(self, seconds: float) -> None:
        """Let the controller answer nobody for a while."""
        self.lab.freeze()
        time.sleep(seconds)
        self.lab.thaw()

    def cut_ssh(self, seconds: float) -> None:
        """Cut every connection, and let nobody in for a while."""
        with suppress(OSError):
            self.sshd.stop()
        time.sleep(seconds)
        self.sshd.start()

    def lose_controller(self, seconds: float) -> None:
        """End the controller at once, and start it again; it may forget what it accepted in its last five seconds."""
        self.lab.kill_controller()
        time.sleep(seconds)
        self.lab.start_controller()

    def lose_node(self, name: str, seconds: float, *, told: bool) -> None:
        """Let a node vanish with its jobs, and boot it again; `told`: the controller need not find out by itself."""
        self.lab.kill_node(name)
        if told:
            with suppress(subprocess.SubprocessError):
                self.lab.report_lost(name)
        time.sleep(seconds)
        self.lab.start_node(name)

    def mend_nodes(self) -> None:
        """Boot what is lost, and let the controller take it back; open what was closed."""
        for partition in ("ada", "cpu"):
            self.lab.run("scontrol", "update", f"partitionname={partition}", "state=up", check=False)
        for node in self.lab.cluster.nodes:
            self.lab.start_node(node)
        down = [node for node, state in self.lab.node_states().items() if state.startswith(("down", "drain"))]
        if down:
            self.lab.run("scontrol", "update", f"nodename={','.join(down)}", "state=resume", check=False)

    def queue(self) -> list[str]:
        """What the controller has of this run that is not final: id, name and state."""
        lines = self.lab.run("squeue", "-h", "-t", "PD,R,S,CG,CF", "-o", "%i %j %T").splitlines()
        return [line for line in lines if f" {self.prefix}-" in line]

    def of_jobs(self) -> list[str]:
        """The same without the jobs of others that take all nodes."""
        return [line for line in self.queue() if "filler" not in line]

    def ssh_clients(self) -> list[int]:
        """Return the ssh processes of this world, the one that all share too: its title names its socket."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                ours = (entry / "comm").read_text() == "ssh\n" and str(self.home) in (entry / "cmdline").read_text()
                found += [int(entry.name)] if ours else []
        return found

    def new_completions(self) -> list[str]:
        """What Slurm's completion log has of this run."""
        with self.completions.open() as file:
            file.seek(self.completed_before)
            return file.read().splitlines()

    def end(self) -> None:
        """Put everything back."""
        self.lab.thaw()
        for partition in ("ada", "cpu"):
            self.lab.run("scontrol", "update", f"partitionname={partition}", "state=up", check=False)
        ids = [line.split()[0] for line in self.queue()]
        if ids:
            self.lab.run("scancel", *ids, check=False)
        with suppress(OSError):
            self.sshd.stop()
        if self.has_disk:
            subprocess.run(["umount", "-l", self.state], check=False)


def _mount(state: Path) -> bool:
    words = ["mount", "-t", "tmpfs", "-o", f"size={DISK},mode=0700", "tmpfs", str(state)]
    return subprocess.run(words, capture_output=True, check=False).returncode == 0


def descendants(pid: int) -> dict[int, str]:
    """Return the living processes that a process started, and theirs, with their names; of 0, the machine, none."""
    found: dict[int, str] = {}
    waiting = [pid] if pid else []
    while waiting:
        # Of each thread its own: quicker than a look at every process, and what is looked for lives for milliseconds.
        with suppress(OSError):  # it has ended meanwhile
            for children in [*Path(f"/proc/{waiting.pop()}/task").glob("*/children")]:
                with suppress(OSError):
                    for child in map(int, children.read_text().split()):
                        found[child] = Path(f"/proc/{child}/comm").read_text().strip()
                        waiting.append(child)
    return found


def kill(pid: int) -> None:
    """End a process at once."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)

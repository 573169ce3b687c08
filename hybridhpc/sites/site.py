"""Site and Partition as an admin describes them, and InvalidSite for a file that cannot be read. Values only."""

from __future__ import annotations

from dataclasses import field

from hybridhpc.errors import Problem
from hybridhpc.model import Mebibytes, Seconds, UsdPerHour
from hybridhpc.values import dataclass

USUAL_SPEED = 1.0
"""Relative speed of GPUs of which a site file does not say any: for run times as well as for `gpu-speed>0.5`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What an hour costs; both parts add up. `source` says where the figure comes from."""

    per_gpu: UsdPerHour = UsdPerHour(0.0)
    per_node: UsdPerHour = UsdPerHour(0.0)
    per_cpu: UsdPerHour | None = None
    """None: not given. Where GPUs alone have a price, CPUs then cost as many GPUs as they keep from others."""
    source: str = "no price given"


@dataclass(frozen=True, slots=True, kw_only=True)
class Partition:
    """What the site file says about a partition; the rest (nodes, limits) is asked from the scheduler."""

    name: str
    price: Price = Price()
    purchase: str = "owned"
    """owned, on-demand or spot."""
    boot_delay: Seconds = Seconds(0)
    """For nodes that are powered up on demand."""
    account: str | None = None
    """For jobs that name none; None: the site's. So is `qos`."""
    qos: str | None = None
    slurm: tuple[tuple[str, str | None], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A place with its own scheduler, file system and prices."""

    name: str
    file: str | None
    """Path of its file; None for the embedded site."""
    scheduler: str
    transport: str
    provider: str = "onprem"
    host: str | None = None
    ssh_config: str | None = None
    """Absolute path of an ssh configuration; None: the person's own."""
    renew: str = ""
    """What a person does when the site no longer lets them in, in words: `aws sso login`."""
    slurm_conf: str | None = None
    version: str | None = None
    """Scheduler version if pinned, else it is asked."""
    job_root: str = ""
    """Absolute directory, visible from login and compute nodes, that holds `TOKEN/ATTEMPT/`."""
    partitions: tuple[Partition, ...] = ()
    only_listed: bool = False
    """Partitions the file does not list are not used."""
    price: Price = Price()
    """For partitions without one of their own."""
    gres: tuple[tuple[str, str], ...] = ()
    """A person's word for a GPU and the scheduler's: ("H100", "nvidia_h100_80gb_hbm3")."""
    gpu_memory: tuple[tuple[str, Mebibytes], ...] = ()
    gpu_speed: tuple[tuple[str, float], ...] = ()
    """Relative speed by GPU kind; USUAL_SPEED if not named."""
    account: str | None = None
    qos: str | None = None
    names: tuple[tuple[str, str, str], ...] = ()
    """Mappings of foreign names: ("account", "ml", "proj-42") says that `ml` elsewhere is `proj-42` here."""
    labels: tuple[str, ...] = ()
    resident_data: tuple[str, ...] = ()
    """Directories whose data may not leave: a job that names one runs only at sites that list it."""
    slurm: tuple[tuple[str, str | None], ...] = ()
    plugin_options: tuple[tuple[str, str], ...] = ()
    """Options that its SPANK plugins add to sbatch, with the marks of plugins.py."""
    preamble: str = ""
    container_runtime: str = "apptainer"
    image_dir: str | None = None
    fabric: str = "none"
    mpi: str | None = None
    """Value for `srun --mpi=`."""
    poll_interval: Seconds = Seconds(30)
    probe_deadline: Seconds = Seconds(10)
    lines: tuple[tuple[str, int], ...] = field(default=(), compare=False)
    """Of the keys at the top level of its file."""

    @property
    def is_slurm(self) -> bool:
        """Whether it is a Slurm, by whatever door: another package's `slurm-rest` gets the jobs that `slurm` does."""
        return self.scheduler.partition("-")[0] == "slurm"

    def place_of(self, key: str) -> str:
        """Say where a key stands: `FILE:LINE: KEY:`."""
        line = dict(self.lines).get(key)
        return f"{self.file}{f':{line}' if line else ''}: {key}:" if self.file else f"{key}:"

    def partition(self, name: str) -> Partition:
        """Return what the file says about `name`, the site's price if nothing."""
        for partition in self.partitions:
            if partition.name == name:
                return partition
        return Partition(name=name, price=self.price)

    def account_for(self, partition: str) -> str | None:
        """Return the account of jobs that name none."""
        return self.partition(partition).account or self.account

    def qos_for(self, partition: str) -> str | None:
        """Return the QOS of jobs that name none."""
        return self.partition(partition).qos or self.qos

    def native_gpu(self, kind: str) -> str:
        """Return the scheduler's word for a GPU kind, matched without regard to case."""
        wanted = kind.lower()
        return next((native for word, native in self.gres if word.lower() == wanted), wanted)

    def speed(self, kind: str | None) -> float:
        """Return the relative speed of a GPU kind."""
        wanted = (kind or "").lower()
        return next((speed for word, speed in self.gpu_speed if word.lower() == wanted), USUAL_SPEED)


@dataclass(frozen=True, slots=True, kw_only=True)
class InvalidSite:
    """A site file that cannot be used: it refuses every job and carries its problems; the others still work."""

    name: str
    file: str
    problems: tuple[Problem, ...]

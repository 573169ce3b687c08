"""What one cluster of the lab is: a value, and what follows from it. The text of its files is in slurm_files.py.

Nothing here touches the disk, a process or the environment.
"""

from dataclasses import dataclass
from pathlib import Path

SOCKET_PATH_LIMIT = 107
# How many ports a cluster has: the controller's, one per node, slurmdbd's and sshd's.
PORTS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeGroup:
    """`count` equal nodes named prefix1, prefix2, ...: sockets, cores per socket, memory in MB, GPUs per node."""

    prefix: str
    count: int
    sockets: int
    cores_per_socket: int
    memory_mb: int
    gpu_type: str = ""
    gpus: int = 0

    @property
    def names(self) -> tuple[str, ...]:
        """The nodes' names, in order."""
        return tuple(f"{self.prefix}{number}" for number in range(1, self.count + 1))

    @property
    def hostlist(self) -> str:
        """The nodes' names as Slurm writes them."""
        return f"{self.prefix}[1-{self.count}]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Partition:
    """A partition over one group of nodes; `site` holds the site file's keys for it, `limits` slurm.conf's."""

    name: str
    group: NodeGroup
    site: tuple[str, ...]
    limits: str = "DefaultTime=01:00:00 MaxTime=7-00:00:00"
    default: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """One cluster: where it lives, the first of its ports, the address of its sshd, its release, its nodes, its user.

    `tree` is the root directory of the Debian that its Slurm is from, None for this machine's own. `cloud` nodes are
    off until a job wants them. Without `accounting` there is no slurmdbd.
    """

    name: str
    directory: Path
    port: int
    ssh_address: str
    release: tuple[int, int]
    partitions: tuple[Partition, ...]
    user: str
    tree: Path | None = None
    cloud: bool = False
    accounting: bool = False

    @property
    def groups(self) -> tuple[NodeGroup, ...]:
        """Every group of nodes once, in order: node ports are counted through them."""
        return tuple(dict.fromkeys(partition.group for partition in self.partitions))

    @property
    def nodes(self) -> tuple[str, ...]:
        """All nodes' names."""
        return tuple(name for group in self.groups for name in group.names)

    @property
    def head(self) -> str:
        """The host name of the machine that the controller runs on and that people log in to."""
        return f"{self.name}-head"

    @property
    def ports(self) -> dict[str, int]:
        """The port of each daemon that listens at cluster.address: the controller's first, one per node, slurmdbd's."""
        ports = {name: self.port + offset for offset, name in enumerate(("slurmctld", *self.nodes))}
        return {**ports, "slurmdbd": self.port + PORTS - 2} if self.accounting else ports

    @property
    def ssh_port(self) -> int:
        """Where its sshd listens, at ssh_address."""
        return self.port + PORTS - 1

    @property
    def hidden_ssh_port(self) -> int:
        """Where its sshd listens while a slow link stands before it."""
        return self.port + PORTS - 3

    @property
    def ssh_host(self) -> str:
        """Its name in the lab's ssh configuration."""
        return f"lab-{self.name}"

    @property
    def daemons(self) -> tuple[str, ...]:
        """What runs when the cluster is up, in the order of its start; nodes of a cloud come and go."""
        heads = ("munged", *(("slurmdbd",) if self.accounting else ()), "slurmctld", "sshd")
        return heads if self.cloud else (*heads, *self.nodes)

    @property
    def slurm_conf(self) -> Path:
        """What SLURM_CONF must name for a client of this cluster."""
        return self.directory / "etc/slurm.conf"

    @property
    def munge_socket(self) -> Path:
        """Where this cluster's munged listens."""
        return self.directory / "run/munge.sock"

    @property
    def job_root(self) -> Path:
        """A directory every node sees and every user may write to, like /tmp."""
        return self.directory / "jobs"

    @property
    def homes(self) -> Path:
        """The home directories of its people, a small file system of its own; in a cloud it is seen as /home."""
        return self.directory / "home"

    @property
    def system(self) -> Path:
        """What its machines see as /etc: a copy, for a mount over one file of /etc ends when that file is replaced."""
        return self.directory / "system"

    @property
    def user_home(self) -> Path:
        """Where its user is at home, as seen on its machines."""
        return (Path("/home") if self.cloud else self.homes) / self.user

    @property
    def gpu_devices(self) -> tuple[Path, ...]:
        """The device files that stand for GPUs; all nodes share them, as gres.conf needs names only."""
        most = max(group.gpus for group in self.groups)
        return tuple(self.directory / f"dev/nvidia{number}" for number in range(most))


def longest_socket_path(cluster: Cluster) -> int:
    """The bytes of the longest unix socket path the cluster will make: a job step's, in its node's spool directory."""
    name = max(cluster.nodes, key=len)
    return max(
        len(bytes(cluster.directory / f"spool/{name}/{name}_4294967295.4294967295")),
        len(bytes(cluster.munge_socket)),
    )

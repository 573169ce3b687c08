"""What one cluster of the lab is, and the text of its files, as pure functions of a Cluster value.

Nothing here touches the disk, a process or the environment.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SOCKET_PATH_LIMIT = 107
# Inside a node this file lies over slurm.conf.
NODE_CONF = "slurm.node.conf"


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
    """A partition over one group of nodes; `price` is the site file's own words for what it costs."""

    name: str
    group: NodeGroup
    price: str
    default: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """One cluster: where it lives, its loopback address, the first of its 100 ports, Slurm's release, its nodes."""

    name: str
    directory: Path
    address: str
    port: int
    release: tuple[int, int]
    partitions: tuple[Partition, ...]

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
        """The host name of the machine that the controller runs on."""
        return f"{self.name}-head"

    @property
    def ports(self) -> dict[str, int]:
        """The port of each daemon: the controller's first, then one per node."""
        return {name: self.port + offset for offset, name in enumerate(("slurmctld", *self.nodes))}

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
    def gpu_devices(self) -> tuple[Path, ...]:
        """The device files that stand for GPUs; all nodes share them, as gres.conf needs names only."""
        most = max(group.gpus for group in self.groups)
        return tuple(self.directory / f"dev/nvidia{number}" for number in range(most))


def onprem(directory: Path, address: str, port: int, release: tuple[int, int]) -> Cluster:
    """The cluster on the person's own premises: four GPU nodes and two without."""
    dgx = NodeGroup(prefix="dgx", count=4, sockets=2, cores_per_socket=56, memory_mb=2_000_000, gpu_type="h100", gpus=8)
    cpu = NodeGroup(prefix="cpu", count=2, sockets=2, cores_per_socket=32, memory_mb=256_000)
    return Cluster(
        name="onprem",
        directory=directory,
        address=address,
        port=port,
        release=release,
        partitions=(
            Partition(name="batch", group=dgx, price="gpu_price: 2.10 USD/h", default=True),
            Partition(name="cpu", group=cpu, price="node_price: 0.40 USD/h"),
        ),
    )


def config_files(cluster: Cluster) -> dict[str, str]:
    """Name and text of every file of the cluster's etc directory."""
    return {
        "slurm.conf": slurm_conf(cluster, "NoCtldInAddrAny"),
        NODE_CONF: slurm_conf(cluster, "NoInAddrAny"),
        "gres.conf": gres_conf(cluster),
        "cgroup.conf": cgroup_conf(cluster),
        "hosts": hosts(cluster),
    }


def slurm_conf(cluster: Cluster, listening: str) -> str:
    """The text of slurm.conf (manual page slurm.conf(5); most of these lines were run on 22.05, 24.11 and 26.05).

    `listening` keeps daemons off the network: NoCtldInAddrAny for the controller, NoInAddrAny for the nodes. Clients
    may not have the latter: srun would listen where the machine's own name points, and its steps answer to 127.0.0.1.

    No slurmdbd: accounting_storage/none, and then no AccountingStorageTRES, which would be fatal. With a slurmdbd the
    last two lines would become AccountingStorageType=accounting_storage/slurmdbd, its Host, Port and Pass.
    """
    home = cluster.directory
    lines = [
        f"ClusterName={cluster.name}",
        f"SlurmctldHost={cluster.head}({cluster.address})",
        f"SlurmctldPort={cluster.port}",
        "SlurmUser=root",
        "SlurmdUser=root",
        "AuthType=auth/munge",
        # A requeued job waits cred_expire + 1 s before it may start again; 5 is the least that is accepted.
        f"AuthInfo=socket={cluster.munge_socket},cred_expire=5",
        "CredType=cred/munge",
        f"StateSaveLocation={home}/spool/ctld",
        f"SlurmdSpoolDir={home}/spool/%n",
        f"SlurmctldPidFile={home}/run/slurmctld.pid",
        f"SlurmdPidFile={home}/run/slurmd-%n.pid",
        f"SlurmctldLogFile={home}/log/slurmctld.log",
        f"SlurmdLogFile={home}/log/slurmd-%n.log",
        "ProctrackType=proctrack/linuxproc",
        "TaskPlugin=task/none",
        "MpiDefault=none",
        "MailProg=/bin/true",
        "JobAcctGatherType=jobacct_gather/linux",
        "JobAcctGatherFrequency=5",
        "SelectType=select/cons_tres",
        "SelectTypeParameters=CR_Core_Memory",
        # Without it a job takes a whole node's memory and nothing else fits beside it.
        "DefMemPerCPU=1000",
        "SlurmdParameters=config_overrides",
        "SchedulerParameters=bf_interval=2,sched_interval=5",
        f"CommunicationParameters={listening}",
        # The nodes' file differs in the line above.
        "DebugFlags=NO_CONF_HASH",
        "ReturnToService=2",
        "MaxJobCount=50000",
        "MaxArraySize=10001",
        "MinJobAge=300",
        "SlurmdTimeout=10",
        "SlurmctldTimeout=10",
        "MessageTimeout=5",
        "UnkillableStepTimeout=60",
        "KillWait=3",
        "InactiveLimit=0",
        "GresTypes=gpu",
        *_node_lines(cluster),
        *(_partition_line(partition) for partition in cluster.partitions),
        "JobCompType=jobcomp/filetxt",
        f"JobCompLoc={home}/log/jobcomp.txt",
        "AccountingStorageType=accounting_storage/none",
    ]
    return "\n".join(lines) + "\n"


def _node_lines(cluster: Cluster) -> Iterator[str]:
    ports = cluster.ports
    for group in cluster.groups:
        first, last = ports[group.names[0]], ports[group.names[-1]]
        where = f"NodeName={group.hostlist} NodeAddr={cluster.address} Port=[{first}-{last}]"
        cores = f"Sockets={group.sockets} CoresPerSocket={group.cores_per_socket} ThreadsPerCore=1"
        gres = f" Gres=gpu:{group.gpu_type}:{group.gpus}" if group.gpus else ""
        yield f"{where} {cores} RealMemory={group.memory_mb}{gres} State=UNKNOWN"


def _partition_line(partition: Partition) -> str:
    default = "YES" if partition.default else "NO"
    limits = "DefaultTime=01:00:00 MaxTime=7-00:00:00 State=UP"
    return f"PartitionName={partition.name} Nodes={partition.group.hostlist} Default={default} {limits}"


def gres_conf(cluster: Cluster) -> str:
    """The text of gres.conf; File= must name real character devices, else CUDA_VISIBLE_DEVICES stays empty (22.05)."""
    lines = ["AutoDetect=off"]
    for group in cluster.groups:
        if group.gpus:
            files = f"{cluster.directory}/dev/nvidia[0-{group.gpus - 1}]"
            lines.append(f"NodeName={group.hostlist} Name=gpu Type={group.gpu_type} File={files}")
    return "\n".join(lines) + "\n"


def cgroup_conf(cluster: Cluster) -> str:
    """The text of cgroup.conf: no cgroups; the word is in cgroup.conf(5) of 24.05, not yet of 23.11."""
    return "CgroupPlugin=disabled\n" if cluster.release >= (24, 5) else ""


def hosts(cluster: Cluster) -> str:
    """The text of /etc/hosts inside the cluster: all its machines are at one address, told apart by their ports."""
    names = " ".join((cluster.head, *cluster.nodes))
    return f"127.0.0.1 localhost\n::1 localhost ip6-localhost\n{cluster.address} {names}\n"


def site_file(cluster: Cluster) -> str:
    """The YAML text of the site file that points hpc at this cluster."""
    lines = [
        f"name: {cluster.name}",
        "scheduler: slurm",
        "transport: local",
        f"slurm_conf: {cluster.slurm_conf}",
        f"job_root: {cluster.job_root}",
        "partitions:",
        *(f"  {partition.name}: {{{partition.price}}}" for partition in cluster.partitions),
    ]
    return "\n".join(lines) + "\n"


def longest_socket_path(cluster: Cluster) -> int:
    """The bytes of the longest unix socket path the cluster will make: a job step's, in its node's spool directory."""
    name = max(cluster.nodes, key=len)
    return max(
        len(bytes(cluster.directory / f"spool/{name}/{name}_4294967295.4294967295")),
        len(bytes(cluster.munge_socket)),
    )

"""The text of Slurm's own files, as pure functions of a Cluster."""

from collections.abc import Iterator

from tests.lab.cluster import Cluster, Partition

# Whatever loopback address a daemon listens on, connections come from 127.0.0.1, and a step's answer goes back there.
# With all of Slurm's sockets on that address nothing need listen on the network's; clusters differ by their ports.
ADDRESS = "127.0.0.1"
# Inside a node this file lies over slurm.conf.
NODE_CONF = "slurm.node.conf"
# Seconds a node may take to boot; a longer boot has failed.
RESUME_TIMEOUT = 40


def slurm_files(cluster: Cluster) -> dict[str, str]:
    """Name and text of Slurm's files in the cluster's etc directory."""
    files = {
        "slurm.conf": slurm_conf(cluster, "NoCtldInAddrAny"),
        NODE_CONF: slurm_conf(cluster, "NoInAddrAny"),
        "gres.conf": gres_conf(cluster),
        "cgroup.conf": cgroup_conf(cluster),
    }
    return {**files, "slurmdbd.conf": slurmdbd_conf(cluster)} if cluster.accounting else files


def slurm_conf(cluster: Cluster, listening: str) -> str:
    """The text of slurm.conf (manual page slurm.conf(5)), the same for 22.05, 24.11 and 26.05.

    `listening` keeps daemons off the network: NoCtldInAddrAny for the controller, NoInAddrAny for the nodes. Clients
    may not have the latter: srun would listen where the machine's own name points, and its steps answer to 127.0.0.1.
    """
    home = cluster.directory
    lines = [
        f"ClusterName={cluster.name}",
        f"SlurmctldHost={cluster.head}({ADDRESS})",
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
        *(_power_lines(cluster) if cluster.cloud else ()),
        *_accounting_lines(cluster),
    ]
    return "\n".join(lines) + "\n"


def _node_lines(cluster: Cluster) -> Iterator[str]:
    ports = cluster.ports
    state = "CLOUD" if cluster.cloud else "UNKNOWN"
    for group in cluster.groups:
        first, last = ports[group.names[0]], ports[group.names[-1]]
        where = f"NodeName={group.hostlist} NodeAddr={ADDRESS} Port=[{first}-{last}]"
        cores = f"Sockets={group.sockets} CoresPerSocket={group.cores_per_socket} ThreadsPerCore=1"
        gres = f" Gres=gpu:{group.gpu_type}:{group.gpus}" if group.gpus else ""
        yield f"{where} {cores} RealMemory={group.memory_mb}{gres} State={state}"


def _partition_line(partition: Partition) -> str:
    default = "YES" if partition.default else "NO"
    return (
        f"PartitionName={partition.name} Nodes={partition.group.hostlist} Default={default} {partition.limits} State=UP"
    )


def _power_lines(cluster: Cluster) -> tuple[str, ...]:
    """The lines of a cluster whose nodes boot when a job wants them (power_save guide of Slurm)."""
    etc = cluster.directory / "etc"
    return (
        # The word is misleading: nodes that are off are shown to everybody.
        "PrivateData=cloud",
        f"ResumeProgram={etc}/resume",
        f"SuspendProgram={etc}/suspend",
        f"ResumeFailProgram={etc}/suspend",
        "SuspendTime=120",
        "SuspendTimeout=8",
        f"ResumeTimeout={RESUME_TIMEOUT}",
        "ResumeRate=0",
        "SuspendRate=0",
        "TreeWidth=65533",
        "SlurmctldParameters=idle_on_node_suspend",
    )


def _accounting_lines(cluster: Cluster) -> tuple[str, ...]:
    """Without slurmdbd there may be no AccountingStorageTRES: it would be fatal (22.05)."""
    log = f"{cluster.directory}/log/jobcomp.txt"
    if not cluster.accounting:
        return ("JobCompType=jobcomp/filetxt", f"JobCompLoc={log}", "AccountingStorageType=accounting_storage/none")
    enforced = () if cluster.cloud else ("AccountingStorageEnforce=associations,limits,qos", *_PRIORITY)
    return (
        "AccountingStorageType=accounting_storage/slurmdbd",
        f"AccountingStorageHost={ADDRESS}",
        f"AccountingStoragePort={cluster.ports['slurmdbd']}",
        # Slurmdbd is reached with this one; AuthInfo is not used for it.
        f"AccountingStoragePass={cluster.munge_socket}",
        "AccountingStorageTRES=gres/gpu",
        "JobCompType=jobcomp/none",
        *enforced,
    )


_PRIORITY = (
    "PriorityType=priority/multifactor",
    "PriorityDecayHalfLife=7-0",
    "PriorityCalcPeriod=1",
    "PriorityWeightFairshare=10000",
    "PriorityWeightQOS=5000",
    "PriorityWeightAge=1000",
)


def slurmdbd_conf(cluster: Cluster) -> str:
    """The text of slurmdbd.conf. MariaDB has no network: MYSQL_UNIX_PORT of slurmdbd's environment names its socket."""
    lines = [
        f"DbdHost={cluster.head}",
        f"DbdAddr={ADDRESS}",
        f"DbdPort={cluster.ports['slurmdbd']}",
        "SlurmUser=root",
        "AuthType=auth/munge",
        f"AuthInfo=socket={cluster.munge_socket}",
        f"LogFile={cluster.directory}/log/slurmdbd.log",
        f"PidFile={cluster.directory}/run/slurmdbd.pid",
        "StorageType=accounting_storage/mysql",
        "StorageHost=localhost",
        "StorageUser=root",
        f"StorageLoc=acct_{cluster.name}",
    ]
    return "\n".join(lines) + "\n"


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

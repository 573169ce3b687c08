"""The four clusters of the company as values: one at home, three in the clouds. Pure."""

from dataclasses import dataclass
from pathlib import Path

from tests.lab.cluster import PORTS, Cluster, NodeGroup, Partition

NAMES = ("onprem", "aws", "azure", "gcp")
SUITES = {"azure": "trixie", "gcp": "sid"}
"""The Debian whose Slurm a cluster runs; the others run this machine's."""

_DGX = NodeGroup(prefix="dgx", count=12, sockets=2, cores_per_socket=56, memory_mb=2_000_000, gpu_type="h100", gpus=8)
_ADA = NodeGroup(
    prefix="ada", count=3, sockets=2, cores_per_socket=32, memory_mb=512_000, gpu_type="rtx6000ada", gpus=4
)
_CPU = NodeGroup(prefix="cpu", count=4, sockets=2, cores_per_socket=32, memory_mb=256_000)


def _machines(prefix: str, count: int, cores: int, memory_mb: int, gpus: int = 8) -> NodeGroup:
    """Nodes of one instance type; those with GPUs have H100."""
    kind = "h100" if gpus else ""
    return NodeGroup(
        prefix=prefix,
        count=count,
        sockets=2,
        cores_per_socket=cores // 2,
        memory_mb=memory_mb,
        gpu_type=kind,
        gpus=gpus,
    )


def _rented(name: str, group: NodeGroup, price: str, *, spot: bool = False, default: bool = False) -> Partition:
    """A partition of CLOUD nodes. 30 s is the timer at which slurmctld lets a job run on a node that has booted."""
    purchase = "spot" if spot else "on-demand"
    return Partition(
        name=name,
        group=group,
        site=(f"node_price: {price} USD/h", f"purchase: {purchase}", "boot_delay: 30s"),
        default=default,
    )


_PARTITIONS = {
    "onprem": (
        Partition(
            name="batch",
            group=_DGX,
            site=("gpu_price: 2.10 USD/h",),
            limits="DefaultTime=01:00:00 MaxTime=7-00:00:00 MaxNodes=8",
            default=True,
        ),
        Partition(
            name="ada",
            group=_ADA,
            site=("gpu_price: 0.55 USD/h",),
            limits="DefaultTime=00:30:00 MaxTime=1-00:00:00",
        ),
        Partition(name="cpu", group=_CPU, site=("node_price: 0.40 USD/h",)),
    ),
    "aws": (
        _rented("p5", _machines("p5-", 8, 96, 2_000_000), "55.04", default=True),
        _rented("p5-spot", _machines("p5spot-", 8, 96, 2_000_000), "25.80", spot=True),
        _rented("c7i", _machines("c7i-", 8, 96, 384_000, gpus=0), "4.28"),
    ),
    "azure": (
        _rented("hpc", _machines("ndv5-", 8, 96, 1_900_000), "98.32", default=True),
        _rented("htc", _machines("htc-", 8, 64, 256_000, gpus=0), "3.07"),
    ),
    "gcp": (
        _rented("a3", _machines("a3-", 8, 104, 1_872_000), "87.83", default=True),
        _rented("a3-spot", _machines("a3spot-", 8, 104, 1_872_000), "52.57", spot=True),
        _rented("c2", _machines("c2-", 8, 60, 240_000, gpus=0), "3.13"),
    ),
}
_USERS = {"onprem": "alice", "aws": "alice", "azure": "asmith", "gcp": "alice_example_com"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What may differ between two labs' clusters of one name: Slurm's release and origin, and accounting."""

    release: tuple[int, int]
    tree: Path | None = None
    accounting: bool = True


def cluster(name: str, home: Path, port: int, choice: Choice) -> Cluster:
    """The cluster of that name in a lab's directory; `port` is the lab's first. AWS has no accounting."""
    number = NAMES.index(name)
    return Cluster(
        name=name,
        directory=home / name,
        port=port + PORTS * number,
        ssh_address=f"127.0.1.{number + 1}",
        release=choice.release,
        tree=choice.tree,
        partitions=_PARTITIONS[name],
        user=_USERS[name],
        cloud=name != "onprem",
        accounting=choice.accounting and name != "aws",
    )

"""Fabrics: what a job on several nodes must set so that NCCL, libfabric and UCX find the site's interconnect.

Values only, each with its source; how they are written down is templates/fabric/. No run on such hardware stands
behind them. A job on one node uses no fabric and gets none of this.
"""

from __future__ import annotations

from hybridhpc.values import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Fabric:
    """One interconnect. Paths are the node's, and each must be there when the job starts, else it ends with a message.

    A person's own `env` wins over `env`; both win over what `profile` sets.
    """

    source: str
    env: tuple[tuple[str, str], ...] = ()
    binds: tuple[str, ...] = ()
    """Made visible in a container, at the same path."""
    profile: str = ""
    """The vendor's own script, sourced at job start: it changes with the image of the node."""
    profile_env: tuple[tuple[str, str], ...] = ()
    """What that script wants to find set."""
    library_path: tuple[str, ...] = ()
    """First in LD_LIBRARY_PATH, inside a container too."""
    template: str = "base"
    """File in templates/fabric/."""


FABRICS = {
    "none": Fabric(source="no interconnect to set up"),
    "ib": Fabric(source="InfiniBand that NCCL and UCX find by themselves: nothing is set"),
    "ib-dgx-h100": Fabric(
        source="NVIDIA DGX H100 user guide, table 6 (network modules): the eight compute HCAs, = for exact match",
        env=(("NCCL_IB_HCA", "=mlx5_0,mlx5_3,mlx5_4,mlx5_5,mlx5_6,mlx5_9,mlx5_10,mlx5_11"),),
    ),
    "ib-ndv5": Fabric(
        source="Azure/azhpc-images 8e9d055f ndv5.sh (nccl.conf); Azure/ai-infrastructure-on-azure a01b0731 launch.sb",
        env=(
            ("CUDA_DEVICE_ORDER", "PCI_BUS_ID"),
            ("NCCL_IB_PCI_RELAXED_ORDERING", "1"),
            ("NCCL_IB_QPS_PER_CONNECTION", "4"),
            ("NCCL_IGNORE_CPU_AFFINITY", "1"),
            ("NCCL_MIN_NCHANNELS", "32"),
            ("NCCL_P2P_NET_CHUNKSIZE", "524288"),
            ("NCCL_PXN_DISABLE", "1"),
            ("NCCL_SOCKET_IFNAME", "eth0"),
            ("NCCL_TOPO_FILE", "/opt/microsoft/ndv5/topo.xml"),
            ("UCX_NET_DEVICES", "mlx5_ib0:1"),
            ("UCX_TLS", "rc"),
        ),
        # The whole directory: ndv5/topo.xml is a symbolic link to ../ndv5-topo.xml.
        binds=("/opt/microsoft", "/etc/nccl.conf"),
    ),
    "efa": Fabric(
        source="aws/aws-ofi-nccl 2daf7d30 efa-env-var.md; aws-samples/awsome-distributed-training 7217859f",
        # The plugin sets the rest itself. FI_EFA_USE_DEVICE_RDMA, RDMAV_* and NCCL_PROTO are to be left alone.
        env=(("FI_PROVIDER", "efa"), ("NCCL_SOCKET_IFNAME", "^docker,lo,veth")),
    ),
    "tcpx": Fabric(
        source="GoogleCloudPlatform/cluster-toolkit v1.95.0 a3-highgpu-8g run-nccl-tests.sh; slurm-gcp 13fd92b6",
        template="tcpx",
        env=(
            ("NCCL_NET", "GPUDirectTCPX_v7"),
            ("NCCL_SOCKET_IFNAME", "enp0s12"),
            ("NCCL_GPUDIRECTTCPX_CTRL_DEV", "enp0s12"),
            ("NCCL_GPUDIRECTTCPX_SOCKET_IFNAME", "enp6s0,enp12s0,enp134s0,enp140s0"),
            ("NCCL_GPUDIRECTTCPX_PROGRAM_FLOW_STEERING_WAIT_MICROS", "500000"),
            (
                "NCCL_GPUDIRECTTCPX_TX_BINDINGS",
                "enp6s0:8-21,112-125;enp12s0:8-21,112-125;enp134s0:60-73,164-177;enp140s0:60-73,164-177",
            ),
            (
                "NCCL_GPUDIRECTTCPX_RX_BINDINGS",
                "enp6s0:22-35,126-139;enp12s0:22-35,126-139;enp134s0:74-87,178-191;enp140s0:74-87,178-191",
            ),
            ("NCCL_ALGO", "Ring"),
            ("NCCL_BUFFSIZE", "4194304"),
            ("NCCL_CROSS_NIC", "0"),
            ("NCCL_DYNAMIC_CHUNK_SIZE", "524288"),
            ("NCCL_NET_GDR_LEVEL", "PIX"),
            ("NCCL_NSOCKS_PERTHREAD", "4"),
            ("NCCL_P2P_NET_CHUNKSIZE", "524288"),
            ("NCCL_P2P_NVL_CHUNKSIZE", "1048576"),
            ("NCCL_P2P_PCI_CHUNKSIZE", "524288"),
            ("NCCL_P2P_PXN_LEVEL", "0"),
            ("NCCL_PROTO", "Simple"),
            ("NCCL_SOCKET_NTHREADS", "1"),
        ),
        binds=("/var/lib/tcpx/lib64",),
        library_path=("/var/lib/tcpx/lib64", "/usr/local/nvidia/lib64"),
    ),
    "tcpxo": Fabric(
        source="GoogleCloudPlatform/cluster-toolkit v1.95.0 a3-megagpu-8g nccl-tests; slurm-gcp 13fd92b6",
        profile="/var/lib/tcpxo/lib64/nccl-env-profile.sh",
        profile_env=(("NCCL_LIB_DIR", "/var/lib/tcpxo/lib64"),),
        # After the profile, which assumes eth0 to eth8.
        env=(
            ("NCCL_FASTRAK_CTRL_DEV", "enp0s12"),
            ("NCCL_FASTRAK_IFNAME", "enp6s0,enp7s0,enp13s0,enp14s0,enp134s0,enp135s0,enp141s0,enp142s0"),
            ("NCCL_SOCKET_IFNAME", "enp0s12"),
            ("NCCL_FASTRAK_LLCM_DEVICE_DIRECTORY", "/dev/aperture_devices"),
        ),
        binds=("/var/lib/tcpxo/lib64", "/dev/aperture_devices"),
        library_path=("/var/lib/tcpxo/lib64", "/usr/lib/x86_64-linux-gnu"),
    ),
    "gib": Fabric(
        source="GoogleCloudPlatform/cluster-toolkit v1.95.0 a3-ultragpu-8g nccl-tests, package nccl-gib 1.1.0",
        profile="/usr/local/gib/scripts/set_nccl_env.sh",
        env=(("NCCL_NET", "gIB"), ("NCCL_SOCKET_IFNAME", "enp0s19,enp192s20")),
        binds=("/usr/local/gib",),
        library_path=("/usr/local/gib/lib64", "/usr/lib/x86_64-linux-gnu"),
    ),
}
"""By the name in a site file."""


def fabric_of(name: str, nodes: int) -> Fabric:
    """Return what a job on that many nodes sets. Raises ValueError for an unknown name."""
    fabric = FABRICS.get(name)
    if fabric is None:
        raise ValueError(f"{name!r} is no fabric that is known; write one of {', '.join(FABRICS)}")
    return fabric if nodes > 1 else FABRICS["none"]

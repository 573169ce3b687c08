"""What people outside need to reach the clusters: site files and one OpenSSH client configuration. Pure."""

from collections.abc import Iterable
from pathlib import Path

from tests.lab.cluster import Cluster

GPU_MEMORY = {"h100": "80GiB", "rtx6000ada": "48GiB"}


def ssh_site_file(cluster: Cluster, ssh_config: Path) -> str:
    """The YAML text of the site file that reaches this cluster through its sshd."""
    return _site(
        cluster,
        "transport: openssh",
        f"host: {cluster.ssh_host}",
        f"ssh_config: {ssh_config}",
        "job_root: $HOME/.hybridhpc/jobs",
    )


def local_site_file(cluster: Cluster) -> str:
    """The YAML text of the site file for somebody on the cluster's own machine, with its SLURM_CONF."""
    return _site(cluster, "transport: local", f"slurm_conf: {cluster.slurm_conf}", f"job_root: {cluster.job_root}")


def _site(cluster: Cluster, *how: str) -> str:
    provider = f"provider: {cluster.name}"
    lines = [f"name: {cluster.name}", "scheduler: slurm", *how, provider, "partitions:"]
    for partition in cluster.partitions:
        lines.append(f"  {partition.name}: {{{', '.join(partition.site)}}}")
    kinds = {group.gpu_type: GPU_MEMORY[group.gpu_type] for group in cluster.groups if group.gpus}
    lines.append(f"gpu_memory: {{{', '.join(f'{kind}: {size}' for kind, size in kinds.items())}}}")
    return "\n".join(lines) + "\n"


def ssh_config(clusters: Iterable[Cluster], directory: Path) -> str:
    """The text of an ssh_config(5) with a host for every cluster; host keys are always checked."""
    hosts = (
        f"Host {cluster.ssh_host}\n    HostName {cluster.ssh_address}\n    Port {cluster.ssh_port}\n"
        f"    User {cluster.user}\n"
        for cluster in clusters
    )
    common = (
        "Host lab-*\n"
        f"    IdentityFile {directory}/id_ed25519\n"
        "    IdentitiesOnly yes\n"
        f"    UserKnownHostsFile {directory}/known_hosts\n"
        "    GlobalKnownHostsFile /dev/null\n"
        "    StrictHostKeyChecking yes\n"
    )
    return "".join((*hosts, common))


def known_host(cluster: Cluster, public_key: str) -> str:
    """The line of known_hosts for a cluster's sshd, whose public host key is given as in its .pub file."""
    kind, key = public_key.split()[:2]
    return f"[{cluster.ssh_address}]:{cluster.ssh_port} {kind} {key}\n"

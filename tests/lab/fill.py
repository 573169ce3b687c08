"""Fills a lab's directory with what its clusters need before they start: directories, keys, devices, files, homes."""

import os
import secrets
import shutil
import stat
import subprocess
from pathlib import Path

from tests.lab import processes
from tests.lab.client_files import local_site_file, ssh_site_file
from tests.lab.cluster import Cluster
from tests.lab.install import SYSTEM_ENVIRONMENT, BrokenError
from tests.lab.lab import Lab
from tests.lab.login import HOME_SIZE
from tests.lab.machine_files import UIDS, USER_FILES, hosts, scripts, sshd_config, user_file
from tests.lab.slurm_files import slurm_files


def fill(lab: Lab) -> None:
    """Write a cluster's files, keys, devices and homes; stop its daemons first when its configuration changed."""
    home, cluster = lab.cluster.directory, lab.cluster
    for name in ("etc", "run", "log", "dev", "ctl", "spool/ctld", *(f"spool/{node}" for node in cluster.nodes)):
        (home / name).mkdir(parents=True, exist_ok=True, mode=0o755)
    cluster.job_root.mkdir(exist_ok=True)
    cluster.job_root.chmod(0o1777)
    _write_configuration(lab)
    if not lab.control("ssh-port").exists():
        lab.control("ssh-port").write_text(str(cluster.ssh_port))
    _make_system(cluster)
    _make_munge_key(home / "etc/munge.key")
    make_ssh_key(home / "etc/ssh_host_ed25519_key")
    for device in cluster.gpu_devices:
        _make_device(device)
    _make_home(cluster)
    files = {lab.ssh_site_path: ssh_site_file(cluster, lab.home / "ssh/config")}
    if not cluster.tree:
        # With another Slurm this machine's commands could not talk to it.
        files[lab.site_path] = local_site_file(cluster)
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def _write_configuration(lab: Lab) -> None:
    etc, cluster = lab.cluster.directory / "etc", lab.cluster
    files = {**slurm_files(cluster), **scripts(cluster), "sshd_config": sshd_config(cluster)}
    if any(_text(etc / name) != text for name, text in files.items()):
        processes.kill((lab.cluster.directory / "run").glob("*.stat"))
    for name, text in files.items():
        (etc / name).touch(mode=0o600 if name == "slurmdbd.conf" else 0o644)
        (etc / name).write_text(text)
    for name in scripts(cluster):
        (etc / name).chmod(0o755)


def _make_system(cluster: Cluster) -> None:
    """Make the /etc of the cluster's machines: this machine's or the tree's, with the cluster's hosts and user."""
    source = (cluster.tree or Path("/")) / "etc"
    if not cluster.system.exists():
        new = cluster.system.with_suffix(".new")
        shutil.rmtree(new, ignore_errors=True)
        _do("cp", "--archive", str(source), str(new))
        new.rename(cluster.system)
    (cluster.system / "hosts").write_text(hosts(cluster))
    for name in USER_FILES:
        (cluster.system / name).write_text(user_file(cluster, name, (source / name).read_text()))


def _text(path: Path) -> str | None:
    return path.read_text() if path.exists() else None


def _make_munge_key(path: Path) -> None:
    """Make munge's secret once: whoever has it may be anyone in this cluster."""
    if path.exists() and path.stat().st_size == 128:
        return
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    path.write_bytes(secrets.token_bytes(128))


def make_ssh_key(path: Path) -> None:
    """Make an ed25519 key without a passphrase once."""
    if path.exists() and path.with_suffix(".pub").exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    _do("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "hybridhpc-lab", "-f", str(path))


def _make_device(path: Path) -> None:
    """Make a character device that stands for a GPU and is /dev/null in truth."""
    if not path.is_char_device():
        path.unlink(missing_ok=True)
        os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        path.chmod(0o666)


def _make_home(cluster: Cluster) -> None:
    """Mount a small file system for the homes of the cluster and make its user's."""
    cluster.homes.mkdir(exist_ok=True)
    if not cluster.homes.is_mount():
        _do("mount", "-t", "tmpfs", "-o", f"mode=755,size={HOME_SIZE}", "hybridhpc-lab", str(cluster.homes))
    own = cluster.homes / cluster.user
    if not own.exists():
        own.mkdir(mode=0o700)
        shutil.chown(own, UIDS[cluster.user], UIDS[cluster.user])


def unmount_homes(home: Path) -> None:
    """Undo what _make_home mounted, in every cluster of the lab."""
    for path in home.glob("*/home"):
        if path.is_mount():
            _do("umount", "--lazy", str(path))


def _do(*words: str) -> None:
    done = subprocess.run(words, env=SYSTEM_ENVIRONMENT, capture_output=True, text=True)
    if done.returncode:
        raise BrokenError(f"{' '.join(words)}: {done.stderr.strip()}")

"""Brings a whole lab up and takes it down again without a trace.

What a single cluster can be asked to do is in lab.py.
"""

import os
import pwd
import secrets
import shutil
import stat
import subprocess
from pathlib import Path

from tests.lab import install, processes
from tests.lab.cluster import config_files, site_file
from tests.lab.install import BrokenError
from tests.lab.lab import Lab, wait
from tests.lab.place import Place, clusters, is_made, locked, make_directory, remove_directory

USER = "alice"
LOST = ("down", "drain")


def up(place: Place) -> tuple[Lab, ...]:
    """Install what is missing, start what does not run, and return the clusters once all their nodes are ready.

    Raises RefusedError where the lab must not run, BrokenError where it does not start.
    """
    install.check_machine()
    install.install()
    make_directory(place, install.slurm_release())
    with locked(place):
        make_user(place.home)
        labs = find(place)
        for lab in labs:
            write_files(lab)
            start_all(lab)
        for lab in labs:
            await_ready(lab)
    return labs


def find(place: Place) -> tuple[Lab, ...]:
    """Return the lab's clusters, running or not."""
    release = install.slurm_release()
    return tuple(Lab(cluster=cluster, home=place.home) for cluster in clusters(place, release))


def down(place: Place) -> bool:
    """Stop exactly what the lab started, remove its user and its directory. Return whether there was anything."""
    if not is_made(place):
        return False
    with locked(place):
        processes.kill(place.home.glob("*/run/*.stat"))
        remove_user(place.home)
        remove_directory(place)
    return True


def write_files(lab: Lab) -> None:
    """Write a cluster's directories, keys, devices and configuration; stop its daemons first when that changed."""
    home, cluster = lab.cluster.directory, lab.cluster
    for name in ("etc", "run", "log", "dev", "spool/ctld", *(f"spool/{node}" for node in cluster.nodes)):
        (home / name).mkdir(parents=True, exist_ok=True, mode=0o755)
    cluster.job_root.mkdir(exist_ok=True)
    cluster.job_root.chmod(0o1777)
    files = config_files(cluster)
    if any(_text(home / "etc" / name) != text for name, text in files.items()):
        processes.kill((home / "run").glob("*.stat"))
    for name, text in files.items():
        (home / "etc" / name).write_text(text)
    make_key(home / "etc/munge.key")
    for device in cluster.gpu_devices:
        make_device(device)
    lab.site_path.parent.mkdir(exist_ok=True)
    lab.site_path.write_text(site_file(cluster))


def _text(path: Path) -> str | None:
    return path.read_text() if path.exists() else None


def make_key(path: Path) -> None:
    """Make munge's secret once: whoever has it may be anyone in this cluster."""
    if path.exists() and path.stat().st_size == 128:
        return
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    path.write_bytes(secrets.token_bytes(128))


def make_device(path: Path) -> None:
    """Make a character device that stands for a GPU and is /dev/null in truth."""
    if not path.is_char_device():
        path.unlink(missing_ok=True)
        os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        path.chmod(0o666)


def start_all(lab: Lab) -> None:
    """Start a cluster's daemons, all at once but munged, which the others need from their first moment."""
    lab.start_munged()
    lab.start_controller()
    lab.thaw()
    for node in lab.cluster.nodes:
        lab.start_node(node)


def await_ready(lab: Lab) -> None:
    """Wait until every node is ready, bringing back those that were set down before. Raises BrokenError."""
    wait(lambda: _ready(lab), 60, f"{lab.cluster.name} does not get ready: see {lab.cluster.directory}/log")


def _ready(lab: Lab) -> bool:
    for name in ("munged", *lab.cluster.ports):
        if lab.pid(name) is None:
            raise BrokenError(f"{name} of {lab.cluster.name} ended at once: see {lab.cluster.directory}/log/{name}.out")
    states = lab.node_states()
    lost = [node for node, state in states.items() if state.startswith(LOST)]
    if lost:
        lab.run("scontrol", "update", f"nodename={','.join(lost)}", "state=resume", check=False)
    return lab.ready()


def make_user(home: Path) -> None:
    """Make the lab's ordinary user, at home in the lab's directory, unless the machine has one of that name."""
    if user_home() is None:
        # "*" lets nobody in by a password, yet is no locked account, which sshd would refuse.
        command = ["/usr/sbin/useradd", "-M", "-d", str(home / "home" / USER), "-s", "/bin/bash", "-p", "*", USER]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise BrokenError(f"useradd {USER}: {done.stderr.strip()}")
    if user_home() == home / "home" / USER:
        entry = pwd.getpwnam(USER)
        Path(entry.pw_dir).mkdir(parents=True, exist_ok=True)
        Path(entry.pw_dir).chmod(0o700)
        shutil.chown(entry.pw_dir, entry.pw_uid, entry.pw_gid)


def remove_user(home: Path) -> None:
    """Remove the lab's user when its home is in this lab: then this lab made it."""
    if user_home() == home / "home" / USER:
        done = subprocess.run(["/usr/sbin/userdel", USER], capture_output=True, text=True)
        if done.returncode:
            raise BrokenError(f"userdel {USER}: {done.stderr.strip()}")


def user_home() -> Path | None:
    """Return where the ordinary user is at home, None when there is none."""
    try:
        return Path(pwd.getpwnam(USER).pw_dir)
    except KeyError:
        return None

"""Brings a lab up and takes it down again without a trace.

What a single cluster can be asked to do is in lab.py.
"""

import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from tests.lab import install, processes, trees
from tests.lab.accounting import add_accounts, await_slurmdbd
from tests.lab.client_files import known_host, ssh_config
from tests.lab.company import NAMES, Choice
from tests.lab.database import start_database
from tests.lab.fill import fill, make_ssh_key, unmount_homes
from tests.lab.install import RefusedError
from tests.lab.lab import Lab
from tests.lab.place import Place, clusters, is_made, locked, make_directory, remember, remove_directory
from tests.lab.running import wait


def up(place: Place, names: Sequence[str] = NAMES, *, accounting: bool = True) -> tuple[Lab, ...]:
    """Install what is missing, start what does not run of these clusters, and return them once they are ready.

    Without `accounting` those that are new get no slurmdbd. Raises RefusedError where the lab must not run,
    BrokenError where it does not start.
    """
    install.check_machine()
    install.install()
    new = not is_made(place)
    make_directory(place)
    try:
        return _up(place, names, accounting)
    except RefusedError:
        if new:
            down(place)
        raise


def _up(place: Place, names: Sequence[str], accounting: bool) -> tuple[Lab, ...]:
    with locked(place):
        for name in names:
            tree = trees.tree_for(name)
            remember(place, name, Choice(release=trees.release(tree), tree=tree, accounting=accounting))
        make_ssh_key(place.home / "ssh/id_ed25519")
        for lab in find(place):
            fill(lab)
        write_ssh_files(place)
        labs = tuple(lab for lab in find(place) if lab.cluster.name in names)
        start_together(place, labs)
    return labs


def find(place: Place) -> tuple[Lab, ...]:
    """Return the lab's clusters, running or not."""
    return tuple(Lab(cluster=cluster, home=place.home) for cluster in clusters(place, trees.release))


def down(place: Place) -> bool:
    """Stop exactly what the lab started and remove its directory. Return whether there was anything."""
    if not is_made(place):
        return False
    with locked(place):
        processes.kill(place.home.glob("*/run/*.stat"))
        unmount_homes(place.home)
        remove_directory(place)
    return True


def write_ssh_files(place: Place) -> None:
    """Write the OpenSSH client's files for all clusters of the lab; who called sudo may read the key."""
    directory = place.home / "ssh"
    labs = find(place)
    public = {lab.cluster: (lab.cluster.directory / "etc/ssh_host_ed25519_key.pub").read_text() for lab in labs}
    files = {
        "config": ssh_config(public, directory),
        "known_hosts": "".join(known_host(cluster, key) for cluster, key in public.items()),
        "authorized_keys": (directory / "id_ed25519.pub").read_text(),
    }
    for name, text in files.items():
        (directory / name).write_text(text)
    if (caller := os.environ.get("SUDO_UID", "")).isdecimal():
        shutil.chown(directory / "id_ed25519", int(caller))


def start_together(place: Place, labs: Sequence[Lab]) -> None:
    """Start clusters side by side; each waits for the database itself if it needs one."""
    with ThreadPoolExecutor(len(labs) + 1) as threads:
        needed = any(lab.cluster.accounting for lab in labs)
        database = threads.submit(start_database, place.home) if needed else None
        starts = [threads.submit(start, lab, database.result if database else nothing) for lab in labs]
        for started in starts:
            started.result()


def nothing() -> None:
    """Wait for no database where no cluster needs one."""


def start(lab: Lab, await_database: Callable[[], None]) -> None:
    """Start one cluster, all at once but what the others need from their first moment; wait until it is ready."""
    lab.start_munged()
    lab.mend()
    if lab.cluster.accounting:
        await_database()
        # Of Debian trixie and later it takes 5 s: its first try asks for TLS even by a socket, the next one no longer.
        lab.start_slurmdbd()
        await_slurmdbd(lab)
    lab.start_controller()
    if not lab.cluster.cloud:
        for node in lab.cluster.nodes:
            lab.start_node(node)
    if lab.cluster.accounting and not lab.cluster.cloud:
        add_accounts(lab)
    await_ready(lab)


def await_ready(lab: Lab) -> None:
    """Wait until every node is ready, bringing back those that were set down before. Raises BrokenError."""
    wait(lambda: _ready(lab), 60, f"{lab.cluster.name} does not get ready: see {lab.cluster.directory}/log")


def _ready(lab: Lab) -> bool:
    for name in lab.cluster.daemons:
        lab.check_runs(name)
    lab.take_back()
    return lab.ready()

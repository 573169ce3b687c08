"""The lab's MariaDB, one for all its slurmdbds: without a network, reached through a socket in the lab's directory.

A MariaDB that is already on the machine is another one, with other files and another socket.
"""

import shutil
import subprocess
from pathlib import Path

from tests.lab import processes
from tests.lab.install import SYSTEM_ENVIRONMENT, BrokenError
from tests.lab.running import wait

# Nothing here must survive a power cut; what is left out makes starting and committing quicker.
OPTIONS = (
    "--skip-networking",
    "--skip-log-bin",
    "--skip-name-resolve",
    "--innodb-buffer-pool-size=64M",
    "--innodb-log-file-size=16M",
    "--innodb-flush-log-at-trx-commit=0",
    "--innodb-doublewrite=0",
    "--innodb-lock-wait-timeout=900",
    "--max-allowed-packet=16M",
)


def start_database(home: Path) -> None:
    """Start MariaDB in the lab's directory unless it runs, and wait for its socket. Raises BrokenError."""
    directory = home / "mariadb"
    record, socket = directory / "run/mariadb.stat", directory / "socket"
    if processes.running(record) is not None:
        return
    data = directory / "data"
    if not data.exists():
        _make(data)
    (directory / "run").mkdir(exist_ok=True)
    socket.unlink(missing_ok=True)
    files = (f"--datadir={data}", f"--socket={socket}", f"--pid-file={directory}/run/mariadb.pid")
    log = directory / "mariadb.out"
    processes.start(record, log, ("mariadbd", "--no-defaults", "--user=root", *files, *OPTIONS), home)
    wait(socket.is_socket, 60, f"MariaDB does not start: see {log}")


def _make(data: Path) -> None:
    """Make an empty database in which root, told by the socket's own credentials, may do everything."""
    new = data.with_suffix(".new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    words = ("mariadb-install-db", "--no-defaults", "--user=root", f"--datadir={new}", "--skip-test-db")
    done = subprocess.run([*words, *OPTIONS], env=SYSTEM_ENVIRONMENT, capture_output=True, text=True)
    if done.returncode:
        raise BrokenError(f"mariadb-install-db: {done.stderr.strip() or done.stdout.strip()}")
    new.rename(data)

"""The lab's MariaDB, one for all its slurmdbds: without a network, reached through a socket in the lab's directory.

A MariaDB that is already on the machine is another one, with other files and another socket.
"""

import shutil
import socket
import subprocess
from pathlib import Path

from tests.lab import processes
from tests.lab.cache import locked_cache
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
    record, path = directory / "run/mariadb.stat", directory / "socket"
    if processes.running(record) is not None:
        return
    data = directory / "data"
    if not data.exists():
        with locked_cache() as cache:
            shutil.copytree(_empty(cache), data.with_suffix(".new"), dirs_exist_ok=True)
        data.with_suffix(".new").rename(data)
    (directory / "run").mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    files = (f"--datadir={data}", f"--socket={path}", f"--pid-file={directory}/run/mariadb.pid")
    log = directory / "mariadb.out"
    processes.start(record, log, ("mariadbd", "--no-defaults", "--user=root", *files, *OPTIONS), home)
    wait(lambda: _greets(path), 60, f"MariaDB does not start: see {log}")


def _greets(path: Path) -> bool:
    """Whether MariaDB serves: it listens a while before it does."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(1)
        try:
            client.connect(str(path))
            return bool(client.recv(1))
        except OSError:
            return False


def _empty(cache: Path) -> Path:
    """Return an empty database in which root, told by the socket's own credentials, may do everything; make it once."""
    version = _run("mariadbd", "--no-defaults", "--version").split()[2]
    empty = cache / f"mariadb-{version}"
    if not empty.exists():
        new = cache / "mariadb.new"
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir()
        _run("mariadb-install-db", "--no-defaults", "--user=root", f"--datadir={new}", "--skip-test-db", *OPTIONS)
        new.rename(empty)
    return empty


def _run(*argv: str) -> str:
    done = subprocess.run(argv, env=SYSTEM_ENVIRONMENT, capture_output=True, text=True)
    if done.returncode:
        raise BrokenError(f"{argv[0]}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout

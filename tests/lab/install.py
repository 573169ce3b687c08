"""Puts Slurm's packages on a Debian or Ubuntu machine, or says why the lab must not touch this one.

Starting anything does not belong here.
"""

import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.lab.machine_files import MARK

PACKAGES = (
    "slurm-wlm",
    "slurm-client",
    "slurmd",
    "slurmctld",
    "slurm-wlm-basic-plugins",
    "slurm-wlm-mysql-plugin",
    "libslurm-dev",
    "slurmdbd",
    "mariadb-client-core",
    "mariadb-server-core",
    "debootstrap",
    "debian-archive-keyring",
    "munge",
    "openssh-server",
)
UNITS = {
    "munge": ("munge",),
    "slurmd": ("slurmd",),
    "slurmctld": ("slurmctld",),
    "slurmdbd": ("slurmdbd",),
    "openssh-server": ("ssh", "ssh.socket"),
}
FOREIGN_CONFIGURATIONS = tuple(
    Path(path, "slurm.conf") for path in ("/etc/slurm", "/etc/slurm-llnl", "/run/slurm/conf", "/usr/local/etc")
)
POLICY = Path("/usr/sbin/policy-rc.d")
# `su` may leave root without the sbin directories, which apt-get and Slurm's daemons need.
SYSTEM_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}


class RefusedError(Exception):
    """The lab must not or cannot run on this machine; the text says why. Tests skip on it."""


class BrokenError(Exception):
    """The lab should run here but something failed; the text says what and where to look."""


def check_machine() -> None:
    """Raise RefusedError where the lab must not install or start anything."""
    if os.geteuid() != 0:
        raise RefusedError("the lab needs root (it makes namespaces, device nodes and a user): run it with sudo")
    if not shutil.which("apt-get") or not shutil.which("dpkg-query"):
        raise RefusedError("the lab needs Debian or Ubuntu (apt-get and dpkg-query)")
    for path in FOREIGN_CONFIGURATIONS:
        if path.exists():
            raise RefusedError(f"this machine belongs to a Slurm cluster: {path} exists, and the lab leaves it alone")
    for pid, name in foreign_daemons():
        raise RefusedError(f"a {name} that is not the lab's runs here (pid {pid}), and the lab leaves it alone")
    probe = subprocess.run(
        ["unshare", "--uts", "--mount", "--pid", "--fork", "--mount-proc", "true"], capture_output=True
    )
    if probe.returncode:
        reason = probe.stderr.decode(errors="replace").strip()
        raise RefusedError(f"this root may not make namespaces ({reason}); the lab needs CAP_SYS_ADMIN")


def foreign_daemons(proc: Path = Path("/proc")) -> Iterator[tuple[int, str]]:
    """Yield pid and name of every slurmctld and slurmd without the lab's mark in its environment."""
    for entry in proc.glob("[0-9]*"):
        try:
            name = (entry / "comm").read_text().strip()
            if name in ("slurmctld", "slurmd") and (entry / "environ").read_bytes().find(MARK.encode()) < 0:
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
                if state not in "ZX":
                    yield int(entry.name), name
        except OSError:
            continue


def install() -> tuple[str, ...]:
    """Install what is missing and return its names. Instant when nothing is. Raises BrokenError."""
    missing = tuple(_missing(PACKAGES))
    if not missing:
        return ()
    with _no_service_starts():
        if not _apt("install", *missing):
            _apt("update")
            if not _apt("install", *missing):
                raise BrokenError(f"apt-get could not install {' '.join(missing)}; its messages are above")
    _keep_from_starting_at_boot(missing)
    for path in FOREIGN_CONFIGURATIONS:
        if path.exists():
            raise BrokenError(
                f"the packages brought {path}, which they did not use to; the lab does not start beside it"
            )
    return missing


def _missing(packages: Sequence[str]) -> Iterator[str]:
    words = ("dpkg-query", "-W", "-f=${Package} ${db:Status-Status}\n", *packages)
    answer = subprocess.run(words, capture_output=True, text=True).stdout.splitlines()
    return (package for package in packages if f"{package} installed" not in answer)


def _apt(verb: str, *packages: str) -> bool:
    options = ("-y", "-q", "-o", "Dpkg::Use-Pty=0", "-o", "DPkg::Lock::Timeout=120")
    extra = ("--no-install-recommends",) if verb == "install" else ()
    environment = {**os.environ, **SYSTEM_ENVIRONMENT, "DEBIAN_FRONTEND": "noninteractive"}
    return subprocess.run(["apt-get", verb, *options, *extra, *packages], env=environment).returncode == 0


@contextmanager
def _no_service_starts() -> Iterator[None]:
    """Keep the packages' scripts from starting daemons: invoke-rc.d obeys exit status 101 of policy-rc.d."""
    kept = POLICY.with_name("policy-rc.d.hpc-lab")
    if POLICY.exists() and not kept.exists():
        POLICY.rename(kept)
    POLICY.write_text("#!/bin/sh\nexit 101\n")
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        POLICY.unlink()
        if kept.exists():
            kept.rename(POLICY)


def _keep_from_starting_at_boot(packages: Iterable[str]) -> None:
    """Switch off the units that came with the packages; nobody asked for an ssh server at the next boot."""
    if not shutil.which("systemctl"):
        return
    for unit in (unit for package in packages for unit in UNITS.get(package, ())):
        subprocess.run(["systemctl", "disable", unit], capture_output=True)


def slurm_release() -> tuple[int, int]:
    """Return the installed Slurm's year and month, as in (22, 5). Raises BrokenError."""
    answer = ""
    try:
        answer = subprocess.run(["/usr/sbin/slurmctld", "-V"], capture_output=True, text=True).stdout
        year, month = answer.split()[1].split(".")[:2]
        return int(year), int(month)
    except (OSError, IndexError, ValueError):
        raise BrokenError(f"slurmctld -V said {answer!r}, which names no release: is Slurm installed?") from None

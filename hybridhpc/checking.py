"""What is wrong with a set-up, and the fix: one function per thing looked at. Nothing is changed."""

from __future__ import annotations

import os
import re
import shutil
import stat
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from hybridhpc import probe
from hybridhpc.client import Client
from hybridhpc.config import SYSTEM_DIR, data_path, settings
from hybridhpc.errors import HpcError
from hybridhpc.ledger.base import Phase
from hybridhpc.sites.site import InvalidSite, Site
from hybridhpc.sites.snapshot import Silence, Snapshot

ROOM = 100 * 1024 * 1024
"""Bytes below which a disk is called full."""
SLURM_COMMANDS = ("sbatch", "squeue", "sinfo", "scontrol", "scancel")
SCRUBBED = ("SQUEUE_", "SINFO_", "SBATCH_", "SLURM_CONF")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at. `level`: fault (jobs fail or are refused), warning, or fine."""

    level: str
    where: str
    what: str
    fix: str = ""


def fault(where: object, what: str, fix: str) -> Finding:
    """Return something that must be mended."""
    return Finding(level="fault", where=str(where), what=what, fix=fix)


def warning(where: object, what: str, fix: str) -> Finding:
    """Return something a person should know."""
    return Finding(level="warning", where=str(where), what=what, fix=fix)


def fine(where: object, what: str) -> Finding:
    """Return something that is as it should be."""
    return Finding(level="fine", where=str(where), what=what)


def check(client: Client) -> list[Finding]:
    """Look at everything and return all findings, in a fixed order."""
    found: list[Finding] = []
    for look in (_installation, _settings, _environment, _folders, _ledger, _site_files):
        found += _safely(look, client)
    answers = probe.survey(client.usable_sites, client.env, client.clock)
    for site in client.usable_sites:
        for look_at in SITE_LOOKS:
            found += _safely(partial(look_at, site=site, answer=answers[site.name]), client, site.name)
    return found


def _safely(look: Callable[[Client], Iterator[Finding]], client: Client, where: str = "hpc") -> list[Finding]:
    try:
        return list(look(client))
    except HpcError as error:
        return [fault(where, error.message, error.hint or "mend this first, then check again")]


def _installation(client: Client) -> Iterator[Finding]:
    yield fine("python", sys.version.split()[0])
    for name in ("templates", "configs"):
        data_path(name)
    missing = [name for name in ("torch", "sklearn", "matplotlib") if find_spec(name) is None]
    if missing:
        fix = "pip install 'hybridhpc[train]'"
        yield warning("train", f"the reference training job lacks {', '.join(missing)} in this environment", fix)


def _settings(client: Client) -> Iterator[Finding]:
    for name, setting in settings(client.paths, client.env).items():
        yield fine("settings", f"{name} = {setting.value} ({setting.source})")


def _environment(client: Client) -> Iterator[Finding]:
    for name in sorted(client.env):
        if name.startswith("SBATCH_"):
            what = f"{name}={client.env[name]} changes every submission"
            yield warning("environment", what, f"unset {name}, unless you mean it")
        elif name.startswith(("SQUEUE_", "SINFO_")):
            yield fine("environment", f"{name} is set; hpc asks without it")


def _folders(client: Client) -> Iterator[Finding]:
    yield from _private_folder(client.paths.state, "set HPC_STATE_DIR to a directory of your own")
    if not client.paths.home.is_dir() or not os.access(client.paths.home, os.W_OK):
        yield warning(client.paths.home, "HOME is missing or cannot be written", "set HPC_STATE_DIR and HPC_CONFIG_DIR")


def _private_folder(path: Path, otherwise: str) -> Iterator[Finding]:
    """Look at a directory that must be ours, writable, and have room; one that does not exist yet at its parent."""
    while not path.exists() and path != path.parent:
        path = path.parent
    seen = path.stat()
    if not path.is_dir():
        yield fault(path, "is a file where a directory is needed", f"remove it, or {otherwise}")
    elif not os.access(path, os.W_OK | os.X_OK):
        yield fault(path, "you cannot write here", otherwise)
    elif stat.S_IMODE(seen.st_mode) & 0o022 and not seen.st_mode & stat.S_ISVTX:
        yield fault(path, "others can change what is in it", f"chmod go-w {path}")
    elif shutil.disk_usage(path).free < ROOM:
        yield fault(path, f"less than {ROOM >> 20} MiB are free", f"make room, or {otherwise}")


def _ledger(client: Client) -> Iterator[Finding]:
    if not client.paths.ledger.exists():
        yield fine("ledger", f"{client.paths.ledger} is made by the first job")
        return
    open_ends = [record for record in client.ledger.records(live_only=True) if record.phase is Phase.INTENT]
    for record in open_ends:
        what = f"the submission of {record.name} to {record.plan.site} was interrupted"
        yield warning("ledger", what, f"repeat its command, or hpc cancel {record.token[:8]}")
    yield fine("ledger", str(client.paths.ledger))


def _site_files(client: Client) -> Iterator[Finding]:
    for folder in client.paths.site_folders:
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            if path.suffix == ".yml":
                yield fault(path, "is not read: site files end in .yaml", f"mv {path} {path.with_suffix('.yaml')}")
            elif stat.S_IMODE(path.stat().st_mode) & 0o022 and folder.parent != SYSTEM_DIR:
                yield fault(path, "others can change this site file", f"chmod go-w {path}")
    for site in client.sites:
        for problem in site.problems if isinstance(site, InvalidSite) else ():
            where = problem.file if problem.line is None else f"{problem.file}:{problem.line}"
            yield fault(where, f"{problem.key}: {problem.message}", problem.hint or "see docs/sites.md")
    if len(client.sites) == 1:
        yield fine("sites", "no site file: jobs run on this machine; `hpc init` writes one for a local Slurm")


def _commands(client: Client, site: Site, answer: Snapshot | Silence) -> Iterator[Finding]:
    if site.scheduler != "slurm" or site.transport != "local":
        return
    missing = [name for name in SLURM_COMMANDS if shutil.which(name, path=client.env.get("PATH")) is None]
    if missing:
        fix = "put Slurm's bin directory on PATH, or install slurm-client"
        yield fault(site.name, f"not on PATH: {', '.join(missing)}", fix)
    if site.slurm_conf and not Path(site.slurm_conf).is_file():
        yield fault(site.name, f"slurm_conf {site.slurm_conf} does not exist", f"correct slurm_conf in {site.file}")


def _answers(client: Client, site: Site, answer: Snapshot | Silence) -> Iterator[Finding]:
    if isinstance(answer, Silence):
        yield fault(site.name, f"does not answer: {answer.why}", _silence_fix(answer.why))
        return
    yield fine(site.name, f"answers ({site.scheduler} {answer.version}".rstrip() + ")")
    for words in answer.unseen:
        yield warning(site.name, f"cannot see {words}", "forecasts there are wider; ask the administrator for access")
    for partition in answer.partitions:
        nodes = answer.nodes_of(partition.name)
        if not partition.up:
            yield warning(f"{site.name}/{partition.name}", "the partition is not up", "ask its administrator")
        elif nodes and not any(node.usable for node in nodes):
            what = f"none of its {len(nodes)} nodes is usable ({nodes[0].native_state})"
            yield warning(f"{site.name}/{partition.name}", what, "sinfo -R says why")


def _silence_fix(why: str) -> str:
    fixes: Mapping[str, str] = {
        r"contact|connect|answer": "is slurmctld running? `scontrol ping`",
        r"credential|munge|authent": "is munged running, with the cluster's key?",
        r"no such file|not found": "is the scheduler installed, and on PATH?",
        r"version|protocol": "client and controller are of different Slurm versions: use the cluster's own client",
        r"configur|slurm.conf": "set slurm_conf in the site file, or SLURM_CONF",
    }
    return next((fix for words, fix in fixes.items() if re.search(words, why, re.IGNORECASE)), "hpc sites asks again")


def _described(client: Client, site: Site, answer: Snapshot | Silence) -> Iterator[Finding]:
    """Compare what the site file says with what the scheduler has."""
    if not isinstance(answer, Snapshot) or site.file is None:
        return
    there = [partition.name for partition in answer.partitions]
    for partition in site.partitions:
        if partition.name not in there:
            fix = f"it has {', '.join(there)}; correct {site.file}"
            yield fault(site.name, f"the scheduler has no partition {partition.name!r}", fix)
    kinds = {node.gpu_kind for node in answer.nodes if node.gpu_kind}
    for word, native in site.gres:
        if native not in kinds:
            fix = f"it has {', '.join(sorted(kinds)) or 'no GPUs'}; correct gres in {site.file}"
            yield fault(site.name, f"no node has GPUs of type {native!r} ({word} in the site file)", fix)
    for name in there if site.scheduler == "slurm" else ():
        price = site.partition(name).price
        if not (price.per_gpu or price.per_node or price.per_cpu):
            fix = f"give gpu_price or node_price for {name} in {site.file}"
            yield warning(f"{site.name}/{name}", "has no price, so it counts as free", fix)


def _job_root(client: Client, site: Site, answer: Snapshot | Silence) -> Iterator[Finding]:
    if site.transport != "local":
        return
    root = Path(site.job_root.replace("~", str(client.paths.home), 1).replace("$HOME", str(client.paths.home)))
    if site.scheduler == "slurm" and root.parts[:2] == ("/", "tmp"):
        fix = f"set job_root in {site.file} to a shared directory"
        yield warning(site.name, f"job_root {root} lies in /tmp, which nodes seldom share", fix)
    yield from _private_folder(root, f"set job_root of {site.name} to a directory of your own")


def _clock(client: Client, site: Site, answer: Snapshot | Silence) -> Iterator[Finding]:
    if not isinstance(answer, Snapshot):
        return
    ahead = max((job.started_at or 0.0 for job in answer.jobs), default=0.0) - client.clock()
    if ahead > 120:
        fix = "set both clocks by NTP"
        yield warning(site.name, f"its clock is at least {ahead:.0f} s ahead of this machine's", fix)


def _containers(client: Client, site: Site, answer: Snapshot | Silence) -> Iterator[Finding]:
    if site.transport == "local" and shutil.which(site.container_runtime, path=client.env.get("PATH")) is None:
        fix = f"install {site.container_runtime}; specs without `image` need none"
        yield warning(site.name, f"{site.container_runtime} is not on PATH here", fix)


def _here(client: Client, site: Site, answer: Snapshot | Silence) -> Iterator[Finding]:
    if site.scheduler != "here":
        return
    from hybridhpc.here.cgroup import memory_hold

    yield fine(site.name, memory_hold())


SITE_LOOKS = (_commands, _answers, _described, _job_root, _clock, _containers, _here)

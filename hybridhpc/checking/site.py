"""One site: whether it can be reached, whether it answers, and whether its file says what the scheduler says."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

from hybridhpc import registry
from hybridhpc.checking.far_side import look_at_far_side
from hybridhpc.checking.finding import Findings, fault, fine, warning
from hybridhpc.checking.folders import folder
from hybridhpc.client import Client
from hybridhpc.command import Command
from hybridhpc.document import read_document
from hybridhpc.errors import HpcError, NotFound, Undelivered
from hybridhpc.sites.plugins import PluginOptions, entries
from hybridhpc.sites.site import Price, Site
from hybridhpc.sites.snapshot import NO_PARTITIONS, Silence, Snapshot
from hybridhpc.transports import ssh_config

SLURM_COMMANDS = ("sbatch", "squeue", "sinfo", "scontrol", "scancel")
_OTHERWISE = "set job_root of {} to a directory of your own"
_NOT_SHARED = (("/", "tmp"), ("/", "dev", "shm"))
_OFF = 120.0
"""Seconds by which a site's clock may differ before it is said."""
_SMALL_JOB = b"#!/bin/sh\n:\n"

_MENDS = (
    (r"munge|credential|authent", "is munged running, and with the cluster's key? `munge -n | unmunge` tells"),
    (r"HPC_HERE_\w+", "unset it, or give a whole number"),
    (r"not a database|malformed|schema", "move its here.sqlite aside: jobs go on, but `here` forgets them"),
    (r"shared with other machines", "set HPC_STATE_DIR to a directory on a local disk"),
    (r"belongs to|others may write", "set HPC_STATE_DIR to a directory that is yours alone"),
    (r"version|protocol", "client and controller are of different Slurm versions: use the cluster's own client"),
    (r"configur|slurm\.conf|parse error", "point slurm_conf in the site file, or SLURM_CONF, to the right file"),
    (r"contact|connect|answer|timed out", "is slurmctld running, and slurm_conf the right one? `scontrol ping` tells"),
)
"""What a scheduler complains of, and what to do about it; the first that fits counts."""


def look_at_way(client: Client, site: Site) -> Findings:
    """Look for what would keep every question from the site. Only faults: a site without any is worth asking."""
    try:
        registry.transport(site, client.env)
    except NotFound as error:
        yield fault(site.name, f"transport {site.transport} cannot be used: {error.message}", error.hint)
        return
    if site.host:
        yield from _ssh(client, site)
    if site.scheduler == "here" and site.file is not None:
        yield from folder(_job_root(client, site), otherwise=_OTHERWISE.format(site.name), alone=True)
    elif site.scheduler == "slurm" and site.transport == "local":
        yield from _slurm_here(client, site)


def _ssh(client: Client, site: Site) -> Findings:
    try:
        ssh_config.require(site)
    except Undelivered as error:
        yield fault(site.name, error.message, error.hint)


def _slurm_here(client: Client, site: Site) -> Findings:
    missing = [name for name in SLURM_COMMANDS if shutil.which(name, path=client.env.get("PATH")) is None]
    if missing:
        fix = "put Slurm's bin directory on PATH, or install its client commands (Debian: slurm-client)"
        yield fault(site.name, f"not on PATH: {', '.join(missing)}", fix)
    conf = site.slurm_conf or client.env.get("SLURM_CONF")
    if conf and not Path(conf).is_file():
        whose = f"slurm_conf in {site.file}" if site.slurm_conf else "the variable SLURM_CONF"
        yield fault(site.name, f"slurm_conf {conf} does not exist", f"let {whose} name the cluster's slurm.conf")


def look_at_silence(client: Client, site: Site, silence: Silence) -> Findings:
    """Say why a site does not answer. Where the embedded one cannot have its directory, that has been said."""
    if site.file is None and any(folder(client.paths.state, otherwise="", alone=True)):
        return
    mend = next((mend for words, mend in _MENDS if re.search(words, silence.why, re.IGNORECASE)), "")
    if site.transport != "local" and silence.fix:
        mend = silence.fix
    first = "python -m hybridhpc.here" if site.scheduler == "here" else "sinfo"
    fix = mend or f"run `{first}` yourself: these are its words; then ask the site's administrator"
    yield fault(site.name, f"does not answer: {silence.why}", fix)


def look_at_answer(client: Client, site: Site, answer: Snapshot) -> Findings:
    """Say what the site could not show, and which of its partitions can run nothing now."""
    yield fine(site.name, f"answers ({site.scheduler} {answer.version}".rstrip() + ")")
    if site.version and not answer.version.startswith(site.version):
        fix = f"leave version out of {site.file}: it is asked"
        yield warning(site.name, f"is Slurm {answer.version}, not {site.version} as its file says", fix)
    if not answer.partitions:
        yield fault(site.name, NO_PARTITIONS, "run `sinfo` there yourself; then ask the site's administrator")
    for words in answer.unseen:
        yield warning(site.name, f"cannot see {words}", "forecasts there are wider; ask the administrator for access")
    for partition in answer.partitions:
        where, nodes = f"{site.name}/{partition.name}", answer.nodes_of(partition.name)
        if not partition.up:
            fix = f"its administrator can: scontrol update partitionname={partition.name} state=up"
            yield warning(where, "the partition is down or draining: nothing starts there", fix)
        elif nodes and not any(node.usable for node in nodes):
            states = ", ".join(sorted({node.native_state for node in nodes}))
            fix = "sinfo -R says why; its administrator can resume them: scontrol update nodename=... state=resume"
            yield warning(where, f"none of its {len(nodes)} nodes can start a job ({states})", fix)


def look_at_description(client: Client, site: Site, answer: Snapshot) -> Findings:
    """Compare what the site file says with what the scheduler has."""
    if site.file is None:
        return
    there = [partition.name for partition in answer.partitions]
    for partition in site.partitions:
        if partition.name not in there:
            fix = f"it has {', '.join(there) or 'none'}; correct partitions in {site.file}"
            yield fault(site.name, f"the scheduler has no partition {partition.name!r}", fix)
    yield from _gpus(site, sorted({node.gpu_kind for node in answer.nodes if node.gpu_kind}))
    yield from _prices(site, there)


def _gpus(site: Site, kinds: list[str]) -> Findings:
    """Slurm's GPU types differ by case (seen: 22.05); a word that the file does not map is asked for in lower case."""
    for word, native in site.gres:
        if native not in kinds:
            fix = f"it has {', '.join(kinds) or 'no GPUs with a type'}; correct gres in {site.file}"
            yield fault(site.name, f"no node has GPUs of type {native!r} ({word} in the site file)", fix)
    mapped = {native for _, native in site.gres}
    for kind in kinds:
        if kind != kind.lower() and kind not in mapped:
            fix = f"write gres: {{{kind}: {kind}}} into {site.file}"
            yield warning(site.name, f"no spec can ask for its GPUs {kind}: Slurm minds capitals in names", fix)


def _prices(site: Site, there: list[str]) -> Findings:
    used = [name for name in there if not site.only_listed or name in {listed.name for listed in site.partitions}]
    free = [name for name in used if site.partition(name).price.source == Price().source]
    if free and site.is_slurm:
        what = f"no price is known for {', '.join(free)}: taken for free, it wins every comparison"
        yield warning(site.name, what, f"give gpu_price, node_price or cpu_price in {site.file}; 0 USD/h if it is free")


def look_at_job_root(client: Client, site: Site) -> Findings:
    """Look at the directory that holds the jobs' own."""
    if not site.is_slurm or site.transport != "local":
        return
    root = _job_root(client, site)
    if any(root.parts[: len(parts)] == parts for parts in _NOT_SHARED):
        fix = f"set job_root in {site.file} to a directory that all nodes share"
        yield warning(site.name, f"job_root {root} is in a directory that nodes seldom share", fix)
    yield from folder(root, otherwise=_OTHERWISE.format(site.name), alone=False)


def _job_root(client: Client, site: Site) -> Path:
    return Path(registry.transport(site, client.env).resolve(site.job_root or "~/.hybridhpc/jobs"))


def look_at_jobs(client: Client, site: Site) -> Findings:
    """Look at what every job there needs: a container runtime if the file speaks of one, a preamble that is shell."""
    if site.transport != "local" or site.file is None:
        return
    written = read_document(Path(site.file).read_bytes(), site.file).root
    runtime = site.container_runtime
    if shutil.which(runtime, path=client.env.get("PATH")) is None and {"container_runtime", "image_dir"} & set(written):
        fix = f"install {runtime}, or load it in the site file's preamble; specs without `image` need none"
        yield warning(site.name, f"{runtime} is not on PATH here", fix)
    if site.preamble:
        said = registry.transport(site, client.env).run(Command(argv=("bash", "-n"), stdin=site.preamble.encode()))
        if not said.ok:
            yield fault(site.name, f"the preamble is no shell: {said.complaint}", f"correct preamble in {site.file}")


def look_at_clock(client: Client, site: Site, answer: Snapshot) -> Findings:
    """Compare clocks: the controller says what time it is; else no job of a site can have started in the future."""
    last = max((job.line.started_at or 0.0 for job in answer.jobs), default=0.0) - client.clock()
    off, least = (answer.ahead, "") if answer.ahead else (max(0.0, last), "at least ")
    if abs(off) > _OFF:
        what = f"its clock is {least}{abs(off):.0f} s {'ahead of' if off > 0 else 'behind'} this machine's"
        yield warning(site.name, what, "set both clocks by NTP (`timedatectl set-ntp true`): its logs show other times")


def look_at_submission(client: Client, site: Site, answer: Snapshot) -> Findings:
    """Ask Slurm whether it would take a job of one CPU at all; no job is made (but a job id is used up)."""
    options = [f"--{name}={value}" for name, value in (("account", site.account), ("qos", site.qos)) if value]
    options += [f"--{name}" if value is None else f"--{name}={value}" for name, value in site.slurm]
    dialect = registry.scheduler(site.scheduler)
    question = dialect.start_estimate_command(site, options, _SMALL_JOB)
    if question is None:
        return
    try:
        told = dialect.parse_start_estimate(registry.transport(site, client.env).run(question))
    except HpcError as error:
        yield warning(site.name, f"sbatch --test-only: {error.message}", "ask again: `hpc check`")
        return
    if told.refusal:
        fix = f"try `{shlex.join(['sbatch', '--test-only', *options])}`; account, qos and slurm belong into {site.file}"
        yield warning(site.name, f"refuses a job of one CPU: {told.refusal}", fix)


def look_at_plugins(client: Client, site: Site, answer: Snapshot) -> Findings:
    """Compare the options that plugins add to its sbatch with those that its file lists."""
    scheduler = registry.scheduler(site.scheduler)
    question = scheduler.plugins_command(site)
    if question is None or site.file is None:
        return
    try:
        there = scheduler.parse_plugins(registry.transport(site, client.env).run(question))
    except HpcError:
        return  # look_at_submission says so
    if there is None:
        return  # and what sbatch complains of
    fix = f"write plugin_options: [{entries(there)}] into {site.file}" if there else f"leave them out of {site.file}"
    if absent := _names(site.plugin_options, there):
        yield warning(site.name, f"its sbatch has no plugin that takes {absent}, as its file says", fix)
    if unlisted := _names(there, site.plugin_options):
        yield warning(
            site.name, f"plugins add {unlisted} to its sbatch: jobs that ask for that are not sent there", fix
        )


def _names(some: PluginOptions, others: PluginOptions) -> str:
    return ", ".join(f"--{name}" for name, _ in some if name not in dict(others))


def look_at_here(client: Client, site: Site, answer: Snapshot) -> Findings:
    """Say how the embedded site holds jobs to their memory."""
    if site.scheduler == "here":
        from hybridhpc.here.cgroup import memory_hold

        yield fine(site.name, memory_hold())


def look_at_ssh_configuration(client: Client, site: Site) -> Findings:
    """Say what of the person's ssh configuration the site's transport does not read."""
    if site.transport == "ssh" and (unread := ssh_config.unread_by_paramiko(ssh_config.own_file(site, client.env))):
        yield warning(site.name, unread, f"write transport: openssh into {site.file}, unless the site needs none of it")


LOOKS: tuple[Callable[[Client, Site], Findings], ...] = (look_at_job_root, look_at_jobs, look_at_ssh_configuration)
"""What can be seen from this machine."""
ANSWER_LOOKS: tuple[Callable[[Client, Site, Snapshot], Findings], ...] = (
    look_at_answer,
    look_at_description,
    look_at_clock,
    look_at_far_side,
    look_at_submission,
    look_at_plugins,
    look_at_here,
)
"""What takes an answer of the site."""

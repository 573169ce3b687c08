"""hpc init: a first site file and a first spec. Never overwrites what is there."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import click

from hybridhpc import probe, registry
from hybridhpc.cli._context import dry_run_option, json_option, new_client
from hybridhpc.cli._first_site import site_text
from hybridhpc.cli._output import say, show_json
from hybridhpc.client import Client
from hybridhpc.command import Command
from hybridhpc.errors import HpcError, TransportError, UsageError
from hybridhpc.sites.plugins import PluginOptions
from hybridhpc.sites.schema import read_host, read_site_name
from hybridhpc.sites.site import Site
from hybridhpc.sites.snapshot import Silence, Snapshot

SPEC = """\
# A first job. `hpc plan job.yaml` shows where it would run; `hpc submit job.yaml --where auto -f` runs it.
name: hello
resources: {cpus: 1, memory: 256MiB}
time: 5m
run: |
  echo "hello from $(hostname), node $NODE_RANK of $NNODES"
where: auto
"""


@click.command()
@click.option("--name", help="What to call the site; default: the cluster's own name.")
@click.option("--host", help="A login node that `ssh HOST` reaches: write a site file for its Slurm.")
@click.option("--ssh-config", metavar="FILE", help="For --host: another ssh configuration than ~/.ssh/config.")
@dry_run_option
@json_option
def command(name: str | None, host: str | None, ssh_config: str | None, dry_run: bool, as_json: bool) -> None:
    """Write a site file for the Slurm on this machine or behind ssh, if there is one, and a first spec, job.yaml.

    Example: hpc init --host login.example.org
    """
    client = new_client()
    if name is not None and (fault := _fault(_own_name, name)):
        raise UsageError(f"--name: {fault}", hint="write --name dgx")
    if host is not None and (fault := _fault(read_host, host)):
        raise UsageError(f"--host: {fault}", hint="write --host me@login.example.org")
    if ssh_config is not None and host is None:
        raise UsageError("--ssh-config is for a site behind ssh", hint="write --host login.example.org as well")
    own_ssh = str(Path(client.cwd, ssh_config)) if ssh_config else None
    site_file, remark = _far_site(client, host, own_ssh, name) if host else _site_file(client, name)
    files = {Path(client.cwd) / "job.yaml": SPEC, **site_file}
    outcomes = {path: _write(path, text, dry_run) for path, text in files.items()}
    _report(outcomes, [remark] if remark else [], dry_run, as_json)
    failed = [f"{path}: {outcome}" for path, outcome in outcomes.items() if outcome not in ("written", "kept")]
    if failed:
        raise HpcError(
            "; ".join(failed), hint="go to a directory of your own; HPC_CONFIG_DIR says where site files lie"
        )


def _own_name(text: str) -> str:
    """Read the name of a site that is not this machine. Raises ValueError."""
    if text == registry.HERE:
        raise ValueError(f"{text!r} is the name of this machine as a site of its own")
    return read_site_name(text)


def _fault(read: Callable[[str], str], text: str) -> str:
    try:
        read(text)
    except ValueError as error:
        return str(error)
    return ""


def _write(path: Path, text: str, dry_run: bool) -> str:
    """Write a file unless it is there; return `written`, `kept`, or why that was impossible."""
    try:
        if path.exists() or path.is_symlink():
            return "kept"
        if not dry_run:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _write_whole(path, text)
    except FileExistsError:
        return "kept"
    except OSError as error:
        return f"cannot be written: {(error.strerror or str(error)).lower()}"
    return "written"


def _write_whole(path: Path, text: str) -> None:
    with path.open("x", encoding="utf-8") as file:
        try:
            file.write(text)
            file.flush()
        except OSError:
            path.unlink()
            raise


def _report(outcomes: dict[Path, str], remarks: list[str], dry_run: bool, as_json: bool) -> None:
    written = [str(path) for path, outcome in outcomes.items() if outcome == "written"]
    kept = [str(path) for path, outcome in outcomes.items() if outcome == "kept"]
    if as_json:
        show_json({"written": written, "kept": kept, "remarks": remarks, "dry_run": dry_run})
        return
    for path in written:
        say(f"{'would write' if dry_run else 'wrote'} {path}")
    for path in kept:
        say(f"kept {path}: it is there already")
    for remark in remarks:
        say(remark)
    say("next: hpc check; hpc submit job.yaml --where auto -f")


def _site_file(client: Client, name: str | None) -> tuple[dict[Path, str], str]:
    """Return the site file to write for the Slurm that this machine speaks to, or why there is none."""
    if shutil.which("sinfo", path=client.env.get("PATH")) is None:
        where = "one that ssh reaches: hpc init --host login.example.org"
        return {}, f"no Slurm on this machine (no sinfo on PATH): jobs run on the embedded site `here`; {where}"
    conf = str(Path(client.cwd, client.env["SLURM_CONF"])) if client.env.get("SLURM_CONF") else None
    if conf and not Path(conf).is_file():
        return {}, f"SLURM_CONF names {conf}, which does not exist: no site file; correct it, then hpc init again"
    draft = Site(name="slurm", file=None, scheduler="slurm", transport="local", slurm_conf=conf)
    answer = probe.survey([draft], client.env, client.clock)["slurm"]
    if isinstance(answer, Silence):
        return {}, f"Slurm is here but does not answer ({answer.why}): no site file; mend it, then hpc init again"
    return _found(client, draft, answer, name or _cluster_name(client, draft))


def _far_site(client: Client, host: str, ssh_config: str | None, name: str | None) -> tuple[dict[Path, str], str]:
    """Return the site file to write for the Slurm of a login node. Raises TransportError if that cannot be asked."""
    own = name or "slurm"
    draft = Site(name=own, file=None, scheduler="slurm", transport="openssh", host=host, ssh_config=ssh_config)
    answer = probe.survey([draft], client.env, client.clock)[draft.name]
    if isinstance(answer, Silence):
        raise TransportError(f"no site file: {answer.why}", hint=answer.fix)
    return _found(client, draft, answer, name or _cluster_name(client, draft))


def _found(client: Client, draft: Site, answer: Snapshot, name: str) -> tuple[dict[Path, str], str]:
    path = client.paths.config / "sites" / f"{name}.yaml"
    known = [site for site in client.usable_sites if site.file and site.file != str(path)]
    for site in known:
        same = (site.host, site.slurm_conf) == (draft.host, draft.slurm_conf) and (site.host or site.slurm_conf)
        if site.name == name or (site.scheduler == "slurm" and same):
            return {}, f"this Slurm is the site {site.name} already: {site.file}"
    return {path: site_text(name, draft, answer, _plugin_options(client, draft))}, ""


def _plugin_options(client: Client, site: Site) -> PluginOptions:
    scheduler = registry.scheduler(site.scheduler)
    question = scheduler.plugins_command(site)
    if question is None:
        return ()
    try:
        return scheduler.parse_plugins(registry.transport(site, client.env).run(question)) or ()
    except TransportError:
        return ()


def _cluster_name(client: Client, site: Site) -> str:
    """Return the cluster's name, or `slurm` where it is hidden or no site can be called so."""
    question = Command(argv=("scontrol", "show", "config"))
    try:
        answer = registry.transport(site, client.env).run(question)
    except TransportError:
        return site.name
    match = re.search(r"^ClusterName\s*=\s*(\S+)", answer.text, re.MULTILINE)
    return match.group(1) if match and not _fault(_own_name, match.group(1)) else site.name

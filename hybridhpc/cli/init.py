"""hpc init: a first site file and a first spec. Never overwrites what is there."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import click

from hybridhpc import probe, registry
from hybridhpc.cli._context import dry_run_option, json_option, new_client
from hybridhpc.cli._first_site import site_text
from hybridhpc.cli._output import say, show_json
from hybridhpc.client import Client
from hybridhpc.command import Command
from hybridhpc.errors import HpcError, TransportError, UsageError
from hybridhpc.sites.schema import read_site_name
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
@dry_run_option
@json_option
def command(name: str | None, dry_run: bool, as_json: bool) -> None:
    """Write a site file for the Slurm on this machine, if there is one, and a first spec, job.yaml.

    Example: hpc init
    """
    client = new_client()
    if name is not None and (fault := _name_fault(name)):
        raise UsageError(f"--name: {fault}", hint="write --name dgx")
    site_file, remark = _site_file(client, name)
    files = {Path(client.cwd) / "job.yaml": SPEC, **site_file}
    outcomes = {path: _write(path, text, dry_run) for path, text in files.items()}
    _report(outcomes, [remark] if remark else [], dry_run, as_json)
    failed = [f"{path}: {outcome}" for path, outcome in outcomes.items() if outcome not in ("written", "kept")]
    if failed:
        raise HpcError(
            "; ".join(failed), hint="go to a directory of your own; HPC_CONFIG_DIR says where site files lie"
        )


def _name_fault(name: str) -> str:
    if name == registry.HERE:
        return f"{name!r} is the name of this machine as a site of its own"
    try:
        read_site_name(name)
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
        return {}, "no Slurm on this machine (no sinfo on PATH): jobs run on the embedded site `here`"
    conf = str(Path(client.cwd, client.env["SLURM_CONF"])) if client.env.get("SLURM_CONF") else None
    if conf and not Path(conf).is_file():
        return {}, f"SLURM_CONF names {conf}, which does not exist: no site file; correct it, then hpc init again"
    draft = Site(name="slurm", file=None, scheduler="slurm", transport="local", slurm_conf=conf)
    answer = probe.survey([draft], client.env, client.clock)["slurm"]
    if isinstance(answer, Silence):
        return {}, f"Slurm is here but does not answer ({answer.why}): no site file; mend it, then hpc init again"
    return _found(client, draft, answer, name or _cluster_name(client, draft))


def _found(client: Client, draft: Site, answer: Snapshot, name: str) -> tuple[dict[Path, str], str]:
    path = client.paths.config / "sites" / f"{name}.yaml"
    known = [site for site in client.usable_sites if site.file and site.file != str(path)]
    for site in known:
        if site.name == name or (site.scheduler == "slurm" and site.slurm_conf and site.slurm_conf == draft.slurm_conf):
            return {}, f"this Slurm is the site {site.name} already: {site.file}"
    return {path: site_text(name, draft.slurm_conf, answer)}, ""


def _cluster_name(client: Client, site: Site) -> str:
    """Return the cluster's name, or `slurm` where it is hidden or no site can be called so."""
    question = Command(argv=("scontrol", "show", "config"))
    try:
        answer = registry.transport(site, client.env).run(question)
    except TransportError:
        return site.name
    match = re.search(r"^ClusterName\s*=\s*(\S+)", answer.text, re.MULTILINE)
    return match.group(1) if match and not _name_fault(match.group(1)) else site.name

"""hpc init: a first site file and a first spec. Never overwrites what is there."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import click

from hybridhpc import probe, registry
from hybridhpc.cli._context import dry_run_option, json_option, new_client
from hybridhpc.cli._output import say, show_json
from hybridhpc.client import Client
from hybridhpc.command import Command
from hybridhpc.errors import HpcError
from hybridhpc.sites.site import Site
from hybridhpc.sites.snapshot import Snapshot

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
    files = {Path(client.cwd) / "job.yaml": SPEC}
    remarks = []
    site = find_slurm(client, name)
    if site is None:
        remarks.append("no Slurm answers on this machine: jobs run on the embedded site `here`, which needs no file")
    else:
        files[client.paths.config / "sites" / f"{site.name}.yaml"] = site_file(site)
    written = [path for path, text in files.items() if not path.exists() and (dry_run or _write(path, text))]
    if as_json:
        kept = [str(path) for path in files if path not in written]
        show_json({"written": [str(path) for path in written], "kept": kept, "remarks": remarks})
        return
    verb = "would write" if dry_run else "wrote"
    for path in files:
        say(f"{verb} {path}" if path in written else f"kept {path}: it is there already")
    for remark in remarks:
        say(remark)
    say("next: hpc check; hpc submit job.yaml --where auto -f")


def _write(path: Path, text: str) -> bool:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        return False
    except OSError as error:
        raise HpcError(f"{path} cannot be written: {error.strerror}") from error
    return True


def find_slurm(client: Client, name: str | None) -> Site | None:
    """Return the Slurm that this machine speaks to, its partitions included; None if none answers."""
    if shutil.which("sinfo", path=client.env.get("PATH", os.defpath)) is None:
        return None
    draft = Site(name="slurm", file=None, scheduler="slurm", transport="local", slurm_conf=client.env.get("SLURM_CONF"))
    answer = probe.survey([draft], client.env, client.clock)["slurm"]
    if not isinstance(answer, Snapshot):
        return None
    return Site(
        name=name or _cluster_name(client, draft),
        file=None,
        scheduler="slurm",
        transport="local",
        slurm_conf=draft.slurm_conf,
        partitions=tuple(draft.partition(partition.name) for partition in answer.partitions),
    )


def _cluster_name(client: Client, site: Site) -> str:
    question = Command(argv=("scontrol", "show", "config"))
    answer = registry.transport(site, client.env).run(question)
    match = re.search(r"^ClusterName\s*=\s*([A-Za-z0-9_-]+)", answer.text, re.MULTILINE)
    return match.group(1) if match else "slurm"


def site_file(site: Site) -> str:
    """Return the text of a first site file, with what an admin will want to fill in as comments."""
    lines = [
        f"# Site file of {site.name}: docs/sites.md has every key. `hpc check` reads it, `hpc sites` asks the site.",
        f"name: {site.name}",
        "scheduler: slurm",
        "transport: local",
        *([f"slurm_conf: {site.slurm_conf}"] if site.slurm_conf else []),
        "# Must be visible from the login node and from every compute node.",
        "job_root: ~/.hybridhpc/jobs",
        "# What an hour costs. Without prices every partition counts as free, and says so.",
        "partitions:",
    ]
    lines += [
        f"  {json.dumps(partition.name)}: {{gpu_price: 0 USD/h, node_price: 0 USD/h}}" for partition in site.partitions
    ]
    return "\n".join(lines) + "\n"

"""What jobs need at a site behind ssh, looked at there in one round trip: job_root, preamble, container runtime."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from hybridhpc import registry
from hybridhpc.checking.finding import Findings, fault, warning
from hybridhpc.checking.folders import ROOM
from hybridhpc.client import Client
from hybridhpc.command import Command, CommandResult, Errand
from hybridhpc.document import read_document
from hybridhpc.errors import HpcError
from hybridhpc.sites.site import Site
from hybridhpc.sites.snapshot import Snapshot

_NOT_SHARED = (("/", "tmp"), ("/", "dev", "shm"))
_LOOK = """\
set -fu
there=$1
while [ ! -e "$there" ] && [ ! -h "$there" ]; do there=${there%/*}; : "${there:=/}"; done
printf '%s\\n' "$there"
[ -d "$there" ] || { echo 'is no directory'; exit 1; }
[ -w "$there" ] && [ -x "$there" ] || { echo 'you cannot write here'; exit 1; }
open=$(find -H "$there" -prune -perm -002 ! -perm -1000 -print)
[ -z "$open" ] || { echo 'everybody can exchange what is in it'; exit 1; }
free=$(df -Pk -- "$there" 2>/dev/null | { read -r _; read -r _ _ _ free _; echo "$free"; })
[ "${free:-$2}" -ge "$2" ] || { echo "less than $(($2 / 1024)) MiB are free"; exit 1; }
trial=$(mktemp "$there/.hpc.XXXXXXXXXX" 2>&1) || { echo "nothing can be written here: $trial"; exit 1; }
said=$(dd if=/dev/zero of="$trial" bs=65536 count=1 2>&1); code=$?
rm -f -- "$trial"
[ $code -eq 0 ] || { echo "nothing can be written here: $said" | tr '\\n' ' '; exit 1; }"""
"""Says which directory it looked at, job_root or the nearest around it, and on a second line what is wrong with it."""


def look_at_far_side(client: Client, site: Site, answer: Snapshot) -> Findings:
    """Ask the login node for what would only show when a job is sent."""
    if site.host is None or not site.is_slurm or site.file is None:
        return
    transport = registry.transport(site, client.env)
    root = transport.resolve(site.job_root or "~/.hybridhpc/jobs")
    asked = {
        "job_root": Command(argv=("sh", "-c", _LOOK, "sh", root, str(ROOM // 1024))),
        "preamble": Command(argv=("bash", "-n"), stdin=site.preamble.encode()),
        "container_runtime": Command(argv=("sh", "-c", 'command -v "$1"', "sh", site.container_runtime)),
    }
    errands = [Errand(command=command) for command in asked.values()]
    told = dict(zip(asked, transport.run_all(errands, within=site.probe_deadline), strict=True))
    yield from _job_root(site, root, told["job_root"])
    if site.preamble:
        yield from _preamble(site, told["preamble"])
    written = read_document(Path(site.file).read_bytes(), site.file).root
    if {"container_runtime", "image_dir"} & set(written):
        yield from _runtime(site, told["container_runtime"])


def _job_root(site: Site, root: str, told: CommandResult | HpcError) -> Findings:
    if isinstance(told, HpcError):
        yield warning(site.name, f"job_root {root} could not be looked at: {told.message}", "check again")
        return
    parts = PurePosixPath(root).parts
    if any(parts[: len(each)] == each for each in _NOT_SHARED):
        fix = f"set job_root in {site.file} to a directory that all nodes share"
        yield warning(site.name, f"job_root {root} is in a directory that nodes seldom share", fix)
    there, _, wrong = told.text.strip().partition("\n")
    if wrong or not told.ok:
        around = "" if there == root else f" cannot be made: {there}"
        what = f"job_root {root}{around}: {wrong or told.complaint}"
        place = site.place_of("job_root").rstrip(":")
        yield fault(
            site.name, what, f"make room there, or the right to write for you alone, or name another directory: {place}"
        )


def _preamble(site: Site, told: CommandResult | HpcError) -> Findings:
    if isinstance(told, CommandResult) and not told.ok:
        yield fault(site.name, f"the preamble is no shell: {told.complaint}", f"correct preamble in {site.file}")


def _runtime(site: Site, told: CommandResult | HpcError) -> Findings:
    if isinstance(told, CommandResult) and not told.ok:
        runtime = site.container_runtime
        fix = f"if its nodes have none either, load {runtime} in the preamble; specs without `image` need none"
        yield warning(site.name, f"{runtime} is not on PATH at its login node", fix)

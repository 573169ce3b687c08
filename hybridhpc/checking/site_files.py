"""The site files: whether they are read at all, who can change them, and what is wrong in them."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from pathlib import Path

from hybridhpc import registry
from hybridhpc.checking.finding import Finding, Findings, fault, fine, of_problem
from hybridhpc.checking.folders import others
from hybridhpc.client import Client
from hybridhpc.sites.catalog import parse_site
from hybridhpc.sites.site import InvalidSite
from hybridhpc.spec.native import judge

_DANGER = "what it says runs in your jobs"


def look_at_site_files(client: Client) -> Findings:
    """Look at every file in the folders of site files."""
    found = False
    for place in client.paths.site_folders:
        if not place.is_dir():
            continue
        if who := others(place):
            yield fault(place, f"{who}: {_DANGER}", f"chmod go-w {shlex.quote(str(place))}")
        first: dict[str, Path] = {}
        for path in sorted(place.iterdir()):
            found = True
            yield from _file(path, first)
    if not found:
        yield fine("sites", "no site file: jobs run on this machine; `hpc init` writes one for a local Slurm")


def _file(path: Path, first: dict[str, Path]) -> Iterator[Finding]:
    name = shlex.quote(str(path))
    if path.suffix != ".yaml":
        if path.suffix == ".yml":
            better = shlex.quote(str(path.with_suffix(".yaml")))
            yield fault(path, "is not read: site files end in .yaml", f"mv {name} {better}")
        return
    if not path.is_file():
        what = "is a link that leads nowhere" if path.is_symlink() else "is no file"
        yield fault(path, what, f"remove it: {'rm' if path.is_symlink() else 'rmdir'} {name}")
    elif not os.access(path, os.R_OK):
        yield fault(path, "cannot be read", f"chmod u+r {name}, or ask its owner")
    else:
        if who := others(path):
            yield fault(path, f"{who}: {_DANGER}", f"chmod go-w {name}, and look at what it says")
        yield from _content(path, first)


def _content(path: Path, first: dict[str, Path]) -> Iterator[Finding]:
    site = parse_site(path.read_bytes(), str(path), judge, registry.added)
    if isinstance(site, InvalidSite):
        yield from map(of_problem, site.problems)
        return
    if site.name in first:
        what = f"is called {site.name}, as {first[site.name]} is: that one is not used"
        yield fault(path, what, "give it another `name:`, or remove one of the two files")
    first[site.name] = path

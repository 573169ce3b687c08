"""Names to schedulers and transports, through entry points, each loaded on first use; and a person's site files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

from hybridhpc.config import Paths
from hybridhpc.errors import HpcError, NotFound, Problem
from hybridhpc.model import Seconds
from hybridhpc.schedulers.base import Scheduler
from hybridhpc.secret_stores.base import SecretStore
from hybridhpc.sites.site import InvalidSite, Price, Site
from hybridhpc.transports.base import Transport

HERE = "here"
_LOCAL_PATIENCE = Seconds(60)
"""This machine is never out of reach: that it is slow to answer only means that it is busy."""
BUILT_IN = {
    "hybridhpc.schedulers": {
        "slurm": "hybridhpc.schedulers.slurm:SlurmScheduler",
        "here": "hybridhpc.schedulers.here:HereScheduler",
    },
    "hybridhpc.secret_stores": {
        "env": "hybridhpc.secret_stores.machine:EnvironmentStore",
        "file": "hybridhpc.secret_stores.machine:FileStore",
    },
    "hybridhpc.transports": {
        "local": "hybridhpc.transports.local:LocalTransport",
        "here": "hybridhpc.in_process:InProcess",
        "openssh": "hybridhpc.transports.openssh:OpenSshTransport",
        "ssh": "hybridhpc.transports.ssh:ParamikoTransport",
    },
}
"""Ours are named here, so that finding them need not read every installed package's metadata; others' come from it."""


def scheduler(name: str) -> Scheduler:
    """Return the scheduler of that name. Raises NotFound."""
    found: Scheduler = _load("hybridhpc.schedulers", name)()
    return found


def transport(site: Site, env: Mapping[str, str]) -> Transport:
    """Return a transport to the site. Raises NotFound."""
    # A site with the scheduler `here` is this machine and needs no processes; `transport: local` says the first only.
    name = HERE if site.scheduler == HERE else site.transport
    found: Transport = _load("hybridhpc.transports", name)(site, env)
    return found


def secret_store(name: str, env: Mapping[str, str]) -> SecretStore:
    """Return the store of secrets that `secret://NAME/...` means. Raises NotFound."""
    found: SecretStore = _load("hybridhpc.secret_stores", name)(env)
    return found


def _load(group: str, name: str) -> Callable[..., Any]:
    target = BUILT_IN[group].get(name)
    if target is None:
        target = _entry_points(group).get(name)
    if target is None:
        known = ", ".join(sorted(BUILT_IN[group] | _entry_points(group)))
        what = group.removeprefix("hybridhpc.")[:-1].replace("_", " ")
        raise NotFound(f"no {what} is called {name!r}", hint=f"known: {known}")
    module, _, attribute = target.partition(":")
    try:
        loaded: Callable[..., Any] = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise _broken(group, name, target, error) from error
    return loaded


def _broken(group: str, name: str, target: str, error: Exception) -> NotFound:
    if name in BUILT_IN[group] and isinstance(error, ModuleNotFoundError):
        return NotFound(f"{name} needs {error.name}", hint=f"pip install 'hybridhpc[{name}]'")
    return NotFound(
        f"{name} cannot be loaded from {target}: {error}", hint=f"install or mend the package that adds it to {group}"
    )


def added(key: str) -> Sequence[str]:
    """Return the names that other packages bring for a key of site files: `scheduler` or `transport`."""
    return sorted(_entry_points(f"hybridhpc.{key}s"))


def _entry_points(group: str) -> dict[str, str]:
    from importlib.metadata import entry_points

    return {point.name: point.value for point in entry_points(group=group)}


def here(paths: Paths) -> Site:
    """Return the embedded site."""
    return Site(
        name=HERE,
        file=None,
        scheduler="here",
        transport="local",
        provider="here",
        job_root=str(paths.here),
        price=Price(source="this machine"),
        poll_interval=Seconds(1),
        probe_deadline=_LOCAL_PATIENCE,
    )


def load_sites(paths: Paths) -> tuple[Site | InvalidSite, ...]:
    """Return the embedded site and all that have a file, by name. A broken file refuses itself, not the others."""
    found: dict[str, Site | InvalidSite] = {HERE: here(paths)}
    for file in (file for folder in paths.site_folders for file in _site_files(folder)):
        site = _load_site(file)
        if isinstance(site, Site) and (site.ssh_config or "").startswith("~/"):
            site = replace(site, ssh_config=str(paths.home / (site.ssh_config or "")[2:]))
        found[site.name] = site
    return tuple(found[name] for name in sorted(found))


def _site_files(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.suffix == ".yaml")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise HpcError(f"{folder} cannot be read: {error.strerror}", hint=f"chmod u+rx {folder}") from error


def _load_site(file: Path) -> Site | InvalidSite:
    from hybridhpc.sites.catalog import parse_site
    from hybridhpc.spec.native import judge

    try:
        return parse_site(file.read_bytes(), str(file), judge, added)
    except OSError as error:
        problem = Problem(file=str(file), line=None, key="", message=f"cannot be read: {error.strerror}")
        return InvalidSite(name=file.stem, file=str(file), problems=(problem,))


def site_named(sites: tuple[Site | InvalidSite, ...], name: str) -> Site:
    """Return a usable site. Raises NotFound, or HpcError with the problems of its file."""
    for site in sites:
        if site.name == name:
            if isinstance(site, InvalidSite):
                raise HpcError(
                    f"site {name} has a broken file: {site.problems[0]}", hint="`hpc check` lists all problems"
                )
            return site
    known = ", ".join(site.name for site in sites)
    raise NotFound(f"no site is called {name!r}", hint=f"known: {known}")

"""What is this person's own: the installation, the settings, the environment, HOME and the state directory."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hybridhpc import registry
from hybridhpc.checking.finding import Finding, Findings, fault, fine, warning
from hybridhpc.checking.folders import folder, others
from hybridhpc.client import Client
from hybridhpc.command import Command
from hybridhpc.config import data_path, settings
from hybridhpc.errors import HpcError
from hybridhpc.spec.flags import parse_goal, parse_move, parse_where
from hybridhpc.spec.places import unknown_names

TRAINING = {"torch": "torch", "numpy": "numpy", "sklearn": "scikit-learn", "matplotlib": "matplotlib"}
"""Modules, and the packages that bring them."""
_LACKING = "import importlib.util as u, sys; print(*[name for name in sys.argv[1:] if u.find_spec(name) is None])"
_READERS: Mapping[str, Callable[[str, str], Any]] = {"goal": parse_goal, "where": parse_where, "move": parse_move}


def look_at_installation(client: Client) -> Findings:
    """Look for what hpc itself is made of, and for what the reference training job needs of the job's Python."""
    yield fine("python", f"{sys.version.split()[0]} ({sys.executable})")
    if find_spec("jinja2") is None:
        yield fault(
            "installation",
            "jinja2 is missing, and changed templates need it",
            f"{sys.executable} -m pip install jinja2",
        )
    for name in ("templates", "configs"):
        data_path(name)
    yield _training(client)


def _training(client: Client) -> Finding:
    """Ask the Python that a job would find, which need not be ours."""
    python = shutil.which("python", path=client.env.get("PATH", os.defpath))
    if python is None:
        fix = "activate a virtual environment, or call python3 in your specs"
        return warning("train", "there is no `python` on PATH, which jobs such as the reference training job call", fix)
    here = registry.transport(registry.here(client.paths), client.env)
    answer = here.run(Command(argv=(python, "-c", _LACKING, *TRAINING)), cwd="/")
    if not answer.ok:
        return warning("train", f"{python} does not work: {answer.complaint}", "repair it, or put another on PATH")
    lacking = answer.text.split()
    if lacking:
        what = f"the reference training job would lack {', '.join(lacking)} in {python}; other jobs need none of it"
        return warning("train", what, _more_modules(python, lacking))
    return fine("train", f"{python} has what the reference training job needs")


def _more_modules(python: str, lacking: list[str]) -> str:
    if all(find_spec(name) for name in TRAINING):
        return f"put {Path(sys.executable).parent}, which has them, first on PATH"
    return f"{python} -m pip install {' '.join(TRAINING[name] for name in lacking)}"


def look_at_settings(client: Client) -> Findings:
    """Read every setting as a job without an opinion of its own would."""
    yield from _settings_files(client.paths.config)
    for name, setting in settings(client.paths, client.env).items():
        try:
            _READERS[name](setting.value, setting.source)
        except HpcError as error:
            yield fault(setting.source, error.message.removeprefix(f"{setting.source}: "), error.hint)
            continue
        yield fine("settings", f"{name} = {setting.value} ({setting.source})")
        if name == "where":
            yield from _unknown_places(client, setting.value, setting.source)


def _settings_files(config: Path) -> Findings:
    file, misnamed = config / "config.yaml", config / "config.yml"
    if misnamed.exists():
        yield fault(misnamed, "is not read: the settings are in config.yaml", f"mv {misnamed} {file}")
    if file.exists() and (who := others(file)):
        yield fault(file, f"{who}, and so send your jobs elsewhere", f"chmod go-w {file}, and look at what it says")


def _unknown_places(client: Client, where: str, source: str) -> Findings:
    sites = [site.name for site in client.sites]
    labels = [label for site in client.usable_sites for label in site.labels]
    for name in unknown_names([word.strip() for word in where.split(",") if word.strip()], sites, labels):
        yield fault(source, f"names {name!r}, which is no site and no label", f"known are {', '.join(sites)}")


def look_at_environment(client: Client) -> Findings:
    """Look for variables that change what Slurm's commands do."""
    for name in sorted(client.env):
        if name.startswith("SBATCH_"):
            what = f"{name}={client.env[name]} changes every submission to Slurm"
            yield warning("environment", what, f"unset {name}, unless you mean it")
        elif name.startswith(("SQUEUE_", "SINFO_")):
            yield fine("environment", f"{name} is set; hpc asks without it")


def look_at_folders(client: Client) -> Findings:
    """Look at HOME and at the state directory."""
    home = client.paths.home
    if not home.is_dir() or not os.access(home, os.W_OK | os.X_OK):
        what = "HOME cannot be written" if home.is_dir() else "HOME is no directory"
        yield warning(home, what, "set HOME, or HPC_STATE_DIR and HPC_CONFIG_DIR, to directories of your own")
    yield from folder(client.paths.state, otherwise="set HPC_STATE_DIR to a directory of your own", alone=True)

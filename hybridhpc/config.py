"""Settings, the environment and the data folders: defaults < site < user file < environment < flags.

The only module that reads the environment, and the only one that knows where things lie on this machine.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from hybridhpc.errors import NotFound, Problem, SiteFileError
from hybridhpc.readers import nearest
from hybridhpc.values import dataclass

SYSTEM_DIR = Path("/etc/hybridhpc")


def environment() -> dict[str, str]:
    """Return the environment this process was given."""
    return dict(os.environ)


def data_path(name: str) -> Path:
    """Return the folder `templates`, `configs` or `singularity`, in the source tree or in an installed wheel.

    Raises NotFound if the installation lacks it.
    """
    package = Path(__file__).parent
    for candidate in (package / "_data" / name, package.parent / name):
        if candidate.is_dir():
            return candidate
    raise NotFound(f"the installation lacks its folder {name!r}", hint="reinstall hybridhpc")


@dataclass(frozen=True, slots=True, kw_only=True)
class Paths:
    """Where this person's files lie. `config` holds sites/ and config.yaml, `state` the ledger and the site here."""

    config: Path
    state: Path
    home: Path

    @property
    def ledger(self) -> Path:
        """The ledger's file."""
        return self.state / "ledger.sqlite"

    @property
    def here(self) -> Path:
        """The job_root of the embedded site."""
        return self.state / "here"

    @property
    def site_folders(self) -> tuple[Path, ...]:
        """Folders of site files; a later one wins over an earlier one, name by name."""
        return (SYSTEM_DIR / "sites", self.config / "sites")


def find_paths(env: Mapping[str, str]) -> Paths:
    """Return the paths for an environment: HPC_CONFIG_DIR and HPC_STATE_DIR, else the XDG folders.

    Raises NotFound if there is no HOME.
    """
    home = Path(env.get("HOME") or _login_home())
    config = env.get("HPC_CONFIG_DIR") or _xdg(env, "XDG_CONFIG_HOME", home / ".config")
    state = env.get("HPC_STATE_DIR") or _xdg(env, "XDG_STATE_HOME", home / ".local" / "state")
    return Paths(config=Path(config).absolute(), state=Path(state).absolute(), home=home)


def _login_home() -> Path:
    try:
        return Path("~").expanduser()
    except RuntimeError as error:
        raise NotFound(
            f"HOME is not set, and user {os.geteuid()} has no home directory", hint="set HOME to a directory"
        ) from error


def _xdg(env: Mapping[str, str], name: str, default: Path) -> Path:
    return Path(env.get(name) or default) / "hybridhpc"


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A value and where it came from."""

    value: str
    source: str
    """The default, a variable, or `FILE:LINE: KEY`."""
    line: int = 0


DEFAULTS = {"goal": "balanced", "where": "auto", "move": "advise"}
"""Settings a person may put into config.yaml or the environment (HPC_GOAL, HPC_WHERE, HPC_MOVE)."""


def settings(paths: Paths, env: Mapping[str, str]) -> dict[str, Setting]:
    """Resolve every setting. Raises SiteFileError if a settings file cannot be read or holds something else."""
    found = {key: Setting(value=value, source="default") for key, value in DEFAULTS.items()}
    for file in (SYSTEM_DIR / "config.yaml", paths.config / "config.yaml"):
        found |= _read_settings(file)
    for key in DEFAULTS:
        if value := env.get(f"HPC_{key.upper()}"):
            found[key] = Setting(value=value, source=f"environment HPC_{key.upper()}")
    return found


def _read_settings(file: Path) -> dict[str, Setting]:
    try:
        lines = file.read_text("utf-8-sig", "replace").splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise _wrong(
            file, None, f"cannot be read: {reason}", "make it a file that you can read, or remove it"
        ) from error
    found: dict[str, Setting] = {}
    for number, line in enumerate(lines, 1):
        written, colon, value = line.partition(":")
        key = written.strip()
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if not colon or key not in DEFAULTS:
            raise _wrong(file, number, f"{line.strip()[:80]!r} is no setting", _how_to_write(key))
        if key in found:
            raise _wrong(file, number, f"{key} stands twice, first on line {found[key].line}", "keep one of them")
        found[key] = Setting(value=_plain(value), source=f"{file}:{number}: {key}", line=number)
    return found


def _how_to_write(key: str) -> str:
    known = ", ".join(sorted(DEFAULTS))
    meant = nearest(key, DEFAULTS)
    return f"did you mean {meant}? keys are {known}" if meant else f"write `key: value`; keys are {known}"


def _plain(value: str) -> str:
    """Return a value without comment and quotes; a list of YAML as words with commas."""
    text = value.partition(" #")[0].strip()
    if text.startswith("[") and text.endswith("]"):
        return ", ".join(word.strip().strip("'\"") for word in text[1:-1].split(","))
    return text.strip("'\"")


def _wrong(file: Path, line: int | None, message: str, hint: str) -> SiteFileError:
    return SiteFileError((Problem(file=str(file), line=line, key="", message=message, hint=hint),))


def read_file(path: Path) -> bytes:
    """Read a file a person named. Raises NotFound with the reason in words."""
    if path.exists() and not path.is_file() and not path.is_dir():
        raise NotFound(
            f"{path} is no regular file", hint="save it to a file: what is submitted must not change meanwhile"
        )
    try:
        return path.read_bytes()
    except IsADirectoryError as error:
        raise NotFound(f"{path} is a directory", hint="name a spec or an sbatch script") from error
    except OSError as error:
        raise NotFound(
            f"{path}: {(error.strerror or 'cannot be read').lower()}", hint="name a spec or an sbatch script"
        ) from error


def working_directory() -> str:
    """Return the directory we are in. Raises NotFound if it is gone."""
    try:
        return str(Path.cwd())
    except FileNotFoundError as error:
        raise NotFound("the current directory no longer exists", hint="cd to one that does") from error

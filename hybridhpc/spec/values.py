"""Readers of single values of a spec: text to value, ValueError with a sentence if it is none."""

from __future__ import annotations

import re
from datetime import datetime

from hybridhpc.model import Array, Bind, Gpus, Seconds, Usd, UsdPerHour
from hybridhpc.readers import KEPT_BY_BASH, Fault, Plain, kind, printable, quoted, whole
from hybridhpc.units import parse_gpus, parse_memory, parse_price, parse_walltime

MAX_NAME_BYTES = 200
MAX_GPUS = 128
MAX_CPUS = 10_000
MAX_ARRAY_TASKS = 1_000_000
MAX_INDEX = 4_000_000
"""Slurm's own ceiling for MaxArraySize is 4,000,001."""
MAX_GRACE = 65_535
"""sbatch(1) --signal."""

GOALS = {"cheap": UsdPerHour(1.0), "balanced": UsdPerHour(30.0), "fast": UsdPerHour(300.0)}
"""The money an hour of waiting is worth, by word."""

_SIGNALS = ("USR1", "USR2", "TERM", "INT", "HUP", "QUIT", "ALRM", "XCPU")
_ENV_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
_REFERENCE = r"secret://[A-Za-z0-9][A-Za-z0-9_.-]*/[!-~]+"
_AT_LEAST = r"([0-9]+)(?:\+|\.\.)?"
_TIMES = r"[0-9]{1,3}\s*[xX*].+|.+[xX*][0-9]{1,2}"
_BYTES = r"(?i:[0-9.]+\s*[KMGTP]i?B?\W*)"
_THROTTLE = r"[1-9][0-9]{0,6}"
_RANGE = r"([0-9]{1,7})(?:-([0-9]{1,7})(?::([0-9]{1,7}))?)?"
_DOCKER = (
    r"(?:[A-Za-z0-9.-]+(?::[0-9]+)?/)?[a-z0-9]+(?:[._/-]+[a-z0-9]+)*"
    r"(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(?:@sha256:[0-9a-f]{64})?"
)
_SCHEMES = ("docker://", "oras://", "library://")
_MACHINE_IMAGES = ("ami-", "skypilot:", "projects/")


def read_name(text: str) -> str:
    """Read a job's name: Slurm shows it and files are named after it."""
    if not text.strip() or not text.isprintable() or "/" in text or text in (".", ".."):
        raise Fault(f"{quoted(text)} cannot name a job", "write one line of printable text without '/'")
    size = len(text.encode())
    if size > MAX_NAME_BYTES:
        raise Fault(f"is {size} bytes long; at most {MAX_NAME_BYTES} fit", "shorten it")
    return text


def read_cpus(text: str) -> int:
    """Read `16`, `16+` or `16..`: CPUs per node."""
    match = re.fullmatch(_AT_LEAST, text)
    return int(whole(1, MAX_CPUS)(match.group(1) if match else text))


def read_memory(text: str) -> int:
    """Read memory per node in MiB."""
    if text.strip() in ("0", "all"):
        raise Fault(f"{quoted(text)} is no amount", "write 64GiB; for whole nodes write slurm: {exclusive: true}")
    return parse_memory(text)


def gpu_entries(value: Plain) -> list[Plain]:
    """Return the alternatives of `gpus`: one, a list, dstack's {name, count} or SkyPilot's {H100: 8}."""
    if isinstance(value, list):
        entries = value
    elif isinstance(value, dict) and not {"name", "count"} & set(value):
        entries = [{name: count} for name, count in value.items()]
    else:
        entries = [value]
    if not entries or len(entries) > 20:
        raise Fault(f"has {len(entries)} alternatives", "write up to 20, best first, or leave gpus out for none")
    return entries


def read_gpus(value: Plain) -> Gpus:
    """Read GPUs of one node: `H100:8`, `8`, {name: H100, count: 8} or {H100: 8}."""
    text = _gpu_text(value)
    if re.fullmatch(_BYTES, text):
        raise Fault(f"{quoted(text)} is memory of a GPU, which cannot be asked for", "name the GPU: write H100:8")
    if not text.strip() or re.fullmatch(_TIMES, text):
        raise Fault(f"{quoted(text)} names no GPUs", "write H100:8")
    gpus = parse_gpus(text)
    if not 1 <= gpus.count <= MAX_GPUS:
        raise Fault(f"{gpus.count} GPUs per node are out of range", f"write 1 to {MAX_GPUS}; for none leave gpus out")
    return gpus


def _gpu_text(value: Plain) -> str:
    if isinstance(value, dict) and {"name", "count"} & set(value):
        odd = sorted(set(value) - {"name", "count"})
        if odd:
            raise Fault(f"{quoted(odd[0])} of a GPU cannot be asked for", "write {name: H100, count: 8}")
        parts = [value[key] for key in ("name", "count") if value.get(key) is not None]
    elif isinstance(value, dict) and len(value) == 1:
        parts = [part for pair in value.items() for part in pair if part is not None]
    else:
        parts = [value]
    if not all(isinstance(part, str) and len(part) <= 64 for part in parts):
        raise Fault(f"must name GPUs, not {kind(value)}" if not isinstance(value, str) else "is too long to name GPUs")
    return ":".join(str(part) for part in parts)


def read_path(text: str) -> str:
    """Read a path of this machine, absolute or relative to the spec; nothing in it is expanded."""
    printable(text)
    if text.startswith(("~", "$")):
        raise Fault(f"{quoted(text)} would have to be expanded, which is not done", "write the path out")
    return text


def read_output(text: str) -> str:
    """Read a file or directory that comes back from the job's working directory."""
    read_path(text)
    if text.startswith("/") or ".." in text.split("/"):
        raise Fault(f"{quoted(text)} leaves the working directory", "write a path inside it, as in results/")
    return text


def read_image(text: str) -> str:
    """Read an image: a URL, a .sif or .def file, or a bare name on a registry, which becomes docker://."""
    printable(text)
    user, mark, host = text.rpartition("://")[2].partition("/")[0].rpartition("@")
    if mark and not (user and host.startswith("sha256:")):
        raise Fault("holds a user or a password; its text is not shown", "log in to the registry at the site")
    if text.startswith(_SCHEMES) and not re.search(r"\s", text) and not text.endswith("://"):
        return text
    if text.startswith(_MACHINE_IMAGES):
        raise Fault(f"{quoted(text)} is an image of a machine, not of a container")
    if "://" not in text and text.endswith((".sif", ".def")):
        return read_path(text)
    name = text.removeprefix("docker:")
    if re.fullmatch(_DOCKER, name):
        return f"docker://{name}"
    if re.fullmatch(_DOCKER, name.lower()) and "://" not in text:
        raise Fault(f"{quoted(text)} has capitals, which no registry has", f"write {name.lower()}")
    raise Fault(f"{quoted(text)} is no image", "write docker://, oras:// or library://, or a .sif or .def file")


def is_image_file(image: str) -> bool:
    """Tell whether an image is a file and not on a registry."""
    return "://" not in image


def read_bind(value: Plain) -> Bind:
    """Read `source:target` or `source:target:ro`, both absolute."""
    if not isinstance(value, str):
        raise Fault(f"must be text, not {kind(value)}: only directories of the node can be bound")
    if "://" in value:
        raise Fault(
            "names a bucket or a URL, which cannot be bound", "fetch it in setup, or bind a directory of the node"
        )
    printable(value)
    parts = value.split(":")
    if len(parts) not in (2, 3) or (len(parts) == 3 and parts[2] not in ("ro", "rw")):
        raise Fault(f"{quoted(value)} is no bind")
    for path in parts[:2]:
        if not path.startswith("/") or set(path) & set(',"\\'):
            raise Fault(f"{quoted(path)} cannot be bound: a path must be absolute, without comma, quote or backslash")
    return Bind(source=parts[0], target=parts[1], read_only=parts[2:] == ["ro"])


def read_env_name(text: str) -> str:
    """Read the name of an environment variable."""
    if not re.fullmatch(_ENV_NAME, text):
        raise Fault("is no name of a variable", "use letters, digits and '_', not a digit first")
    if text in KEPT_BY_BASH.split():
        raise Fault(f"{text} belongs to bash itself and cannot be set", "choose another name")
    return text


def read_env_value(value: Plain) -> str:
    """Read a variable's value as it was written: 08, no and 1e3 stay text."""
    if value is None:
        raise Fault("has no value", 'write NAME: "" for an empty one')
    if not isinstance(value, str):
        raise Fault(f"must be one value, not {kind(value)}")
    return value


def read_env_pair(text: str) -> tuple[str, str]:
    """Read `NAME=value`. The text is not repeated: it may hold a secret."""
    name, mark, value = text.partition("=")
    if not mark or not re.fullmatch(_ENV_NAME, name):
        raise Fault("must be NAME=value", "write [NAME=value], or the mapping {NAME: value}")
    return read_env_name(name), value


def read_secret(value: Plain) -> str:
    """Read a reference to a secret. Whatever else is written is never repeated."""
    if not isinstance(value, str) or not re.fullmatch(_REFERENCE, value):
        raise Fault("must be a reference, never the secret itself; the text is not shown")
    return value


def read_array(text: str) -> Array:
    """Read indices in Slurm's spelling: `0-99`, `1,4,7`, `0-99:5`, each with `%10` behind it."""
    indices, mark, throttle = text.replace(" ", "").partition("%")
    if indices.isdecimal():
        raise Fault(f"{text} would be one task with that index", f"write 0-{max(int(indices), 1) - 1} or {text}-{text}")
    ranges = [_range(part) for part in indices.split(",")]
    if sum(len(each) for each in ranges) > MAX_ARRAY_TASKS:
        raise Fault(f"has more than {MAX_ARRAY_TASKS:,} tasks", "make several arrays of it")
    tasks = len(set().union(*ranges)) if len(ranges) > 1 else len(ranges[0])
    if mark and not re.fullmatch(_THROTTLE, throttle):
        raise Fault(f"'%{throttle}' does not say how many tasks run at once")
    limit = int(throttle) if mark else None
    return Array(text=f"{indices}%{limit}" if limit else indices, tasks=tasks, throttle=limit)


def _range(part: str) -> range:
    match = re.fullmatch(_RANGE, part)
    if match is None:
        raise Fault(f"{quoted(part)} is no index or range")
    first, last, step = int(match[1]), int(match[2] or match[1]), int(match[3] or 1)
    if last < first or last > MAX_INDEX or step == 0:
        raise Fault(f"{quoted(part)} is out of range", f"indices rise, from 0 to {MAX_INDEX:,}")
    return range(first, last + 1, step)


def read_dependency(text: str) -> str:
    """Read a job that is waited for: a name, a token, a ref or a spec's file."""
    return str(printable(text))


def read_signal(text: str) -> str:
    """Read the signal that asks for a checkpoint, with or without SIG."""
    name = text.upper().removeprefix("SIG")
    if name not in _SIGNALS:
        raise Fault(f"{quoted(text)} is no signal that a job can catch for this", f"write {', '.join(_SIGNALS[:5])}")
    return name


def read_grace(text: str) -> Seconds:
    """Read how long before the end the signal comes."""
    seconds = parse_walltime(text)
    if seconds > MAX_GRACE:
        raise Fault(f"{quoted(text)} is out of range", f"Slurm takes at most {MAX_GRACE}s")
    return seconds


def read_worth(text: str) -> UsdPerHour:
    """Read what an hour of waiting is worth."""
    return parse_price(text)


def read_cost(text: str) -> Usd:
    """Read a ceiling for the whole job."""
    if "/" in text:
        raise Fault(f"{quoted(text)} is a rate; the ceiling is for the whole job")
    try:
        return Usd(parse_price(text))
    except ValueError:
        raise Fault(f"{quoted(text)} is no amount", "write 500 USD") from None


def read_deadline(text: str) -> float:
    """Read a moment with its zone, in seconds since the epoch."""
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise Fault(f"{quoted(text)} is no date and time") from None
    if moment.tzinfo is None:
        raise Fault(f"{quoted(text)} names no time zone", "write 2026-12-01T09:00+09:00, or Z for UTC")
    return moment.timestamp()

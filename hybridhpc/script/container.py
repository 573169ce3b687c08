"""Containers: image and binds become an Apptainer or Singularity command line. Words only; nothing is pulled here."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

from hybridhpc.model import Bind
from hybridhpc.values import dataclass

DEFINITION = "image.def"
"""Where the definition file of an image is looked for first, in the job's directory; then where the spec says."""

_REFERENCE = re.compile(r"(docker|oras|library|shub|https?)://.+")
_UNSAFE_IN_NAMES = re.compile(r"[^A-Za-z0-9._-]+")
# apptainer reads --bind as comma-separated values of colon-separated parts (1.4; pflag's StringSlice).
_UNSAFE_IN_BINDS = re.compile(r"[:,\"\\\r\n]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """Where an image comes from. With `verb` set it is made into one file, once, before anything runs in it."""

    source: str
    """What apptainer is to read: a file, a directory or a reference."""
    verb: str = ""
    """pull, build, or nothing: it is used as it is."""
    file: str = ""
    """Name of the file that is pulled; one that is built is called by the digest of its definition."""


def find_image(image: str, image_dir: str | None) -> Image:
    """Tell what must happen to an image before use. Without a directory for images a reference is used as it is.

    Raises ValueError if it is none.
    """
    if not image.strip():
        raise ValueError("the image has no name; write docker://..., a .sif, a .def, or leave it out")
    if image.endswith(".def"):
        return Image(source=image, verb="build")
    if _REFERENCE.fullmatch(image):
        return Image(source=image, verb="pull", file=_file_name(image)) if image_dir else Image(source=image)
    return Image(source=f"./{image}" if image.startswith("-") else image)


def container_words(runtime: str, binds: Iterable[Bind], *, gpus: bool) -> tuple[str, ...]:
    """Return `apptainer exec` with its options, up to but without the image. `gpus`: the node's are made visible.

    Raises ValueError for a path that cannot be bound.
    """
    words = [runtime, "exec", *(["--nv"] if gpus else [])]
    for bind in binds:
        words += ["--bind", _bind_word(bind)]
    return tuple(words)


def _bind_word(bind: Bind) -> str:
    for path in (bind.source, bind.target):
        if not path.startswith("/"):
            raise ValueError(f"bind {path!r} must be an absolute path")
        if _UNSAFE_IN_BINDS.search(path):
            raise ValueError(f'bind {path!r}: apptainer cannot bind a path with : , " \\ or a line break in it')
    return f"{bind.source}:{bind.target}" + (":ro" if bind.read_only else "")


def _file_name(reference: str) -> str:
    """Return a name for the file of a reference: readable, and different for different references."""
    readable = _UNSAFE_IN_NAMES.sub("_", reference.partition("://")[2])[:80].lstrip("._-")
    return f"{readable}-{hashlib.sha256(reference.encode()).hexdigest()[:12]}.sif"

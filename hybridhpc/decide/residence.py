"""Which data that may not leave a job names. Pure; in doubt it names it, since a miss would send data abroad.

Paths are compared part by part, after `.`, `..` and doubled slashes. What a part of a path could be counts: a pattern,
a variable. Of what is not written in the job nothing is known: a variable that the site sets, links at another machine.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable, Iterator
from fnmatch import fnmatchcase

from hybridhpc.model import JobSpec, Script, Work
from hybridhpc.sites.site import Site
from hybridhpc.values import dataclass

Parts = tuple[str, ...]
_BETWEEN = re.compile(r"[\s'\"`;|&<>(),=:\\{}]+")
_ALTERNATIVES = re.compile(r"(?<!\$)\{[^{}\s]*,[^{}\s]*\}")
_ORNAMENT = re.compile(r"^(?:-+[A-Za-z0-9](?=[/~$.@]))?[@%+#!^]*")
_BRACED = re.compile(r"\$\{(\w+)[^}]*\}?")
_VARIABLE = re.compile(r"\$\w*")
_HOME = re.compile(r"~[\w.-]*|\$HOME(?!\w)")
_OWN = re.compile(r"\$(?:HPC_\w+|TMPDIR|SLURM_TMPDIR)(?!\w)")
"""A job's own directories."""
_LOGIN = re.compile(r"\$(?:USER|LOGNAME)")
_HOMES = frozenset({"home", "homes", "user", "users", "u"})
"""Directories of homes, in lower case."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A directory whose data may not leave, who holds it, and the words by which a job names it."""

    directory: str
    holders: frozenset[str]
    said: str


def resident(spec: JobSpec, sites: Iterable[Site]) -> tuple[Kept, ...]:
    """Return the directories a job names whose data may not leave."""
    holders: dict[str, set[str]] = {}
    for site in sites:
        for directory in site.resident_data:
            holders.setdefault(_normal(directory), set()).add(site.name)
    found = []
    for directory, held in sorted(holders.items()):
        said = _said(spec, directory) or (directory if directory in spec.leads_to else "")
        if said:
            found.append(Kept(directory=directory, holders=frozenset(held), said=said))
    return tuple(found)


def leaves(kept: Iterable[Kept], site: Site) -> str:
    """Say which data would leave if the job went to a site; empty if none."""
    for each in kept:
        if site.name not in each.holders:
            doubt = "" if each.said == each.directory else f"{each.said}, which may be in or around "
            holders = " or ".join(sorted(each.holders))
            return f"it names {doubt}{each.directory}, whose data may not leave {holders} (resident_data)"
    return ""


def led_to(spec: JobSpec, sites: Iterable[Site], home: str, real: Callable[[str], str]) -> tuple[str, ...]:
    """Return the directories to which a path of the job leads on this machine: by its links, or below `home`.

    `real` returns the path behind all links, and a path that is not there as it is.
    """
    directories = {_normal(directory) for site in sites for directory in site.resident_data}
    if not directories:
        return ()
    words = {_HOME.sub(lambda _: home, word, count=1) if _HOME.match(word) else word for word in _words(spec)}
    named = {word for word in words if word.startswith("/")}
    behind = {real(word) for word in named if not re.search(r"[*?\[$]", word)}
    paths = [parts for path in behind | named if (parts := _parts(path))]
    return tuple(
        sorted(
            each
            for each in directories
            if any(_meets(path, _parts(place)) for path in paths for place in {each, real(each)})
        )
    )


def _said(spec: JobSpec, directory: str) -> str:
    """Return the words of a job that may mean a directory, or one around it; empty if none do."""
    if "/" in (posixpath.normpath(path) for path in _roots(spec)):
        return "/"
    target = _parts(directory)
    named = [word for word in _words(spec) if _names(word, target)]
    certain = any(word.startswith("/") and _parts(word)[: len(target)] == target for word in named)
    return directory if certain else named[0] if named else ""


def _roots(spec: JobSpec) -> Iterator[str]:
    """Yield what a job is given as a whole."""
    if isinstance(spec.payload, Work):
        yield from (bind.source for bind in spec.payload.binds)
        yield spec.payload.workdir or "."


def _words(spec: JobSpec) -> Iterator[str]:
    """Yield all that could be a path in what a job says."""
    for text in _texts(spec):
        plain = re.sub(r"['\"\\]|=~", "", text)
        plain = _BRACED.sub(r"$\1", plain)
        for each in (text, plain, _ALTERNATIVES.sub("*", plain)):
            for word in _BETWEEN.split(each):
                if word and (path := _ORNAMENT.sub("", word)):
                    yield path


def _names(word: str, target: Parts) -> bool:
    """Whether a word may mean a directory, what is in it, or one around it."""
    if word.startswith("/"):
        parts = _parts(word)
        return bool(parts) and _meets(parts, target)
    if found := _HOME.match(word):
        return _below_home(_parts(word[found.end() :]), target)
    if _OWN.match(word):
        return False
    if word.startswith(("$", "..")):
        return _below_unknown(_parts(word.partition("/")[2]), target)
    return False


def _below_home(rest: Parts, target: Parts) -> bool:
    """Whether a path below some home may meet a directory: only one that is in a home may be met."""
    homes = [at + 2 for at, part in enumerate(target) if part.lower() in _HOMES and at + 2 <= len(target)]
    return any(_meets(rest, target[at:]) for at in homes)


def _below_unknown(rest: Parts, target: Parts) -> bool:
    """Whether a path below an unknown directory may meet another: if it goes on as that one ends."""
    first = 0 if len(target) > 1 else 1
    return any(len(rest) >= len(target) - at and _meets(rest, target[at:]) for at in range(first, len(target)))


def _meets(parts: Parts, target: Parts) -> bool:
    """Whether one of two paths is, or lies in, the other, as far as their parts can be told."""
    return all(_may_be(parts, at, target) for at in range(min(len(parts), len(target))))


def _may_be(parts: Parts, at: int, target: Parts) -> bool:
    part = parts[at]
    if _LOGIN.fullmatch(part):
        in_home = at > 0 and target[at - 1].lower() in _HOMES
        return in_home or at + 1 < min(len(parts), len(target))
    return part == target[at] or fnmatchcase(target[at], _VARIABLE.sub("*", part))


def _normal(path: str) -> str:
    return "/" + "/".join(_parts(path))


def _parts(path: str) -> Parts:
    """Divide a path, without `.`, and with `..` taken for what it is where no link leads elsewhere."""
    normal = posixpath.normpath("/" + path.lstrip("/"))
    return tuple(part for part in normal.split("/") if part)


def _texts(spec: JobSpec) -> Iterator[str]:
    yield from (value for row in (spec.points.rows if spec.points else ()) for value in row)
    payload = spec.payload
    if isinstance(payload, Script):
        yield from (payload.content.decode("utf-8", "replace"), payload.path, payload.chdir or "", *payload.args)
        yield from payload.flags
        return
    yield from (payload.run, payload.setup, payload.workdir or "", payload.image or "")
    yield from (bind.source for bind in payload.binds)
    yield from (value for _, value in payload.env)
    yield from (value or "" for _, value in payload.slurm)
    yield payload.checkpoint.directory if payload.checkpoint else ""

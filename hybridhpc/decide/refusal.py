"""Why a job cannot run somewhere, and the changes that would remove the reason: in words, and made.

A change is made on the spec, so that whoever proposes it can judge what comes of it (decide/nearest.py).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from hybridhpc.decide.spelling import spelled, spelled_cpus, spelled_gpus, spelled_memory, spelled_nodes, spelled_time
from hybridhpc.model import Array, Gpus, JobSpec, Mebibytes, Seconds
from hybridhpc.sites.site import Site
from hybridhpc.values import dataclass

OF_THE_JOB, OF_NAMES, OF_PLACES = 1, 10, 100
"""How much a change takes: a figure of the job; a name such as its account; where it may go, or a site file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One change of what a person wrote. Of two with the same `what` the later one replaces the earlier."""

    what: str
    words: str
    spec: JobSpec
    """As it is then."""
    site: Site | None = None
    """As its file describes it then; None: as now."""
    effort: int = OF_THE_JOB


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why a job cannot run somewhere; each of `ways` would remove this reason, the best one first."""

    reason: str
    ways: tuple[Change, ...] = ()
    doubtful: bool = False
    """The scheduler may know better: if its start estimate accepts the job, this reason falls away."""


def ways(*changes: Change | None) -> tuple[Change, ...]:
    """Return the changes that there are."""
    return tuple(change for change in changes if change is not None)


def to_time(spec: JobSpec, seconds: int) -> Change:
    """Give the job a shorter walltime."""
    words = f"{spelled_time(spec, seconds)} or less"
    return Change(what="time", words=words, spec=_with(spec, walltime=Seconds(seconds), unlimited=False))


def to_nodes(spec: JobSpec, count: int) -> Change | None:
    """Give the job fewer nodes; None if there are none, or if a script's other figures hang on their number."""
    words = spelled_nodes(spec, count)
    one = _with(spec, nodes=count, most_nodes=None)
    return Change(what="nodes", words=words, spec=one) if words and count > 0 else None


def to_most_nodes(spec: JobSpec, most: int) -> Change | None:
    """Let a range of nodes end earlier; None if nothing is left of it, or if other figures hang on their number."""
    least = spec.resources.nodes
    words = spelled_nodes(spec, least, most)
    return Change(what="nodes", words=words, spec=_with(spec, most_nodes=most)) if words and most >= least else None


def to_gpus(spec: JobSpec, gpus: Gpus, *, fewer: bool) -> Change | None:
    """Give the job other GPUs per node, or `fewer`; None if there are none, or if its script counts them in all."""
    words = spelled_gpus(spec, gpus) + (" or fewer" if fewer else "")
    one = _with(spec, gpus=(gpus,))
    return Change(what="gpus", words=words, spec=one) if spelled_gpus(spec, gpus) and gpus.count > 0 else None


def to_cpus(spec: JobSpec, count: int) -> Change | None:
    """Give the job fewer CPUs per node; None if there are none, or if its script counts them by tasks."""
    words = spelled_cpus(spec, count)
    one = _with(spec, cpus=count)
    return Change(what="cpus", words=f"{words} or fewer", spec=one) if words and count > 0 else None


def to_memory(spec: JobSpec, mebibytes: int) -> Change | None:
    """Give the job less memory per node; None if there is none, or if its script counts it by CPUs or GPUs."""
    words = spelled_memory(spec, mebibytes)
    one = _with(spec, memory=Mebibytes(mebibytes))
    return Change(what="memory", words=f"{words} or less", spec=one) if words and mebibytes > 0 else None


def to_indices(spec: JobSpec, limit: int) -> Change | None:
    """Give an array indices below a limit."""
    if limit < 1 or spec.array is None:
        return None
    array = Array(text=f"0-{limit - 1}", tasks=limit, throttle=spec.array.throttle)
    return Change(what="array", words=f"array indices up to {limit - 1}", spec=replace(spec, array=array))


def to_name(spec: JobSpec, kind: str, names: Iterable[str]) -> Change | None:
    """Let the job name any of these instead: an account, a QOS, a partition."""
    found = tuple(names)
    if not found:
        return None
    words = spelled(spec, kind, " or ".join(found[:3]))
    changed = replace(spec, native=replace(spec.native, **{kind: found[0]}))
    return Change(what=kind, words=words, spec=changed, effort=OF_NAMES)


def without_names(spec: JobSpec, kinds: Iterable[str]) -> Change:
    """Let the job name none of these."""
    given = {kind: getattr(spec.native, kind) for kind in kinds}
    words = " and ".join(f"no {spelled(spec, kind, value)}" for kind, value in given.items())
    changed = replace(spec, native=replace(spec.native, **dict.fromkeys(given)))
    return Change(what="names", words=words, spec=changed, effort=OF_NAMES)


def to_place(spec: JobSpec, place: str, words: str = "") -> Change:
    """Send the job to a place by its name. The flag holds, whatever the spec says."""
    changed = replace(spec, where=(place,))
    return Change(what="where", words=f"--where={place}{words}", spec=changed, effort=OF_PLACES)


def without_exclusion(spec: JobSpec, entries: Iterable[str]) -> Change:
    """Leave exclusions out of `where`."""
    left_out = tuple(entries)
    kept = tuple(entry for entry in spec.where if entry not in left_out) or ("auto",)
    words = f"no {' and no '.join(left_out)} in where"
    return Change(what="where", words=words, spec=replace(spec, where=kept), effort=OF_PLACES)


def in_site_file(spec: JobSpec, what: str, words: str, site: Site, sure: str = ", if that is so") -> Change:
    """Have a site's file say what may be true."""
    return Change(what=what, words=f"`{words}` in the site file{sure}", spec=spec, site=site, effort=OF_PLACES)


def _with(spec: JobSpec, **asked: object) -> JobSpec:
    return replace(spec, resources=replace(spec.resources, **asked))  # type: ignore[arg-type]

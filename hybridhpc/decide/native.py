"""What only some sites have: partitions, accounts, QOS, features, reservations, licences, nodes by name.

A job that names one fits a site that has it or maps it in its site file. What cannot be seen is said, not guessed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from hybridhpc.decide.profile import split_names
from hybridhpc.decide.spelling import OPTIONS, spelled
from hybridhpc.model import JobSpec, Native
from hybridhpc.schedulers.slurm_text import parse_hosts
from hybridhpc.sites.site import Site
from hybridhpc.sites.snapshot import Node, QueuePartition
from hybridhpc.values import dataclass

_WORDS = {"qos": "QOS", "licenses": "licences", "nodelist": "nodes by name"}
_INVISIBLE = ("reservation", "licenses", "cluster")
"""No snapshot shows these: the site file, an explicit `where` or the scheduler itself must vouch for them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why a job cannot run somewhere; `would_admit` is the one change that would remove this reason."""

    reason: str
    would_admit: str | None = None
    doubtful: bool = False
    """The scheduler may know better: if its start estimate accepts the job, this reason falls away."""


def own_name(site: Site, kind: str, word: str) -> str | None:
    """Return what a site's file calls a foreign name; None if it does not say."""
    return next((own for known, foreign, own in site.names if (known, foreign) == (kind, word)), None)


def named(native: Native) -> dict[str, str]:
    """Return what a job names, by kind."""
    return {kind: value for kind in Native.__slots__ if (value := getattr(native, kind))}


def on_slurm(
    spec: JobSpec, site: Site, partition: QueuePartition, known: Iterable[str], explicit: bool
) -> tuple[list[Refusal], list[str]]:
    """Return why the names of a job do not fit a partition, and what could not be seen.

    `known` are the site's partitions; `explicit` says that the person named this site in `where`.
    """
    native = spec.native
    found = [_partition(native, site, partition, known)]
    notes: list[str] = []
    defaults = {"account": site.account_for(partition.name), "qos": site.qos_for(partition.name)}
    for kind, allowed in (("account", partition.allowed_accounts), ("qos", partition.allowed_qos)):
        value, word = getattr(native, kind), defaults[kind]
        own = (own_name(site, kind, value) or value) if value else word
        if own and allowed and own.lower() not in {name.lower() for name in allowed}:
            found.append(_not_admitted(spec, kind, own, partition.name, allowed))
        elif value and not allowed and own_name(site, kind, value) is None:
            notes.append(f"{_word(kind)} {value} could not be checked")
    for kind in _INVISIBLE:
        value = getattr(native, kind)
        if not value or own_name(site, kind, value) is not None or value == site.name:
            continue
        if explicit:
            notes.append(f"{_word(kind)} {value} could not be checked")
        else:
            found.append(_unknown(kind, value, site.name))
    return [refusal for refusal in found if refusal is not None], notes


def on_here(spec: JobSpec, site: Site, partition: str) -> list[Refusal]:
    """Return why the names of a job do not fit the embedded site, which has none of these things."""
    native = spec.native
    given = {kind: value for kind, value in named(native).items() if own_name(site, kind, value) is None}
    if partition in split_names(native.partition or ""):
        given.pop("partition", None)
    if not given:
        return []
    options = [spelled(spec, kind, value) for kind, value in given.items()]
    near = " and ".join(f"no {option}" for option in options)
    kinds = ", ".join(_word(kind) + ("" if kind in ("qos", "licenses", "nodelist") else "s") for kind in given)
    return [Refusal(reason=f"{site.name} has no {kinds}; the job names {' and '.join(options)}", would_admit=near)]


def with_features(native: Native, site: Site, nodes: tuple[Node, ...]) -> tuple[Node, ...]:
    """Return the nodes that a job's constraint admits: words joined by | and &; brackets and counts are ignored."""
    if not native.constraint:
        return nodes
    text = re.sub(r"\*\d+|[\[\]()\s]", "", own_name(site, "constraint", native.constraint) or native.constraint)
    ways = [[word for word in re.split("[&,]", way) if word] for way in text.split("|")]
    wanted = [{own_name(site, "constraint", word) or word for word in way} for way in ways]
    return tuple(node for node in nodes if any(way <= set(node.features) for way in wanted))


def missing_nodes(native: Native, site: Site, nodes: tuple[Node, ...]) -> tuple[str, ...]:
    """Return the nodes a job names that are not among these."""
    if not native.nodelist:
        return ()
    have = {node.name for node in nodes}
    return tuple(name for name in node_names(native, site) if name not in have)


def node_names(native: Native, site: Site) -> tuple[str, ...]:
    """Return the nodes a job names, in full."""
    if not native.nodelist:
        return ()
    return parse_hosts(own_name(site, "nodelist", native.nodelist) or native.nodelist)


def _word(kind: str) -> str:
    return _WORDS.get(kind, kind)


def _partition(native: Native, site: Site, partition: QueuePartition, known: Iterable[str]) -> Refusal | None:
    if not native.partition:
        return None
    wanted = {own_name(site, "partition", name) or name for name in split_names(native.partition)}
    if partition.name in wanted:
        return None
    there = sorted(known)
    reason = f"the job names partition {native.partition}"
    if wanted.isdisjoint(there):
        reason += f", which {site.name} does not have (it has {', '.join(there)})"
    return Refusal(reason=reason, would_admit=f"{OPTIONS['partition']}={partition.name}")


def _not_admitted(spec: JobSpec, kind: str, own: str, partition: str, allowed: tuple[str, ...]) -> Refusal:
    return Refusal(
        reason=f"{_word(kind)} {own} may not use partition {partition} (it admits {', '.join(allowed)})",
        would_admit=spelled(spec, kind, " or ".join(allowed[:3])),
    )


def _unknown(kind: str, value: str, site: str) -> Refusal:
    return Refusal(
        reason=f"nothing says that {site} has {_word(kind)} {value}",
        would_admit=f"--where={site}, or `names: {{{kind}: {{{value}: {value}}}}}` in its site file",
        doubtful=True,
    )

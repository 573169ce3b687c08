"""What only some sites have: partitions, accounts, QOS, features, reservations, licences, nodes, options of plugins.

A job that names one fits a site that has it or maps it in its site file. What cannot be seen is said, not guessed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

from hybridhpc.decide.profile import split_names
from hybridhpc.decide.refusal import Refusal, in_site_file, to_name, to_place, ways, without_names
from hybridhpc.decide.spelling import spelled
from hybridhpc.decide.waits import asked_of
from hybridhpc.model import JobSpec, Native
from hybridhpc.schedulers.lists import parse_hosts
from hybridhpc.sites.plugins import as_listed, entries_for, lacking
from hybridhpc.sites.site import Site
from hybridhpc.sites.snapshot import Node, QueuePartition

_WORDS = {"qos": "QOS", "licenses": "licences", "nodelist": "nodes by name"}
_INVISIBLE = ("reservation", "licenses", "cluster")
"""No snapshot shows these: the site file, an explicit `where` or the scheduler itself must vouch for them."""


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
    found = [_partition(spec, site, partition, known), _plugins(spec, site)]
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
            found.append(_unknown(spec, kind, value, site))
    return [refusal for refusal in found if refusal is not None], notes


def on_here(spec: JobSpec, site: Site, partition: str) -> list[Refusal]:
    """Return why the names of a job do not fit the embedded site, which has none of these things."""
    native = spec.native
    found = [refusal for refusal in (_plugins(spec, site), _waits(spec, site)) if refusal]
    given = {kind: value for kind, value in named(native).items() if own_name(site, kind, value) is None}
    if partition in split_names(native.partition or ""):
        given.pop("partition", None)
    if not given:
        return found
    options = [spelled(spec, kind, value) for kind, value in given.items()]
    kinds = ", ".join(_word(kind) + ("" if kind in ("qos", "licenses", "nodelist") else "s") for kind in given)
    reason = f"{site.name} has no {kinds}; the job names {' and '.join(options)}"
    return [*found, Refusal(reason=reason, ways=(without_names(spec, given),))]


def _waits(spec: JobSpec, site: Site) -> Refusal | None:
    """Refuse options that would be passed over here: the job would run at once."""
    asked = asked_of(spec)
    options = [f"--{name}={value}" for name in ("begin", "dependency") if (value := getattr(asked, name))]
    if not options:
        return None
    return Refusal(
        reason=f"{site.name} is no Slurm, and would start it at once for all that it asks for: {' and '.join(options)}"
    )


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


def _partition(spec: JobSpec, site: Site, partition: QueuePartition, known: Iterable[str]) -> Refusal | None:
    native = spec.native
    if not native.partition:
        return None
    wanted = {own_name(site, "partition", name) or name for name in split_names(native.partition)}
    if partition.name in wanted:
        return None
    there = sorted(known)
    reason = f"the job names partition {native.partition}"
    if wanted.isdisjoint(there):
        reason += f", which {site.name} does not have (it has {', '.join(there)})"
    return Refusal(reason=reason, ways=ways(to_name(spec, "partition", (partition.name,))))


def _plugins(spec: JobSpec, site: Site) -> Refusal | None:
    """Refuse what only a plugin takes that a site does not have, for all that its file says."""
    missing = lacking(site.plugin_options, spec.plugin_options)
    if not missing:
        return None
    asked = ", ".join(f"--{name}" for name, _ in missing)
    if site.scheduler == "here":
        return Refusal(reason=f"{site.name} has no plugins of Slurm; the job asks for {asked}")
    listed = entries_for(missing)
    them = "it" if len(missing) == 1 else "them"
    reason = f"{site.name} does not take {asked}: plugin_options in {site.file} does not list {them}"
    having = replace(site, plugin_options=(*site.plugin_options, *as_listed(missing)))
    return Refusal(reason=reason, ways=(in_site_file(spec, "plugin_options", f"plugin_options: [{listed}]", having),))


def _not_admitted(spec: JobSpec, kind: str, own: str, partition: str, allowed: tuple[str, ...]) -> Refusal:
    return Refusal(
        reason=f"{_word(kind)} {own} may not use partition {partition} (it admits {', '.join(allowed)})",
        ways=ways(to_name(spec, kind, allowed)),
    )


def _unknown(spec: JobSpec, kind: str, value: str, site: Site) -> Refusal:
    vouched = f", or `names: {{{kind}: {{{value}: {value}}}}}` in its site file"
    return Refusal(
        reason=f"nothing says that {site.name} has {_word(kind)} {value}",
        ways=(to_place(spec, site.name, vouched),),
        doubtful=True,
    )

"""The text of site files to sites. A file that cannot be used becomes an InvalidSite; the others still work."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from hybridhpc.document import Document, read_document
from hybridhpc.errors import Problem, in_order
from hybridhpc.readers import Fault, choice
from hybridhpc.sites.options import Judge, WithPlugins, take_all
from hybridhpc.sites.plugins import readable_options
from hybridhpc.sites.schema import BEHIND_SSH, BUILT_IN, read_site_name, site_form
from hybridhpc.sites.site import InvalidSite, Partition, Price, Site

_PRICES = {"gpu_price": "per_gpu", "node_price": "per_node", "cpu_price": "per_cpu"}


Added = Callable[[str], Sequence[str]]
"""Returns the names that other packages add to `scheduler` or `transport`."""


def _none(_: str) -> Sequence[str]:
    return ()


def parse_site(text: bytes, path: str, judge: Judge = take_all, added: Added = _none) -> Site | InvalidSite:
    """Read a site file, whose stem is the site's name if it gives none. Never raises: InvalidSite has all problems.

    `judge` says which native options there are. `added` is asked where a name is none of ours.
    """
    stem = posixpath.splitext(posixpath.basename(path))[0]
    document = read_document(text, path)
    if plugin_options := readable_options(document.root.get("plugin_options")):
        judge = WithPlugins(judge=judge, options=plugin_options)
    values, problems = site_form(judge).check(document, document.root, {}) if document.complete else ({}, [])
    problems = [*document.problems, *problems, *_unknown(document, added)]
    if not problems:
        problems = [*_stem_problems(document, stem), *_contradictions(document, values)]
    if problems:
        return InvalidSite(name=stem, file=path, problems=in_order(problems))
    lines = tuple((str(key[0]), line) for key, line in document.lines.items() if len(key) == 1)
    return replace(_site(values, stem, path), lines=lines)


def _stem_problems(document: Document, stem: str) -> list[Problem]:
    if document.root.get("name") is not None:
        return []
    try:
        read_site_name(stem)
    except ValueError as error:
        return [
            document.problem(("name",), f"is not given, and the file's name does not serve: {error}", "write name: dgx")
        ]
    return []


def _unknown(document: Document, added: Added) -> Iterator[Problem]:
    """Find schedulers and transports that nobody brings."""
    for key, ours in BUILT_IN.items():
        name = document.root.get(key)
        if isinstance(name, str) and name not in ours:
            try:
                choice(*ours, *added(key))(name)
            except Fault as fault:
                yield document.problem((key,), str(fault), fault.hint)


def _contradictions(document: Document, values: dict[str, Any]) -> list[Problem]:
    """Find keys that are right alone and wrong together."""
    transport, scheduler = values.get("transport", _default_transport(values)), values.get("scheduler", "slurm")
    found = []
    if transport == "local":
        found += [
            document.problem((key,), "is not used by transport: local", "write transport: openssh")
            for key in ("host", "ssh_config", "renew")
            if key in values
        ]
    if transport in BEHIND_SSH and "host" not in values:
        found.append(document.problem(("transport",), f"{transport} needs a host", "write host: login.example.org"))
    if transport != "local" and scheduler == "here":
        found.append(
            document.problem(("transport",), "scheduler: here runs on this machine only", "leave transport out")
        )
    if scheduler == "here" and "plugin_options" in values:
        found.append(
            document.problem(("plugin_options",), "are Slurm's; scheduler: here has no plugins", "leave it out")
        )
    if values.get("name", "") == "here" and scheduler != "here":
        found.append(document.problem(("name",), "'here' is this machine without a scheduler", "write another name"))
    for key in ("gres", "gpu_memory", "gpu_speed"):
        found += _twice(document, key, [word for word, _ in values.get(key, ())])
    if values.get("only_listed") and not values.get("partitions"):
        found.append(document.problem(("only_listed",), "lists no partition, so nothing could run", "list partitions"))
    return found


def _twice(document: Document, key: str, words: list[str]) -> list[Problem]:
    """Find GPUs that stand twice: their case does not matter."""
    first: dict[str, str] = {}
    return [
        document.problem((key, word), f"means the same as {first[word.lower()]!r}", "keep one of them")
        for word in words
        if first.setdefault(word.lower(), word) != word
    ]


def _default_transport(values: dict[str, Any]) -> str:
    """Return how a site is reached that does not say: docs/decisions/0005-openssh-by-default.md."""
    return "openssh" if "host" in values else "local"


def _site(values: dict[str, Any], stem: str, path: str) -> Site:
    source = f"site file {posixpath.basename(path)}"
    price = _price(values, source) or Price()
    partitions = tuple(_partition(name, entry, price, source) for name, entry in values.pop("partitions", {}).items())
    given = {key: value for key, value in values.items() if key not in _PRICES}
    return Site(
        **{"name": stem, "scheduler": "slurm", "transport": _default_transport(values), **given},
        file=path,
        partitions=partitions,
        price=price,
    )


def _partition(name: str, entry: dict[str, Any], default: Price, source: str) -> Partition:
    given = {key: value for key, value in entry.items() if key not in _PRICES}
    return Partition(name=name, price=_price(entry, source) or default, **given)


def _price(values: dict[str, Any], source: str) -> Price | None:
    """Return the price that is written here; a partition that gives any part of one gives all of it."""
    parts = {part: values[key] for key, part in _PRICES.items() if key in values}
    return Price(**parts, source=source) if parts else None

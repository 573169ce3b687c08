"""The text of a first site file: what the scheduler told, and what only a person knows as comments."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence

from hybridhpc.here.machine import gpu_kind
from hybridhpc.sites.plugins import PluginOptions, entries
from hybridhpc.sites.site import Site
from hybridhpc.sites.snapshot import Node, Snapshot

_PLAIN = r"[A-Za-z/][A-Za-z0-9_./-]*"
_WRITABLE = r"[^\s,/:]{1,64}"
"""Names of partitions that a site file can hold."""
_MOST_KINDS = 4
_SLICE = re.compile(r"\d+g\.\d+gb", re.IGNORECASE)
"""A part of a GPU (MIG), as in a100_1g.5gb, is no such GPU."""


def site_text(name: str, draft: Site, answer: Snapshot, plugin_options: PluginOptions = ()) -> str:
    """Return the text of a site file for a Slurm that was asked as `draft` says: on this machine, or behind ssh."""
    way = ["transport: local", *([f"slurm_conf: {_word(draft.slurm_conf)}"] if draft.slurm_conf else [])]
    if draft.host:
        own = [f"ssh_config: {_word(draft.ssh_config)}"] if draft.ssh_config else []
        way = [f"transport: {draft.transport}", f"host: {_word(draft.host)}", *own]
    lines = [
        f"# Site file of {name}; docs/sites.md has every key. `hpc check` looks at it, `hpc sites` asks the site.",
        f"name: {name}",
        "scheduler: slurm",
        *way,
        "# Where jobs have their directories: must be visible from the login node and from every compute node.",
        "job_root: ~/.hybridhpc/jobs",
        *_gres(answer.nodes),
        *_plugins(plugin_options),
        "# What an hour costs is not known here. A partition without a price counts as free, and hpc check says so:",
        "# put in your own figure and take away the #.",
        "partitions:",
    ]
    for partition in answer.partitions:
        if not re.fullmatch(_WRITABLE, partition.name):
            continue
        lines += _partition(partition.name, answer.nodes_of(partition.name))
    return "\n".join(lines) + "\n"


def _plugins(options: PluginOptions) -> Iterator[str]:
    if options:
        yield "# Options that SPANK plugins add to its sbatch, with = where they take an argument."
        yield f"plugin_options: [{entries(options)}]"


def _partition(name: str, nodes: Sequence[Node]) -> Iterator[str]:
    kinds = Counter(_spelled(node) for node in nodes)
    for kind, count in kinds.most_common(_MOST_KINDS):
        yield f"  # {count} {'node' if count == 1 else 'nodes'}: {kind}"
    yield f"  {_word(name)}:"
    if any(node.gpus for node in nodes):
        yield "    # gpu_price: 1.00 USD/h  # who takes CPUs alone pays for the GPUs that this blocks"
    else:
        yield "    # node_price: 1.00 USD/h"


def _spelled(node: Node) -> str:
    gpus = f", {node.gpus} GPUs {node.gpu_kind or ''}".rstrip() if node.gpus else ""
    return f"{node.cpus} CPUs, {node.memory / 1024:.0f} GiB{gpus}"


def _word(text: str) -> str:
    return text if re.fullmatch(_PLAIN, text) else json.dumps(text)


def _gres(nodes: Sequence[Node]) -> Iterator[str]:
    """Map people's words for GPUs to the scheduler's where they differ by more than the capitals of the former."""
    kinds = sorted({node.gpu_kind for node in nodes if node.gpu_kind})
    if not kinds:
        return
    mapped = dict(_mapped(kinds))
    plain = [kind for kind in kinds if kind not in mapped.values()]
    if plain:
        yield f"# GPUs that specs ask for by this name, in any case: {', '.join(plain)} (`gpus: {plain[0]}:1`)."
    if mapped:
        yield "# Your words for GPUs, and the scheduler's."
        yield "gres:"
        yield from (f"  {_word(word)}: {_word(kind)}" for word, kind in mapped.items())


def _mapped(kinds: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield a word for each kind whose own name does not serve. A word that could mean two of them means none."""
    words = {kind: gpu_kind(kind.replace("_", " ")).upper() for kind in kinds if not _SLICE.search(kind)}
    for kind in kinds:
        word = words.get(kind, "")
        alone = list(words.values()).count(word) == 1
        if alone and word and word.lower() != kind:
            yield word, kind
        elif kind != kind.lower():
            yield kind, kind

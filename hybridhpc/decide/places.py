"""Whom `where` and `residency` admit: a reason for every no. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from hybridhpc.decide.candidate import Candidate
from hybridhpc.decide.refusal import Change, Refusal, in_site_file, to_place, without_exclusion
from hybridhpc.model import JobSpec, Mebibytes
from hybridhpc.sites.site import USUAL_SPEED, Site
from hybridhpc.sites.snapshot import Node
from hybridhpc.spec.places import CLOUD, ONPREM, Comparison, admitting, parse_comparison

NOT_NAMED, LEFT_OUT = "not named in where", "left out by where"
"""How the reasons begin why a place that the person does not want is refused."""
_AT_HOME = ("onprem", "here")
"""Providers whose nodes are one's own."""


def labels_of(candidate: Candidate) -> frozenset[str]:
    """Return the labels of a candidate: its site's, and `cloud` or `onprem`.

    A partition whose nodes are bought is in the cloud wherever its Slurm is.
    """
    site = candidate.site
    bought = site.provider not in _AT_HOME or candidate.purchase != "owned"
    return frozenset({*site.labels, CLOUD if bought else ONPREM})


def is_named(entry: str, candidate: Candidate) -> bool:
    """Whether a word of `where` names the candidate itself, not by a label."""
    return entry in (candidate.site.name, f"{candidate.site.name}/{candidate.partition}", candidate.name)


def misplaced(spec: JobSpec, candidate: Candidate, nodes: Sequence[Node]) -> list[Refusal]:
    """Return why a job may not go to a candidate, whatever it could run there; `nodes` are those it might get."""
    found = [*_residency(spec, candidate), *_unplaced(spec, candidate)]
    for entry in spec.where:
        comparison = parse_comparison(entry)
        if comparison is not None and (refusal := _compared(spec, entry, comparison, candidate, nodes)):
            found.append(refusal)
    return found


def may_go(spec: JobSpec, site: Site) -> bool:
    """Whether a job may go to some partition of a site that did not say which it has."""
    listed = [partition.name for partition in site.partitions]
    named = [entry.partition("/")[2] for entry in spec.where if entry.startswith(f"{site.name}/")]
    names = [*listed, *(named if site.only_listed else [*named, "any"])]
    possible = [
        Candidate(site=site, partition=name, purchase=site.partition(name).purchase, gpus=None) for name in names
    ]
    return any(not [*_residency(spec, each), *_unplaced(spec, each)] for each in possible)


def _unplaced(spec: JobSpec, candidate: Candidate) -> Iterator[Refusal]:
    """Yield why the places of `where` do not admit a candidate."""
    place = f"{candidate.site.name}/{candidate.partition}"
    left_out = [entry for entry in spec.where if entry.startswith("!") and _matches(entry[1:], candidate)]
    wanted = admitting(spec.where)
    if left_out:
        yield Refusal(reason=f"{LEFT_OUT}: {left_out[0]}", ways=(without_exclusion(spec, left_out),))
    elif wanted and not any(_matches(entry, candidate) for entry in wanted):
        yield Refusal(reason=f"{NOT_NAMED}: {', '.join(spec.where)}", ways=(to_place(spec, place),))
    elif candidate.site.only_listed and candidate.partition not in {each.name for each in candidate.site.partitions}:
        yield Refusal(reason=f"the site file of {candidate.site.name} does not list this partition (only_listed)")


def _matches(entry: str, candidate: Candidate) -> bool:
    return entry == "auto" or is_named(entry, candidate) or entry in labels_of(candidate)


def _residency(spec: JobSpec, candidate: Candidate) -> Iterator[Refusal]:
    wanted, site = spec.residency, candidate.site
    if wanted is None or wanted in labels_of(candidate):
        return
    if wanted in (ONPREM, CLOUD):
        why = f"{candidate.name} is {CLOUD if wanted == ONPREM else ONPREM}"
        yield Refusal(reason=f"its data may not leave (residency: {wanted}), and {why}")
    else:
        why = f"{site.name} has no label {wanted}"
        labelled = replace(site, labels=(*site.labels, wanted))
        change = in_site_file(spec, "labels", f"labels: [{wanted}]", labelled)
        yield Refusal(reason=f"its data may not leave (residency: {wanted}), and {why}", ways=(change,))


def _compared(
    spec: JobSpec, entry: str, comparison: Comparison, candidate: Candidate, nodes: Sequence[Node]
) -> Refusal | None:
    """Judge the GPUs that the job would get: of the kind it names, else every kind among the nodes."""
    site = candidate.site
    known = dict(_figures(site, comparison.figure))
    asked = candidate.gpus.kind if candidate.gpus else None
    kinds = [asked] if asked else sorted({node.gpu_kind or "" for node in nodes if node.gpus > 0})
    if not kinds:
        return Refusal(reason=f"{entry}: partition {candidate.partition} has no GPUs")
    for kind in kinds:
        figure = known.get(kind.lower())
        told = (_told(spec, site, comparison, kind),) if figure is None and kind else ()
        if figure is None and comparison.figure == "gpu-memory":
            reason = f"{entry}: the site file of {site.name} does not say so of {kind or 'its GPUs'}"
            return Refusal(reason=reason, ways=told)
        if not comparison.holds(USUAL_SPEED if figure is None else figure):
            said = f"has {comparison.spelled(figure)}" if figure is not None else "counts as 1: no gpu_speed names it"
            return Refusal(reason=f"{entry}: {kind or 'any GPU'} {said}", ways=told)
    return None


def _told(spec: JobSpec, site: Site, comparison: Comparison, kind: str) -> Change:
    """Have the site file tell a figure of a GPU, as an example one that will do."""
    key = comparison.figure.replace("-", "_")
    figure = comparison.value * {">": 2.0, "<": 0.5}.get(comparison.sign, 1.0)
    if comparison.figure == "gpu-memory":
        told = replace(site, gpu_memory=((kind, Mebibytes(int(figure))), *site.gpu_memory))
    else:
        told = replace(site, gpu_speed=((kind, figure), *site.gpu_speed))
    return in_site_file(spec, key, f"{key}: {{{kind}: {comparison.spelled(figure)}}}", told)


def _figures(site: Site, figure: str) -> Iterator[tuple[str, float]]:
    """Yield memory or speed by the person's word and by the scheduler's, in lower case."""
    table: Sequence[tuple[str, float]] = site.gpu_memory if figure == "gpu-memory" else site.gpu_speed
    for kind, value in table:
        yield kind.lower(), float(value)
        yield site.native_gpu(kind).lower(), float(value)

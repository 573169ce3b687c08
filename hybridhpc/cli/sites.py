"""hpc sites: what there is, and what it does now."""

from __future__ import annotations

import click

from hybridhpc import probe
from hybridhpc.cli._context import json_option, new_client
from hybridhpc.cli._output import prose, say, show_json, table
from hybridhpc.model import JobState
from hybridhpc.sites.site import InvalidSite, Site
from hybridhpc.sites.snapshot import NO_PARTITIONS, QueuePartition, Silence, Snapshot


@click.command()
@click.option("--accuracy", is_flag=True, help="Show how good the forecasts were: 90 % of outcomes lie by their p90.")
@json_option
def command(accuracy: bool, as_json: bool) -> None:
    """Ask every site, and show its partitions, nodes, GPUs and queue. A silent site costs one line.

    With --accuracy: for each partition how many forecasts have met their outcome (+ those overdue), the share of
    outcomes at or below p90, and the median error of p50, for starts and for run times.

    Example: hpc sites --json
    """
    client = new_client()
    if accuracy:
        from hybridhpc.cli._accuracy import accuracy_json, accuracy_table

        show_json(accuracy_json(client)) if as_json else say(accuracy_table(client))
        return
    answers = probe.survey(client.usable_sites, client.env, client.clock)
    found = [_site_json(site, answers) for site in client.sites]
    if as_json:
        show_json(found)
        return
    header = ("SITE", "PARTITION", "NODES IDLE/ALL", "GPUS IDLE/ALL", "PENDING", "RUNNING")
    say(table(header, [row for site in found for row in _rows(site)], right=frozenset({2, 3, 4, 5})))
    for site in found:
        for line in _remarks(site):
            say(prose(line))


def _remarks(site: dict[str, object]) -> list[str]:
    """Return what the table does not show of a site: why it is silent, what cannot be seen there."""
    name, unseen = site["site"], site["unseen"]
    if site["error"]:
        return [f"{name}: {site['error']}", *([f"  {site['fix']}"] if site["fix"] else [])]
    nothing = [] if site["partitions"] else [f"{name}: {NO_PARTITIONS}", "  `hpc check` looks for the reason"]
    return nothing + ([f"{name}: unseen: {', '.join(unseen)}"] if isinstance(unseen, list) and unseen else [])


def _site_json(site: Site | InvalidSite, answers: dict[str, Snapshot | Silence]) -> dict[str, object]:
    """Return the stable keys of `hpc sites --json`."""
    answer = answers.get(site.name)
    if isinstance(answer, Snapshot):
        partitions = [_partition_json(partition, answer) for partition in answer.partitions]
        unseen = list(answer.unseen)
        return {"site": site.name, "ok": True, "error": "", "fix": "", "partitions": partitions, "unseen": unseen}
    error = str(site.problems[0]) if isinstance(site, InvalidSite) else answer.why if answer else "was not asked"
    fix = answer.fix if answer else ""
    if isinstance(site, InvalidSite) and len(site.problems) > 1:
        fix = f"`hpc check` lists all {len(site.problems)} problems"
    return {"site": site.name, "ok": False, "error": error, "fix": fix, "partitions": [], "unseen": []}


def _partition_json(partition: QueuePartition, snapshot: Snapshot) -> dict[str, object]:
    nodes = snapshot.nodes_of(partition.name)
    free = [node for node in nodes if node.usable]
    lines = [job.line for job in snapshot.jobs if partition.name in job.line.partition.split(",")]
    return {
        "name": partition.name,
        "nodes_total": len(nodes),
        "nodes_idle": sum(node.cpus_alloc == 0 for node in free),
        "gpus_total": sum(node.gpus for node in nodes),
        "gpus_idle": sum(node.gpus - node.gpus_alloc for node in free),
        "pending_jobs": sum(line.tasks for line in lines if line.state is JobState.PENDING),
        "running_jobs": sum(line.state is JobState.RUNNING for line in lines),
    }


def _rows(site: dict[str, object]) -> list[list[str]]:
    partitions = site["partitions"]
    if not isinstance(partitions, list) or not partitions:
        return [[str(site["site"]), "-", "-", "-", "-", "-"]]
    return [
        [
            str(site["site"]),
            part["name"],
            f"{part['nodes_idle']}/{part['nodes_total']}",
            f"{part['gpus_idle']}/{part['gpus_total']}",
            str(part["pending_jobs"]),
            str(part["running_jobs"]),
        ]
        for part in partitions
    ]

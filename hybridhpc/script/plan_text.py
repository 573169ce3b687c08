"""A Plan as text and back: what the ledger keeps of an intent, and what `hpc plan --json` may show."""

from __future__ import annotations

import base64
import json
from typing import Any

from hybridhpc.command import StagedFile
from hybridhpc.model import Gpus, Mebibytes, Resources, Seconds
from hybridhpc.script.plan import Plan
from hybridhpc.script.spec_text import parse_spec_values, render_spec

_PLAIN = (
    "name",
    "site",
    "partition",
    "usd_per_hour",
    "script_path",
    "cwd",
    "workdir",
    "hold",
    "marker",
    "tasks",
    "waits",
)
_LISTS = ("options", "args", "outputs", "notes")


def render_plan(plan: Plan) -> str:
    """Write a Plan as JSON; bytes as base64."""
    document: dict[str, Any] = {key: getattr(plan, key) for key in _PLAIN + _LISTS}
    document["script"] = _render_bytes(plan.script)
    document["staged"] = [[file.path, _render_bytes(file.content), file.executable] for file in plan.staged]
    document["secrets"] = plan.secrets
    document["resources"] = render_resources(plan.resources)
    if plan.spec is not None:
        document["spec"] = render_spec(plan.spec)
    return json.dumps(document, separators=(",", ":"))


def parse_plan(text: str) -> Plan:
    """Read what render_plan wrote, an older one without today's newest fields too.

    Raises ValueError or KeyError if it is something else.
    """
    document: dict[str, Any] = json.loads(text)
    fields: dict[str, Any] = {key: document[key] for key in _PLAIN if key in document}
    fields |= {key: tuple(document[key]) for key in _LISTS if key in document}
    return Plan(
        **fields,
        script=base64.b64decode(document["script"]),
        staged=tuple(
            StagedFile(path=path, content=base64.b64decode(content), executable=executable)
            for path, content, executable in document["staged"]
        ),
        secrets=tuple((name, reference) for name, reference in document.get("secrets", ())),
        resources=parse_resources(document["resources"]),
        spec=parse_spec_values(document["spec"]) if "spec" in document else None,
    )


def render_resources(resources: Resources) -> dict[str, Any]:
    """Return what a person asked for as plain values."""
    return {
        "nodes": resources.nodes,
        "gpus": [[gpus.kind, gpus.count] for gpus in resources.gpus],
        "cpus": resources.cpus,
        "memory": resources.memory,
        "walltime": resources.walltime,
        "whole_nodes": resources.whole_nodes,
    }


def parse_resources(document: dict[str, Any]) -> Resources:
    """Read what render_resources gave."""
    memory, walltime = document["memory"], document["walltime"]
    return Resources(
        nodes=document["nodes"],
        gpus=tuple(Gpus(kind=kind, count=count) for kind, count in document["gpus"]),
        cpus=document["cpus"],
        memory=None if memory is None else Mebibytes(memory),
        walltime=None if walltime is None else Seconds(walltime),
        whole_nodes=document["whole_nodes"],
    )


def _render_bytes(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")

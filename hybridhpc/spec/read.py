"""An sbatch script taken as it is becomes a JobSpec: what routing needs of it, the rest untouched."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from hybridhpc.errors import UsageError
from hybridhpc.model import Gpus, JobSpec, Resources, Script
from hybridhpc.sites.plugins import Asked, PluginOptions
from hybridhpc.spec.sbatch import Components, default_name, merge, parse_flags, parse_script
from hybridhpc.spec.sbatch_options import BY_NAME
from hybridhpc.spec.sbatch_routing import RoutingView, routing


def read_script(
    content: bytes,
    path: str,
    *,
    flags: Sequence[str] = (),
    args: Sequence[str] = (),
    env: Mapping[str, str],
    plugins: PluginOptions = (),
) -> JobSpec:
    """Read a script with the options of the command line before it, and sbatch's own precedence among them.

    `plugins` are the options that plugins of any site add.

    Raises SpecError with every problem, UsageError if it asks not to be submitted.
    """
    script = parse_script(content, path, args=args, plugins=plugins)
    merged = merge(script, flags=parse_flags(flags, plugins=plugins), environment=env)
    views = [routing(options, script) for options in merged]
    if any(view.test_only for view in views):
        raise UsageError(
            "the script asks for --test-only: nothing would be submitted", hint="hpc plan shows where it would run"
        )
    first = views[0]
    return JobSpec(
        name=first.name or default_name(path),
        file=path,
        digest=hashlib.sha256(content).hexdigest(),
        resources=_together([_resources(view) for view in views]),
        payload=Script(
            content=content,
            path=path,
            args=tuple(args),
            flags=tuple(flags),
            hold=first.hold,
            waits=first.waits,
            output=first.output,
            error=first.error,
            chdir=first.chdir,
            asked=tuple((option.name, option.value or "") for option in merged[0]),
            calls_slurm=_slurm_command(content),
        ),
        array=first.array,
        native=first.native,
        plugin_options=_of_plugins(merged),
    )


def _of_plugins(merged: Components) -> Asked:
    """Return what the components ask of plugins: the options that are not sbatch's own."""
    asked = (option for options in merged for option in options if option.name not in BY_NAME)
    return tuple({(option.name, option.value): None for option in asked})


def _slurm_command(content: bytes) -> str:
    """Return the first command of Slurm's that a script seems to call; words in comments do not count."""
    found = re.search(rb"(?m)^(?!\s*#).*?\b(srun|sbcast|scontrol|squeue|sattach|sbatch|salloc)\b", content)
    return found.group(1).decode() if found else ""


def _resources(view: RoutingView) -> Resources:
    return Resources(
        nodes=view.nodes,
        gpus=_gpus(view),
        cpus=view.cpus,
        memory=view.memory,
        whole_nodes=view.exclusive == "exclusive",
        walltime=view.walltime,
        unlimited=view.unlimited,
        most_nodes=view.most_nodes if (view.most_nodes or 0) > view.nodes else None,
        spread=view.most_nodes is None,
        approximate=bool(view.approximate),
    )


def _gpus(view: RoutingView) -> tuple[Gpus, ...]:
    """Return the GPUs of one node. Several types at once are counted together: no site is chosen by their mixture."""
    if len(view.gpus) > 1:
        return (Gpus(count=sum(count for _, count in view.gpus)),)
    return tuple(Gpus(kind=kind, count=count) for kind, count in view.gpus)


def _together(components: list[Resources]) -> Resources:
    """Return what a heterogeneous job takes: the nodes of all components, each as large as the largest."""
    if len(components) == 1:
        return components[0]
    largest = max(components, key=lambda component: (component.gpus_per_node, component.cpus or 0))
    least = sum(component.nodes for component in components)
    most = sum(component.most_nodes or component.nodes for component in components)
    return replace(largest, nodes=least, most_nodes=most if most > least else None, spread=False, approximate=True)

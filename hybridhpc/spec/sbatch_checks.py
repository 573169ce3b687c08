"""Which arguments sbatch itself refuses, option by option and release by release, and which options exclude each other.

What only the controller or the site can judge (names, times of day, --dependency, frequencies) is not judged here, so
that nothing is refused which some sbatch would take.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from hybridhpc.readers import quoted
from hybridhpc.spec.sbatch_getopt import Option
from hybridhpc.spec.sbatch_options import RELEASES, Release
from hybridhpc.spec.sbatch_values import (
    parse_array,
    parse_count,
    parse_gpus,
    parse_gres,
    parse_memory,
    parse_nodes,
    parse_time,
    parse_tres_per_task,
    parse_whole,
)
from hybridhpc.values import dataclass

Check = Callable[[str], object]


def value_problem(option: Option, release: Release | None) -> str | None:
    """Return why sbatch refuses an option's argument, or None; with no release named, why every release does."""
    check = _CHECKS.get(option.name)
    if check is None or option.value is None:
        return None
    try:
        check(option.value)
    except ValueError as error:
        return str(error)
    if release is not None:
        return next((rule.why for rule in _LATER if rule.concerns(option) and release < rule.since), None)
    return None


def _shaped(pattern: str, say: str) -> Check:
    shape = re.compile(pattern, re.ASCII | re.IGNORECASE | re.DOTALL)

    def check(text: str) -> None:
        if shape.fullmatch(text) is None:
            raise ValueError(f"{quoted(text)} is not what sbatch takes; write {say}")

    return check


_MAIL = "NONE|BEGIN|END|FAIL|REQUEUE|ALL|INVALID_DEPEND|STAGE_OUT|TIME_LIMIT|TIME_LIMIT_90|TIME_LIMIT_80|TIME_LIMIT_50"
_SIGNALS = "HUP|INT|QUIT|ABRT|KILL|ALRM|TERM|USR1|USR2|URG|CONT|STOP|TSTP|TTIN|TTOU|XCPU|PIPE|CHLD"
_SIXTEEN_BITS = r"\s*(?:[0-5]?\d{1,4}|6[0-4]\d{3}|65[0-4]\d\d|655[0-2]\d|6553[0-5])"
_LAYOUT = r"(?:\*|block|cyclic)(?::(?:\*|block|cyclic|fcyclic)?){0,2}"
_HINT = "(?:compute_bound|memory_bound|multithread|nomultithread)"
_GRES_FLAG = "(?:disable-binding|enforce-binding|one-task-per-sharing|multiple-tasks-per-sharing|)"

_CHECKS: Mapping[str, Check] = {
    **dict.fromkeys(
        (
            "cores-per-socket",
            "cpus-per-gpu",
            "cpus-per-task",
            "mincpus",
            "ntasks",
            "ntasks-per-core",
            "ntasks-per-gpu",
            "ntasks-per-node",
            "ntasks-per-socket",
            "ntasks-per-tres",
            "sockets-per-node",
            "thread-spec",
            "threads-per-core",
        ),
        parse_count,
    ),
    **dict.fromkeys(("mem", "mem-per-cpu", "mem-per-gpu", "tmp"), parse_memory),
    **dict.fromkeys(("time", "time-min"), parse_time),
    **dict.fromkeys(("gpus", "gpus-per-node", "gpus-per-socket", "gpus-per-task"), parse_gpus),
    "acctg-freq": _shaped(r"(?:\d+|(?:task|energy|network|filesystem)=\d+|)(?:,(?:\d+|[a-z]+=\d+|))*", "task=30"),
    "array": parse_array,
    "core-spec": lambda text: text and parse_whole(text),
    "delay-boot": parse_time,
    "distribution": _shaped(
        rf"{_LAYOUT}(?:,(?:pack|nopack)?)?|(?:no)?pack|arbitrary|plane=\s*[1-9]\d*", "block, cyclic or plane=4"
    ),
    "exclusive": _shaped("(?:user|mcs|topo|exclusive)?", "--exclusive, --exclusive=user, =mcs or =topo"),
    "extra-node-info": _shaped(r"(?:\*|\d+(?:-\d+)?)(?::(?:\*|\d+(?:-\d+)?|)){0,3}", "sockets:cores:threads"),
    "get-user-env": _shaped(r"-?\d*[sl]?\d*", "--get-user-env, or a number of seconds and S or L"),
    "gres": parse_gres,
    "gres-flags": _shaped(rf"{_GRES_FLAG}(?:,{_GRES_FLAG})*", "disable-binding or enforce-binding"),
    "hint": _shaped(rf"{_HINT}(?:,{_HINT})*", "compute_bound, memory_bound, multithread or nomultithread"),
    "kill-on-invalid-dep": _shaped("yes|no", "yes or no"),
    "mail-type": _shaped(rf"(?:.*,)?(?:{_MAIL}|ARRAY_TASKS)(?:,.*)?", "BEGIN, END, FAIL, ALL or NONE"),
    "mem-update": _shaped(r"\d+@.+", "a margin in per cent and a delay, as in 10@5"),
    "no-kill": _shaped("(?:off|no|set)?", "--no-kill, or --no-kill=off"),
    "nodes": parse_nodes,
    "oom-kill-step": _shaped("[01]?", "0 or 1"),
    "open-mode": _shaped("[at].*", "append or truncate"),
    "requeue": _shaped("(?:expedite)?", "--requeue, or --requeue=expedite"),
    "resv-ports": lambda text: text and parse_whole(text),
    "priority": _shaped(r"\s*(?!-).*", "a number, or TOP"),
    "segment": _shaped(r"\d*", "a number of nodes"),
    "signal": _shaped(
        rf"(?:(?:B|R|RB|BR):)?\s*(?:(?!0)\+?{_SIXTEEN_BITS}|(?:SIG)?(?:{_SIGNALS}))\s*(?:@(?:{_SIXTEEN_BITS})?)?",
        "USR1@60",
    ),
    "switches": _shaped(r"\s*\+?0*[1-9]\d*(?:@.*)?", "2, or 2@10 to wait at most 10 minutes"),
    "tres-per-task": parse_tres_per_task,
    "wait-all-nodes": _shaped(r"(?:\s*\+?0*[01]?)?", "0 or 1"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _LaterForm:
    """A form of argument that only later releases take."""

    option: str
    form: str
    since: Release
    why: str

    def concerns(self, option: Option) -> bool:
        return option.name == self.option and re.fullmatch(self.form, option.value or "", re.IGNORECASE) is not None


_LATER = (
    _LaterForm(
        option="nodes", form=".*[,:].*", since=(23, 2), why="lists and steps of sizes exist from Slurm 23.02 on"
    ),
    _LaterForm(option="exclusive", form="topo", since=(24, 5), why="topo exists from Slurm 24.05 on"),
    _LaterForm(option="signal", form=".*(?:PIPE|CHLD).*", since=(23, 11), why="has no name before Slurm 23.11"),
    _LaterForm(option="gres-flags", form=".*(?:-sharing|,).*|", since=(23, 11), why="exists from Slurm 23.11 on"),
)

MEMORY = ("mem", "mem-per-cpu", "mem-per-gpu")

_EXCLUDE: tuple[tuple[str, str, Release], ...] = (
    ("exclusive", "oversubscribe", (23, 2)),
    ("ntasks-per-gpu", "gpus-per-task", (20, 11)),
    ("ntasks-per-gpu", "ntasks-per-node", (20, 11)),
    ("bb", "bbf", (20, 11)),
    ("core-spec", "thread-spec", (21, 8)),
    ("cpus-per-gpu", "cpus-per-task", (21, 8)),
)
"""Two options that sbatch refuses together, from that release on."""

_NEED: tuple[tuple[str, tuple[str, ...]], ...] = (("gpus-per-socket", ("sockets-per-node", "extra-node-info")),)
"""An option that sbatch refuses unless one of the others is given too."""


def without_yielding(given: Mapping[str, Option], release: Release | None) -> dict[str, Option]:
    """Drop what the environment says where a rival of it was given otherwise: memory always, CPUs from 23.11 on."""
    kept = dict(given)
    said = {name for name, option in given.items() if option.origin != "environment"}
    if said & set(MEMORY):
        for name in set(MEMORY) - said:
            kept.pop(name, None)
    if "cpus-per-task" in said and "cpus-per-gpu" not in said and (release or RELEASES[-1]) >= (23, 11):
        kept.pop("cpus-per-gpu", None)
    return kept


def contradictions(given: Mapping[str, Option], release: Release | None) -> list[tuple[Option, str]]:
    """Find options that sbatch refuses together; with no release named, only what every release refuses.

    That numbers of GPUs, tasks and nodes do not divide is left for sbatch to say.
    """
    known = release or RELEASES[0]
    memory = [given[name] for name in MEMORY if name in given]
    found = [(option, f"cannot be combined with --{memory[0].name}") for option in memory[1:]]
    for one, other, since in _EXCLUDE:
        both = one in given and other in given and known >= since
        if both and not _from_environment(one, given[one], given[other]):
            found.append((given[one], f"cannot be combined with --{other}"))
    for name, needs in _NEED:
        if name in given and given[name].value not in ("0", "") and not any(need in given for need in needs):
            found.append((given[name], f"needs --{needs[0]} as well"))
    return found + _task_contradictions(given, known)


def _task_contradictions(given: Mapping[str, Option], release: Release) -> list[tuple[Option, str]]:
    """--tres-per-task names what other options may name as well, but not both."""
    if "tres-per-task" not in given:
        return []
    asked = {tres.name for tres in parse_tres_per_task(given["tres-per-task"].value or "")}
    rivals = [name for what, name, since in _PER_TASK if what in asked and name in given and release >= since]
    return [(given["tres-per-task"], f"cannot be combined with --{name}") for name in rivals]


_PER_TASK: tuple[tuple[str, str, Release], ...] = (
    ("cpu", "cpus-per-task", (24, 11)),
    ("cpu", "cpus-per-gpu", (24, 11)),
    ("gpu", "gpus-per-task", (23, 11)),
)


def _from_environment(name: str, one: Option, other: Option) -> bool:
    return name == "exclusive" and "environment" in (one.origin, other.origin)

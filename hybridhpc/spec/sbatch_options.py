"""The options of sbatch, Slurm 20.11 to 26.05, and the environment variables that stand for them: a table.

Names, arguments and releases were asked of the real programs 20.11.4, 21.08.5, 22.05.8, 23.11.4, 24.11.5, 25.11.2 and
26.05.5; what came between them (23.02, 24.05, 25.05) is from Slurm's change logs and source, not run.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

Release = tuple[int, int]
"""A release series: (22, 5) is every 22.05.x."""

RELEASES: tuple[Release, ...] = (
    (20, 11),
    (21, 8),
    (22, 5),
    (23, 2),
    (23, 11),
    (24, 5),
    (24, 11),
    (25, 5),
    (25, 11),
    (26, 5),
)


class Argument(Enum):
    """Whether an option has an argument; with OPTIONAL it is only taken when joined: `--nice=5`, `-koff`."""

    NONE = "none"
    REQUIRED = "required"
    OPTIONAL = "optional"


@dataclass(frozen=True, slots=True)
class Known:
    """One option: where it exists, whether it takes an argument, what becomes of it in heterogeneous jobs.

    Its first fields are positional for the table's sake.
    """

    name: str
    short: str = ""
    argument: Argument = Argument.REQUIRED
    kept: bool = False
    """Of a heterogeneous job: later components keep the value of an earlier one."""
    since: Release = RELEASES[0]
    until: Release = RELEASES[-1]
    missing: tuple[Release, ...] = ()
    changed: tuple[Release, Argument] | None = None
    """From that release on it takes this kind of argument."""
    means: str = ""
    """Another name that sbatch counts as this option."""

    def exists_in(self, release: Release) -> bool:
        """Tell whether sbatch of that release knows the option."""
        return self.since <= release <= self.until and release not in self.missing

    def argument_in(self, release: Release | None) -> Argument:
        """Tell whether it takes an argument; with no release named the most generous answer of any."""
        if self.changed is None or (release is not None and release < self.changed[0]):
            return self.argument
        return self.changed[1] if release is not None else Argument.OPTIONAL


def parse_release(version: str) -> Release:
    """Read `22.05`, `22.05.8` or `slurm-wlm 22.05.8` as the nearest known series at or before it.

    Raises ValueError if there is no version in it.
    """
    match = re.search(r"(\d+)\.(\d+)", version)
    if match is None:
        raise ValueError(f"{version!r} is no version of Slurm; write 22.05 or 22.05.8")
    asked = (int(match[1]), int(match[2]))
    return max((known for known in RELEASES if known <= asked), default=RELEASES[0])


def spell_release(release: Release) -> str:
    """Spell a series as Slurm does: 22.05."""
    return f"{release[0]}.{release[1]:02}"


_NONE, _OPTIONAL = Argument.NONE, Argument.OPTIONAL

OPTIONS: tuple[Known, ...] = (
    Known("account", "A", kept=True),
    Known("acctg-freq", kept=True),
    Known("array", "a", kept=True),
    Known("autocomplete", since=(23, 2)),
    Known("batch", kept=True),
    Known("bb"),
    Known("bbf", kept=True),
    Known("begin", "b", kept=True),
    Known("chdir", "D", kept=True),
    Known("cluster", kept=True, means="clusters"),
    Known("cluster-constraint", kept=True),
    Known("clusters", "M", kept=True),
    Known("comment", kept=True),
    Known("consolidate-segments", argument=_NONE, since=(25, 11)),
    Known("constraint", "C"),
    Known("container", kept=True, since=(21, 8)),
    Known("container-id", kept=True, since=(23, 2)),
    Known("container-type", kept=True, since=(26, 5)),
    Known("context", kept=True, since=(21, 8)),
    Known("contiguous", argument=_NONE),
    Known("core-spec", "S"),
    Known("cores-per-socket"),
    Known("cpu-freq"),
    Known("cpus-per-gpu"),
    Known("cpus-per-task", "c"),
    Known("deadline", kept=True),
    Known("delay-boot", kept=True),
    Known("dependency", "d", kept=True),
    Known("distribution", "m"),
    Known("error", "e", kept=True),
    Known("exclude", "x", kept=True),
    Known("exclusive", argument=_OPTIONAL),
    Known("export", kept=True),
    Known("export-file", kept=True, missing=((23, 11),)),
    Known("external", argument=_NONE, since=(25, 5)),
    Known("extra", kept=True, since=(23, 2)),
    Known("extra-node-info", "B"),
    Known("get-user-env", argument=_OPTIONAL, kept=True, changed=((25, 11), _NONE)),
    Known("gid", kept=True),
    Known("gpu-bind"),
    Known("gpu-freq"),
    Known("gpus", "G"),
    Known("gpus-per-node"),
    Known("gpus-per-socket"),
    Known("gpus-per-task"),
    Known("gres"),
    Known("gres-flags"),
    Known("help", "h", _NONE),
    Known("hint", kept=True),
    Known("hold", "H", _NONE, kept=True),
    Known("ignore-pbs", argument=_NONE, kept=True),
    Known("input", "i", kept=True),
    Known("job-name", "J", kept=True),
    Known("kill-on-invalid-dep", kept=True),
    Known("licenses", "L"),
    Known("mail-type"),
    Known("mail-user"),
    Known("mcs-label", kept=True),
    Known("mem", kept=True),
    Known("mem-bind"),
    Known("mem-per-cpu"),
    Known("mem-per-gpu"),
    Known("mem-update", kept=True, since=(26, 5)),
    Known("mincpus"),
    Known("network"),
    Known("nice", argument=_OPTIONAL, kept=True),
    Known("no-kill", "k", _OPTIONAL, kept=True),
    Known("no-requeue", argument=_NONE, kept=True),
    Known("nodefile", "F"),
    Known("nodelist", "w"),
    Known("nodes", "N"),
    Known("ntasks", "n"),
    Known("ntasks-per-core"),
    Known("ntasks-per-gpu"),
    Known("ntasks-per-node"),
    Known("ntasks-per-socket"),
    Known("ntasks-per-tres"),
    Known("oom-kill-step", argument=_OPTIONAL, kept=True, since=(24, 11)),
    Known("open-mode", kept=True),
    Known("output", "o", kept=True),
    Known("overcommit", "O", _NONE),
    Known("oversubscribe", "s", _NONE),
    Known("parsable", argument=_NONE, kept=True),
    Known("partition", "p"),
    Known("power", until=(23, 11)),
    Known("prefer", kept=True, since=(22, 5)),
    Known("priority", kept=True),
    Known("profile", kept=True),
    Known("propagate", argument=_OPTIONAL, kept=True),
    Known("qos", "q", kept=True),
    Known("quiet", "Q", _NONE, kept=True),
    Known("reboot", argument=_NONE, kept=True),
    Known("requeue", argument=_NONE, kept=True, changed=((25, 11), _OPTIONAL)),
    Known("reservation", kept=True),
    Known("resources", since=(25, 11)),
    Known("resv-ports", argument=_OPTIONAL, since=(24, 5)),
    Known("segment", since=(24, 5)),
    Known("signal", kept=True),
    Known("sockets-per-node"),
    Known("spread-job", argument=_NONE),
    Known("spread-segments", argument=_NONE, since=(25, 11)),
    Known("stepmgr", argument=_NONE, kept=True, since=(24, 5)),
    Known("switches"),
    Known("tasks-per-node", means="ntasks-per-node"),
    Known("test-only", argument=_NONE, kept=True),
    Known("thread-spec"),
    Known("threads-per-core"),
    Known("time", "t", kept=True),
    Known("time-min", kept=True),
    Known("tmp"),
    Known("tres-bind", since=(23, 2)),
    Known("tres-per-task", since=(23, 2)),
    Known("uid", kept=True),
    Known("usage", argument=_NONE),
    Known("use-min-nodes", argument=_NONE, kept=True),
    Known("verbose", "v", _NONE, kept=True),
    Known("version", "V", _NONE),
    Known("wait", "W", _NONE, kept=True),
    Known("wait-all-nodes", kept=True),
    Known("wckey", kept=True),
    Known("wrap"),
)

BY_NAME = {known.name: known for known in OPTIONS}
BY_SHORT = {known.short: known for known in OPTIONS if known.short}

ONE_SETTING = {"oversubscribe": "exclusive", "no-requeue": "requeue"}
"""Two options, one setting: whichever comes later counts."""


@dataclass(frozen=True, slots=True)
class Variable:
    """An environment variable that sbatch reads as if it were an option."""

    name: str
    option: str
    since: Release = RELEASES[0]


VARIABLES: tuple[Variable, ...] = (
    Variable("SBATCH_ACCOUNT", "account"),
    Variable("SBATCH_ARRAY_INX", "array"),
    Variable("SBATCH_ACCTG_FREQ", "acctg-freq"),
    Variable("SBATCH_BATCH", "batch"),
    Variable("SBATCH_BURST_BUFFER", "bb"),
    Variable("SBATCH_CLUSTER_CONSTRAINT", "cluster-constraint"),
    Variable("SBATCH_CLUSTERS", "clusters"),
    Variable("SLURM_CLUSTERS", "clusters"),
    Variable("SBATCH_CONSOLIDATE_SEGMENTS", "consolidate-segments", (25, 11)),
    Variable("SBATCH_CONSTRAINT", "constraint"),
    Variable("SBATCH_CONTAINER", "container", (21, 8)),
    Variable("SBATCH_CONTAINER_ID", "container-id", (23, 2)),
    Variable("SBATCH_CONTAINER_TYPE", "container-type", (26, 5)),
    Variable("SBATCH_CORE_SPEC", "core-spec"),
    Variable("SBATCH_CPU_FREQ_REQ", "cpu-freq"),
    Variable("SBATCH_CPUS_PER_GPU", "cpus-per-gpu"),
    Variable("SBATCH_DEBUG", "verbose"),
    Variable("SBATCH_DELAY_BOOT", "delay-boot"),
    Variable("SBATCH_DISTRIBUTION", "distribution"),
    Variable("SBATCH_ERROR", "error", (22, 5)),
    Variable("SBATCH_EXCLUSIVE", "exclusive"),
    Variable("SBATCH_EXPORT", "export"),
    Variable("SBATCH_GET_USER_ENV", "get-user-env"),
    Variable("SBATCH_GRES", "gres"),
    Variable("SBATCH_GRES_FLAGS", "gres-flags"),
    Variable("SBATCH_GPUS", "gpus"),
    Variable("SBATCH_GPU_BIND", "gpu-bind"),
    Variable("SBATCH_GPU_FREQ", "gpu-freq"),
    Variable("SBATCH_GPUS_PER_NODE", "gpus-per-node"),
    Variable("SBATCH_GPUS_PER_SOCKET", "gpus-per-socket"),
    Variable("SBATCH_GPUS_PER_TASK", "gpus-per-task"),
    Variable("SLURM_HINT", "hint"),
    Variable("SBATCH_HINT", "hint"),
    Variable("SBATCH_IGNORE_PBS", "ignore-pbs"),
    Variable("SBATCH_INPUT", "input", (22, 5)),
    Variable("SBATCH_JOB_NAME", "job-name"),
    Variable("SBATCH_MEM_BIND", "mem-bind"),
    Variable("SBATCH_MEM_PER_CPU", "mem-per-cpu"),
    Variable("SBATCH_MEM_PER_GPU", "mem-per-gpu"),
    Variable("SBATCH_MEM_PER_NODE", "mem"),
    Variable("SBATCH_NETWORK", "network"),
    Variable("SBATCH_NO_KILL", "no-kill"),
    Variable("SBATCH_NO_REQUEUE", "no-requeue"),
    Variable("SBATCH_OPEN_MODE", "open-mode"),
    Variable("SBATCH_OUTPUT", "output", (22, 5)),
    Variable("SBATCH_OVERCOMMIT", "overcommit"),
    Variable("SBATCH_PARTITION", "partition"),
    Variable("SBATCH_POWER", "power"),
    Variable("SBATCH_PROFILE", "profile"),
    Variable("SBATCH_QOS", "qos"),
    Variable("SBATCH_REQ_SWITCH", "switches"),
    Variable("SBATCH_REQUEUE", "requeue"),
    Variable("SBATCH_RESERVATION", "reservation"),
    Variable("SBATCH_SEGMENT_SIZE", "segment", (25, 5)),
    Variable("SBATCH_SIGNAL", "signal"),
    Variable("SBATCH_SPREAD_JOB", "spread-job"),
    Variable("SBATCH_SPREAD_SEGMENTS", "spread-segments", (25, 11)),
    Variable("SBATCH_THREAD_SPEC", "thread-spec"),
    Variable("SBATCH_THREADS_PER_CORE", "threads-per-core", (21, 8)),
    Variable("SBATCH_TIMELIMIT", "time"),
    Variable("SBATCH_TRES_BIND", "tres-bind", (23, 2)),
    Variable("SBATCH_TRES_PER_TASK", "tres-per-task", (23, 2)),
    Variable("SBATCH_USE_MIN_NODES", "use-min-nodes"),
    Variable("SBATCH_WAIT", "wait"),
    Variable("SBATCH_WAIT_ALL_NODES", "wait-all-nodes"),
    Variable("SBATCH_WCKEY", "wckey"),
)
"""In sbatch's own order: of two that stand for one option the later counts (SLURM_CLUSTERS, SBATCH_HINT).

SBATCH_WAIT4SWITCH is not here: it has no option of its own, being what follows the @ of --switches.
"""

"""What a Slurm site can do now: three questions, and their answers as a Snapshot. Pure.

Every list is asked for with fixed fields and the unit separator; nothing that strangers may word freely (job names,
comments, commands) is asked for, so nobody's job can disturb the answer about another's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from hybridhpc.command import Command, CommandResult
from hybridhpc.model import JobState, Mebibytes, Seconds
from hybridhpc.schedulers.base import SAME_CLOCK
from hybridhpc.schedulers.lists import MAX_HOSTS, count_indices, parse_hosts
from hybridhpc.schedulers.slurm_states import is_blocked, job_state, node_powered_down, node_usable
from hybridhpc.schedulers.slurm_text import (
    NOTHING,
    SEPARATOR,
    answered,
    fields_of,
    long_format,
    parse_amount,
    parse_count,
    parse_gpus,
    parse_limit,
    parse_time,
    parse_tres,
    pick,
    split_job_id,
)
from hybridhpc.sites.snapshot import Node, QueuedJob, QueueLine, QueuePartition, Snapshot

JOB_FIELDS = (
    "JobArrayID", "PriorityLong", "State", "Partition", "NumNodes", "NumCPUs", "tres-alloc", "tres-per-job",
    "tres-per-node", "tres-per-socket", "tres-per-task", "NumTasks", "TimeLimit", "StartTime", "NodeList", "Reason",
    "OverSubscribe", "Exclusive",
)  # fmt: skip
"""squeue(1) --Format. tres-alloc is what a pending job asks for, too; without accounting of gres/gpu it has no GPUs.

The first two are each job's own; in a long queue many say the same in all that follows, which is read once. Of a field
that it does not know squeue complains and leaves it empty (seen: Exclusive in 22.05 and 24.11).
"""

NODE_FIELDS = (
    "NodeHost", "Partition", "StateLong", "CPUsState", "Memory", "AllocMem", "Gres", "GresUsed", "Features",
    "Available", "Time",
)  # fmt: skip
"""sinfo(1) --Format. StateComplete would say more, but 20.11 does not have it."""

_ALIKE = JOB_FIELDS[2:]

FULL_LISTS = (("SLURM_BITSTR_LEN", "0"),)
"""squeue(1): without it the indices of an array are cut off after 64 characters."""

_QUIET_TERMINAL = (("TERM", "dumb"),)
"""scontrol reads its questions with readline, which may greet other terminals with an escape sequence."""

_SETTING = re.compile(r"(\w+)\s+= ?(.*)")
_CLOCK = re.compile(r"^Configuration data as of (\d{1,12})$", re.MULTILINE)
_ALL = ("ALL", "")
_WHOLE = ("NODE", "TOPO")


MOST_HOSTS = 20 * MAX_HOSTS
"""Nodes that all jobs of one answer may name together."""


def survey_commands() -> tuple[Command, ...]:
    """Return the questions: the queue, the nodes, the partitions' limits with the configuration."""
    jobs = ("squeue", "--all", "--local", "--noheader", f"--Format={long_format(JOB_FIELDS)}")
    nodes = ("sinfo", "--local", "--noheader", "--Node", f"--Format={long_format(NODE_FIELDS)}")
    return (
        Command(argv=jobs, env=FULL_LISTS),
        Command(argv=nodes),
        # Without arguments scontrol reads one question after another: two answers for one start.
        Command(argv=("scontrol", "--oneliner"), stdin=b"show partition\nshow config\n", env=_QUIET_TERMINAL),
    )


def parse_survey(site: str, answers: Sequence[CommandResult], now: float) -> Snapshot:
    """Read the answers, in that order. Raises SchedulerError if the queue or the nodes cannot be seen.

    Where scontrol is forbidden the partitions come from sinfo: without limits, and said so.
    """
    jobs, nodes, settings = answers
    lines = [pick(fields, NODE_FIELDS) for fields in fields_of(answered(nodes).text, len(NODE_FIELDS))]
    config = dict(_settings(settings.text))
    partitions = tuple(_partitions(settings.text, parse_amount(config.get("DefMemPerCPU", ""))))
    unseen = list(_unseen(config, settings, bool(partitions)))
    if jobs.truncated or nodes.truncated:
        unseen.append("part of the queue: the answer was too long")
    return Snapshot(
        site=site,
        taken_at=now,
        ahead=_ahead(settings.text, now),
        version=config.get("SLURM_VERSION", ""),
        partitions=partitions or tuple(_bare_partitions(lines)),
        nodes=tuple(_nodes(lines)),
        jobs=tuple(_jobs(answered(jobs).text)),
        max_array_size=parse_count(config.get("MaxArraySize", ""), 0) or None,
        unseen=tuple(unseen),
    )


def _ahead(text: str, now: float) -> float:
    """Return how far the controller's clock is ahead: it says what time it is there (seen: 22.05, 24.11, 26.05).

    What an answer may take on its way is no difference of clocks.
    """
    match = _CLOCK.search(text)
    ahead = float(match[1]) - now if match else 0.0
    return ahead if abs(ahead) > SAME_CLOCK else 0.0


def _settings(text: str) -> Iterator[tuple[str, str]]:
    """Yield the settings of `scontrol show config`; its partition lines have no blank before their `=`."""
    for line in text.split("\n"):
        match = _SETTING.fullmatch(line.rstrip())
        if match:
            yield match.group(1), match.group(2)


def _unseen(config: dict[str, str], settings: CommandResult, limits: bool) -> Iterator[str]:
    private = {word.strip().lower() for word in config.get("PrivateData", "").split(",")}
    if "jobs" in private or "all" in private:
        yield "other people's jobs: PrivateData=jobs"
    if "nodes" in private or "all" in private:
        yield "some nodes: PrivateData=nodes"
    if not limits:
        yield f"the limits of the partitions: {settings.complaint or 'scontrol named none'}"
    elif not config:
        yield f"the configuration, so perhaps other people's jobs: {settings.complaint or 'scontrol did not show it'}"


def _partitions(text: str, per_cpu: Mebibytes | None) -> Iterator[QueuePartition]:
    for line in text.split("\n"):
        if line.startswith("PartitionName="):
            words = dict(word.split("=", 1) for word in line.split() if "=" in word)
            yield _partition({name: "" if value in NOTHING else value for name, value in words.items()}, per_cpu)


def _partition(words: dict[str, str], per_cpu: Mebibytes | None) -> QueuePartition:
    """Read one partition; `per_cpu` is the cluster's default memory, for one that has none of its own."""
    own = parse_amount(words.get("DefMemPerCPU", ""))
    per_node = parse_amount(words.get("DefMemPerNode", ""))
    return QueuePartition(
        name=words["PartitionName"],
        up=words.get("State", "UP") == "UP",
        default=words.get("Default") == "YES",
        max_walltime=parse_limit(words.get("MaxTime", "")),
        default_walltime=parse_limit(words.get("DefaultTime", "")),
        max_nodes=parse_count(words.get("MaxNodes", ""), 0) or None,
        # OverSubscribe=EXCLUSIVE until 25.05 and Exclusive=NODE in 26.05; TOPO gives away whole nodes, too.
        exclusive=words.get("OverSubscribe") == "EXCLUSIVE" or words.get("Exclusive") in _WHOLE,
        default_memory_per_cpu=own or (None if per_node else per_cpu),
        allowed_accounts=_names(words.get("AllowAccounts", "")),
        allowed_qos=_names(words.get("AllowQos", "")),
    )


def _names(text: str) -> tuple[str, ...]:
    return () if text in _ALL else tuple(text.split(","))


def _bare_partitions(lines: Sequence[dict[str, str]]) -> Iterator[QueuePartition]:
    seen = set()
    for line in lines:
        name = line["Partition"].rstrip("*")
        if name and name not in seen:
            seen.add(name)
            yield QueuePartition(
                name=name,
                up=line["Available"] == "up",
                default=line["Partition"].endswith("*"),
                max_walltime=parse_limit(line["Time"]),
            )


def _nodes(lines: Sequence[dict[str, str]]) -> Iterator[Node]:
    """Yield each node once; sinfo prints it once for each of its partitions."""
    partitions: dict[str, list[str]] = {}
    first: dict[str, dict[str, str]] = {}
    for line in lines:
        name = line["NodeHost"]
        if name:
            first.setdefault(name, line)
            partitions.setdefault(name, []).append(line["Partition"].rstrip("*"))
    for name, line in first.items():
        yield _node(name, tuple(filter(None, partitions[name])), line)


def _node(name: str, partitions: tuple[str, ...], line: dict[str, str]) -> Node:
    cpus = [parse_count(word) for word in line["CPUsState"].split("/")]
    allocated, other, total = (cpus[0], cpus[2], cpus[3]) if len(cpus) == 4 else (0, 0, 0)
    gpus, used = parse_gpus(line["Gres"]), parse_gpus(line["GresUsed"])
    usable = node_usable(line["StateLong"]) and total > 0
    return Node(
        name=name,
        partitions=partitions,
        native_state=line["StateLong"],
        usable=usable,
        powered_down=node_powered_down(line["StateLong"]),
        cpus=total,
        # CPUs that are neither free nor allocated are out of use while the node itself may work.
        cpus_alloc=min(total, allocated + other) if usable else allocated,
        memory=parse_amount(line["Memory"]) or Mebibytes(0),
        memory_alloc=parse_amount(line["AllocMem"]) or Mebibytes(0),
        gpu_kind=gpus.kind if gpus else None,
        gpus=gpus.count if gpus else 0,
        gpus_alloc=min(used.count, gpus.count) if gpus and used else 0,
        features=tuple(filter(None, line["Features"].split(","))),
    )


def _jobs(text: str) -> Iterator[QueuedJob]:
    known: dict[tuple[str, str], QueueLine | None] = {}
    room = MOST_HOSTS
    for row in text.split("\n"):
        own = row.split(SEPARATOR, 2)
        job_id = split_job_id(own[0])
        if job_id is None or len(own) < 3:
            continue
        whole, part = job_id
        same = part, own[2]
        if same not in known:
            known[same] = made = _line(part, own[2], min(room, MAX_HOSTS))
            room -= len(made.node_names) if made else 0
        line = known[same]
        if line is not None:
            yield QueuedJob(job_id=whole + part, priority=parse_count(own[1]), line=line)


def _line(part: str, text: str, most_hosts: int) -> QueueLine | None:
    """Read what follows a job's id and priority; `part` is that of its id. None if it is no such record."""
    fields = next(fields_of(text, len(_ALIKE)), None)
    if fields is None:
        return None
    line = pick(fields, _ALIKE)
    state = job_state(line["State"])
    pending = state is JobState.PENDING
    tres = parse_tres(line["tres-alloc"])
    nodes = max(1, parse_count(line["NumNodes"], 1))
    gpus, kind = _gpus(line, nodes)
    start = parse_time(line["StartTime"])
    return QueueLine(
        partition=line["Partition"],
        state=state,
        nodes=nodes,
        cpus=max(1, parse_count(line["NumCPUs"], 1)),
        memory=parse_amount(tres.get("mem", "")) or Mebibytes(0),
        gpus=gpus,
        gpu_kind=kind,
        walltime=_walltime(line["TimeLimit"]),
        started_at=None if pending else start,
        start_estimate=start if pending else None,
        node_names=parse_hosts(line["NodeList"], most_hosts),
        reason=line["Reason"],
        tasks=count_indices(part[2:-1]) if pending and part.startswith("_[") else 1,
        whole=_is_whole(line),
        blocked=pending and is_blocked(line["Reason"]),
    )


def _is_whole(line: dict[str, str]) -> bool:
    """Whether a job gets whole nodes. Until 25.05 OverSubscribe says NO of such jobs alone, in 26.05 of most."""
    return line["Exclusive"] in _WHOLE if line["Exclusive"] else line["OverSubscribe"] == "NO"


def _walltime(text: str) -> Seconds | None:
    """Read squeue's time limit: never a bare number of minutes, but MM:SS, H:MM:SS or D-HH:MM:SS."""
    return parse_limit(text) if ":" in text else None


def _gpus(line: dict[str, str], nodes: int) -> tuple[int, str | None]:
    """Return the GPUs of a job over all its nodes, and their kind.

    What is allocated or asked in all is said only where gres/gpu is accounted; else it follows from the request.
    """
    tasks = max(1, parse_count(line["NumTasks"], 1))
    factors = {"tres-alloc": 1, "tres-per-job": 1, "tres-per-node": nodes, "tres-per-task": tasks,
               "tres-per-socket": nodes}  # fmt: skip
    found = {name: gpus for name in factors if (gpus := parse_gpus(line[name])) is not None and gpus.count}
    kind = next((gpus.kind for gpus in found.values() if gpus.kind), None)
    for name, gpus in found.items():
        return gpus.count * factors[name], kind
    return 0, None

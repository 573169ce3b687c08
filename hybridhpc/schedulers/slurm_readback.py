"""What submit-once.sh prints: the job's id, the job as Slurm now has it, and what the site made differently. Pure."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache

from hybridhpc.model import Seconds
from hybridhpc.schedulers.base import Submitted
from hybridhpc.schedulers.slurm_text import NOTHING, parse_count, parse_gpus, parse_limit, parse_time, parse_tres
from hybridhpc.units import format_walltime

_LONG = {"p": "partition", "A": "account", "q": "qos", "t": "time", "N": "nodes"}
_FIELDS = {"partition": "Partition", "account": "Account", "qos": "QOS"}
_FIELD = re.compile(r"(?<= )([A-Z][\w/:]*)=")
_NO_TASK = "4294967294"
"""What scontrol puts for %a before an array is split up (NO_VAL; 22.05, 24.11, 26.05)."""
_HET = "hetjob"
_SHOWN = re.compile(r"JobId=(\d+)(?: (?:ArrayJobId|HetJobId)=(\d+))?")


def read(text: str) -> dict[str, list[str]]:
    """Return the lines of an answer by key; `done` is there if the answer is whole."""
    said: dict[str, list[str]] = {}
    for line in text.splitlines():
        key, _, value = line.partition("=")
        said.setdefault(key, []).append(value)
    return said


def submitted(job_id: str, said: Mapping[str, Sequence[str]], options: Sequence[str]) -> Submitted:
    """Return what was submitted, with where its output goes and what the site changed.

    `options` are those of the command line; they override the script's own.
    """
    jobs = [line for line in _joined(said.get("readback", ())) if " JobState=" in line]
    mine = next((line for line in reversed(jobs) if _of(line, job_id)), "")
    fields = _fields(mine)
    notes = [note.strip() for note in said.get("note", ())]
    if "cluster" in said:
        notes.append(f"sbatch sent it to cluster {said['cluster'][0]}")
    if fields:
        notes += _changes(_asked(said.get("asked", ())) | dict(_options(options)), fields)
    return Submitted(
        job_id=job_id,
        log=_log(job_id, fields),
        notes=tuple(dict.fromkeys(notes)),
        submitted_at=parse_time(fields.get("SubmitTime", "")),
    )


def by_job(text: str) -> dict[str, list[str]]:
    """Return what scontrol showed of many jobs, by the number of each, an array or heterogeneous job as one."""
    found: dict[str, list[str]] = {}
    for line in _joined(text.splitlines()):
        match = _SHOWN.match(line)
        if match and " JobState=" in line:
            found.setdefault(match[2] or match[1], []).append(line)
    return found


def _joined(lines: Sequence[str]) -> Iterator[str]:
    """Yield one line per job; a job name may break its own into several."""
    whole = ""
    for line in lines:
        if line.removeprefix("scontrol: ").startswith("JobId=") or not whole:
            yield whole
            whole = line.removeprefix("scontrol: ")
        elif not line.startswith("scontrol: "):
            whole = f"{whole} {line}"
    yield whole


def _of(line: str, job_id: str) -> bool:
    return line.startswith((f"JobId={job_id} ", f"JobId={job_id}\t")) or f" ArrayJobId={job_id} " in line[:80]


def _fields(line: str) -> dict[str, str]:
    """Return the fields of `scontrol --oneliner show job`.

    Free text stands in JobName, before all others, and between Command and WorkDir; so what is read is what comes last
    before Command, and what comes last behind the last WorkDir.
    """
    head, _, rest = line.partition(" Command=")
    return _pairs(head) | _pairs(rest.rpartition(" WorkDir=")[2])


def _pairs(text: str) -> dict[str, str]:
    starts = list(_FIELD.finditer(text))
    ends = [*(match.start() for match in starts), len(text)][1:]
    pairs = {match.group(1): text[match.end() : end].strip() for match, end in zip(starts, ends, strict=False)}
    return {name: "" if value in NOTHING else value for name, value in pairs.items()}


def _log(job_id: str, fields: Mapping[str, str]) -> str:
    """Return the pattern of the output's path: scontrol has put in everything but a task's index."""
    path = fields.get("StdOut", "")
    if not path.startswith("/"):
        return ""
    if fields.get("ArrayJobId"):
        path = path.replace(_NO_TASK, "%a")
    return path


def _asked(lines: Sequence[str]) -> dict[str, str]:
    """Return what the script asks for, of the options that are compared; the first component of a heterogeneous job."""
    asked: dict[str, str] = {}
    for line in lines:
        words = _words(line)
        if words[:1] == (_HET,):
            break
        for name, value in _options(words):
            asked[name] = value
    return asked


@lru_cache(maxsize=1024)
def _words(line: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(line, comments=True))
    except ValueError:
        return ()


def _options(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    for number, word in enumerate(words):
        following = words[number + 1] if number + 1 < len(words) else ""
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            yield name, value if equals else following
        elif word.startswith("-") and word[1:2] in _LONG:
            yield _LONG[word[1]], word[2:] or following


def _changes(asked: Mapping[str, str], fields: Mapping[str, str]) -> Iterator[str]:
    for name, field in _FIELDS.items():
        wanted, got = asked.get(name, ""), fields.get(field, "")
        if wanted and got and got not in wanted.split(","):
            yield f"the site changed {name} from {wanted} to {got}"
    yield from _time_changed(asked.get("time", ""), fields.get("TimeLimit", ""))
    nodes, given = parse_count(asked.get("nodes", "")), parse_count(fields.get("NumNodes", ""))
    if nodes and given and nodes > given:
        yield f"the site changed the nodes from {asked['nodes']} to {fields['NumNodes']}"
    yield from _gpus_changed(asked, fields)


def _time_changed(asked: str, given: str) -> Iterator[str]:
    try:
        wanted, got = parse_limit(asked), parse_limit(given)
    except ValueError:
        return
    if wanted and got and abs(_minutes(wanted) - _minutes(got)) > 0:
        yield f"the site changed the walltime from {format_walltime(wanted)} to {format_walltime(got)}"


def _minutes(seconds: Seconds) -> int:
    return -(-seconds // 60)


def _gpus_changed(asked: Mapping[str, str], fields: Mapping[str, str]) -> Iterator[str]:
    wanted = parse_gpus(_with_gpu(asked.get("gpus-per-node", ""))) or parse_gpus(asked.get("gres", ""))
    per_node = fields.get("TresPerNode", "")
    got = parse_gpus(per_node)
    if wanted and got and wanted.count != got.count:
        yield f"the site changed the GPUs per node from {wanted.count} to {got.count}"
    elif wanted and not got and "gpu" not in ",".join(parse_tres(fields.get("ReqTRES") or fields.get("TRES", ""))):
        yield "the site shows no GPUs for it"


def _with_gpu(text: str) -> str:
    return f"gpu:{text}" if text else ""

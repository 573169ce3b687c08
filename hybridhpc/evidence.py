"""What a job's own directory tells of its runs: the markers that rendered scripts leave there (docs/script.md).

`start.TASK.RESTARTS` holds when and where a run began, `exit.TASK.RESTARTS` its exit code and when it ended,
`asked.TASK.RESTARTS` when it was asked to end; TASK is `-` where there is no array. A script taken as it is leaves
none.
"""

from __future__ import annotations

from dataclasses import replace

from hybridhpc.command import Command
from hybridhpc.decide import recover
from hybridhpc.decide.recover import Evidence
from hybridhpc.ledger.base import Record
from hybridhpc.model import Array, JobSpec, JobStatus, Seconds, Work
from hybridhpc.schedulers.lists import parse_indices
from hybridhpc.sites.site import Site
from hybridhpc.transports.base import Transport
from hybridhpc.values import dataclass

_WELL_ENDED = 'cd -- "$1" && grep -ls "^0 " exit.*'
_MOST_TASKS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Markers:
    """The runs that began, those that ended and those that were asked to end, as pairs of task and restarts."""

    begun: frozenset[tuple[str, int]]
    ended: frozenset[tuple[str, int]]
    asked: frozenset[tuple[str, int]]


def read_markers(transport: Transport, job_dir: str) -> Markers:
    """List the markers. Raises TransportError: then nothing is known of them."""
    found: dict[str, set[tuple[str, int]]] = {"start": set(), "exit": set(), "asked": set()}
    for name in transport.list(job_dir):
        word, _, rest = name.partition(".")
        task, _, restarts = rest.partition(".")
        if word in found and restarts.isdecimal():
            found[word].add((task, int(restarts)))
    begun, ended, asked = map(frozenset, found.values())
    return Markers(begun=begun, ended=ended, asked=asked)


def gather(
    record: Record, status: JobStatus, site: Site, transport: Transport, *, now: float, absent_for: float = 0.0
) -> Evidence:
    """Return all that is known of an attempt. Raises TransportError."""
    spec = record.plan.spec
    work = spec.payload if spec is not None and isinstance(spec.payload, Work) else None
    markers = read_markers(transport, record.job_dir)
    checkpoint = work.checkpoint if work else None
    run = max([status.restarts, *(restarts for _, restarts in markers.begun)])
    return Evidence(
        status=status,
        walltime=record.plan.resources.walltime,
        grace=checkpoint.grace if checkpoint else Seconds(0),
        spot=site.partition(record.partition).purchase == "spot",
        marks=work is not None,
        began=bool(markers.begun),
        began_before=any(restarts == status.restarts - 1 for _, restarts in markers.begun),
        ended_before=any(restarts == status.restarts - 1 for _, restarts in markers.ended),
        done=("-", run) in markers.ended and _first_word(transport, f"{record.job_dir}/exit.-.{run}") == 0,
        unasked=all(restarts != run for _, restarts in markers.asked | markers.ended),
        # By the site's clock; where that differs by more than a minute, nothing is waited for.
        fresh=status.ended_at is not None and abs(now - status.ended_at) < recover.MARKED_WITHIN,
        expired=absent_for > 0 and _expired(record, markers, transport, now),
        absent_for=absent_for,
    )


def _expired(record: Record, markers: Markers, transport: Transport, now: float) -> bool:
    walltime = record.plan.resources.walltime
    if walltime is None or not markers.begun:
        return False
    began = [_first_word(transport, f"{record.job_dir}/start.{task}.{restarts}") for task, restarts in markers.begun]
    return all(at is not None and at + walltime + recover.EXPIRED_AFTER < now for at in began)


def _first_word(transport: Transport, path: str) -> float | None:
    return _moment(transport, path, 0)


def run_seconds(record: Record, status: JobStatus, transport: Transport) -> float:
    """Return how long the run before a requeue took, from its markers; 0 if it never began, or of an array."""
    run = f"-.{status.restarts - 1}"
    began, ended = (_moment(transport, f"{record.job_dir}/{word}.{run}", at) for word, at in _TIMES.items())
    end = ended or status.submitted_at
    return max(0.0, end - began) if began is not None and end is not None else 0.0


_TIMES = {"start": 0, "exit": 1}
"""Which word of a marker is its time."""


def _moment(transport: Transport, path: str, word: int) -> float | None:
    """Return a number of a marker: a time, or an exit code."""
    words = (transport.read(path, limit=200) or b"").split()
    return float(words[word]) if len(words) > word and words[word].isdigit() else None


def still_to_run(record: Record, spec: JobSpec, transport: Transport) -> JobSpec:
    """Return the spec without the tasks of its array that ended well: they do not run a second time."""
    if spec.array is None:
        return spec
    listed = transport.run(Command(argv=("sh", "-c", _WELL_ENDED, "sh", record.job_dir))).text.split()
    done = {name.split(".")[1] for name in listed}
    left = [index for index in parse_indices(spec.array.text, _MOST_TASKS) if str(index) not in done]
    if not left:
        return spec
    throttle = spec.array.throttle
    text = ",".join(map(str, left)) + (f"%{throttle}" if throttle else "")
    return replace(spec, array=Array(text=text, tasks=len(left), throttle=throttle))

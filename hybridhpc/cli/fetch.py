"""hpc fetch: a job's outputs, brought here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, cast

import click

from hybridhpc.cli._context import chosen, dry_run_option, json_option, new_client
from hybridhpc.cli._output import called, say, show_json, tell
from hybridhpc.client import Client
from hybridhpc.errors import NotFound, UsageError
from hybridhpc.ledger.base import Record
from hybridhpc.work_dirs import work_dir, work_dirs

LINE = "\n  "
MOST_SHOWN = 20
"""Files and faults that are named one by one."""


@click.command()
@click.argument("job")
@click.option("--to", "destination", type=click.Path(file_okay=False, path_type=Path), help="Default: ./NAME-JOBID")
@click.option("--force", is_flag=True, help="Replace files that are there already.")
@dry_run_option
@json_option
def command(job: str, destination: Path | None, force: bool, dry_run: bool, as_json: bool) -> None:
    """Bring the outputs of JOB (a ref, a token, a name or a sweep) into a directory; of a sweep, one for each point.

    Example: hpc fetch here:12 --to results/
    """
    client = new_client()
    records = _submitted(job, chosen(client, [job]))
    targets = [_target(record, destination, alone=len(records) == 1) for record in records]
    if not force:
        _check_free(records, targets)
    bring = _say_what if dry_run else _bring
    answers = [bring(client, record, target) for record, target in zip(records, targets, strict=True)]
    if as_json:
        shown = [{**each, "missing": _spelled(each)} if "missing" in each else each for each in answers]
        show_json(shown[0] if len(shown) == 1 else shown)
    else:
        for line in chain.from_iterable(map(_lines, answers)):
            say(line)
    if not dry_run:
        _check_all_there(job, records, answers)


def _check_all_there(job: str, records: Sequence[Record], answers: Sequence[Mapping[str, Any]]) -> None:
    """Raise NotFound if something was not there to be brought."""
    where = f"its files lie in {work_dir(records[0])}"
    if not any(record.plan.outputs for record in records):
        hint = f"`hpc logs` prints what it wrote; {where}"
        raise NotFound(f"{job} names no `outputs:` that could be brought", hint=hint)
    lost = [f"{record.ref}: {why}" for record, each in zip(records, answers, strict=True) for why in _together(each)]
    if lost:
        going = "" if all(record.state.final for record in records) else "it has not ended; "
        raise NotFound(f"{job} has not left everything:\n  {_some(lost, LINE)}", hint=going + where)


def _spelled(answer: Mapping[str, Any]) -> list[str]:
    return [f"{point}: {why}" if point else why for point, why in answer["missing"]]


def _together(answer: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is missing of a job, of all points that miss the same at once."""
    found: dict[str, list[int]] = {}
    for point, why in answer.get("missing", ()):
        found.setdefault(why, []).extend([int(point)] if point else [])
    for why, points in found.items():
        yield f"point{'s' * (len(points) > 1)} {_ranges(points)}: {why}" if points else why


def _ranges(numbers: Sequence[int]) -> str:
    """Spell numbers in ascending order: 0-3,7."""
    found: list[list[int]] = []
    for number in numbers:
        if found and number == found[-1][-1] + 1:
            found[-1].append(number)
        else:
            found.append([number])
    return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in found)


def _check_free(records: Sequence[Record], targets: Sequence[Path]) -> None:
    """Raise UsageError if what would be brought is there already."""
    for record, target in zip(records, targets, strict=True):
        wanted = [target / point / output for point in work_dirs(record) for output in record.plan.outputs]
        if there := [str(path) for path in wanted if path.exists()]:
            raise UsageError(f"{_some(there)}: there already", hint="--force replaces files, --to names another place")


def _lines(answer: Mapping[str, Any]) -> Sequence[str]:
    """Return what a person reads of an answer: the files that were brought, or what would be."""
    if "files" in answer:
        return cast(Sequence[str], answer["files"])
    return [f"would copy {', '.join(answer['outputs']) or 'nothing'} from {answer['from']} to {answer['to']}"]


def _submitted(job: str, records: tuple[Record, ...]) -> tuple[Record, ...]:
    """Return those that can have left something; say which were never submitted. Raises NotFound if that is all."""
    found = tuple(record for record in records if record.job_id or record.attempt > 1)
    never = [record for record in records if not (record.job_id or record.attempt > 1)]
    hint = f"`hpc why {called(never[0])}` says why" if never else ""
    if not found:
        which = f"none of its {len(never):,} jobs was ever" if len(never) > 1 else "it was never"
        raise NotFound(f"{job} has left nothing: {which} submitted", hint=hint)
    if never:
        tell(f"note: {len(never):,} of {len(records):,} jobs were never submitted: {hint}")
    return found


def _some(entries: Sequence[str], between: str = ", ") -> str:
    """Name as many as a person reads."""
    more = [f"and {len(entries) - MOST_SHOWN:,} more"] if len(entries) > MOST_SHOWN else []
    return between.join([*entries[:MOST_SHOWN], *more])


def _target(record: Record, destination: Path | None, *, alone: bool) -> Path:
    own = Path(f"{record.name}-{record.job_id or called(record)}".replace("/", "_"))
    if destination is None:
        return own
    return destination if alone else destination / own


def _say_what(client: Client, record: Record, target: Path) -> dict[str, Any]:
    """Return what would be brought from where."""
    return {"ref": record.ref, "from": work_dir(record), "to": str(target), "outputs": record.plan.outputs}


def _bring(client: Client, record: Record, target: Path) -> dict[str, Any]:
    """Bring a job's outputs; return which, and what there was not."""
    brought, missing = client.fetch(record, target)
    return {"ref": record.ref, "files": [str(path) for path in brought], "missing": missing}

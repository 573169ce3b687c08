"""hpc fetch: a job's outputs, brought here."""

from __future__ import annotations

from pathlib import Path

import click

from hybridhpc.cli._context import chosen_one, dry_run_option, json_option, new_client
from hybridhpc.cli._output import say, show_json
from hybridhpc.client import work_dir
from hybridhpc.errors import NotFound, UsageError


@click.command()
@click.argument("job")
@click.option("--to", "destination", type=click.Path(file_okay=False, path_type=Path), help="Default: ./NAME-JOBID")
@click.option("--force", is_flag=True, help="Replace files that are there already.")
@dry_run_option
@json_option
def command(job: str, destination: Path | None, force: bool, dry_run: bool, as_json: bool) -> None:
    """Bring the outputs of JOB (a ref, a token or a name) into a directory.

    Example: hpc fetch here:12 --to results/
    """
    client = new_client()
    record = chosen_one(client, job)
    target = destination or Path(f"{record.name}-{record.job_id}".replace("/", "_"))
    there = [str(path) for path in (target / output for output in record.plan.outputs) if path.exists()]
    if there and not force:
        raise UsageError(f"{', '.join(there)}: there already", hint="--force replaces files, --to names another place")
    if dry_run and as_json:
        show_json({"ref": record.ref, "from": work_dir(record), "to": str(target), "outputs": record.plan.outputs})
        return
    if dry_run:
        say(f"would copy {', '.join(record.plan.outputs) or 'nothing'} from {work_dir(record)} to {target}")
        return
    brought, faults = client.fetch(record, target)
    if as_json:
        show_json({"ref": record.ref, "files": [str(path) for path in brought], "missing": faults})
    else:
        for path in brought:
            say(str(path))
    if faults or not brought:
        lines = "\n  ".join(faults) or "its spec names no `outputs:`"
        raise NotFound(f"{record.ref} has not left everything:\n  {lines}", hint=f"its files lie in {work_dir(record)}")

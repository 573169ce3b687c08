"""hpc check: what is wrong with the set-up, and the fix."""

from __future__ import annotations

import click

from hybridhpc.checking import check
from hybridhpc.cli._context import json_option, new_client
from hybridhpc.cli._output import clean, say, show_json
from hybridhpc.errors import CheckFailed

MARKS = {"fine": "ok", "warning": "warning", "fault": "FAULT"}


@click.command()
@click.option("--verbose", is_flag=True, help="Also what is as it should be.")
@json_option
def command(verbose: bool, as_json: bool) -> None:
    """Look at the installation, the settings, the ledger and every site. Exit code 12 if there is a fault.

    Example: hpc check --verbose
    """
    found = check(new_client())
    faults = [finding for finding in found if finding.level == "fault"]
    if as_json:
        show_json([{"level": f.level, "where": f.where, "what": f.what, "fix": f.fix} for f in found])
    else:
        for finding in found:
            if verbose or finding.level != "fine":
                say(clean(f"{MARKS[finding.level]:7}  {finding.where}: {finding.what}"))
                if finding.fix:
                    say(clean(f"         fix: {finding.fix}"))
        warnings = sum(finding.level == "warning" for finding in found)
        say(f"{len(found)} things looked at: {len(faults)} faults, {warnings} warnings")
    if faults:
        raise CheckFailed(f"{len(faults)} faults", hint="each has its fix above; then check again")

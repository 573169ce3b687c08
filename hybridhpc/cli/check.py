"""hpc check: what is wrong with the set-up, and the fix."""

from __future__ import annotations

from collections.abc import Sequence

import click

from hybridhpc.checking.check import check
from hybridhpc.checking.finding import FAULT, FINE, WARNING, Finding
from hybridhpc.cli._context import json_option, new_client
from hybridhpc.cli._output import say, show_json
from hybridhpc.cli._terminal import clean
from hybridhpc.errors import CheckFailed

MARKS = {FINE: "ok", WARNING: "warning", FAULT: "FAULT"}


@click.command()
@click.option("--verbose", is_flag=True, help="Also what is as it should be.")
@json_option
def command(verbose: bool, as_json: bool) -> None:
    """Look at the installation, the settings, the ledger and every site. Exit code 12 if there is a fault.

    Example: hpc check --verbose
    """
    found = check(new_client())
    faults = sum(finding.level == FAULT for finding in found)
    if as_json:
        show_json([{"level": f.level, "where": f.where, "what": f.what, "fix": f.fix} for f in found])
    else:
        _show([finding for finding in found if verbose or finding.level != FINE])
        say(_summary(found, faults))
    if faults:
        raise CheckFailed(_count(faults, "fault"), hint="each has its fix beside it; then check again")


def _show(findings: Sequence[Finding]) -> None:
    for finding in findings:
        say(clean(f"{MARKS[finding.level]:7}  {finding.where}: {finding.what}"))
        if finding.fix:
            say(clean(f"         fix: {finding.fix}"))


def _summary(found: Sequence[Finding], faults: int) -> str:
    warnings = sum(finding.level == WARNING for finding in found)
    looked = f"{_count(len(found), 'thing')} looked at"
    if not faults and not warnings:
        return f"{looked}: all is well"
    return f"{looked}: {_count(faults, 'fault')}, {_count(warnings, 'warning')}"


def _count(number: int, word: str) -> str:
    return f"{number or 'no'} {word}{'' if number == 1 else 's'}"

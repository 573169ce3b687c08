"""The short table at the end of a followed job."""

from __future__ import annotations

from hybridhpc.cli._output import called, end_words, money, state_word, table
from hybridhpc.client import Client
from hybridhpc.ledger.base import Record
from hybridhpc.model import JobState
from hybridhpc.script.points import POINT
from hybridhpc.units import format_duration
from hybridhpc.work_dirs import is_sweep, log_path, work_dir


def summary(client: Client, record: Record) -> str:
    """Return state, elapsed, cost and where everything lies."""
    now = client.clock()
    rows = [
        ["job", f"{called(record)} ({record.name})"],
        ["state", ", ".join([state_word(record), *(() if record.state is JobState.COMPLETED else end_words(record))])],
        ["elapsed", format_duration(record.elapsed(now))],
        ["cost", money(record.cost(now))],
        ["log", log_path(record, None)],
    ]
    home = f"{work_dir(record)}/{POINT}*" if is_sweep(record) else work_dir(record)
    rows += [["output", f"{home}/{output}"] for output in record.plan.outputs]
    return table(("", ""), rows, to_stderr=True).lstrip("\n")

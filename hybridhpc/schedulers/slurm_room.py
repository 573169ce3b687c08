"""How many more jobs Slurm lets a person submit, and how long: limits of associations and QOS, as its controller knows
them. Pure.

scontrol(1), show assoc_mgr: `MaxSubmitJobs=3(2)` is the limit and how many there are; `N` is none (22.05, 24.11,
26.05). A task of an array counts as a job. Anybody may ask about themselves; no accounting is asked.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from hybridhpc.command import Command, CommandResult
from hybridhpc.model import Seconds
from hybridhpc.schedulers.base import Ceiling, Room

_PROGRAM = 'scontrol show config && scontrol show assoc_mgr "users=$(id -un)" flags=assoc,qos'
COMMAND = Command(argv=("sh", "-c", _PROGRAM))

_ENFORCED = re.compile(r"^AccountingStorageEnforce\s*=.*\b(?:limits|safe|all)\b", re.MULTILINE)
_FIELD = re.compile(r"(\w+)=(\S*)")
_LIMIT = re.compile(r"(\d{1,9})\((\d{1,9})\)")
_ENTRY = re.compile(r"^ {6}(\S+)\n +(.*)", re.MULTILINE)

Fields = Mapping[str, str]


def parse_room(answer: CommandResult, account: str | None, qos: str | None) -> Room | None:
    """Return the least room that a limit leaves for jobs of an account (None: the person's default one) and QOS.

    None if nothing limits them, nothing is enforced, or that cannot be read. A QOS that is not named is passed over.
    """
    mine, everybody, named = _records(answer, account, qos)
    found = list(_of_association(mine, everybody)) if mine else []
    whole = mine["Account"] if mine else account
    if qos is not None:
        found += _of_qos(named, qos, whole)
    return min(found, key=lambda room: room.jobs, default=None)


def parse_ceiling(answer: CommandResult, account: str | None, qos: str | None) -> Ceiling | None:
    """Return the MaxWall (in minutes here) of a QOS, which overrides that of the person's association, else the latter.

    Slurm takes a job that asks for more, and never starts it, unless the QOS has DenyOnLimit (sacctmgr(1), 22.05).
    What an association inherits from its account stands with it.
    """
    mine, _, named = _records(answer, account, qos)
    limits = (
        (_wall(dict(_FIELD.findall(named))), f"QOS {qos}"),
        (_wall(mine), f"account {mine.get('Account')} for you"),
    )
    return next((Ceiling(walltime=Seconds(60 * most), whose=whose) for most, whose in limits if most), None)


def _wall(fields: Fields) -> int:
    """Return the minutes of MaxWallPJ; 0 if there is none."""
    said = fields.get("MaxWallPJ", "")
    return int(said) if re.fullmatch(r"\d{1,9}", said) else 0


def _records(answer: CommandResult, account: str | None, qos: str | None) -> tuple[Fields, Sequence[Fields], str]:
    """Return the person's own association, all of them, and what is said of a QOS; nothing if none is enforced."""
    config, _, records = answer.text.partition("Association Records")
    if not answer.ok or not _ENFORCED.search(config):
        return {}, [], ""
    associations, _, all_qos = records.partition("QOS Records")
    everybody = [dict(_FIELD.findall(part)) for part in re.split("^(?=ClusterName=)", associations, flags=re.MULTILINE)]
    mine = next((each for each in everybody if _is_mine(each, account)), {})
    told = re.split("^QOS=", all_qos, flags=re.MULTILINE)[1:]
    named = next((text for text in told if re.split(r"[(\s]", text, maxsplit=1)[0] == qos), "")
    return mine, everybody, named


def _is_mine(fields: Fields, account: str | None) -> bool:
    """Whether a record is that of the person and an account; None: of their default one."""
    if not fields.get("UserName") or fields.get("Partition"):
        return False
    return fields.get("Account") == account if account else fields.get("DefAssoc") == "Yes"


def _of_association(mine: Fields, everybody: Sequence[Fields]) -> Iterator[Room]:
    """Yield what the person's association leaves, and what its account and those above that do."""
    accounts = {each["Account"]: each for each in everybody if "Account" in each and not each.get("UserName")}
    name, seen = mine["Account"], set[str]()
    yield from _rooms(mine, ("MaxSubmitJobs", "GrpSubmitJobs"), f"you in account {name}")
    while name in accounts and name not in seen:
        seen.add(name)
        yield from _rooms(accounts[name], ("GrpSubmitJobs",), f"account {name}")
        name = accounts[name].get("ParentAccount", "").partition("(")[0]


def _of_qos(text: str, name: str, account: str | None) -> Iterator[Room]:
    """Yield what a QOS leaves for all of its jobs, for the person (of whom alone it tells), and for an account."""
    yield from _rooms(dict(_FIELD.findall(text)), ("GrpSubmitJobs",), f"QOS {name}")
    for whose, line in _ENTRY.findall(text):
        yield from _rooms(dict(_FIELD.findall(line)), ("MaxSubmitJobsPU",), f"QOS {name}")
        if whose == account:
            yield from _rooms(dict(_FIELD.findall(line)), ("MaxSubmitJobsPA",), f"QOS {name}")


def _rooms(fields: Fields, names: tuple[str, ...], whose: str) -> Iterator[Room]:
    for name in names:
        if match := _LIMIT.fullmatch(fields.get(name, "")):
            limit, used = int(match[1]), int(match[2])
            yield Room(jobs=max(0, limit - used), why=f"{name} {limit} of {whose}, of which {used} are submitted")

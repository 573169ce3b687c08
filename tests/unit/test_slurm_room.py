"""How many more jobs may be submitted, and for how long, as the controller of 22.05 tells it."""

from __future__ import annotations

import pytest

from hybridhpc.command import CommandResult
from hybridhpc.schedulers.slurm_room import parse_ceiling, parse_room

CONFIG = "AccountingStorageEnforce = {}\nEnforcePartLimits       = NO\nCurrent Association Manager state\n\n"
RECORDS = """\
Association Records

ClusterName=onprem Account=root UserName= Partition= Priority=0 ID=1
    ParentAccount= Lft=1 DefAssoc=No
    GrpSubmitJobs=N(3) GrpWall=N(0.00)
    MaxJobs= MaxJobsAccrue= MaxSubmitJobs= MaxWallPJ=
ClusterName=onprem Account=bio UserName=alice(64101) Partition= Priority=0 ID=7
    ParentAccount= Lft=3 DefAssoc=No
    GrpSubmitJobs=N(0) GrpWall=N(0.00)
    MaxJobs= MaxJobsAccrue= MaxSubmitJobs= MaxWallPJ=
ClusterName=onprem Account=ml UserName= Partition= Priority=0 ID=3
    ParentAccount=root(1) Lft=6 DefAssoc=No
    GrpSubmitJobs=4(3) GrpWall=N(0.00)
    MaxJobs= MaxJobsAccrue= MaxSubmitJobs= MaxWallPJ=
ClusterName=onprem Account=ml UserName=alice(64101) Partition= Priority=0 ID=5
    ParentAccount= Lft=9 DefAssoc=Yes
    GrpSubmitJobs=N(3) GrpWall=N(0.00)
    MaxJobs= MaxJobsAccrue= MaxSubmitJobs=8(3) MaxWallPJ=

QOS Records

QOS=normal(1)
    GrpJobs=N(0) GrpJobsAccrue=N(0) GrpSubmitJobs=N(1) GrpWall=N(0.00)
    Account Limits
      ml
        MaxJobsPA=N(0) MaxJobsAccruePA=N(0) MaxSubmitJobsPA=N(1)
    User Limits
      64101
        MaxJobsPU=N(0) MaxJobsAccruePU=N(0) MaxSubmitJobsPU=N(1)
QOS=debug(3)
    GrpJobs=N(0) GrpJobsAccrue=N(0) GrpSubmitJobs=N(2) GrpWall=N(0.00)
    Account Limits
      ml
        MaxJobsPA=N(0) MaxJobsAccruePA=N(0) MaxSubmitJobsPA=N(2)
        MaxTRESPA=cpu=N(0)
    User Limits
      64101
        MaxJobsPU=2(0) MaxJobsAccruePU=N(0) MaxSubmitJobsPU=2(2)
        MaxTRESPU=cpu=N(0)
"""


def room(account=None, qos=None, enforced="associations,limits,qos", records=RECORDS):
    told = (CONFIG.format(enforced) + records).encode()
    return parse_room(CommandResult(argv=("sh",), exit_code=0, stdout=told, stderr=b""), account, qos)


@pytest.mark.parametrize(
    ("account", "qos", "jobs", "why"),
    [
        (None, None, 1, "GrpSubmitJobs 4 of account ml, of which 3 are submitted"),
        ("ml", "normal", 1, "GrpSubmitJobs 4 of account ml, of which 3 are submitted"),
        ("ml", "debug", 0, "MaxSubmitJobsPU 2 of QOS debug, of which 2 are submitted"),
    ],
)
def test_the_least_room_counts_of_the_person_the_account_and_the_qos(account, qos, jobs, why):
    found = room(account, qos)
    assert (found.jobs, found.why) == (jobs, why)


def test_what_is_not_limited_or_not_enforced_or_not_said_is_no_limit():
    assert room("bio", "normal") is None
    assert room(enforced="none") is None
    assert room("nosuch") is None
    assert room(records="No associations currently cached in Slurm.\n") is None


def test_the_limit_of_the_person_alone_counts_too():
    assert room(records=RECORDS.replace("GrpSubmitJobs=4(3)", "GrpSubmitJobs=N(3)")).jobs == 5


def ceiling(records, account=None, qos=None, enforced="associations,limits,qos"):
    told = (CONFIG.format(enforced) + records).encode()
    found = parse_ceiling(CommandResult(argv=("sh",), exit_code=0, stdout=told, stderr=b""), account, qos)
    return (found.walltime, found.whose) if found else None


def test_the_longest_walltime_is_that_of_the_qos_else_the_least_of_the_associations() -> None:
    qos = RECORDS.replace("QOS=debug(3)\n", "QOS=debug(3)\n    MaxWallPJ=30\n")
    assert ceiling(qos, qos="debug") == (1800, "QOS debug")
    assert ceiling(qos, qos="normal") is ceiling(qos) is ceiling(RECORDS, "ml", "debug") is None
    assert ceiling(qos, qos="debug", enforced="none") is None
    both = qos.replace("MaxSubmitJobs=8(3) MaxWallPJ=", "MaxSubmitJobs=8(3) MaxWallPJ=900")
    assert ceiling(both, "ml") == ceiling(both) == ceiling(both, qos="normal") == (54000, "account ml for you")
    assert ceiling(both, "ml", "debug") == (1800, "QOS debug")
    assert ceiling(both, "bio") is ceiling(both, "nobody", "nope") is None

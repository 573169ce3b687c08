"""A site's answers as a Snapshot."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridhpc.command import CommandResult
from hybridhpc.errors import SchedulerError
from hybridhpc.model import JobState
from hybridhpc.schedulers import slurm_survey as survey
from hybridhpc.sites.snapshot import Snapshot

LIMITS = (
    "scontrol: show partition\n"
    "PartitionName=gpu AllowGroups=ALL AllowAccounts=ml,proj AllowQos=high Default=YES DefaultTime=01:00:00 MaxNodes=4"
    " MaxTime=7-00:00:00 Nodes=dgx[1-4] OverSubscribe=NO State=UP DefMemPerCPU=2000 TRES=cpu=448\n"
    "PartitionName=cpu AllowAccounts=ALL AllowQos=ALL Default=NO DefaultTime=NONE MaxNodes=UNLIMITED"
    " MaxTime=UNLIMITED OverSubscribe=EXCLUSIVE State=DRAIN DefMemPerNode=UNLIMITED\n"
    "scontrol: show config\nDefMemPerCPU            = 1000\nMaxArraySize            = 1001\n"
    "PrivateData             = jobs,usage\nSLURM_VERSION           = 23.11.4\n"
)


def result(stdout: str, exit_code: int = 0, stderr: str = "") -> CommandResult:
    return CommandResult(argv=("squeue",), exit_code=exit_code, stdout=stdout.encode(), stderr=stderr.encode())


def row(names: tuple[str, ...], defaults: dict[str, str], **fields: str) -> str:
    words = {**dict.fromkeys(names, "N/A"), **defaults, **{key.replace("_", "-"): word for key, word in fields.items()}}
    return "".join(f"{words[name]}\x1f" for name in names) + "\n"


def job(**fields: str) -> str:
    defaults = {
        "JobArrayID": "5", "State": "PENDING", "Partition": "gpu", "PriorityLong": "7", "NumNodes": "1", "NumCPUs": "4",
        "tres-alloc": "cpu=4,mem=4000M,node=1,billing=4", "NumTasks": "1", "TimeLimit": "1:00:00",
        "NodeList": "", "Reason": "Priority",
    }  # fmt: skip
    return row(survey.JOB_FIELDS, defaults, **fields)


def node(**fields: str) -> str:
    defaults = {
        "NodeHost": "dgx1", "Partition": "gpu*", "StateLong": "mixed", "CPUsState": "8/104/0/112", "Memory": "2000000",
        "AllocMem": "70", "Gres": "gpu:h100:8(S:0-1)", "GresUsed": "gpu:h100:6(IDX:0-5)", "Features": "nvlink,ib",
        "Available": "up", "Time": "7-00:00:00",
    }  # fmt: skip
    return row(survey.NODE_FIELDS, defaults, **fields)


def read(jobs: str = "", nodes: str = "", limits: str = LIMITS) -> Snapshot:
    return survey.parse_survey("lab", [result(jobs), result(nodes), result(limits)], 50.0)


@pytest.mark.parametrize(("said", "ahead"), [("650", 600.0), ("20", -30.0), ("52", 0.0), ("N/A", 0.0)])
def test_the_controller_says_what_time_it_is_there(said: str, ahead: float) -> None:
    assert read(limits=f"Configuration data as of {said}\n{LIMITS}").ahead == ahead
    assert read().ahead == 0.0


def test_partitions_have_their_limits_and_the_clusters_defaults() -> None:
    gpu, cpu = read().partitions
    assert (gpu.name, gpu.default, gpu.up, gpu.max_walltime, gpu.default_walltime) == ("gpu", True, True, 604800, 3600)
    assert (gpu.max_nodes, gpu.exclusive, gpu.default_memory_per_cpu) == (4, False, 2000)
    assert (gpu.allowed_accounts, gpu.allowed_qos) == (("ml", "proj"), ("high",))
    assert (cpu.up, cpu.max_walltime, cpu.default_walltime, cpu.max_nodes) == (False, None, None, None)
    assert (cpu.exclusive, cpu.default_memory_per_cpu, cpu.allowed_accounts) == (True, 1000, ())


def test_what_cannot_be_seen_is_said() -> None:
    snapshot = read()
    assert snapshot.unseen == ("other people's jobs: PrivateData=jobs",)
    assert (snapshot.version, snapshot.max_array_size) == ("23.11.4", 1001)


def test_without_scontrol_the_partitions_come_from_sinfo() -> None:
    answers = [result(""), result(node() + node(Partition="cpu", Time="infinite")), result("", 127, "not found")]
    snapshot = survey.parse_survey("lab", answers, 50.0)
    gpu, cpu = snapshot.partitions
    assert (gpu.name, gpu.default, gpu.max_walltime) == ("gpu", True, 604800)
    assert (cpu.name, cpu.default, cpu.max_walltime) == ("cpu", False, None)
    assert snapshot.unseen == ("the limits of the partitions: not found",)


def test_a_node_in_two_partitions_is_one_node() -> None:
    (dgx,) = read(nodes=node() + node(Partition="all")).nodes
    assert dgx.partitions == ("gpu", "all")
    assert (dgx.cpus, dgx.cpus_alloc, dgx.memory, dgx.memory_alloc) == (112, 8, 2000000, 70)
    assert (dgx.gpu_kind, dgx.gpus, dgx.gpus_alloc, dgx.features) == ("h100", 8, 6, ("nvlink", "ib"))
    assert dgx.usable and not dgx.powered_down and dgx.native_state == "mixed"


def test_a_node_without_gpus_or_in_a_bad_state_says_so() -> None:
    (cpu,) = read(nodes=node(Gres="(null)", GresUsed="gpu:0", StateLong="drained*", CPUsState="0/0/64/64")).nodes
    assert (cpu.gpus, cpu.gpu_kind, cpu.usable, cpu.cpus_alloc) == (0, None, False, 0)
    (off,) = read(nodes=node(StateLong="idle~")).nodes
    assert off.usable and off.powered_down


@pytest.mark.parametrize(
    ("fields", "gpus", "kind"),
    [
        ({"tres_alloc": "cpu=4,node=2,gres/gpu=4,gres/gpu:h100=4", "NumNodes": "2"}, 4, "h100"),
        ({"tres_alloc": "cpu=4,node=2,gres/gpu=4", "tres_per_node": "gres/gpu:h100:2", "NumNodes": "2"}, 4, "h100"),
        ({"tres_per_node": "gres:gpu:h100:2", "NumNodes": "2"}, 4, "h100"),
        ({"tres_per_node": "gpu:2", "NumNodes": "3-5"}, 6, None),
        ({"tres_per_job": "gres:gpu:a100:3"}, 3, "a100"),
        ({"tres_per_task": "gres:gpu:2", "NumTasks": "3"}, 6, None),
        ({"tres_per_task": "cpu=4"}, 0, None),
        ({}, 0, None),
    ],
)
def test_gpus_of_a_job_are_counted_over_its_nodes(fields: dict[str, str], gpus: int, kind: str | None) -> None:
    (found,) = read(jobs=job(**fields)).jobs
    assert (found.line.gpus, found.line.gpu_kind) == (gpus, kind)


def test_pending_array_tasks_are_folded_into_one_job() -> None:
    (found,) = read(jobs=job(JobArrayID="11_[2-9:2,20%3]", StartTime="900")).jobs
    line = found.line
    assert (line.tasks, line.state, line.start_estimate, line.started_at) == (5, JobState.PENDING, 900.0, None)
    assert (found.priority, line.cpus, line.memory, line.walltime) == (7, 4, 4000, 3600)


def test_a_running_task_has_its_nodes_and_its_start() -> None:
    (found,) = read(
        jobs=job(JobArrayID="11_0", State="RUNNING", StartTime="900", NodeList="dgx[1-2]", Reason="None")
    ).jobs
    line = found.line
    assert (line.started_at, line.start_estimate, line.node_names) == (900.0, None, ("dgx1", "dgx2"))
    assert (line.tasks, line.blocked, line.reason) == (1, False, "")


def test_held_and_hopeless_jobs_are_blocked_and_running_ones_never() -> None:
    text = job(Reason="JobHeldUser") + job(Reason="PartitionNodeLimit") + job(State="RUNNING", Reason="BeginTime")
    assert [found.line.blocked for found in read(jobs=text).jobs] == [True, True, False]


@pytest.mark.parametrize("limit", ["UNLIMITED", "NOT_SET", "INVALID", "Partition_Limit", "N/A"])
def test_no_time_limit_is_none(limit: str) -> None:
    assert read(jobs=job(TimeLimit=limit)).jobs[0].line.walltime is None


def test_an_answer_that_was_cut_is_said() -> None:
    cut = CommandResult(argv=("squeue",), exit_code=0, stdout=job().encode(), stderr=b"", truncated=True)
    snapshot = survey.parse_survey("lab", [cut, result(""), result(LIMITS)], 50.0)
    assert any("too long" in words for words in snapshot.unseen)


@pytest.mark.parametrize("place", [0, 1])
def test_a_queue_or_nodes_that_cannot_be_seen_are_an_error(place: int) -> None:
    answers = [result(""), result(""), result(LIMITS)]
    answers[place] = result("", 1, "slurm_load: Unable to contact slurm controller (connect failure)")
    with pytest.raises(SchedulerError, match="Unable to contact") as caught:
        survey.parse_survey("lab", answers, 50.0)
    assert caught.value.hint


@given(st.text(max_size=300), st.text(max_size=300), st.text(max_size=300))
def test_no_answer_makes_a_traceback(jobs: str, nodes: str, limits: str) -> None:
    read(jobs=jobs, nodes=nodes, limits=f"PartitionName=x {limits}")


@given(
    st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\n\x1f"), max_size=12), min_size=16, max_size=16)
)
def test_no_field_makes_a_traceback(words: list[str]) -> None:
    names = survey.JOB_FIELDS[1:]
    read(jobs="".join(f"{word}\x1f" for word in ["5", *words[: len(names)]]) + "\n")
    read(nodes="".join(f"{word}\x1f" for word in words[: len(survey.NODE_FIELDS)]) + "\n")


def test_jobs_of_which_the_queue_says_the_same_share_one_line_and_others_do_not() -> None:
    text = job(JobArrayID="11") + job(JobArrayID="12", PriorityLong="9") + job(JobArrayID="13_[1-4]")
    first, second, array = read(jobs=text + "nonsense\n" + job(JobArrayID="x")).jobs
    assert (first.job_id, second.job_id, second.priority) == ("11", "12", 9)
    assert first.line is second.line and (array.line.tasks, first.line.tasks) == (4, 1)


@pytest.mark.parametrize(
    ("said", "whole"),
    [
        ({"OverSubscribe": "NO", "Exclusive": ""}, True),
        ({"OverSubscribe": "OK", "Exclusive": ""}, False),
        ({"OverSubscribe": "NO", "Exclusive": "NO"}, False),
        ({"OverSubscribe": "NO", "Exclusive": "NODE"}, True),
        ({"OverSubscribe": "NO", "Exclusive": "USER"}, False),
    ],
)
def test_who_wants_whole_nodes_is_told_by_every_version_in_its_way(said: dict[str, str], whole: bool) -> None:
    assert read(jobs=job(**said)).jobs[0].line.whole is whole

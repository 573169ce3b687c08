"""What a machine lends, seen through a /proc and control groups of the test's own making."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hybridhpc.here.cgroup import group_path, keeping, leave_job, lineage, make, memory_hold, out_of_memory
from hybridhpc.here.machine import boot_id, cpu_quota, gpu_kind, gpu_kinds, lendable, this_machine, total_memory
from hybridhpc.here.place import file_system
from hybridhpc.here.request import Refusal

GIB = 1024**3


class World:
    """A /proc with one hierarchy of control groups."""

    def __init__(self, directory: Path, version: int, own: str, root: str = "/") -> None:
        self.proc = directory / "proc"
        self.mount = directory / "groups here"
        (self.proc / "self").mkdir(parents=True)
        (self.proc / "meminfo").write_text("MemTotal:       16777216 kB\nMemFree: 1 kB\n")
        escaped = str(self.mount).replace(" ", "\\040")
        kind, options = ("cgroup2", "rw") if version == 2 else ("cgroup", "rw,memory,cpu")
        line = f"31 1 0:28 {root} {escaped} rw,relatime shared:5 - {kind} {kind} {options}\n"
        (self.proc / "self/mountinfo").write_text(f"1 1 8:1 / / rw - ext4 /dev/sda rw\n{line}")
        (self.proc / "self/cgroup").write_text(f"0::{own}\n" if version == 2 else f"4:cpu,memory:{own}\n0::/\n")
        self.group("", **{"cgroup.controllers": "cpu memory pids"})

    def group(self, path: str, **files: str) -> Path:
        directory = self.mount / path
        directory.mkdir(parents=True, exist_ok=True)
        for name, content in ({"cgroup.procs": ""} | files).items():
            (directory / name).write_text(content)
        return directory


def test_without_control_groups_memory_is_the_machines(tmp_path: Path) -> None:
    world = World(tmp_path, 2, "/gone")
    (world.proc / "self/mountinfo").write_text("")
    assert total_memory(world.proc) == 16 * 1024
    assert keeping(world.proc).by == "watching"
    assert cpu_quota(world.proc) == float("inf")


@pytest.mark.parametrize(("version", "name"), [(1, "memory.limit_in_bytes"), (2, "memory.max")])
def test_a_limit_on_any_group_above_counts(tmp_path: Path, version: int, name: str) -> None:
    world = World(tmp_path, version, "/a/b")
    world.group("a", **{name: str(4 * GIB)})
    world.group("a/b", **{name: "max" if version == 2 else str(2**63 - 4096)})
    assert total_memory(world.proc) == 4096


def test_cpu_quotas_of_both_versions_count(tmp_path: Path) -> None:
    two = World(tmp_path / "2", 2, "/a")
    two.group("a", **{"cpu.max": "150000 100000"})
    one = World(tmp_path / "1", 1, "/a")
    one.group("a", **{"cpu.cfs_quota_us": "50000", "cpu.cfs_period_us": "100000"})
    none = World(tmp_path / "0", 1, "/a")
    none.group("a", **{"cpu.cfs_quota_us": "-1", "cpu.cfs_period_us": "100000"})
    assert [cpu_quota(world.proc) for world in (two, one, none)] == [1.5, 0.5, float("inf")]


def test_under_a_quota_jobs_are_not_pinned_to_cpus_that_others_may_use(tmp_path: Path) -> None:
    world = World(tmp_path, 2, "/a")
    world.group("a", **{"cpu.max": "50000 100000"})
    machine = this_machine({}, world.proc)
    assert (machine.cpus, machine.cpu_ids) == (1, ())


def test_the_person_keeps_some_memory(tmp_path: Path) -> None:
    world = World(tmp_path, 2, "/")
    assert this_machine({}, world.proc).memory == 16384 - 819
    assert [lendable(total) for total in (1024, 10240, 102400, 100)] == [512, 9728, 97280, 1]


def test_overrides_are_for_tests_and_must_be_numbers(tmp_path: Path) -> None:
    world = World(tmp_path, 2, "/")
    many = len(os.sched_getaffinity(0)) + 1
    machine = this_machine({"HPC_HERE_CPUS": str(many), "HPC_HERE_MEMORY": "77"}, world.proc)
    assert (machine.cpus, machine.cpu_ids, machine.memory) == (many, (), 77)
    with pytest.raises(Refusal, match="HPC_HERE_CPUS=many"):
        this_machine({"HPC_HERE_CPUS": "many"}, world.proc)


def card(proc: Path, address: str, model: str, excluded: str = "No") -> None:
    directory = proc / "driver/nvidia/gpus" / address
    directory.mkdir(parents=True)
    lines = ("Model: \t\t " + model, "IRQ:   \t\t 16", f"Bus Location: \t {address}", f"GPU Excluded:\t {excluded}")
    (directory / "information").write_text("\n".join(lines) + "\n")


def test_gpus_are_found_in_the_order_of_their_addresses_without_any_tool(tmp_path: Path) -> None:
    assert gpu_kinds(tmp_path) == ()
    card(tmp_path, "0000:c1:00.0", "NVIDIA A100-SXM4-80GB")
    card(tmp_path, "0000:3b:00.0", "NVIDIA H100 80GB HBM3")
    card(tmp_path, "0000:4b:00.0", "NVIDIA H100 80GB HBM3", excluded="Yes")
    assert gpu_kinds(tmp_path) == ("h100", "a100")


@pytest.mark.parametrize(
    ("model", "kind"),
    [
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA H200", "h200"),
        ("NVIDIA A100-SXM4-80GB", "a100"),
        ("Tesla V100-SXM2-16GB", "v100"),
        ("NVIDIA L40S", "l40s"),
        ("NVIDIA GeForce RTX 4090", "rtx4090"),
        ("NVIDIA RTX A6000", "a6000"),
        ("NVIDIA GH200 480GB", "gh200"),
        ("", "gpu"),
    ],
)
def test_gpu_kinds_are_the_words_people_use(model: str, kind: str) -> None:
    assert gpu_kind(model) == kind


def test_in_v1_the_own_group_is_divided(tmp_path: Path) -> None:
    world = World(tmp_path, 1, "/user/me")
    own = world.group("user/me")
    kept = keeping(world.proc, trial=False)
    assert (kept.by, kept.base) == ("cgroup v1", str(own))
    inside_a_job = World(tmp_path / "job", 1, "/user/me/hpc-here-7-1")
    inside_a_job.group("user/me")
    inside_a_job.group("user/me/hpc-here-7-1")
    assert keeping(inside_a_job.proc, trial=False).base == str(inside_a_job.mount / "user/me")


def test_in_v2_the_nearest_group_that_shares_out_memory_is_divided(tmp_path: Path) -> None:
    world = World(tmp_path, 2, "/user@1/app/run-7.scope")
    world.group("user@1", **{"cgroup.subtree_control": "memory pids"})
    nearest = world.group("user@1/app", **{"cgroup.subtree_control": "cpu memory"})
    own = world.group("user@1/app/run-7.scope", **{"cgroup.subtree_control": "", "memory.max": "max"})
    kept = keeping(world.proc, trial=False)
    assert (kept.by, kept.base) == ("cgroup v2", str(nearest))
    (own / "memory.max").write_text(str(GIB))
    assert keeping(world.proc, trial=False).by == "watching", "a limit must not be escaped"


@pytest.mark.parametrize(("version", "home"), [(1, "a"), (2, "a/hpc-here-supervisors")])
def test_a_supervisor_that_a_job_started_leaves_the_group_of_that_job(tmp_path: Path, version: int, home: str) -> None:
    world = World(tmp_path, version, "/a/hpc-here-7-1")
    world.group("a", **{"cgroup.subtree_control": "memory"})
    world.group("a/hpc-here-7-1", **{"memory.max": "100"})
    leave_job(world.proc)
    assert (world.mount / home / "cgroup.procs").read_text() == str(os.getpid())
    assert keeping(world.proc, trial=False).base == str(world.mount / "a")


def test_without_delegation_it_says_why(tmp_path: Path) -> None:
    world = World(tmp_path, 2, "/user.slice/session-1.scope")
    world.group("user.slice/session-1.scope")
    kept = keeping(world.proc)
    assert kept.by == "watching"
    assert "session-1.scope (cgroup v2) is not delegated to you" in kept.why
    assert "systemd-run --user --scope" in kept.why


def test_a_container_sees_its_own_part_of_the_hierarchy(tmp_path: Path) -> None:
    world = World(tmp_path, 1, "/docker/abc/inner", root="/docker/abc")
    inner = world.group("inner")
    assert lineage("memory", world.proc).directories == (inner, world.mount)


def test_the_group_of_a_job_gets_its_limit_and_no_swap(tmp_path: Path) -> None:
    world = World(tmp_path, 2, "/a")
    world.group("", **{"cgroup.subtree_control": "memory", "cgroup.controllers": "memory"})
    kept = keeping(world.proc, trial=False)
    group = group_path(kept, "x")
    assert make(kept, group, 100)
    assert (group / "memory.max").read_text() == str(100 << 20)


@pytest.mark.parametrize(
    ("name", "text", "answer"),
    [
        ("memory.events", "low 0\nhigh 0\nmax 7\noom 1\noom_kill 1\noom_group_kill 1\n", True),
        ("memory.events", "low 0\nhigh 0\nmax 7\noom 1\noom_kill 0\noom_group_kill 0\n", False),
        ("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n", True),
        ("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\n", False),
    ],
)
def test_the_kernels_word_on_memory_is_understood(tmp_path: Path, name: str, text: str, answer: bool) -> None:
    (tmp_path / name).write_text(text)
    assert out_of_memory(tmp_path) is answer


def test_this_very_machine_says_who_holds_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    assert memory_hold().startswith(("the kernel holds", "jobs are held to their memory by watching"))
    monkeypatch.setenv("HPC_HERE_NO_CGROUP", "1")
    assert memory_hold().endswith("HPC_HERE_NO_CGROUP is set")


def test_the_boot_is_named_by_the_kernel(tmp_path: Path) -> None:
    (tmp_path / "sys/kernel/random").mkdir(parents=True)
    (tmp_path / "sys/kernel/random/boot_id").write_text("abc\n")
    assert boot_id(tmp_path) == "abc"


def test_a_network_file_system_is_recognised(tmp_path: Path) -> None:
    device = tmp_path.stat().st_dev
    (tmp_path / "self").mkdir()
    line = f"9 1 {os.major(device)}:{os.minor(device)} / /home rw - nfs4 server:/home rw\n"
    (tmp_path / "self/mountinfo").write_text(f"8 1 0:1 / / rw - ext4 x rw\n{line}")
    assert file_system(tmp_path, tmp_path) == "nfs4"

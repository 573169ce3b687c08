"""The lab itself on real Slurm: that it comes up, can be hurt and mended, and leaves nothing behind.

Every test here works on a lab of its own beside the shared one, so that it may break it.
"""

import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import install, processes, trees
from tests.lab.__main__ import main
from tests.lab.cluster import PORTS
from tests.lab.lab import Lab
from tests.lab.place import Place
from tests.lab.running import port_fault, wait
from tests.lab.up import down, up

pytestmark = pytest.mark.lab
USER = "alice"


@pytest.fixture(scope="module")
def own_place() -> Iterator[Place]:
    """A place beside the shared lab's: a directory every user may pass and a free block of ports."""
    try:
        install.check_machine()
    except install.RefusedError as refused:
        pytest.skip(f"no lab: {refused}")
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="hpc-") as parent:
        Path(parent).chmod(0o755)
        place = Place(directory=Path(parent, "lab"), port=free_block())
        yield place
        down(place)


@pytest.fixture
def own_lab(own_place: Place) -> Lab:
    """A lab of this module's own, mended before every test."""
    return up(own_place, ["onprem"], accounting=False)[0]


def free_block() -> int:
    return next(port for port in range(27000, 32000, PORTS) if all(is_free(port + offset) for offset in range(30)))


def is_free(port: int) -> bool:
    return not port_fault("127.0.0.1", port)


def submit(lab: Lab, *options: str, command: str, user: str | None = None) -> str:
    return lab.run("sbatch", "--parsable", *options, "--wrap", command, user=user).strip()


def state(lab: Lab, job: str) -> str:
    return lab.run("squeue", "-h", "-t", "all", "-j", job, "-o", "%T", check=False).strip()


def finished_output(lab: Lab, job: str) -> str:
    wait(lambda: state(lab, job) == "COMPLETED", 30, f"job {job} does not complete")
    return (lab.cluster.job_root / f"slurm-{job}.out").read_text()


def test_all_nodes_are_idle_when_a_lab_comes_up(own_lab: Lab) -> None:
    assert own_lab.node_states() == dict.fromkeys(own_lab.cluster.nodes, "idle")


@pytest.mark.parametrize("user", [None, USER])
def test_a_job_with_two_gpus_sees_two_devices(own_lab: Lab, user: str | None) -> None:
    job = submit(own_lab, "--gres=gpu:h100:2", command='id -un; echo "[$CUDA_VISIBLE_DEVICES]"', user=user)
    assert finished_output(own_lab, job).split() == [user or "root", "[0,1]"]


def test_a_job_across_two_nodes_sees_two_machines_that_know_each_other(own_lab: Lab) -> None:
    job = submit(own_lab, "-N2", command="srun hostname; getent hosts dgx1 dgx2 | wc -l")
    assert sorted(finished_output(own_lab, job).split()) == ["2", "dgx1", "dgx2"]


def test_srun_works_from_outside(own_lab: Lab) -> None:
    assert sorted(own_lab.run("srun", "-p", "cpu", "-N2", "hostname").split()) == ["cpu1", "cpu2"]


def test_a_job_is_requeued_when_its_node_vanishes(own_lab: Lab) -> None:
    job = submit(own_lab, "-w", "dgx2", "--requeue", command="sleep 600")
    wait(lambda: state(own_lab, job) == "RUNNING", 20, "the job does not start")
    own_lab.kill_node("dgx2")
    own_lab.report_lost("dgx2")
    wait(lambda: state(own_lab, job) == "PENDING", 20, "the job is not requeued")
    assert "Restarts=1" in own_lab.run("scontrol", "show", "job", job)
    own_lab.start_node("dgx2")
    wait(lambda: own_lab.node_states()["dgx2"] == "idle", 20, "the node does not come back")
    own_lab.run("scancel", job)


def test_clients_of_a_frozen_controller_wait_and_are_served_when_it_thaws(own_lab: Lab) -> None:
    own_lab.freeze()
    with pytest.raises(subprocess.TimeoutExpired):
        own_lab.run("sinfo", seconds=1)
    own_lab.thaw()
    assert own_lab.ready()


def test_the_queue_survives_a_stop_of_the_controller(own_lab: Lab) -> None:
    job = submit(own_lab, "-H", command="true")
    own_lab.stop_controller()
    assert own_lab.pid("slurmctld") is None
    own_lab.start_controller()
    wait(lambda: state(own_lab, job) == "PENDING", 20, "the controller does not come back with its queue")
    own_lab.run("scancel", job)


def test_up_again_changes_nothing(own_place: Place, own_lab: Lab) -> None:
    names = own_lab.cluster.daemons
    before = [own_lab.pid(name) for name in names]
    (again,) = up(own_place, ["onprem"])
    assert [again.pid(name) for name in names] == before and None not in before


def test_up_mends_what_a_crash_left(own_place: Place, own_lab: Lab) -> None:
    own_lab.freeze()
    for name in ("munged", "dgx1", "cpu2"):
        processes.send(own_lab.record(name), signal.SIGKILL)
    (mended,) = up(own_place, ["onprem"])
    assert set(mended.node_states().values()) == {"idle"}
    processes.send(own_lab.record("slurmctld"), signal.SIGKILL)
    (mended,) = up(own_place, ["onprem"])
    assert set(mended.node_states().values()) == {"idle"}


def test_a_port_in_use_is_named(own_place: Place, own_lab: Lab) -> None:
    own_lab.kill_controller()
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", own_place.port))
        taken.listen()
        with pytest.raises(install.RefusedError, match=f"port {own_place.port}.*HPC_LAB_PORT"):
            up(own_place, ["onprem"])
        beside = Place(directory=own_place.directory.with_name("beside"), port=own_place.port)
        with pytest.raises(install.RefusedError):
            up(beside, ["onprem"])
    assert not beside.directory.exists()


def test_a_machine_with_a_slurm_of_its_own_is_refused_with_status_77(
    own_place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "slurm.conf").touch()
    monkeypatch.setattr(install, "FOREIGN_CONFIGURATIONS", (tmp_path / "slurm.conf",))
    monkeypatch.setenv("HPC_LAB_DIR", str(own_place.directory.with_name("never")))
    assert main(["up"]) == 77
    assert "slurm.conf exists" in capsys.readouterr().err
    assert not own_place.directory.with_name("never").exists()


def test_a_debian_that_cannot_be_had_is_named_and_the_cluster_runs_this_machine_s_slurm(
    own_lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HPC_LAB_CACHE", str(tmp_path))
    monkeypatch.setattr(trees, "MIRROR", "http://127.0.0.1:9/debian")
    (said,) = trees.fetch(["onprem", "azure"])
    assert said.startswith("azure runs this machine's own Slurm, for Debian trixie cannot be had: debootstrap: ")
    assert trees.release(trees.tree_for("azure")) == own_lab.cluster.release
    assert list(tmp_path.iterdir()) == []


def test_down_leaves_nothing(own_place: Place, own_lab: Lab) -> None:
    job = submit(own_lab, "-N2", command="srun sleep 600")
    wait(lambda: state(own_lab, job) == "RUNNING", 20, "the job does not start")
    assert traces(own_place)
    down(own_place)
    wait(lambda: not traces(own_place), 5, f"left behind: {traces(own_place)}")
    assert not own_place.directory.exists()
    assert all(is_free(port) for port in own_lab.cluster.ports.values())
    assert bytes(own_place.directory) not in Path("/proc/self/mountinfo").read_bytes()
    assert not down(own_place)


def traces(place: Place) -> list[str]:
    """Return the processes that name the lab's directory in environment, arguments, mounts or working directory."""
    return [entry.name for entry in Path("/proc").glob("[0-9]*") if belongs(entry, place)]


def belongs(process: Path, place: Place) -> bool:
    needle = bytes(place.directory)
    try:
        text = (
            (process / "environ").read_bytes() + (process / "cmdline").read_bytes() + (process / "mounts").read_bytes()
        )
        return needle in text or needle in bytes((process / "cwd").readlink())
    except OSError:
        return False


def test_the_shared_lab_is_ready_beside_it(lab: Lab) -> None:
    assert lab.ready()

"""What of the lab can be judged without a running Slurm: its files' text, its paths, its records."""

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from hybridhpc.sites.catalog import parse_site
from hybridhpc.sites.site import InvalidSite
from tests.lab import install, processes
from tests.lab.client_files import local_site_file, ssh_config, ssh_site_file
from tests.lab.cluster import PORTS, Cluster
from tests.lab.company import NAMES, Choice, cluster
from tests.lab.machine_files import scripts, user_file
from tests.lab.place import Place, from_environment, make_directory, unfit
from tests.lab.slurm_files import cgroup_conf, gres_conf, slurm_files
from tests.lab.up import down

HOME = Path("/var/tmp/x")
HERE = cluster("onprem", HOME, 17100, Choice(release=(22, 5)))


def test_every_daemon_has_a_port_of_its_own_inside_the_block_of_its_cluster() -> None:
    seen: set[int] = set()
    for number, name in enumerate(NAMES):
        one = cluster(name, HOME, 17100, Choice(release=(22, 5)))
        ports = [*one.ports.values(), one.ssh_port, one.hidden_ssh_port]
        block = range(17100 + PORTS * number, 17100 + PORTS * (number + 1))
        assert len(set(ports)) == len(ports) and set(ports) <= set(block) and not seen & set(ports)
        seen |= set(ports)


def test_node_lines_give_each_node_the_port_the_cluster_says() -> None:
    text = slurm_files(HERE)["slurm.conf"]
    assert f"NodeName=dgx[1-12] NodeAddr=127.0.0.1 Port=[{HERE.ports['dgx1']}-{HERE.ports['dgx12']}]" in text
    assert f"NodeName=cpu[1-4] NodeAddr=127.0.0.1 Port=[{HERE.ports['cpu1']}-{HERE.ports['cpu4']}]" in text


def test_only_nodes_with_gpus_are_in_gres_conf() -> None:
    assert gres_conf(HERE).splitlines()[1:] == [
        "NodeName=dgx[1-12] Name=gpu Type=h100 File=/var/tmp/x/onprem/dev/nvidia[0-7]",
        "NodeName=ada[1-3] Name=gpu Type=rtx6000ada File=/var/tmp/x/onprem/dev/nvidia[0-3]",
    ]


@pytest.mark.parametrize(("release", "text"), [((22, 5), ""), ((23, 11), ""), ((24, 5), "CgroupPlugin=disabled\n")])
def test_cgroups_are_switched_off_in_words_the_release_knows(release: tuple[int, int], text: str) -> None:
    assert cgroup_conf(replace(HERE, release=release)) == text


def test_the_site_file_names_the_clusters_configuration_and_partitions() -> None:
    site = yaml.safe_load(local_site_file(HERE))
    assert site["slurm_conf"] == "/var/tmp/x/onprem/etc/slurm.conf"
    assert site["partitions"]["batch"] == {"gpu_price": "2.10 USD/h"}


@pytest.mark.parametrize(
    ("directory", "fault"),
    [
        ("/var/tmp/" + "x" * 60, "too long"),
        ("/var/tmp/a b", "spaces"),
        ("/home/x/lab", "/home is another"),
        ("/var/tmp/lab", ""),
    ],
)
def test_a_directory_slurm_cannot_live_in_is_told_from_one_it_can(directory: str, fault: str) -> None:
    found = unfit(Place(directory=Path(directory)))
    assert fault in found and bool(found) == bool(fault)


def test_a_directory_that_ordinary_users_cannot_reach_is_unfit(tmp_path: Path) -> None:
    closed = tmp_path / "c"
    closed.mkdir(mode=0o700)
    fault = unfit(Place(directory=closed / "lab"))
    assert "ordinary users cannot pass" in fault or "too long" in fault


def test_a_directory_with_other_things_in_it_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    place = Place(directory=tmp_path)
    with pytest.raises(install.RefusedError, match="holds other things"):
        make_directory(place)
    assert not down(place)
    assert (tmp_path / "thesis.txt").exists()


@pytest.mark.parametrize("port", ["http", "80", "70000", "-1"])
def test_a_port_that_is_none_is_refused(port: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HPC_LAB_PORT", port)
    with pytest.raises(install.RefusedError, match="HPC_LAB_PORT"):
        from_environment()


def test_a_record_names_the_process_that_wrote_it_and_no_later_one_with_its_pid(tmp_path: Path) -> None:
    record = tmp_path / "self.stat"
    record.write_text(Path("/proc/self/stat").read_text())
    assert processes.running(record) == os.getpid()
    head, _, tail = record.read_text().rpartition(")")
    fields = tail.split()
    fields[19] = str(int(fields[19]) - 1)
    record.write_text(f"{head}) {' '.join(fields)}")
    assert processes.running(record) is None


def test_a_slurm_daemon_without_the_labs_mark_is_foreign_and_a_zombie_is_not(tmp_path: Path) -> None:
    for pid, name, environ, state in (
        (11, "slurmctld", "PATH=/bin\0", "S"),
        (12, "slurmd", f"{install.MARK}=/lab\0", "S"),
        (13, "slurmd", "", "Z"),
        (14, "bash", "", "S"),
    ):
        process = tmp_path / str(pid)
        process.mkdir()
        (process / "comm").write_text(f"{name}\n")
        (process / "environ").write_text(environ)
        (process / "stat").write_text(f"{pid} ({name}) {state} 1 1")
    assert list(install.foreign_daemons(tmp_path)) == [(11, "slurmctld")]


@pytest.mark.parametrize("name", NAMES)
def test_the_site_file_behind_ssh_is_one_that_hpc_takes(name: str) -> None:
    one = cluster(name, HOME, 17100, Choice(release=(22, 5)))
    site = parse_site(ssh_site_file(one, HOME / "ssh/config").encode(), f"{name}.yaml")
    assert not isinstance(site, InvalidSite), site
    assert (site.name, site.host, site.ssh_config) == (name, f"lab-{name}", "/var/tmp/x/ssh/config")


@pytest.mark.parametrize("tree", [None, Path("/var/cache/x/sid")])
def test_the_programs_of_a_cluster_are_shell(tree: Path | None) -> None:
    for name in NAMES:
        for text in scripts(cluster(name, HOME, 17100, Choice(release=(26, 5), tree=tree))).values():
            assert subprocess.run(["sh", "-n"], input=text, text=True, capture_output=True).stderr == ""


def test_the_user_of_a_cluster_is_its_own_even_where_the_machine_has_one_of_that_name() -> None:
    text = user_file(HERE, "passwd", "root:x:0:0::/root:/bin/sh\nalice:x:1000:1000::/home/alice:/bin/zsh\n")
    assert text.splitlines() == [
        "root:x:0:0::/root:/bin/sh",
        "alice:x:64101:64101::/var/tmp/x/onprem/home/alice:/bin/bash",
    ]


def test_ssh_reads_the_configuration_as_it_is_meant(tmp_path: Path) -> None:
    (tmp_path / "config").write_text(ssh_config([HERE], tmp_path))
    said = subprocess.run(["ssh", "-G", "-F", tmp_path / "config", "lab-onprem"], capture_output=True, text=True).stdout
    for line in ("user alice", "hostname 127.0.1.1", "port 17199", "stricthostkeychecking true"):
        assert line in said.splitlines()


def test_a_cluster_is_a_value_from_which_another_is_made() -> None:
    other: Cluster = replace(HERE, name="aws", port=17200)
    assert other.head == "aws-head" and other.ports["slurmctld"] == 17200

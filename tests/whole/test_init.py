"""hpc init: from nothing to a job that runs, on a real Slurm, on one with other GPUs, and without any."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

import pytest

from tests.fake_slurm import FakeSlurm, ordinary_programs
from tests.loopback import NO_SSHD, Loopback, can_run
from tests.people import Person


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ordinary_programs(tmp_path_factory.mktemp("path") / "bin")


@pytest.fixture
def without_slurm(tmp_path: Path, programs: Path) -> Person:
    """Someone on a machine that has no Slurm."""
    return Person(tmp_path / "me", PATH=f"{Path(sys.executable).parent}:{programs}", HPC_HERE_CPUS="4")


@pytest.fixture
def slurm(tmp_path: Path) -> FakeSlurm:
    return FakeSlurm(tmp_path / "slurm")


@pytest.fixture
def person(without_slurm: Person, slurm: FakeSlurm) -> Person:
    """Someone on the login node of a small cluster called dgx."""
    without_slurm.env |= {"PATH": f"{slurm.bin}:{without_slurm.env['PATH']}", "FAKE_SLURM": str(slurm.home)}
    return without_slurm


@pytest.fixture
def newcomer(lab_person: Person) -> Person:
    """Someone on the lab's head node who has configured nothing."""
    shutil.rmtree(lab_person.home / "config")
    return lab_person


def site_file(person: Person, name: str = "dgx") -> Path:
    return person.home / "config" / "sites" / f"{name}.yaml"


def init(person: Person, *words: str) -> dict[str, list[str]]:
    answer: dict[str, list[str]] = json.loads(person.hpc("init", "--json", *words))
    return answer


@pytest.mark.lab
def test_on_a_real_cluster_a_newcomer_runs_a_job_at_once(newcomer: Person) -> None:
    said = init(newcomer)
    assert said["written"] == [str(newcomer.home / "job.yaml"), str(site_file(newcomer, "onprem"))]
    sites = {site["site"]: site for site in json.loads(newcomer.hpc("sites", "--json"))}
    assert sites["onprem"]["ok"]
    assert [partition["name"] for partition in sites["onprem"]["partitions"]] == ["batch", "ada", "cpu"]
    assert re.search(r"hello from (dgx|ada|cpu)\d", newcomer.hpc("submit", "job.yaml", "--where", "onprem", "-f"))


@pytest.mark.lab
def test_the_written_site_takes_gpus_by_the_word_people_use(newcomer: Person) -> None:
    newcomer.hpc("init")
    spec = newcomer.spec(
        "name: gpus\nresources: {gpus: H100:8}\ntime: 1m\nrun: echo $CUDA_VISIBLE_DEVICES\n", "gpus.yaml"
    )
    assert "0,1,2,3,4,5,6,7" in newcomer.hpc("submit", spec, "--where", "onprem", "-f")


@pytest.mark.lab
def test_check_finds_no_fault_in_the_written_site_but_asks_for_prices(newcomer: Person) -> None:
    newcomer.hpc("init")
    found = json.loads(newcomer.hpc("check", "--json"))
    assert any("no price is known for batch, ada, cpu" in finding["what"] for finding in found)


def test_what_is_there_is_never_overwritten(person: Person) -> None:
    person.hpc("init")
    for path in (site_file(person), person.home / "job.yaml"):
        path.write_text("mine\n")
    said = init(person)
    assert (said["written"], len(said["kept"])) == ([], 2)
    assert "is there already" in person.hpc("init")
    assert site_file(person).read_text() == (person.home / "job.yaml").read_text() == "mine\n"


def test_a_link_to_nowhere_is_not_written_through(person: Person) -> None:
    (person.home / "job.yaml").symlink_to(person.home / "elsewhere")
    assert init(person)["kept"] == [str(person.home / "job.yaml")]
    assert not (person.home / "elsewhere").exists()


def test_a_dry_run_writes_nothing_and_names_everything(person: Person) -> None:
    said = init(person, "--dry-run")
    assert said["written"] == [str(person.home / "job.yaml"), str(site_file(person))]
    assert f"would write {site_file(person)}" in person.hpc("init", "--dry-run")
    assert not site_file(person).exists() and not (person.home / "job.yaml").exists()


def test_prices_are_left_open_and_not_written_as_zero(person: Person) -> None:
    person.hpc("init")
    text = site_file(person).read_text()
    assert "is not known" in text
    assert re.search(r"(?m)^ *# gpu_price: ", text)
    assert not re.search(r"(?m)^[^#]*price", text)
    site_file(person).write_text(text.replace("# gpu_price:", "gpu_price:"))
    assert not [each for each in json.loads(person.hpc("check", "--json")) if "no price" in each["what"]]


@pytest.mark.parametrize(
    ("gres", "asked", "option"),
    [
        ("gpu:h100:8", "H100:8", "h100:8"),
        ("gpu:H100:8", "h100:8", "H100:8"),
        ("gpu:nvidia_h100_80gb_hbm3:8", "H100:8", "nvidia_h100_80gb_hbm3:8"),
        ("gpu:tesla_v100-sxm2-16gb:4", "V100:4", "tesla_v100-sxm2-16gb:4"),
        ("gpu:a100_1g.5gb:7", "a100_1g.5gb:7", "a100_1g.5gb:7"),
        ("gpu:8", "8", "8"),
    ],
)
def test_gpus_fit_by_the_word_people_use_and_are_asked_for_by_the_schedulers(
    person: Person, slurm: FakeSlurm, gres: str, asked: str, option: str
) -> None:
    slurm.nodes(gres=gres)
    person.hpc("init")
    spec = person.spec(f"resources: {{gpus: '{asked}'}}\ntime: 1m\nrun: 'true'\n", "gpus.yaml")
    assert f"--gpus-per-node={option}" in person.hpc("render", spec, "--where", "dgx")


def test_a_part_of_a_gpu_does_not_pass_for_the_whole_one(person: Person, slurm: FakeSlurm) -> None:
    slurm.nodes(gres="gpu:a100_1g.5gb:7")
    person.hpc("init")
    spec = person.spec("resources: {gpus: A100:1}\ntime: 1m\nrun: 'true'\n", "gpus.yaml")
    assert person.try_hpc("plan", spec, "--where", "dgx").returncode == 5


def test_the_site_may_be_called_otherwise(person: Person) -> None:
    person.hpc("init", "--name", "big-one")
    assert "name: big-one" in site_file(person, "big-one").read_text()


@pytest.mark.parametrize("name", ["auto", "here", "a/b", "", "../up"])
def test_a_name_that_no_site_can_have_is_refused_before_anything_is_written(person: Person, name: str) -> None:
    answer = person.try_hpc("init", "--name", name)
    assert (answer.returncode, "--name dgx" in answer.stderr) == (2, True)
    assert not (person.home / "config").exists() and not (person.home / "job.yaml").exists()


def test_a_cluster_of_an_impossible_name_is_called_slurm(person: Person, slurm: FakeSlurm) -> None:
    settings = slurm.home / "settings"
    settings.write_text(settings.read_text().replace("ClusterName             = dgx", "ClusterName             = here"))
    assert init(person)["written"][1] == str(site_file(person, "slurm"))


def test_a_slurm_that_is_a_site_already_is_not_made_another(person: Person, tmp_path: Path) -> None:
    conf = tmp_path / "slurm.conf"
    conf.touch()
    person.env["SLURM_CONF"] = str(conf)
    site_file(person, "ours").parent.mkdir(parents=True)
    site_file(person, "ours").write_text(f"slurm_conf: {conf}\n")
    said = init(person)
    assert said["written"] == [str(person.home / "job.yaml")]
    assert "the site ours already" in said["remarks"][0]


def test_without_slurm_only_a_spec_is_written_and_runs(without_slurm: Person) -> None:
    said = init(without_slurm)
    assert said["written"] == [str(without_slurm.home / "job.yaml")]
    assert "no Slurm on this machine" in said["remarks"][0]
    assert "hello from" in without_slurm.hpc("submit", "job.yaml", "--where", "auto", "-f")


def test_a_slurm_that_does_not_answer_is_said_and_no_site_file_is_guessed(person: Person, slurm: FakeSlurm) -> None:
    slurm.complain("slurm_load_partitions: Unable to contact slurm controller (connect failure)")
    said = init(person)
    assert said["written"] == [str(person.home / "job.yaml")]
    assert "Unable to contact slurm controller" in said["remarks"][0]


def test_a_slurm_conf_that_does_not_exist_is_said_at_once(person: Person) -> None:
    person.env["SLURM_CONF"] = "/nowhere/slurm.conf"
    assert "/nowhere/slurm.conf, which does not exist" in init(person)["remarks"][0]


def test_one_file_that_cannot_be_written_is_an_error_in_words_and_the_other_is_written(person: Person) -> None:
    person.env["HPC_CONFIG_DIR"] = "/proc/nowhere"
    answer = person.try_hpc("init")
    assert answer.returncode == 1
    assert "hpc: /proc/nowhere/sites/dgx.yaml: cannot be written" in answer.stderr
    assert "Traceback" not in answer.stderr
    assert (person.home / "job.yaml").exists()


def test_a_cluster_behind_ssh_is_described_and_well(without_slurm: Person, slurm: FakeSlurm, tmp_path: Path) -> None:
    if not can_run():
        pytest.skip(NO_SSHD)
    server = Loopback(tmp_path / "sshd", f"SetEnv PATH={slurm.bin}:/usr/bin:/bin FAKE_SLURM={slurm.home}")
    try:
        without_slurm.env |= {"PATH": f"{without_slurm.env['PATH']}:/usr/bin", "XDG_RUNTIME_DIR": str(server.place)}
        said = without_slurm.hpc("init", "--host", "there", "--ssh-config", str(server.config))
        assert f"wrote {site_file(without_slurm)}" in said
        assert f"transport: openssh\nhost: there\nssh_config: {server.config}\n" in site_file(without_slurm).read_text()
        assert "gpu" in without_slurm.hpc("sites")
        again = without_slurm.hpc("init", "--host", "there", "--ssh-config", str(server.config), "--name", "other")
        assert "this Slurm is the site dgx already" in again
    finally:
        server.stop()


def test_a_host_that_is_not_reached_gets_no_site_file(without_slurm: Person) -> None:
    without_slurm.env["PATH"] += ":/usr/bin"
    answer = without_slurm.try_hpc("init", "--host", "127.0.0.1:1")
    assert answer.returncode == 6
    assert "no site file: 127.0.0.1:1 is not reached" in answer.stderr
    assert not (without_slurm.home / "config" / "sites").exists()

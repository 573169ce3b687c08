"""The company's four clusters on real Slurm: reached by ssh, booted, hurt and mended.

What takes a cloud its time is begun for all clouds at once in `jobs` and looked at by the last tests.
"""

import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pytest

from tests.lab.install import BrokenError
from tests.lab.lab import Lab
from tests.lab.place import Place
from tests.lab.running import wait
from tests.lab.up import up

pytestmark = pytest.mark.lab
CLOUDS = ("aws", "azure", "gcp")
# A boot, and the timer at which slurmctld notices that a node is there or will not be: every 30 s.
BOOTED, GIVEN_UP = 60, 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Jobs:
    """Jobs of the clouds: one each that runs on, and one of aws whose node never boots."""

    sleeping: Mapping[str, str]
    bootless: str


@pytest.fixture(scope="module")
def jobs(company: Mapping[str, Lab]) -> Iterator[Jobs]:
    aws = company["aws"]
    aws.fail_boot("p5spot-2")
    bootless = submit(aws, "-p", "p5-spot", "-w", "p5spot-2", "--wrap", "hostname")
    sleeping = {name: submit(company[name], "--gres=gpu:h100:2", "--wrap", SLEEPS) for name in CLOUDS}
    yield Jobs(sleeping=sleeping, bootless=bootless)
    for name in CLOUDS:
        company[name].run("scancel", sleeping[name], check=False)
    aws.run("scancel", bootless, check=False)
    aws.run("scontrol", "update", "nodename=p5spot-2", "state=resume", check=False)


SLEEPS = 'echo "$(hostname) $CUDA_VISIBLE_DEVICES"; sleep 600'


def submit(lab: Lab, *options: str) -> str:
    return lab.run("sbatch", "--parsable", "-D", str(lab.cluster.user_home), *options, user=lab.cluster.user).strip()


def asked(lab: Lab, job: str, fields: str) -> str:
    return lab.run("squeue", "-h", "-t", "all", "-j", job, "-o", fields, check=False).strip()


def ssh(lab: Lab, *words: str, seconds: float = 20) -> subprocess.CompletedProcess[str]:
    config = ("-F", str(lab.home / "ssh/config"), "-o", "BatchMode=yes")
    return subprocess.run(
        ["ssh", *config, lab.cluster.ssh_host, *words], capture_output=True, text=True, timeout=seconds
    )


def test_each_head_is_a_machine_with_a_user_and_a_slurm_of_its_own(company: Mapping[str, Lab], jobs: Jobs) -> None:
    assert jobs
    for name, lab in company.items():
        said = ssh(lab, "hostname; id -un; pwd; sinfo -V; scontrol show config | grep ClusterName").stdout.split()
        release = ".".join(f"{part:02}" for part in lab.cluster.release)
        assert said[:3] == [f"{name}-head", lab.cluster.user, str(lab.cluster.user_home)]
        assert said[4].startswith(release) and said[-1] == name


def test_three_releases_are_there(company: Mapping[str, Lab]) -> None:
    releases = {lab.cluster.release for lab in company.values()}
    if any(company[name].cluster.tree is None for name in ("azure", "gcp")):
        pytest.skip(f"Debian trixie or sid is not in the cache (python -m tests.lab install): only {releases}")
    assert len(releases) >= 3


def test_another_host_key_is_refused(company: Mapping[str, Lab], tmp_path_factory: pytest.TempPathFactory) -> None:
    known = tmp_path_factory.mktemp("ssh") / "known_hosts"
    text = (company["aws"].home / "ssh/known_hosts").read_text().splitlines()
    keys = [line.split(maxsplit=1) for line in text]
    known.write_text("".join(f"{where} {keys[number - 1][1]}\n" for number, (where, _) in enumerate(keys)))
    config = ("-F", str(company["aws"].home / "ssh/config"), "-o", f"UserKnownHostsFile={known}")
    done = subprocess.run(["ssh", *config, "lab-aws", "true"], capture_output=True, text=True)
    assert done.returncode == 255 and "REMOTE HOST IDENTIFICATION HAS CHANGED" in done.stderr


def test_limits_and_accounts_hold_at_home(company: Mapping[str, Lab]) -> None:
    onprem = company["onprem"]
    job = submit(onprem, "--qos=debug", "--time=2:00:00", "--wrap", "true")
    wait(lambda: "QOSMaxWall" in asked(onprem, job, "%r"), 20, "the limit of a QOS is not enforced")
    onprem.run("scancel", job)
    with pytest.raises(subprocess.CalledProcessError, match="1"):
        submit(onprem, "--account=nobody", "--wrap", "true")
    assert "alice" in onprem.run("sshare", "-a", "-n", "-P", "-o", "User")


def test_where_there_is_no_accounting_sacct_says_so(company: Mapping[str, Lab]) -> None:
    assert "accounting storage is disabled" in ssh(company["aws"], "sacct").stderr
    assert ssh(company["azure"], "sacct", "-X").returncode == 0


def test_an_sshd_that_is_dropped_refuses_and_what_was_started_lives_on(company: Mapping[str, Lab]) -> None:
    aws = company["aws"]
    ssh(aws, "nohup sleep 321 >/dev/null 2>&1 & echo $! >sleeper")
    aws.drop_ssh()
    assert ssh(aws, "true").returncode == 255
    aws.restore_ssh()
    assert ssh(aws, "kill $(cat sleeper)").returncode == 0


def test_an_sshd_that_is_frozen_says_nothing(company: Mapping[str, Lab]) -> None:
    aws = company["aws"]
    aws.freeze_ssh()
    with pytest.raises(subprocess.TimeoutExpired):
        ssh(aws, "true", seconds=1)
    aws.thaw_ssh()
    assert ssh(aws, "true").returncode == 0


def test_a_slow_link_is_slow_and_whole_and_ends(company: Mapping[str, Lab]) -> None:
    azure = company["azure"]
    azure.slow_link("400")
    began = time.monotonic()
    much = ssh(azure, "head -c 1000000 /dev/zero | tr '\\0' x").stdout
    # Key exchange, authentication and session take several round trips.
    assert much == "x" * 1_000_000 and time.monotonic() - began > 1.2
    azure.mend_link()
    assert azure.pid("link") is None and ssh(azure, "true").returncode == 0


def test_a_full_disk_takes_nothing_more_until_it_is_freed(company: Mapping[str, Lab]) -> None:
    gcp = company["gcp"]
    write = "head -c 20000 /dev/zero >much"
    gcp.fill_disk()
    assert "No space left" in ssh(gcp, write).stderr
    gcp.free_disk()
    assert ssh(gcp, f"{write} && rm much").returncode == 0


def test_up_mends_every_fault_and_restarts_nothing(company: Mapping[str, Lab]) -> None:
    azure, gcp, onprem = company["azure"], company["gcp"], company["onprem"]
    before = [lab.pid(name) for lab in company.values() for name in lab.cluster.daemons]
    azure.drop_ssh()
    azure.fill_disk()
    azure.freeze()
    gcp.slow_link("100")
    gcp.freeze_ssh()
    up(Place(directory=onprem.home, port=onprem.cluster.port))
    assert [lab.pid(name) for lab in company.values() for name in lab.cluster.daemons] == before
    for lab in (azure, gcp):
        assert ssh(lab, "sinfo -h | wc -l; head -c 20000 /dev/zero >much && rm much").returncode == 0
    assert gcp.pid("link") is None


def test_faults_that_a_cluster_cannot_have_are_named(company: Mapping[str, Lab]) -> None:
    for fault, words in (
        (lambda: company["onprem"].fail_boot("dgx1"), "is no cloud"),
        (lambda: company["aws"].fail_boot("p6-1"), "no node 'p6-1' in aws"),
        (lambda: company["aws"].set_boot_delay("3600"), "at most"),
        (lambda: company["aws"].slow_link("fast"), "whole milliseconds"),
    ):
        with pytest.raises(BrokenError, match=words):
            fault()


@pytest.mark.parametrize("name", CLOUDS)
def test_a_node_of_a_cloud_boots_for_a_job_and_is_a_machine_with_gpus(
    company: Mapping[str, Lab], jobs: Jobs, name: str
) -> None:
    lab, job = company[name], jobs.sleeping[name]
    wait(lambda: asked(lab, job, "%T") == "RUNNING", BOOTED, f"{name}: {asked(lab, job, '%T %r')}")
    node = asked(lab, job, "%N")
    wait(lambda: ssh(lab, f"cat slurm-{job}.out").stdout == f"{node} 0,1\n", 10, "the job sees another machine")
    assert f"{node} boots" in (lab.cluster.directory / "log/power.log").read_text()


@pytest.mark.parametrize("name", CLOUDS)
def test_a_job_is_requeued_when_its_spot_node_vanishes(company: Mapping[str, Lab], jobs: Jobs, name: str) -> None:
    lab, job = company[name], jobs.sleeping[name]
    node = asked(lab, job, "%N")
    lab.vanish(node)
    wait(lambda: asked(lab, job, "%T") == "PENDING", 20, f"{name}: {asked(lab, job, '%T %r')}")
    assert lab.pid(node) is None and "Restarts=1" in lab.run("scontrol", "show", "job", job)


def test_a_node_that_never_boots_is_given_up(company: Mapping[str, Lab], jobs: Jobs) -> None:
    aws = company["aws"]
    wait(lambda: aws.node_states()["p5spot-2"] == "down~", GIVEN_UP, "the boot does not fail")
    assert asked(aws, jobs.bootless, "%T") == "PENDING"
    assert "p5spot-2 fails" in (aws.cluster.directory / "log/power.log").read_text()


def test_up_takes_back_nodes_that_vanished_or_never_booted(company: Mapping[str, Lab], jobs: Jobs) -> None:
    for name, job in jobs.sleeping.items():
        company[name].run("scancel", job)
    company["aws"].run("scancel", jobs.bootless)
    assert not all(lab.ready() for lab in company.values())
    onprem = company["onprem"]
    up(Place(directory=onprem.home, port=onprem.cluster.port))
    # A cloud node may be powered down just then: it is ready again once it is off.
    wait(lambda: all(lab.ready() for lab in company.values()), 60, "a cluster does not stay ready")

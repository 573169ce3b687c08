"""What a site file's text becomes, and what is said of one that is wrong."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hybridhpc.script.fabric import FABRICS
from hybridhpc.sites import schema
from hybridhpc.sites.catalog import parse_site
from hybridhpc.sites.plugins import PYXIS, entries
from hybridhpc.sites.schema import WRITE
from hybridhpc.sites.site import InvalidSite, Partition, Price, Site
from hybridhpc.spec.native import judge

ROOT = Path(__file__).parents[2]
DOCS = (ROOT / "docs/sites.md").read_text()


def site(text: str, path: str = "/etc/hybridhpc/sites/dgx.yaml") -> Site:
    found = parse_site(text.encode(), path, judge)
    assert isinstance(found, Site), found.problems
    return found


def problems(text: str | bytes) -> list[str]:
    found = parse_site(text.encode() if isinstance(text, str) else text, "/s/dgx.yaml", judge)
    assert isinstance(found, InvalidSite)
    assert (found.name, found.file) == ("dgx", "/s/dgx.yaml")
    return [str(problem) for problem in found.problems]


@pytest.mark.parametrize("file", sorted((ROOT / "configs/sites").glob("*.yaml")), ids=lambda file: file.stem)
def test_a_shipped_site_can_be_read_and_is_priced(file: Path) -> None:
    found = parse_site(file.read_bytes(), str(file))
    assert isinstance(found, Site), found.problems
    assert found.fabric in FABRICS
    assert found.partitions
    assert all(partition.price.source == f"site file {file.name}" for partition in found.partitions)


@pytest.mark.parametrize("text", re.findall(r"```yaml\n(.*?)```", DOCS, re.DOTALL))
def test_an_example_of_the_documentation_can_be_read(text: str) -> None:
    assert site(text)


def test_the_documentation_names_every_key_and_every_fabric() -> None:
    assert {key.rpartition(".")[2] for key in WRITE} - {"*"} <= set(re.findall(r"[a-z_]+", DOCS))
    assert set(FABRICS) == set(schema.FABRICS)
    assert all(f"`{word}`" in DOCS for word in (*FABRICS, *schema.PROVIDERS))


@pytest.mark.parametrize("key", [key for key in WRITE if "." not in key])
def test_what_a_message_tells_to_write_can_be_written(key: str) -> None:
    others = {"only_listed": "partitions: {a: {}}", "ssh_config": "host: login", "renew": "host: login"}
    more = others.get(key, "")
    assert site(f"{WRITE[key]}\n{more}")


def test_every_key_reaches_the_value_that_it_is_for() -> None:
    assert site(
        """
name: lab
scheduler: slurm
transport: openssh
host: me@login.example.org
provider: aws
slurm_conf: /opt/slurm/etc/slurm.conf
version: "24.11"
job_root: /scratch/$USER/jobs
partitions:
  p5: {node_price: 55.04 USD/h, purchase: on-demand, boot_delay: 4m, account: p5, qos: high, slurm: {exclusive: true}}
  cpu:
only_listed: yes
gpu_price: 2.10 USD/h
gres: {H100: gpu:nvidia_h100_80gb_hbm3}
gpu_memory: {H100: 80GiB}
gpu_speed: {H100: 1.0, A100: 0.45}
account: ml
qos: normal
names: {account: {ml: proj-42}, partition: {gpu: p5}}
labels: [eu]
resident_data: [/data/patients]
slurm: [--comment=site]
preamble: |
  module load apptainer
container_runtime: singularity
image_dir: ~/images
fabric: efa
mpi: pmix
poll_interval: 1m
probe_deadline: 5s
"""
    ) == Site(
        name="lab",
        file="/etc/hybridhpc/sites/dgx.yaml",
        scheduler="slurm",
        transport="openssh",
        host="me@login.example.org",
        provider="aws",
        slurm_conf="/opt/slurm/etc/slurm.conf",
        version="24.11",
        job_root="/scratch/$USER/jobs",
        partitions=(
            Partition(
                name="p5",
                price=Price(per_node=55.04, source="site file dgx.yaml"),  # type: ignore[arg-type]
                purchase="on-demand",
                boot_delay=240,  # type: ignore[arg-type]
                account="p5",
                qos="high",
                slurm=(("exclusive", None),),
            ),
            Partition(name="cpu", price=Price(per_gpu=2.1, source="site file dgx.yaml")),  # type: ignore[arg-type]
        ),
        only_listed=True,
        price=Price(per_gpu=2.1, source="site file dgx.yaml"),  # type: ignore[arg-type]
        gres=(("H100", "nvidia_h100_80gb_hbm3"),),
        gpu_memory=(("H100", 81920),),  # type: ignore[arg-type]
        gpu_speed=(("H100", 1.0), ("A100", 0.45)),
        account="ml",
        qos="normal",
        names=(("account", "ml", "proj-42"), ("partition", "gpu", "p5")),
        labels=("eu",),
        resident_data=("/data/patients",),
        slurm=(("comment", "site"),),
        preamble="module load apptainer\n",
        container_runtime="singularity",
        image_dir="~/images",
        fabric="efa",
        mpi="pmix",
        poll_interval=60,  # type: ignore[arg-type]
        probe_deadline=5,  # type: ignore[arg-type]
    )


def test_a_site_is_named_after_its_file_and_needs_no_more() -> None:
    found = site("job_root: ~/jobs")
    assert (found.name, found.scheduler, found.transport, found.price) == ("dgx", "slurm", "local", Price())
    assert problems("only_listed: false\nname: a b")[0].startswith("/s/dgx.yaml:2: name: 'a b' is no name")


def test_a_file_whose_name_cannot_name_a_site_must_give_one() -> None:
    for path in ("/s/my site.yaml", "/s/auto.yaml"):
        assert isinstance(parse_site(b"job_root: ~/jobs", path), InvalidSite)
        assert site("name: dgx", path).name == "dgx"


def test_a_preamble_may_be_a_list_of_lines() -> None:
    assert site("preamble: [module load a, module load b]").preamble == "module load a\nmodule load b"


def test_a_partition_that_gives_one_price_gives_all_of_its_own() -> None:
    found = site("gpu_price: 2\ncpu_price: 0.01\npartitions: {a: {node_price: 3}, b: {purchase: spot}}")
    assert found.partition("a").price == Price(per_node=3.0, source="site file dgx.yaml")  # type: ignore[arg-type]
    assert found.partition("b").price == found.price == found.partition("unlisted").price


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("scheduler: slrum", "did you mean slurm?"),
        ("transport: telnet", "'telnet' is none of local, ssh, openssh"),
        ("transport: ssh", "ssh needs a host"),
        ("transport: local\nhost: login", "is not used by transport: local"),
        ("transport: ssh\nhost: -oProxyCommand=x", "is no host name"),
        ("scheduler: here\ntransport: ssh\nhost: a", "runs on this machine only"),
        ("job_root: jobs", "begin it with /, ~/ or $HOME/"),
        ("job_root: $SCRATCH/jobs", "is not absolute"),
        ("job_root: /scratch/$GROUP/jobs", "a variable that is not expanded"),
        ("job_root: /scratch/$(id -un)", "a variable that is not expanded"),
        ("image_dir: images", "is not absolute"),
        ("slurm_conf: ~/slurm.conf", "is not absolute"),
        ("version: 24", "is no Slurm version"),
        ("partitions: [a, b]", "must be a mapping, not a list"),
        ("partitions: {a: {price: 3}}", "write gpu_price, node_price or cpu_price"),
        ("partitions: {a: {gpu_prize: 3}}", "did you mean gpu_price?"),
        ("partitions: {a: {purchase: rented}}", "is none of owned, on-demand, spot"),
        ("partitions: {a: {boot_delay: 5}}", "has no unit"),
        ("partitions: {'a,b': {}}", "is no name of a partition"),
        ("boot_delay: 5m", "it belongs below partitions.NAME"),
        ("only_listed: true", "so nothing could run"),
        ("only_listed: perhaps", "is neither true nor false"),
        ("gpu_price: 2.10 EUR/h", "is no price (write 30 USD/h)"),
        ("gpu_price: -1", "is no price"),
        ("gpu_price: .nan", "is no price"),
        ("gres: {H100: a b}", "is no GPU name"),
        ("gpu_memory: {H100: 0}", "is out of range"),
        ("gpu_speed: {H100: 0}", "is out of range"),
        ("gpu_speed: {H100: .inf}", "is no number"),
        ("names: {acount: {a: b}}", "did you mean account?"),
        ("names: {account: ml}", "must be a mapping, not text"),
        ("slurm: {account: ml}", "write account: ml at the top level"),
        ("slurm: {constrant: ib}", "did you mean constraint?"),
        ("partitions:\n  a:\n    slurm: {hint: fast}", "'fast' is not what sbatch takes"),
        ("slurm: {time: 3}", "--time is set by a key of its own"),
        ("poll_interval: 2d", "'2d' is too long (write a time from 1s to 1d)"),
        ("poll_interval: 0s", "'0s' is too short (write a time from 1s to 1d)"),
        ("probe_deadline: 0", "'0' is too short (write a time from 1s to 10m)"),
        ("poll_interval: 30", "has no unit (write 30s for seconds or 30m for minutes)"),
        ("partitions: {a: {boot_delay: 3d}}", "write a time from 0s to 1d"),
        ("provider: ibm", "'ibm' is none of onprem, aws, azure, gcp, cloud"),
        ("provider: azur", "did you mean azure?"),
        ("fabric: ib-dgx", "did you mean ib-dgx-h100?"),
        ("fabric: ethernet", "is none of ib, ib-dgx-h100,"),
        ("labels: [eu, auto]", "'auto' means every site"),
        ("labels: cloud", "which provider and purchase say"),
        ("name: auto", "can be no site's name"),
        ("name: here", "is this machine without a scheduler"),
        ("host: login:ssh", "has no port behind its ':'"),
        ("host: login:70000", "has no port behind its ':'"),
        ("job_root: /scratch/$USERNAME/jobs", "a variable that is not expanded"),
        ("resident_data: [/]", "is every directory"),
        ("resident_data: /data/..", "is every directory"),
        ("gpu_memory: {H100: 80GiB, h100: 94GiB}", "means the same as 'H100'"),
        ("password: hunter2", "its text is not shown"),
        ("nodes: 3", "is asked from the scheduler"),
        ("jobroot: ~/x", "did you mean job_root?"),
        ("mpi: [pmix]", "must be one value, not a list"),
        ("account: &a ml", "the anchor '&a' is not accepted"),
        ("\tname: x", "is indented with a tab"),
    ],
)
def test_a_fault_is_named_with_its_remedy(line: str, message: str) -> None:
    (found,) = problems(line)
    assert message in found
    assert re.match(r"/s/dgx\.yaml:[0-9]: ", found)
    assert "hunter2" not in found


def test_all_problems_come_in_one_answer_and_in_order() -> None:
    found = problems("nmae: x\nscheduler: pbs\ngpu_price: free\npartitions:\n  a: {purchase: x}\n  b: 3\n")
    assert [line.split(":")[1] for line in found] == ["1", "2", "3", "5", "6"]


@pytest.mark.parametrize(
    "content", [b"", b"\x00\x01", b"\xff\xfea\x00", b"name: \xff", b"x" * 1_000_001, b"- a", b"a: [", b"a"]
)
def test_what_is_no_site_file_refuses_only_itself(content: bytes) -> None:
    assert len(problems(content)) == 1


def test_a_site_says_which_options_its_plugins_add() -> None:
    found = site("plugin_options: [pyxis, container-image=, --lustre-pool=, quick=?]\nslurm: {lustre-pool: fast}")
    assert found.plugin_options == (*PYXIS, ("lustre-pool", "="), ("quick", "=?"))
    assert found.slurm == (("lustre-pool", "fast"),)
    assert site("plugin_options: pyxis").plugin_options == PYXIS
    assert entries(found.plugin_options) == "pyxis, lustre-pool=, quick=?"
    assert entries(PYXIS[1:3]) == "container-mounts=, container-workdir="


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "[container-image=IMAGE]",
            "plugin_options[0]: 'container-image=IMAGE' is no option of a plugin (write name= if",
        ),
        ("[quick, pyxis, quick=]", "plugin_options: quick stands twice, as quick and quick="),
        (
            "[container-image]\nslurm: {container-image: a}",
            "2: slurm.container-image: --container-image takes no argum",
        ),
        ("[quick=]\nslurm: [--quick]", "dgx.yaml:2: slurm[0]: --quick needs an argument"),
        (
            "[quick]\nslurm: {quik: true}",
            "slurm.quik: --quik is no option of sbatch (did you mean quiet? Else write plugi",
        ),
        ("[pyxis, container-image]\nslurm: {container-image: a}", "1: plugin_options: container-image stands twice"),
        ("{quick: true}", "dgx.yaml:1: plugin_options: "),
        ("[quick]\nscheduler: here", "dgx.yaml:1: plugin_options: are Slurm's; scheduler: here has no plugins"),
    ],
)
def test_what_a_site_cannot_say_of_its_plugins(text: str, message: str) -> None:
    (problem,) = problems(f"plugin_options: {text}")
    assert message in problem

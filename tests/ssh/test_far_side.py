"""hpc check at a site behind ssh: what would only show when a job is sent is named before."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hybridhpc.checking.far_side import look_at_far_side
from hybridhpc.checking.finding import Finding
from hybridhpc.client import Client
from hybridhpc.command import Command, Errand
from hybridhpc.config import environment
from hybridhpc.errors import TransportError, Undelivered
from hybridhpc.sites.catalog import parse_site
from hybridhpc.sites.site import Site
from hybridhpc.sites.snapshot import Snapshot
from hybridhpc.transports.base import Transport
from tests.loopback import Loopback


@pytest.fixture
def look(server: Loopback, tmp_path: Path) -> Iterator[Callable[..., list[Finding]]]:
    """Give what looks at the server as a site file describes it."""
    client = Client(environment() | {"XDG_RUNTIME_DIR": str(server.place)}, str(tmp_path))

    def findings(text: str) -> list[Finding]:
        file = tmp_path / "far.yaml"
        file.write_text(f"host: {server.host}\nssh_config: {server.config}\n{text}")
        site = parse_site(file.read_bytes(), str(file))
        assert isinstance(site, Site)
        return list(look_at_far_side(client, site, Snapshot(site="far", taken_at=0.0)))

    yield findings


def test_a_site_where_jobs_can_be_sent_is_well(look: Callable[..., list[Finding]], server: Loopback) -> None:
    root = server.place / "jobs"
    root.mkdir(exist_ok=True)
    found = look(f"job_root: {root}/mine\npreamble: 'true'\n")
    assert [each for each in found if "seldom share" not in each.what] == []
    assert list(root.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "what", "fix"),
    [
        (
            "job_root: /proc/1/jobs",
            "job_root /proc/1/jobs cannot be made: /proc/1: you cannot write here",
            ":3: job_root",
        ),
        (
            "job_root: /etc/passwd/jobs",
            "job_root /etc/passwd/jobs cannot be made: /etc/passwd: is no dir",
            ":3: job_root",
        ),
        ("job_root: /tmp/jobs", "job_root /tmp/jobs is in a directory that nodes seldom share", "that all nodes share"),
        ("job_root: /var/jobs\npreamble: if true", "the preamble is no shell", "correct preamble"),
        ("job_root: /var/jobs\ncontainer_runtime: singularity", "singularity is not on PATH", "in the preamble"),
    ],
)
def test_what_would_stop_a_job_is_named(look: Callable[..., list[Finding]], text: str, what: str, fix: str) -> None:
    (found,) = look(text)
    assert what in found.what
    assert fix in found.fix


def test_a_job_root_that_everybody_can_change_is_named(look: Callable[..., list[Finding]], tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    (found,) = [each for each in look(f"job_root: {tmp_path}/open") if each.level == "fault"]
    assert found.what == f"job_root {tmp_path}/open: everybody can exchange what is in it"


def test_what_cannot_be_put_at_a_site_names_it_and_the_key(server: Loopback, reach: Callable[..., Transport]) -> None:
    transport = reach(server, file="/s.yaml", lines=(("job_root", 3),), job_root="/proc/1/jobs")
    with pytest.raises(Undelivered, match=r"s: mkdir: .*/proc/1/jobs") as caught:
        transport.put("/proc/1/jobs/a", [])
    assert caught.value.hint.endswith("/s.yaml:3: job_root: /proc/1/jobs")


def test_a_program_or_configuration_that_a_site_lacks_has_its_fix(
    server: Loopback, reach: Callable[..., Transport]
) -> None:
    with pytest.raises(Undelivered, match=r"^no-squeue: not found") as caught:
        reach(server).run(Command(argv=("no-squeue",)))
    assert f"`ssh -F {server.config} there command -v no-squeue` finds nothing: set PATH" in caught.value.hint
    lacking = reach(server, file="/s.yaml", lines=(("slurm_conf", 2),), slurm_conf="/none/slurm.conf")
    with pytest.raises(Undelivered, match=r"^/s.yaml:2: slurm_conf: /none/slurm.conf does not exist there"):
        lacking.run(Command(argv=("true",)))


def test_a_command_that_hangs_is_told_from_a_site_that_is_not_reached(
    server: Loopback, reach: Callable[..., Transport]
) -> None:
    transport = reach(server)
    transport.run(Command(argv=("true",)))
    stubborn = Command(argv=("sh", "-c", "trap '' TERM; sleep 3; sleep 3"))
    (answer,) = transport.run_all([Errand(command=stubborn)], within=1.0)
    assert isinstance(answer, TransportError)
    assert answer.message == "there is reached, but sh gave no answer there in time"

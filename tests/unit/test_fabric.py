"""Fabrics: what is set on which jobs, and that a node without the site's fabric says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from hybridhpc.errors import SiteFileError
from hybridhpc.script import fabric
from hybridhpc.script.fabric import FABRICS, Fabric, fabric_of
from tests.job_scripts import JobDir, render


@pytest.mark.parametrize("name", FABRICS)
def test_a_job_on_one_node_sets_nothing(name):
    assert fabric_of(name, 1) == FABRICS["none"]
    assert fabric_of(name, 2) is FABRICS[name]


@pytest.mark.parametrize("name", FABRICS)
def test_every_fabric_names_its_source_and_never_the_gpus_of_the_job(name):
    assert FABRICS[name].source
    assert "CUDA_VISIBLE_DEVICES" not in dict(FABRICS[name].env)


def test_what_efa_s_plugin_sets_by_itself_is_left_alone():
    left_alone = {"FI_EFA_USE_DEVICE_RDMA", "FI_EFA_ENABLE_SHM_TRANSFER", "NCCL_PROTO", "NCCL_MIN_CHANNELS"}
    assert not left_alone & set(dict(FABRICS["efa"].env))


def test_an_unknown_fabric_is_a_fault_of_the_site_file():
    with pytest.raises(SiteFileError, match=r"fabric: 'ethernet' is no fabric .* tcpxo"):
        render(site={"fabric": "ethernet"})


@pytest.fixture
def made_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fabric:
    """A fabric whose files lie in a temporary directory, since a test cannot write to /usr/local."""
    (tmp_path / "profile.sh").write_text("export FROM_PROFILE=$HINT CHANNELS=$UNSET_THERE\nexport OURS=profile\n")
    (tmp_path / "lib64").mkdir()
    made = Fabric(
        source="this test",
        env=(("OURS", "fabric"), ("THEIRS", "a;b $(x)")),
        binds=(f"{tmp_path}/lib64",),
        profile=f"{tmp_path}/profile.sh",
        profile_env=(("HINT", "x y"),),
        library_path=(f"{tmp_path}/lib64", "/usr/lib/more"),
    )
    monkeypatch.setitem(fabric.FABRICS, "made-up", made)
    return made


KEYS = {"scheduler": "slurm", "nodes": 2, "site": {"fabric": "made-up"}}


def test_ours_wins_over_the_vendor_s_profile_and_the_person_s_over_both(tmp_path, made_up):
    job = JobDir(tmp_path / "job", LD_LIBRARY_PATH="/before")
    run = 'echo "$FROM_PROFILE|$OURS|$THEIRS|$LD_LIBRARY_PATH"'
    assert job.run(render(run=run, env=(("THEIRS", "mine"),), **KEYS)) == 0
    assert job.log == f"x y|fabric|mine|{tmp_path}/lib64:/usr/lib/more:/before\n"


@pytest.mark.parametrize("missing", ["lib64", "profile.sh"])
def test_a_node_that_lacks_what_the_fabric_needs_ends_the_job_with_a_message(tmp_path, made_up, missing):
    (tmp_path / missing).rename(tmp_path / "gone")
    job = JobDir(tmp_path / "job")
    assert job.run(render(run="echo ran", **KEYS)) == 1
    assert f"{tmp_path}/{missing} is missing" in job.log and "ran\n" not in job.log

"""A site whose plugin rewrites jobs: what it changed is said, and the job runs as the site wants it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.lab.lab import Lab
from tests.people import Person

pytestmark = pytest.mark.lab

PLUGIN = """
function slurm_job_submit(job, partitions, uid)
  if job.name == "rewritten" then
    job.time_limit = 7
    job.partition = "cpu"
    job.comment = "billed to the site"
  elseif job.name == "unwanted" then
    slurm.user_msg("jobs of this name are not wanted here")
    return slurm.ERROR
  elseif job.name == "choosy" and job.partition ~= "cpu" then
    slurm.user_msg("jobs of this name belong on cpu")
    return slurm.ERROR
  end
  return slurm.SUCCESS
end
function slurm_job_modify(job, record, partitions, uid)
  return slurm.SUCCESS
end
return slurm.SUCCESS
"""


@contextmanager
def plugin(lab: Lab) -> Iterator[None]:
    """Let the controller load a job_submit plugin in Lua, and unload it afterwards."""
    conf = lab.cluster.slurm_conf
    text = conf.read_text()
    script = conf.with_name("job_submit.lua")
    try:
        script.write_text(PLUGIN)
        conf.write_text(f"{text}JobSubmitPlugins=lua\n")
        lab.run("scontrol", "reconfigure")
        if "lua" not in lab.run("scontrol", "show", "config"):
            pytest.skip("this Slurm has no job_submit/lua")
        yield
    finally:
        conf.write_text(text)
        lab.run("scontrol", "reconfigure")
        script.unlink()


def test_what_a_plugin_rewrites_is_said_and_what_it_refuses_is_no_job(lab: Lab, lab_person: Person) -> None:
    spec = "time: 3m\nresources: {memory: 50MiB}\nrun: echo $SLURM_JOB_PARTITION\n"
    changed = lab_person.spec(f"name: rewritten\n{spec}", "changed.yaml")
    unwanted = lab_person.spec(f"name: unwanted\n{spec}", "unwanted.yaml")
    with plugin(lab):
        answer = lab_person.try_hpc("submit", changed, "--where", "onprem/batch", "-f")
        assert answer.returncode == 0, answer.stderr
        assert "note: the site changed partition from batch to cpu" in answer.stderr
        assert "note: the site changed the walltime from 00:03:00 to 00:07:00" in answer.stderr
        assert answer.stdout.splitlines()[1] == "cpu"
        refused = lab_person.try_hpc("submit", unwanted, "--where", "onprem/batch")
        choosy = lab_person.spec(f"name: choosy\n{spec}", "choosy.yaml")
        moved = lab_person.try_hpc("submit", choosy, "--where", "onprem/batch,onprem/cpu", "--json")
    assert refused.returncode == 5
    assert "jobs of this name are not wanted here" in refused.stderr
    jobs = [job for job in json.loads(lab_person.hpc("status", "--json")) if job["native_state"] != "REFUSED"]
    assert {job["name"]: job["partition"] for job in jobs} == {"rewritten": "batch", "choosy": "cpu"}, moved.stderr
    lab_person.hpc("cancel", json.loads(moved.stdout)["ref"])

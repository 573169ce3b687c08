"""A site whose SPANK plugin adds options to sbatch, and one without: a script that uses them goes where they are."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.lab import Lab
from tests.people import Person

pytestmark = pytest.mark.lab

PLUGIN = """
#include <stdlib.h>
#include <slurm/spank.h>
SPANK_PLUGIN(boxes, 1)
static int take(int val, const char *argument, int remote) {
    return argument && !remote ? setenv("BOX", argument, 1) : 0;
}
static int ignore(int val, const char *argument, int remote) { return 0; }
static struct spank_option table[] = {
    {"container-image", "[USER@][REGISTRY#]IMAGE[:TAG]|PATH", "the image to use", 1, 0, take},
    {"no-container-mount-home", NULL, "do not mount the home", 0, 1, ignore},
    {"quick", "[LEVEL]", "hurry", 2, 2, ignore},
    SPANK_OPTIONS_TABLE_END
};
int slurm_spank_init(spank_t spank, int argc, char **argv) {
    for (int i = 0; table[i].name; i++)
        if (spank_option_register(spank, &table[i])) return -1;
    return 0;
}
"""
SCRIPT = """\
#!/bin/sh
#SBATCH --container-image ubuntu:24.04 --quick
#SBATCH --no-cont --mem=50 --time=2
echo "in $BOX"
sha256sum "$0"
"""
LISTED = "plugin_options: [container-image=, no-container-mount-home, quick=?]\n"


@pytest.fixture
def plugin(lab: Lab, tmp_path: Path) -> Iterator[None]:
    """Give the cluster a plugin, as its administrator would: beside slurm.conf, for sbatch and for its nodes."""
    source, library = tmp_path / "boxes.c", tmp_path / "boxes.so"
    if shutil.which("gcc") is None or not Path("/usr/include/stdlib.h").exists():
        pytest.skip("a SPANK plugin wants compiling, and there is no gcc with the C library's headers")
    source.write_text(PLUGIN)
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, source], check=True)
    stack = lab.cluster.slurm_conf.with_name("plugstack.conf")
    try:
        stack.write_text(f"required {library}\n")
        yield
    finally:
        stack.unlink()


@pytest.fixture
def sites(plugin: None, lab: Lab, lab_person: Person) -> Path:
    """Let `hpc init` describe the cluster, and beside it a site `bare`: the same Slurm for those without the plugin."""
    folder = lab_person.home / "config" / "sites"
    text = (folder / "onprem.yaml").read_text()
    shutil.rmtree(folder)
    lab_person.hpc("init")
    assert LISTED in (folder / "onprem.yaml").read_text()
    conf = lab_person.home / "slurm.conf"
    shutil.copy(lab.cluster.slurm_conf, conf)
    bare = text.replace(str(lab.cluster.slurm_conf), str(conf)).replace("name: onprem", "name: bare")
    (folder / "bare.yaml").write_text(bare)
    return folder


def refusals(answer: subprocess.CompletedProcess[str], code: int = 5) -> str:
    assert answer.returncode == code, answer.stdout
    return answer.stdout + answer.stderr


def test_a_script_with_options_of_a_plugin_runs_where_the_plugin_is(sites: Path, lab_person: Person) -> None:
    job = lab_person.spec(SCRIPT, "job.sh")
    printed = lab_person.hpc("submit", "-f", job, "--where", "auto").splitlines()
    assert printed[0].startswith("onprem:")
    assert "in ubuntu:24.04" in printed
    assert any(line.startswith(hashlib.sha256(SCRIPT.encode()).hexdigest()) for line in printed)
    assert "in debian:12" in lab_person.hpc("submit", "-f", "--container-image", "debian:12", "--quick=3", job)
    spec = lab_person.spec(
        "time: 1m\nresources: {memory: 50MiB}\nslurm: {container-image: alpine:3}\nrun: echo in $BOX\n"
    )
    assert "in alpine:3" in lab_person.hpc("submit", spec, "--where", "onprem,bare", "-f")


def test_a_site_without_the_plugin_refuses_in_words(sites: Path, lab_person: Person) -> None:
    job = lab_person.spec(SCRIPT, "job.sh")
    said = refusals(lab_person.try_hpc("plan", job, "--where", "bare"))
    assert f"--container-image, --quick, --no-container-mount-home: plugin_options in {sites / 'bare.yaml'}" in said
    assert (
        "`plugin_options: [container-image=, quick, no-container-mount-home]` in the site file, if that is so" in said
    )
    found = json.loads(lab_person.hpc("check", "--json"))
    assert not [finding for finding in found if "its sbatch" in finding["what"]]
    with (sites / "bare.yaml").open("a") as file:
        file.write(LISTED)
    assert "unrecognized option '--container-image'" in refusals(lab_person.try_hpc("plan", job, "--where", "bare"))
    found = json.loads(lab_person.hpc("check", "--json"))
    (finding,) = [finding for finding in found if "its sbatch" in finding["what"]]
    assert finding["where"] == "bare"
    assert "has no plugin that takes --container-image, --no-container-mount-home, --quick" in finding["what"]
    for file in sites.iterdir():
        file.write_text(file.read_text().replace(LISTED, ""))
    said = refusals(lab_person.try_hpc("plan", job), code=3)
    assert f"{job}:2: --container-image: is no option of sbatch (write plugin_options: [pyxis] into the file" in said

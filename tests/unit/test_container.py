"""Container command lines, and how an image comes to be."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from hybridhpc.errors import SpecError
from hybridhpc.model import Bind, Checkpoint, Gpus
from hybridhpc.script.container import container_words, find_image
from tests.job_scripts import JobDir, render

REFERENCE = "docker://nvcr.io/nvidia/pytorch:25.10-py3"
RUNTIME = r"""#!/bin/bash
# Stands for apptainer: writes down how it was called; exec runs what follows the image, pull and build make a file.
printf '%s\0' "$@" >>"$CALLS/$1.$$"
case $1 in
  exec) shift; while [ $# -gt 0 ]; do
    case $1 in --nv) shift ;; --bind | --pwd) shift 2 ;; *) break ;; esac; done; shift; exec "$@" ;;
  *) [ -z "${FAIL:-}" ] || exit "$FAIL"; sleep 0.3; echo "$3" >"$2" ;;
esac
"""


@pytest.fixture
def job(tmp_path: Path) -> JobDir:
    """A directory for a job, on a node where apptainer writes its calls into `calls`."""
    for folder in ("bin", "calls"):
        (tmp_path / folder).mkdir()
    (tmp_path / "bin/apptainer").write_text(RUNTIME)
    (tmp_path / "bin/apptainer").chmod(0o755)
    path = f"{tmp_path}/bin:{os.environ['PATH']}"
    return JobDir(tmp_path / "job", PATH=path, CALLS=str(tmp_path / "calls"))


def calls(job: JobDir, verb: str) -> list[list[str]]:
    found = sorted((job.path.parent / "calls").glob(f"{verb}.*"))
    return [file.read_bytes().decode().split("\0")[:-1] for file in found]


def test_binds_are_read_write_unless_they_say_so():
    binds = (Bind(source="/data", target="/d", read_only=True), Bind(source="/x y", target="/x y"))
    words = container_words("apptainer", binds, gpus=False)
    assert words == ("apptainer", "exec", "--bind", "/data:/d:ro", "--bind", "/x y:/x y")


@pytest.mark.parametrize("gpus", [True, False])
def test_gpus_are_made_visible_only_where_they_are_asked_for(gpus):
    assert ("--nv" in container_words("singularity", (), gpus=gpus)) is gpus


def test_the_same_binds_give_the_same_words_twice():
    binds = [Bind(source="/a", target="/b")]
    assert container_words("apptainer", binds, gpus=True) == container_words("apptainer", binds, gpus=True)
    assert len(binds) == 1


@pytest.mark.parametrize("path", ["relative", "/a:b", "/a,b", '/a"b', "/a\\b", "/a\nb", ""])
def test_a_path_that_apptainer_would_read_otherwise_is_refused(path):
    for bind in (Bind(source=path, target="/x"), Bind(source="/x", target=path)):
        with pytest.raises(ValueError, match=r"absolute|cannot bind"):
            container_words("apptainer", [bind], gpus=False)


def test_different_references_are_pulled_to_different_files():
    names = {find_image(f"docker://{name}", "/images").file for name in ("a/b", "a_b", "a:b", "a" * 200, "a" * 201)}
    assert len(names) == 5 and all(len(name) < 120 and "/" not in name for name in names)


@pytest.mark.parametrize(
    ("image", "image_dir", "verb"),
    [
        (REFERENCE, "/images", "pull"),
        (REFERENCE, None, ""),
        ("oras://x/y", "/images", "pull"),
        ("/images/a.sif", "/images", ""),
        ("/a/b.def", None, "build"),
    ],
)
def test_only_what_is_no_image_yet_is_made_into_one(image, image_dir, verb):
    assert find_image(image, image_dir).verb == verb


def test_an_image_that_looks_like_an_option_is_a_file():
    assert find_image("--help.sif", None).source == "./--help.sif"


def test_an_empty_image_is_refused_with_the_name_of_its_key():
    with pytest.raises(SpecError, match="image: the image has no name"):
        render(image=" ")


def test_setup_and_payload_run_in_the_image_with_the_job_directory_bound(job):
    binds = (Bind(source="/with $(touch x)", target="/it's", read_only=True),)
    script = render(image="/i.sif", binds=binds, gpus=Gpus(count=1), setup="echo setup", run="echo payload; pwd")
    assert job.run(script) == 0
    assert job.log.split() == ["setup", "payload", str(job.path)]
    for call in calls(job, "exec"):
        assert call[:6] == ["exec", "--nv", "--bind", "/with $(touch x):/it's:ro", "--bind", str(job.path)]
        assert call[6:9] == ["--pwd", str(job.path), "/i.sif"]


def test_what_an_image_overrides_is_set_again_inside(job):
    runtime = job.path.parent / "bin/apptainer"
    runtime.write_text(runtime.read_text().replace('exec "$@"', 'A=image exec "$@"'))
    assert job.run(render(image="/i.sif", env=(("A", "mine"),), run='echo "$A"')) == 0
    assert job.log == "mine\n"


def test_a_checkpoint_signal_that_a_runtime_hands_on_does_not_end_the_shell_inside(job):
    checkpoint = Checkpoint(directory="ckpt")
    script = job.start(render(image="/i.sif", run="echo ready; sleep 0.5; echo went on", checkpoint=checkpoint))
    job.await_log("ready")
    os.killpg(script.pid, signal.SIGUSR1)
    assert script.wait(10) == 0
    assert "went on" in job.log


def test_an_image_is_pulled_once_by_many_tasks_at_once(job):
    script = render(image=REFERENCE, site={"image_dir": str(job.path / "images")}, run="echo ran")
    tasks = []
    for number in range(4):
        job.env["SLURM_ARRAY_TASK_ID"] = str(number)
        tasks.append(job.start(script))
    assert [task.wait(30) for task in tasks] == [0, 0, 0, 0]
    assert len(calls(job, "pull")) == 1
    (image,) = (job.path / "images").iterdir()
    assert image.read_text() == f"{REFERENCE}\n"
    assert {call[-3] for call in calls(job, "exec")} == {str(image)}


def test_a_pull_that_fails_ends_the_job_with_its_code_and_leaves_nothing(job):
    job.env["FAIL"] = "7"
    assert job.run(render(image=REFERENCE, site={"image_dir": str(job.path / "images")})) == 7
    assert "could not be made (exit code 7)" in job.log
    assert list((job.path / "images").iterdir()) == []
    assert job.marker("exit.-.0")[0] == "7"


def test_a_lock_left_by_a_dead_job_is_broken(job):
    images = job.path / "images"
    lock = images / (find_image(REFERENCE, "/").file + ".lock")
    lock.mkdir(parents=True)
    subprocess.run(["touch", "-d", "10 minutes ago", str(lock)], check=True)
    assert job.run(render(image=REFERENCE, site={"image_dir": str(images)})) == 0
    assert not lock.exists()


def test_a_folder_for_images_that_cannot_be_made_ends_the_job_with_a_message(job):
    (job.path / "images").write_text("a file, no directory")
    assert job.run(render(image=REFERENCE, site={"image_dir": str(job.path / "images")})) == 1
    assert "images cannot be made" in job.log


def test_a_full_disk_ends_the_job_with_a_message(job):
    full = job.path.parent / "bin/mkdir"
    full.write_text('#!/bin/bash\ncase $* in *.lock) exit 1 ;; *) exec /bin/mkdir "$@" ;; esac\n')
    full.chmod(0o755)
    assert job.run(render(image=REFERENCE, site={"image_dir": str(job.path / "images")})) == 1
    assert "cannot be written to" in job.log


def test_a_definition_is_built_once_per_content(job):
    script = render(image="/elsewhere/my.def", site={"image_dir": str(job.path / "images")})
    for content in ("one", "two", "one"):
        (job.path / "image.def").write_text(content)
        assert job.run(script) == 0
    built = calls(job, "build")
    assert len(built) == 2 and len(list((job.path / "images").iterdir())) == 2
    assert {call[2] for call in built} == {str(job.path / "image.def")}


def test_a_definition_that_is_missing_ends_the_job_with_a_message(job):
    assert job.run(render(image="/elsewhere/my.def")) == 1
    assert "/elsewhere/my.def cannot be read" in job.log

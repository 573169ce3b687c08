"""Rendered scripts with hostile values, really run: every value arrives exactly, and nothing else happens."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from hybridhpc.errors import SpecError
from hybridhpc.model import Bind
from tests.job_scripts import render

ATTACKS = [
    "$(touch owned)", "`touch owned`", "'; touch owned; '", '"; touch owned; "', "\ntouch owned\n", "<(touch owned)",
    "\\'; touch owned #", "a\nHPC_END\ntouch owned\n", "HPC_END_\n", "#SBATCH --job-name=x", "${IFS}", "$HOME", "~",
    "~root", "*", "-rf /", "--", "!!", "{a,b}", "\\", "\\\n", "'", '"', "''", "a b", " lead", "trail ", "\t", "\r\n",
    "%s%n", "&", "|", ">owned", "{{ 7 * 7 }}", "{% raw %}", "{# #}", "$((1+1))", "日本語", "é", "\u202e", "\x7f", "",
]  # fmt: skip
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40)
VALUE = st.one_of(st.sampled_from(ATTACKS), TEXT, st.lists(st.sampled_from(ATTACKS), max_size=4).map("".join))
NAME = st.from_regex(r"X_[A-Za-z0-9_]{0,8}", fullmatch=True)
ENV = st.dictionaries(NAME, VALUE, max_size=4).map(lambda found: tuple(found.items()))
FOLDER = VALUE.map(lambda text: text.replace("/", "_")[:40]).filter(lambda text: text not in ("", ".", ".."))
PATH = FOLDER.map(lambda text: f"/{text}").filter(lambda text: not set(text) & set(':,"\\\r\n'))
BINDS = st.lists(st.builds(Bind, source=PATH, target=PATH, read_only=st.booleans()), max_size=3).map(tuple)
IMAGE = VALUE.filter(lambda text: text.strip() and not text.endswith(".def"))
RECORDER = '#!/bin/sh\nprintf "%s\\0" "$@" >>"$RECORD"\n'
SHOW = 'env -0 >"$SHOWN"'
GENEROUS = settings(max_examples=25, deadline=None)


class Node:
    """A directory tree that stands for a node: a job's directory with any name, a home, a recorder named apptainer."""

    def __init__(self, root: Path, folder: str) -> None:
        self.root = root
        self.job = root / "jobs" / folder
        for path in (self.job, root / "home", root / "bin"):
            path.mkdir(parents=True)
        (root / "bin/apptainer").write_text(RECORDER)
        (root / "bin/apptainer").chmod(0o755)

    def run(self, script: bytes) -> subprocess.CompletedProcess[bytes]:
        """Run a script in the job's directory."""
        env = {
            "PATH": f"{self.root}/bin:{os.environ['PATH']}",
            "HOME": str(self.root / "home"),
            "HPC_JOB_DIR": str(self.job),
            "SHOWN": str(self.root / "shown"),
            "RECORD": str(self.root / "record"),
        }
        file = self.root / "script"
        file.write_bytes(script)
        words = ["bash", str(file)]
        return subprocess.run(words, env=env, cwd=self.root / "home", capture_output=True, timeout=30)

    def words(self, name: str) -> list[str]:
        """Return the NUL-terminated words of a file."""
        return (self.root / name).read_bytes().decode().split("\0")[:-1]

    def files(self) -> set[str]:
        """Return all files and folders by their path below the root; the job's directory is called JOB."""
        found = {str(path.relative_to(self.root)) for path in self.root.rglob("*")}
        job = str(self.job.relative_to(self.root))
        return {path.replace(job, "JOB", 1) for path in found}


@contextmanager
def node(folder: str = "job") -> Iterator[Node]:
    """Make a Node for one example and remove it."""
    with tempfile.TemporaryDirectory() as root:
        yield Node(Path(root), folder)


def left_behind(node: Node, before: set[str]) -> set[str]:
    """Return what a script has left beside the files it is to write."""
    folders = {path.name for path in node.job.glob("script-*")}
    assert len(folders) == 1
    folder = f"JOB/{folders.pop()}"
    own = {"JOB/start.-.0", "JOB/exit.-.0", folder, f"{folder}/env.sh", f"{folder}/run.sh", "script", "shown", "record"}
    return node.files() - before - own


@GENEROUS
@given(env=ENV, name=VALUE, folder=FOLDER, scheduler=st.sampled_from(["here", "slurm"]))
def test_every_value_of_the_environment_arrives_exactly_and_nothing_else_happens(env, name, folder, scheduler):
    with node(folder) as there:
        before = there.files()
        run = there.run(render(run=SHOW, env=env, name=name, scheduler=scheduler))
        assert (run.returncode, run.stdout, run.stderr) == (0, b"", b"")
        shown = dict(pair.split("=", 1) for pair in there.words("shown"))
        expected = {**dict(env), "HPC_NAME": name, "HPC_JOB_DIR": str(there.job), "PWD": str(there.job)}
        assert {key: shown[key] for key in expected} == expected
        assert left_behind(there, before) == set()


@GENEROUS
@given(binds=BINDS, image=IMAGE, env=ENV, folder=FOLDER)
def test_image_and_binds_reach_apptainer_exactly_and_nothing_else_happens(binds, image, env, folder):
    with node(folder) as there:
        before = there.files()
        run = there.run(render(image=image, binds=binds, env=env, run=SHOW))
        assert (run.returncode, run.stdout, run.stderr) == (0, b"", b"")
        said = [f"{bind.source}:{bind.target}" + (":ro" if bind.read_only else "") for bind in binds]
        options = [word for bind in [*said, str(there.job)] for word in ("--bind", bind)]
        shown_image = f"./{image}" if image.startswith("-") else image
        *words, shell, script = there.words("record")
        assert words == ["exec", *options, "--pwd", str(there.job), shown_image]
        assert (shell, script.rpartition("/")[2]) == ("/bin/bash", "run.sh")
        assert left_behind(there, before) == set()


@GENEROUS
@given(text=VALUE, setup=st.booleans())
def test_the_text_of_run_and_setup_is_kept_to_the_letter(text, setup):
    written = f"exit 0\n{text}".rstrip("\n")
    with node() as there:
        run = there.run(render(run=":", setup=written) if setup else render(run=written))
        assert (run.returncode, run.stderr) == (0, b"")
        (file,) = there.job.glob("script-*/setup.sh" if setup else "script-*/run.sh")
        assert file.read_bytes().endswith(b"' TERM\n" + written.encode() + b"\n")


@GENEROUS
@given(values=st.lists(VALUE, min_size=1, max_size=5))
def test_options_of_slurm_never_become_commands(values):
    options = tuple(f"--comment={value}" for value in values)
    with node() as there:
        try:
            script = render(scheduler="slurm", options=options)
        except SpecError as refused:
            assert any("\n" in value for value in values), refused
            return
        before = there.files()
        assert script.count(b"\n#SBATCH ") == len(values)
        assert there.run(script).returncode == 0
        assert left_behind(there, before) == set()

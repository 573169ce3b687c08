"""Secrets: where values come from, what is refused, and that no message, script or plan holds one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from hybridhpc.errors import NotFound, SpecError
from hybridhpc.model import JobSpec, Resources, Work
from hybridhpc.script.plan import Plan
from hybridhpc.script.plan_text import parse_plan, render_plan
from hybridhpc.script.secret import read_reference, secret_path
from hybridhpc.secret_files import check_secrets, hidden_names, secret_files
from tests.job_scripts import JobDir, render

VALUE = "hunter2-and-more"
DIRECTORY = ".hpc-secrets"


def values(*references: str, **env: str) -> dict[str, bytes]:
    files = secret_files([(f"S{number}", text) for number, text in enumerate(references)], env)
    return {file.path: file.content for file in files}


def refusal(reference: str, **env: str) -> str:
    with pytest.raises(NotFound) as refused:
        values(reference, **env)
    said = "\n".join(refused.value.lines())
    assert VALUE not in said
    return said


def test_a_variable_is_brought_to_the_byte():
    assert values("secret://env/A", A=" two\nlines\n\udcff") == {f"{DIRECTORY}/S0": b" two\nlines\n\xff"}


def test_a_file_is_brought_without_the_line_end_at_its_end(tmp_path):
    file = tmp_path / "token"
    file.write_bytes(b"a\nb\n\n")
    file.chmod(0o600)
    assert values(f"secret://file{file}") == {f"{DIRECTORY}/S0": b"a\nb\n"}
    assert values("secret://file/~/token", HOME=str(tmp_path)) == {f"{DIRECTORY}/S0": b"a\nb\n"}


def test_what_the_site_reads_is_not_read_here():
    assert values("secret://site-file/no/such/file") == {}


def test_what_is_no_secret_is_refused_in_words(tmp_path):
    file = tmp_path / "token"
    assert "A is not set in your environment" in refusal("secret://env/A")
    assert "the value is empty" in refusal("secret://env/A", A="")
    assert "no such file" in refusal(f"secret://file{file}")
    assert "is a directory" in refusal(f"secret://file{tmp_path}")
    assert "is no file" in refusal("secret://file/dev/null")
    file.write_text(VALUE)
    file.chmod(0o604)
    assert f"chmod o-r {file}" in refusal(f"secret://file{file}")
    file.chmod(0o600)
    file.write_bytes(VALUE.encode() + b"\0")
    assert "holds NUL" in refusal(f"secret://file{file}")
    file.write_bytes(VALUE.encode() * 10_000)
    assert "longer than" in refusal(f"secret://file{file}")
    assert "no secret store is called 'aws'" in refusal("secret://aws/wandb")
    assert "known: env, file" in refusal("secret://aws/wandb")


def test_a_value_that_cannot_be_had_is_refused_with_its_line():
    text = b"run: ./x\nsecrets:\n  GOOD: secret://env/GOOD\n  BAD: secret://env/ELSEWHERE\n  WORSE: secret://aws/x\n"
    secrets = (
        ("GOOD", "secret://env/GOOD"),
        ("BAD", "secret://env/ELSEWHERE"),
        ("WORSE", "secret://aws/x"),
    )
    spec = JobSpec(name="x", file="/x.yaml", digest="", resources=Resources(), payload=Work(run="x", secrets=secrets))
    with pytest.raises(SpecError) as refused:
        check_secrets(spec, {"GOOD": VALUE}, text)
    assert [(problem.line, problem.key) for problem in refused.value.problems] == [
        (4, "secrets.BAD"),
        (5, "secrets.WORSE"),
    ]
    assert VALUE not in str(refused.value)


def test_a_submission_does_not_see_the_variables_whose_values_are_secrets():
    assert hidden_names([("A", "secret://env/B"), ("C", "secret://file/d")]) == ("B",)


def test_keys_are_paths_below_home_or_absolute():
    assert [secret_path(key) for key in ("~/a", "a/b", "/a")] == ["~/a", "/a/b", "/a"]
    with pytest.raises(ValueError, match="names no secret"):
        read_reference("secret://env")


def test_a_plan_holds_references_and_an_older_one_none():
    plan = Plan(name="x", site="here", partition="local", resources=Resources(), usd_per_hour=0, script=b"", options=())
    assert parse_plan(render_plan(plan)) == plan
    with_one = replace(plan, secrets=(("A", "secret://env/A"),))
    assert parse_plan(render_plan(with_one)) == with_one
    assert parse_plan(render_plan(plan).replace('"secrets":[],', "")) == plan


@pytest.mark.parametrize("name", ["HPC_X", "UID", "a b"])
def test_a_name_that_cannot_be_set_is_refused(name):
    with pytest.raises(SpecError, match="secrets"):
        render(secrets=((name, "secret://env/A"),))


def brought(job: JobDir, **given: str) -> Path:
    folder = job.path / DIRECTORY
    folder.mkdir()
    for name, value in given.items():
        (folder / name).write_text(value)
    return folder


SECRET = (("TOKEN", "secret://env/TOKEN"),)
SHOW = 'printf "<%s>" "$TOKEN" >"$HPC_JOB_DIR/seen"'


@pytest.fixture
def job(tmp_path: Path) -> JobDir:
    return JobDir(tmp_path / "job")


def test_setup_and_payload_have_the_value_the_script_has_not_and_it_is_gone_afterwards(job):
    folder = brought(job, TOKEN=" it's\n$HOME\n")
    site = {"preamble": 'echo "preamble:${TOKEN-none}"'}
    assert job.run(render(secrets=SECRET, setup='echo "setup:${#TOKEN}"', run=SHOW, site=site)) == 0
    assert "preamble:none" in job.log
    assert "setup:12" in job.log
    assert (job.path / "seen").read_text() == "< it's\n$HOME\n>"
    assert not folder.exists()


def test_a_shell_that_traces_shows_no_value(job):
    brought(job, TOKEN=VALUE)
    job.env["SHELLOPTS"] = "xtrace"
    assert job.run(render(secrets=SECRET, run="set +x\n" + SHOW)) == 0
    assert (job.path / "seen").read_text() == f"<{VALUE}>"
    assert "hpc_secret TOKEN" in job.log
    assert VALUE not in job.log


def test_a_secret_that_is_gone_ends_the_task_in_words(job):
    job.env["TOKEN"] = "from the environment"
    assert job.run(render(secrets=SECRET, run=SHOW)) == 1
    assert "the secret TOKEN cannot be read" in job.log
    assert not (job.path / "seen").exists()


def test_a_file_of_the_site_is_read_by_the_job(job, tmp_path):
    token = tmp_path / "it's a token"
    token.write_text("two\nlines\n")
    token.chmod(0o600)
    secrets = (("TOKEN", f"secret://site-file{token}"),)
    assert job.run(render(secrets=secrets, run=SHOW)) == 0
    assert (job.path / "seen").read_text() == "<two\nlines>"
    assert not (job.path / DIRECTORY).exists()
    token.chmod(0o644)
    assert job.run(render(secrets=secrets, run=SHOW)) == 1
    assert "everybody can read" in job.log
    token.unlink()
    assert job.run(render(secrets=secrets, run=SHOW)) == 1
    assert "is no file that you can read" in job.log


def test_what_was_stopped_keeps_its_secrets_only_if_it_may_be_requeued(job):
    folder = brought(job, TOKEN=VALUE)
    for options, kept in ((("--no-requeue", "--requeue"), True), (("--requeue", "--no-requeue"), False)):
        script = job.start(render(scheduler="slurm", secrets=SECRET, run="echo up; sleep 60", options=options))
        job.await_log("up")
        script.terminate()
        assert script.wait(20) == 143
        assert folder.exists() == kept

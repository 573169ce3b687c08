"""submit-once.sh against small programs in Slurm's place, for the faults that a real one does not show on demand."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from hybridhpc.command import CommandResult
from hybridhpc.errors import SchedulerError, Undecided
from hybridhpc.schedulers.base import Submission, Submitted
from hybridhpc.schedulers.slurm import SlurmScheduler
from hybridhpc.schedulers.slurm_submit import PROGRAM
from hybridhpc.sites.site import Site

DIALECT = SlurmScheduler()
SITE = Site(name="lab", file=None, scheduler="slurm", transport="local")
SOURCE = Path(__file__).parents[2] / "hybridhpc" / "on_site" / PROGRAM
SHELLS = [shell for shell in (["dash"], ["bash"], ["busybox", "sh"]) if shutil.which(shell[0])] or [["sh"]]
TOKEN = "0123abcd"
SHOWN = "JobId={} JobName=x UserId=a(1) JobState=PENDING Reason={} Partition=p Command=/x WorkDir=/ StdOut=/tmp/7.out "
PROGRAMS = {
    "sbatch": 'case "$*" in *--test-only*) part=test ;; *) part=sbatch; echo "$*" >>"$FAKE/asked" ;; esac\n'
    '. "$FAKE/$part"\n',
    "scontrol": 'cat >>"$FAKE/scontrol.asked"\n. "$FAKE/scontrol"\n',
    "squeue": '. "$FAKE/squeue"\n',
    "scancel": 'echo "$*" >>"$FAKE/cancelled"\n',
    "sinfo": '. "$FAKE/sinfo"\n',
}


class FakeSite:
    """A site whose Slurm does what the test writes into `fake`."""

    def __init__(self, home: Path, shell: Sequence[str] = ("sh",)) -> None:
        self.fake, self.job, self.shell = home / "fake", home / "jobs" / TOKEN / "1", list(shell)
        programs = home / "bin"
        for folder in (self.fake, self.job, programs):
            folder.mkdir(parents=True)
        for name, body in PROGRAMS.items():
            (programs / name).write_text(f"#!/bin/sh\n{body}")
            (programs / name).chmod(0o755)
        text = SOURCE.read_text()
        assert "so_PATIENCE=1500" in text
        (self.job / PROGRAM).write_text(text.replace("so_PATIENCE=1500", "so_PATIENCE=20"))
        (self.job / "job.sh").write_text("#!/bin/sh\n#SBATCH -t 10\ntrue\n")
        self.env = {"PATH": f"{programs}:{os.environ['PATH']}", "FAKE": str(self.fake), "HOME": str(home)}
        self.says(test="", sbatch="echo 7", scontrol=f"echo '{SHOWN.format(7, 'None')}'", squeue="", sinfo="")

    def says(self, **bodies: str) -> None:
        """Let the programs do this from now on."""
        for name, body in bodies.items():
            (self.fake / name).write_text(f"{body}\n")

    def submission(self, *options: str, marker: str = "path", hold: bool = False) -> Submission:
        return Submission(
            token=TOKEN,
            job_dir=str(self.job),
            script=str(self.job / "job.sh"),
            options=options,
            args=("an argument",),
            cwd=str(self.job),
            hold=hold,
            marker=marker,
        )

    def run(self, submissions: Sequence[Submission]) -> CommandResult:
        command = DIALECT.submit_command(SITE, submissions)
        done = subprocess.run(
            [*self.shell, *command.argv[1:]],
            cwd=self.job,
            env={**self.env, **dict(command.env)},
            capture_output=True,
            start_new_session=True,
            timeout=60,
        )
        return CommandResult(argv=command.argv, exit_code=done.returncode, stdout=done.stdout, stderr=done.stderr)

    def submit(self, *options: str, marker: str = "path", hold: bool = False) -> Submitted:
        submissions = [self.submission(*options, marker=marker, hold=hold)]
        (told,) = DIALECT.parse_submit(self.run(submissions), submissions)
        if isinstance(told, Submitted):
            return told
        assert told is not None
        raise told

    def told(self, name: str) -> str:
        """What a program was asked or told, by all runs."""
        path = self.fake / name
        return path.read_text() if path.exists() else ""

    def queued(self, *jobs: tuple[str, str, str, str]) -> None:
        """Let squeue show jobs: id, priority, session and command, as submit-once asks for them."""
        lines = ("".join(f"{field}\\037" for field in job) for job in jobs)
        self.says(squeue="printf '" + "\\n".join(lines) + "\\n'")


@pytest.fixture
def site(tmp_path: Path) -> FakeSite:
    return FakeSite(tmp_path)


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: shell[0])
def test_it_submits_held_records_and_releases_in_every_shell(tmp_path: Path, shell: list[str]) -> None:
    site = FakeSite(tmp_path, shell)
    assert site.submit("--nodes=2").job_id == "7"
    assert site.told("asked") == f"--parsable --hold --nodes=2 {site.job}/job.sh an argument\n"
    assert site.told("scontrol.asked") == "show job 7\nrelease 7\nshow job 7\n"
    assert (site.job / "id").read_text() == "7\n"
    assert all(path.stat().st_mode & 0o077 == 0 for path in site.job.glob("*.1*"))


PYTHON_SBATCH = """
import os, shutil
shutil.copyfile("/proc/self/environ", os.environ["FAKE"] + "/sbatch.environ")
print(7)
"""
ODD = {
    "MINE": "xyzzy two\nlines \udcff ",
    "EMPTY": "",
    "BASH_FUNC_module%%": "() { :; }",
    "so_job": "theirs",
    "IFS": ",",
    "OLDPWD": "/else",
    "SHLVL": "7",
    "_": "/bin/what",
    "OPTIND": "1",
    "RANDOM": "4",
    "SLURM_CONF": "/a.conf",
    "SQUEUE_STATES": "RUNNING",
    "SBATCH_QOS": "high",
    "LC_ALL": "de_DE",
}
DUMP = 'cat /proc/$$/environ >"$FAKE/{}.environ"\n'


def environ(site: FakeSite, name: str) -> dict[str, str]:
    entries = (site.fake / f"{name}.environ").read_bytes().split(b"\0")[:-1]
    return dict(os.fsdecode(entry).split("=", 1) for entry in entries)


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: shell[0])
def test_sbatch_gets_the_environment_to_the_byte_and_nobody_reads_it_in_arguments(
    tmp_path: Path, shell: list[str]
) -> None:
    site = FakeSite(tmp_path, shell)
    for name in ("sbatch", "squeue", "scontrol"):
        program = tmp_path / "bin" / name
        program.write_text(program.read_text().replace("#!/bin/sh\n", "#!/bin/sh\n" + DUMP.format(name)))
    words = tmp_path / "bin" / "env"
    words.write_text('#!/bin/sh\necho "$*" >>"$FAKE/env.words"\nexec /usr/bin/env "$@"\n')
    words.chmod(0o755)
    site.env |= ODD
    given = {**site.env, "HPC_JOB_DIR": str(site.job)}
    assert site.submit().job_id == "7"
    # The wrapper of env above is a shell too, and counts itself.
    ours = {"_", "SHLVL", "PWD", "OLDPWD", "IFS", "OPTIND", "RANDOM", "BASH_FUNC_module%%"}
    got = environ(site, "sbatch")
    assert {name: got.get(name) for name in given if name not in ours} == {
        name: value for name, value in given.items() if name not in ours
    }
    assert set(got) - set(given) <= {"PWD", "_", "SHLVL", "OLDPWD"}
    assert "xyzzy" not in site.told("env.words")
    assert "two\n" not in site.told("env.words")
    asked = environ(site, "scontrol")
    assert "SQUEUE_STATES" not in asked
    assert (asked["SLURM_CONF"], asked["LC_ALL"], asked["MINE"]) == ("/a.conf", "C", ODD["MINE"])


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: shell[0])
def test_what_a_shell_changes_or_drops_reaches_sbatch_as_it_was(tmp_path: Path, shell: list[str]) -> None:
    site = FakeSite(tmp_path, shell)
    program = tmp_path / "bin" / "sbatch"
    program.write_text(f"#!{sys.executable}\n" + PYTHON_SBATCH)
    site.env |= ODD
    given = {**site.env, "HPC_JOB_DIR": str(site.job)}
    assert site.submit().job_id == "7"
    assert environ(site, "sbatch") == given


def test_a_repetition_asks_nobody(site: FakeSite) -> None:
    first = site.submit()
    assert site.submit() == first
    assert site.told("asked").count("\n") == 1 and site.told("scontrol.asked").count("release") == 1


def test_a_job_that_is_to_stay_held_is_not_released(site: FakeSite) -> None:
    site.says(scontrol=f"echo '{SHOWN.format(7, 'JobHeldUser')}'")
    assert site.submit("--hold", hold=True).notes == ()
    assert "release" not in site.told("scontrol.asked")


def test_a_job_that_an_administrator_holds_is_said_to_stay_held(site: FakeSite) -> None:
    held = SHOWN.format(7, "JobHeldAdmin")
    site.says(scontrol=f"echo '{held}'; echo 'Access/permission denied for job 7' >&2")
    assert site.submit().notes == ("job 7 stays held: Access/permission denied for job 7",)
    assert "release" in site.told("scontrol.asked").rpartition("show")[0]


def test_a_cluster_s_name_behind_the_id_is_kept_for_scontrol(site: FakeSite) -> None:
    site.says(sbatch="echo '7;east'", scontrol=f'echo "$*" >"$FAKE/words"; echo \'{SHOWN.format(7, "None")}\'')
    for _ in range(2):
        submitted = site.submit("--clusters=east")
        assert (submitted.job_id, submitted.notes) == ("7", ("sbatch sent it to cluster east",))
    assert site.told("words") == "-M east --oneliner\n"


def test_a_refusal_submits_nothing(site: FakeSite) -> None:
    site.says(test="echo 'sbatch: error: invalid partition specified: x' >&2; exit 1")
    with pytest.raises(SchedulerError, match=r"^sbatch: invalid partition specified: x$"):
        site.submit()
    assert site.told("asked") == ""


def test_an_unreached_controller_before_anything_was_sent_is_no_doubt(site: FakeSite) -> None:
    site.says(test="echo 'allocation failure: Unable to contact slurm controller (connect failure)' >&2; exit 1")
    with pytest.raises(SchedulerError, match="Unable to contact") as caught:
        site.submit()
    assert "nothing was submitted" in caught.value.hint and site.told("asked") == ""


def test_a_refusal_for_want_of_nodes_counts_only_if_all_are_there(site: FakeSite) -> None:
    site.says(test="echo 'allocation failure: Requested node configuration is not available' >&2; exit 1")
    with pytest.raises(SchedulerError, match="configuration is not available"):
        site.submit()
    site.says(sinfo="echo 3")
    assert "down or drained" in site.submit().notes[0]


@pytest.mark.parametrize(
    "fault",
    ["echo 'sbatch: error: Batch job submission failed: Socket timed out on send/recv operation' >&2; exit 1",
     "kill -9 $$", "kill $$"],
)  # fmt: skip
def test_a_lost_answer_is_undecided_until_the_job_is_found(site: FakeSite, fault: str) -> None:
    site.says(sbatch=fault)
    with pytest.raises(Undecided):
        site.submit()
    site.queued(("8", "5", "1", f"{site.job}/job.sh"), ("7", "0", "1", f"{site.job}/job.sh an"))
    assert site.submit().job_id == "7"
    assert site.told("asked").count("\n") == 1 and "release 7" in site.told("scontrol.asked")


def test_a_lost_answer_is_found_at_once_if_the_job_is_there(site: FakeSite) -> None:
    site.says(sbatch="echo 'sbatch: error: Zero Bytes were transmitted or received' >&2; exit 1")
    session = '"$(ls "$HPC_JOB_DIR" | grep won.1 | cut -d: -f3)"'
    site.says(squeue=f"printf '7_[0-3]\\0370\\037%s\\037{site.job}/job.sh\\037\\n' {session}")
    assert site.submit(marker="session").job_id == "7"


def test_nothing_is_sent_again_while_the_queue_cannot_be_asked(site: FakeSite) -> None:
    site.says(sbatch="kill -9 $$", squeue="echo 'Unable to contact slurm controller' >&2; exit 1")
    for _ in range(2):
        with pytest.raises(Undecided, match="cannot be asked now: Unable to contact"):
            site.submit()
    assert site.told("asked").count("\n") == 1


def test_a_copy_that_came_too_late_is_cancelled(site: FakeSite) -> None:
    site.says(sbatch="kill -9 $$")
    with pytest.raises(Undecided):
        site.submit()
    script = f"{site.job}/job.sh"
    site.says(sbatch="echo 9", scontrol=f"echo '{SHOWN.format(9, 'None')}'")
    copy = ("7", "0", "1", script)
    site.says(
        squeue='[ -e "$FAKE/late" ] || { touch "$FAKE/late"; exit 0; }\nprintf "' + "\\037".join((*copy, "")) + '\\n"'
    )
    assert site.submit().job_id == "9"
    assert site.told("cancelled") == "7\n"


def test_of_several_jobs_from_our_sessions_none_is_guessed(site: FakeSite) -> None:
    site.says(sbatch="kill -9 $$")
    with pytest.raises(Undecided):
        site.submit(marker="session")
    session = next(site.job.glob("won.1:*")).name.split(":")[2]
    script = f"{site.job}/job.sh"
    other = ("6", "0", "999999", script)
    site.queued(other, ("7", "0", session, script), ("8", "0", session, script))
    with pytest.raises(Undecided, match="several held jobs may be this one: 7 8"):
        site.submit(marker="session")
    site.queued(other, ("7", "0", session, script))
    assert site.submit(marker="session").job_id == "7"


def test_a_slow_sbatch_of_a_killed_submission_is_waited_for(site: FakeSite) -> None:
    site.says(sbatch="sleep 0.15; echo 7")
    command = [*site.shell, str(site.job / PROGRAM), "path", "release", str(site.job), f"{site.job}/job.sh"]
    env = {**site.env, "HPC_JOB_DIR": str(site.job)}
    first = subprocess.Popen([*command, f"{site.job}/job.sh"], cwd=site.job, env=env, start_new_session=True)
    deadline = time.monotonic() + 10
    while not site.told("asked") and time.monotonic() < deadline:
        time.sleep(0.005)
    first.kill()
    first.wait()
    assert site.submit().job_id == "7"
    assert site.told("asked").count("\n") == 1


def test_another_host_s_attempt_is_waited_for_and_given_up_when_it_is_old(site: FakeSite) -> None:
    for name in ("want.1:elsewhere:1:1", "try.1", "won.1:elsewhere:1:1"):
        (site.job / name).touch()
    with pytest.raises(Undecided, match="an earlier sbatch has not come back: elsewhere"):
        site.submit()
    long_ago = time.time() - 3600
    os.utime(site.job / "try.1", (long_ago, long_ago))
    assert site.submit().job_id == "7"


def test_an_unreleased_job_is_released_by_the_repetition(site: FakeSite) -> None:
    site.says(scontrol="echo 'Unable to contact slurm controller (connect failure)' >&2")
    with pytest.raises(Undecided, match="job 7 is submitted, but not released"):
        site.submit()
    site.says(scontrol=f"echo '{SHOWN.format(7, 'None')}'")
    assert site.submit().job_id == "7"
    assert site.told("asked").count("\n") == 1


def test_without_scontrol_the_weaker_promise_is_said(site: FakeSite) -> None:
    (site.fake.parent / "bin" / "scontrol").unlink()
    if shutil.which("scontrol"):
        tools = site.fake.parent / "tools"
        tools.mkdir()
        for tool in ("sh", "cat", "dd", "env", "find", "grep", "rm", "setsid", "sleep", "sync", "tr"):
            (tools / tool).symlink_to(str(shutil.which(tool)))
        site.env["PATH"] = f"{site.fake.parent / 'bin'}:{tools}"
    submitted = site.submit()
    assert submitted.job_id == "7" and "scontrol is missing" in submitted.notes[0]
    assert "--hold" not in site.told("asked")


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: shell[0])
def test_no_name_of_a_directory_and_no_option_is_taken_for_shell(tmp_path: Path, shell: list[str]) -> None:
    hostile = "a b*[x]'\"$(touch seen)`touch seen`\\ ;&|#é-x"
    site = FakeSite(tmp_path / hostile, shell)
    site.env["HOSTILE"] = f"{hostile}\n\nPWD=x"
    site.says(sbatch='printf "%s" "$HOSTILE" >"$FAKE/hostile"; kill -9 $$')
    options = ("--job-name=$(touch seen)", "--comment=two\nlines", "--wckey=", "-J*")
    with pytest.raises(Undecided):
        site.submit(*options)
    assert site.told("asked") == f"--parsable --hold {' '.join(options)} {site.job}/job.sh an argument\n"
    assert site.told("hostile") == site.env["HOSTILE"]
    assert not list(tmp_path.rglob("seen"))


def test_noise_around_the_id_is_ignored(site: FakeSite) -> None:
    site.says(sbatch="echo 'Welcome to 42 nodes'; echo 7; echo 'Have a nice day'")
    assert site.submit().job_id == "7"


def test_a_full_or_foreign_job_directory_submits_nothing(site: FakeSite) -> None:
    (site.job / "out.1").mkdir()
    (site.job / "test.err").mkdir()
    with pytest.raises((SchedulerError, Undecided)):
        site.submit()
    assert site.told("asked") == ""


def lot(site: FakeSite, count: int) -> list[Submission]:
    """Several jobs, with a directory and a script each; the program lies in the first one's."""
    submissions = []
    for number in range(1, count + 1):
        folder = site.job.parent / str(number)
        folder.mkdir(exist_ok=True)
        (folder / "job.sh").write_text("#!/bin/sh\n#SBATCH -t 10\ntrue\n")
        own = replace(site.submission(f"--comment=number {number}"), job_dir=str(folder), cwd=str(folder))
        submissions.append(replace(own, script=f"{folder}/job.sh"))
    return submissions


COUNTING = 'n=$(grep -c . "$FAKE/asked"); echo "$n in $PWD for $HPC_JOB_DIR" >>"$FAKE/places"; echo $((n + 6))'


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: shell[0])
def test_several_jobs_are_held_recorded_and_released_in_one_go(tmp_path: Path, shell: list[str]) -> None:
    site = FakeSite(tmp_path / "a $(b)", shell)
    site.says(sbatch=COUNTING, scontrol="".join(f"echo '{SHOWN.format(id, 'None')}'\n" for id in (7, 8, 9)))
    submissions = lot(site, 3)
    told = DIALECT.parse_submit(site.run(submissions), submissions)
    assert [each.job_id for each in told if isinstance(each, Submitted)] == ["7", "8", "9"]
    assert site.told("places").splitlines() == [
        f"{number} in {each.cwd} for {each.job_dir}" for number, each in enumerate(submissions, 1)
    ]
    assert site.told("asked").splitlines()[2] == (
        f"--parsable --hold --comment=number 3 {submissions[2].script} an argument"
    )
    assert site.told("scontrol.asked") == "".join(f"release {id}\nshow job {id}\n" for id in (7, 8, 9))
    assert [Path(each.job_dir, "id").read_text() for each in submissions] == ["7\n", "8\n", "9\n"]


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: shell[0])
def test_of_several_jobs_those_whose_output_has_no_directory_say_so(tmp_path: Path, shell: list[str]) -> None:
    site = FakeSite(tmp_path, shell)
    shown = [SHOWN.format(id, "None") for id in (7, 8, 9)]
    shown[1:] = [line.replace("/tmp/7.out", "/nonexistent/a b/7.out") for line in shown[1:]]
    site.says(sbatch=COUNTING, scontrol="".join(f"echo '{line}'\n" for line in shown))
    submissions = lot(site, 3)
    told = DIALECT.parse_submit(site.run(submissions), submissions)
    note = "the directory of its output does not exist here: /nonexistent/a b"
    assert [each.notes for each in told if isinstance(each, Submitted)] == [(), (note,), (note,)]


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: shell[0])
def test_of_several_jobs_a_refused_one_hurts_no_other(tmp_path: Path, shell: list[str]) -> None:
    site = FakeSite(tmp_path, shell)
    refusing = 'case "$*" in *"number 2"*) echo "sbatch: error: no" >&2; exit 1 ;; esac\n'
    site.says(sbatch=refusing + COUNTING, scontrol="".join(f"echo '{SHOWN.format(id, 'None')}'\n" for id in (7, 9)))
    submissions = lot(site, 3)
    (Path(submissions[1].job_dir) / "job.sh").write_text("#!/bin/sh\n# end=0\n")
    first, refused, last = DIALECT.parse_submit(site.run(submissions), submissions)
    assert isinstance(first, Submitted) and isinstance(last, Submitted)
    assert isinstance(refused, SchedulerError) and refused.message == "sbatch: no"


def test_of_several_jobs_one_that_plain_sbatch_would_refuse_is_not_submitted(site: FakeSite) -> None:
    refusing = 'case "$*" in *"number 2"*) echo "sbatch: error: no such partition" >&2; exit 1 ;; esac\n'
    site.says(test=refusing, sbatch=COUNTING, scontrol=f"echo '{SHOWN.format(7, 'None')}'")
    submissions = lot(site, 2)
    free, refused = DIALECT.parse_submit(site.run(submissions), submissions)
    assert isinstance(free, Submitted)
    assert isinstance(refused, SchedulerError) and "no such partition" in refused.message
    assert site.told("asked").count("\n") == 1
    trusted = [replace(each, trusted=True) for each in submissions]
    assert "trust" in DIALECT.submit_command(SITE, trusted).argv


def test_after_a_job_that_did_not_reach_the_controller_none_is_begun_and_none_released(site: FakeSite) -> None:
    failing = 'case "$*" in *"number 2"*) echo "Socket timed out on send/recv operation" >&2; exit 1 ;; esac\n'
    site.says(sbatch=failing + COUNTING)
    submissions = lot(site, 4)
    held, unknown, *unbegun = DIALECT.parse_submit(site.run(submissions), submissions)
    assert isinstance(held, Undecided) and "not released" in held.message
    assert isinstance(unknown, Undecided)
    assert all(isinstance(each, SchedulerError) and "not begun" in each.message for each in unbegun)
    assert site.told("asked").count("\n") == 2 and site.told("scontrol.asked") == ""


def test_a_job_of_several_whose_id_another_has_written_down_is_not_the_one_released(site: FakeSite) -> None:
    submissions = lot(site, 2)
    other = 'echo 5 >"$HPC_JOB_DIR/id"\n'
    site.says(sbatch=other + COUNTING)
    DIALECT.parse_submit(site.run(submissions), submissions)
    assert site.told("cancelled") == "7\n8\n"
    assert "release 7" not in site.told("scontrol.asked") and "release 5" in site.told("scontrol.asked")


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: shell[0])
def test_an_id_that_was_cut_off_while_it_was_written_down_is_still_the_one(tmp_path: Path, shell: list[str]) -> None:
    site = FakeSite(tmp_path, shell)
    assert site.submit().job_id == "7"
    (site.job / "id").write_text("")
    (site.job / "finished").unlink()
    site.says(sbatch="echo 8")
    assert site.submit().job_id == "7"
    (site.job / "got.8").touch()
    with pytest.raises(Undecided, match="2 jobs were accepted, and which counts was not"):
        site.submit()
    (site.job / "got.8").unlink()
    (site.job / "got.7").unlink()
    site.queued(("7", "0", "1", f"{site.job}/job.sh"))
    assert site.submit().job_id == "7"
    assert site.told("asked").count("\n") == 1


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: shell[0])
def test_who_did_not_make_the_claim_never_becomes_sbatch(tmp_path: Path, shell: list[str]) -> None:
    site = FakeSite(tmp_path, shell)
    for name in ("want.1:elsewhere:1:1", "try.1"):
        (site.job / name).touch()
    with pytest.raises(Undecided, match="an earlier sbatch has not come back: elsewhere:1:1"):
        site.submit()
    assert site.told("asked") == ""

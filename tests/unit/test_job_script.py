"""What a rendered script does when it runs: markers, exit codes, signals, variables. Real bash, real processes."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from hybridhpc.errors import SpecError
from hybridhpc.model import Checkpoint, Gpus, Launcher
from tests.job_scripts import JobDir, await_true, render

CHECKPOINT = Checkpoint(directory="ckpt")
LISTENER = """
import signal, sys, time
heard = []
for number in (signal.SIGTERM, signal.SIGUSR1):
    signal.signal(number, lambda number, frame: (heard.append(number), print("heard", number, flush=True)))
print("ready", flush=True)
end = time.monotonic() + float(sys.argv[1])
while time.monotonic() < end and signal.SIGTERM not in heard:
    time.sleep(0.02)
time.sleep(0.35)
sys.exit(int(sys.argv[2]))
"""


@pytest.fixture
def job(tmp_path: Path) -> JobDir:
    """A directory for a job, with a payload in it that tells which signals it hears."""
    made = JobDir(tmp_path / "job")
    (made.path / "listen.py").write_text(LISTENER)
    return made


def listening(job: JobDir, run: str = "python3 listen.py 30 5", **keys) -> subprocess.Popen[bytes]:
    script = job.start(render(run=run, **keys))
    job.await_log("ready")
    return script


@pytest.mark.parametrize("scheduler", ["here", "slurm"])
@pytest.mark.parametrize("code", [0, 3, 255])
def test_the_exit_code_is_the_payloads_and_stands_in_the_marker(job, scheduler, code):
    assert job.run(render(scheduler=scheduler, run=f"exit {code}")) == code
    assert job.marker("exit.-.0")[0] == str(code)
    assert job.marker("exit.-.0")[1].isdecimal()
    assert job.marker("start.-.0")[1] == os.uname().nodename


def test_death_by_a_signal_counts_as_shells_count(job):
    assert job.run(render(run="kill -9 $$")) == 137
    assert job.marker("exit.-.0")[0] == "137"


def test_a_payload_whose_end_nobody_saw_counts_as_killed(job):
    assert job.run(render(run="kill -9 $PPID; sleep 0.2")) == 137
    assert job.marker("exit.-.0")[0] == "137"


def test_markers_carry_the_array_task_and_the_restart(job):
    job.env |= {"SLURM_ARRAY_TASK_ID": "7", "SLURM_RESTART_COUNT": "2"}
    assert job.run(render()) == 0
    assert {"start.7.2", "exit.7.2"} <= {file.name for file in job.path.iterdir()}


def test_the_very_same_run_started_again_does_not_run_and_ends_as_the_first_does(job):
    """A controller that forgot its last seconds starts a job again that runs or has ended already."""
    script = render(run="echo ran >> runs; until [ -e go ]; do sleep 0.05; done; exit 7")
    first = job.start(script)
    await_true(lambda: (job.path / "runs").exists(), lambda: job.log)
    second = job.start(script, again=True)
    job.await_log("this very run began before")
    assert second.poll() is None
    (job.path / "go").touch()
    assert (first.wait(10), second.wait(10)) == (7, 7)
    assert job.start(script, again=True).wait(10) == 7
    assert (job.path / "runs").read_text() == "ran\n"
    job.env["SLURM_RESTART_COUNT"] = "1"
    assert job.start(script, again=True).wait(10) == 7
    assert (job.path / "runs").read_text() == "ran\nran\n", "a requeue is another run"


def test_a_job_that_ended_well_does_not_run_again_when_it_is_requeued(job):
    script = render(run="echo ran >> runs")
    assert job.run(script) == 0
    job.env["SLURM_RESTART_COUNT"] = "1"
    assert job.start(script, again=True).wait(10) == 0
    assert (job.path / "runs").read_text() == "ran\n"
    assert job.marker("exit.-.1")[0] == "0"
    assert "nothing is run again" in job.log


def test_the_very_same_run_started_again_can_be_stopped_while_it_waits(job):
    script = render(run="sleep 30")
    first = job.start(script)
    await_true(lambda: (job.path / "start.-.0").exists(), lambda: job.log)
    second = job.start(script, again=True)
    job.await_log("this very run began before")
    second.terminate()
    assert second.wait(10) == 143
    assert not (job.path / "exit.-.0").exists()
    assert not (job.path / "asked.-.0").exists(), "the first one was not asked"
    first.terminate()
    assert first.wait(10) == 143


def test_a_job_that_is_killed_outright_leaves_no_exit_marker(job):
    script = listening(job)
    os.killpg(script.pid, signal.SIGKILL)
    script.wait(10)
    assert (job.path / "start.-.0").exists()
    assert not (job.path / "exit.-.0").exists()


def test_nothing_of_a_person_or_a_site_runs_before_the_start_marker(job):
    assert job.run(render(site={"preamble": 'ls "$HPC_JOB_DIR"'}, run=":")) == 0
    assert "start.-.0" in job.log.split()


def test_a_preamble_that_exits_ends_the_job_and_never_counts_as_success(job):
    for preamble, code in (("exit 4", 4), ("exit 0", 1)):
        assert job.run(render(site={"preamble": preamble}, run="echo ran")) == code
        assert job.marker("exit.-.0")[0] == str(code)
        assert "ran" not in job.log


def test_shell_options_of_a_preamble_do_not_reach_the_script(job):
    preamble = 'set -eo pipefail\nexport SITE="$UNSET_VARIABLE_OF_A_MODULE"x'
    run = 'false\nfalse | true\necho "$SITE" ran'
    assert job.run(render(scheduler="slurm", site={"preamble": preamble}, run=run)) == 0
    assert job.log == "x ran\n"


def test_the_person_s_text_runs_as_it_was_written(job):
    run = "cat <<'EOF'\n  $(touch x) \\\n`id` HPC_END\nEOF\necho \"$0\" | sed 's/.*-[0-9a-f]*.//'"
    assert job.run(render(run=run)) == 0
    assert job.log == "  $(touch x) \\\n`id` HPC_END\nrun.sh\n"


def test_a_stop_signal_to_the_script_alone_is_passed_on_and_its_answer_awaited(job):
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        script = listening(job)
        script.send_signal(number)
        assert script.wait(60) == 5  # longer than it would run: one that did not hear the signal ends with another code
        assert job.log.split("\n").count("heard 15") == 1
        assert job.marker("exit.-.0")[0] == "5"
        assert (job.path / "asked.-.0").exists()


def test_only_a_launcher_is_told_to_stop_since_it_tells_its_tasks(job):
    fake = job.path / "bin/mpirun"
    fake.parent.mkdir()
    fake.write_text("#!/bin/bash\ntrap 'echo leader told' TERM\nshift 2\n\"$@\" &\nwait $!\nwait $!\n")
    fake.chmod(0o755)
    job.env["PATH"] = f"{fake.parent}:{job.env['PATH']}"
    script = listening(job, "exec python3 listen.py 0.6 5", launcher=Launcher.MPIRUN, tasks_per_node=2)
    script.send_signal(signal.SIGTERM)
    assert script.wait(10) == 5
    assert "leader told" in job.log and "heard 15" not in job.log


def test_a_stop_signal_to_every_process_of_the_job_is_not_given_twice(job):
    script = listening(job)
    os.killpg(script.pid, signal.SIGTERM)
    assert script.wait(10) == 5
    assert job.log.split("\n").count("heard 15") == 1


def test_the_exit_code_is_known_even_if_the_payload_ends_in_the_moment_of_a_signal(job):
    run = "trap 'exit 7' USR1; trap 'exit 8' TERM; echo ready; while :; do sleep 0.01; done"
    for number, code in [(signal.SIGUSR1, 7), (signal.SIGTERM, 8)] * 4:
        script = listening(job, run, checkpoint=CHECKPOINT)
        os.killpg(script.pid, number)
        assert script.wait(10) == code
        assert job.marker("exit.-.0")[0] == str(code)


def test_a_payload_that_was_stopped_has_not_completed_though_it_says_0(job):
    script = listening(job, "exec python3 listen.py 30 0")
    script.send_signal(signal.SIGTERM)
    assert script.wait(10) == 143
    assert job.marker("exit.-.0")[0] == "143"


def test_no_further_command_runs_after_a_stop(job):
    script = listening(job, "python3 listen.py 30 0\necho went on")
    script.send_signal(signal.SIGTERM)
    assert script.wait(10) == 143
    assert "went on" not in job.log


def test_a_stop_during_setup_ends_the_job_before_its_payload(job):
    for setup in ("echo ready; sleep 60", "trap 'exit 0' TERM; echo ready; sleep 60"):
        script = job.start(render(setup=setup, run="echo ran"))
        job.await_log("ready")
        script.send_signal(signal.SIGTERM)
        assert script.wait(10) == 143
        assert "ran" not in job.log


def test_the_checkpoint_signal_reaches_those_who_listen_and_harms_nobody_else(job):
    run = "setsid -w python3 listen.py 1 0 | tee copy\nexit ${PIPESTATUS[0]}"
    script = listening(job, run, checkpoint=CHECKPOINT)
    for count in (1, 2):
        script.send_signal(signal.SIGUSR1)
        await_true(lambda: job.log.count("heard 10") == count, lambda: job.log)  # noqa: B023
    assert script.wait(10) == 0
    assert (job.path / "copy").read_text().count("heard 10") == 2


def test_a_shell_script_of_the_person_can_trap_the_checkpoint_signal(job):
    (job.path / "mine.sh").write_text("trap 'echo saved; exit 0' USR1\necho ready\nwhile :; do sleep 0.05; done\n")
    script = listening(job, "bash mine.sh", checkpoint=CHECKPOINT)
    script.send_signal(signal.SIGUSR1)
    assert script.wait(10) == 0
    assert "saved" in job.log


def test_setup_is_not_asked_for_a_checkpoint(job):
    setup = "trap 'echo told' USR1; echo ready; sleep 0.4"
    script = job.start(render(setup=setup, run="echo ran", checkpoint=CHECKPOINT))
    job.await_log("ready")
    script.send_signal(signal.SIGUSR1)
    assert script.wait(10) == 0
    assert job.log == "ready\nran\n"


@pytest.mark.parametrize("name", ["USR2", "XCPU"])
def test_any_signal_can_be_chosen_for_checkpoints(job, name):
    listen = LISTENER.replace("signal.SIGUSR1", f"signal.SIG{name}")
    (job.path / "listen.py").write_text(listen)
    script = listening(job, "python3 listen.py 0.4 0", checkpoint=Checkpoint(directory="c", signal=name))
    number = signal.Signals[f"SIG{name}"]
    script.send_signal(number)
    assert script.wait(10) == 0
    assert f"heard {number.value}" in job.log


def test_term_can_be_chosen_for_checkpoints(job):
    script = listening(job, checkpoint=Checkpoint(directory="c", signal="TERM"))
    script.send_signal(signal.SIGTERM)
    assert script.wait(10) == 5


def test_nothing_of_the_script_is_left_when_it_has_ended(job):
    assert job.start(render(run="sleep 0.1")).wait(10) == 0
    script = job.start(render(run="true"))
    assert script.wait(10) == 0
    left = subprocess.run(["ps", "-o", "args=", "-s", str(script.pid)], capture_output=True, text=True)
    assert left.stdout.strip() == ""


def test_a_failing_setup_ends_the_job_with_its_code_and_says_so(job):
    assert job.run(render(setup="exit 9", run="echo ran")) == 9
    assert job.log == "hpc: setup ended with exit code 9; the job ends\n"
    assert job.marker("exit.-.0")[0] == "9"


def test_the_job_runs_in_its_workdir_or_else_in_its_directory(job):
    (job.path / "work").mkdir()
    assert job.run(render(run="pwd", workdir="/home/me/project")) == 0
    assert job.log == f"{job.path}/work\n"
    assert job.run(render(run="pwd")) == 0
    assert job.log == f"{job.path}\n"


def test_a_workdir_that_did_not_arrive_ends_the_job_with_a_message(job):
    assert job.run(render(run="echo ran", workdir="/home/me/project")) == 1
    assert "work cannot be entered" in job.log and "ran" not in job.log


def test_by_hand_the_job_runs_where_it_is_started(job):
    del job.env["HPC_JOB_DIR"]
    assert job.run(render(run="pwd", workdir="/home/me/project")) == 0
    assert job.log == f"{job.path}\n"
    assert job.marker("exit.-.0")[0] == "0"


def test_a_directory_that_cannot_be_written_ends_the_job_with_a_message(job):
    job.env["HPC_JOB_DIR"] = str(job.path / "absent")
    assert job.run(render(run="echo ran")) == 1
    assert "absent cannot be written to" in job.log and "echo" not in job.log


def test_the_variables_people_expect_are_exported(job):
    shown = "MASTER_ADDR MASTER_PORT NNODES NODE_RANK GPUS_PER_NODE HPC_NAME OMP_NUM_THREADS HPC_JOB_DIR"
    job.env |= {"SLURM_JOB_ID": "123456789", "SLURM_NODEID": "3", "SLURM_JOB_NUM_NODES": "4"}
    run = f"for name in {shown}; do declare -p $name; done | cut -d' ' -f2-"
    keys = {"run": run, "gpus": Gpus(count=8), "cpus": 104, "tasks_per_node": 8, "name": "train it"}
    assert job.run(render(scheduler="slurm", **keys)) == 0
    host = os.uname().nodename
    values = [host, "26789", "4", "3", "8", "train it", "13", str(job.path)]
    expected = [f'-x {name}="{value}"' for name, value in zip(shown.split(), values, strict=True)]
    assert job.log.splitlines() == expected
    assert job.run(render(**keys)) == 0
    assert job.log.splitlines()[:3] == ['-x MASTER_ADDR="127.0.0.1"', '-x MASTER_PORT="26789"', '-x NNODES="1"']


@pytest.mark.parametrize(
    ("keys", "env", "threads"),
    [
        ({"cpus": 8, "tasks_per_node": 4}, {}, "2"),
        ({"cpus": 2, "tasks_per_node": 4}, {}, "1"),
        ({"tasks_per_node": 4}, {"SLURM_CPUS_ON_NODE": "16"}, "4"),
        ({"tasks_per_node": 4}, {}, "1"),
        ({"cpus": 8, "tasks_per_node": 4}, {"OMP_NUM_THREADS": "6"}, "6"),
        ({"cpus": 8}, {}, "unset"),
        ({"cpus": 8, "tasks_per_node": 4, "env": (("OMP_NUM_THREADS", "3"),)}, {"OMP_NUM_THREADS": "6"}, "3"),
    ],
)
def test_omp_num_threads_is_the_share_of_a_task_unless_someone_set_it(job, keys, env, threads):
    job.env |= env
    assert job.run(render(run='echo "${OMP_NUM_THREADS-unset}"', **keys)) == 0
    assert job.log == f"{threads}\n"


def test_the_person_s_own_value_wins_over_ours(job):
    assert job.run(render(run="echo $MASTER_PORT", env=(("MASTER_PORT", "29500"),))) == 0
    assert job.log == "29500\n"


def test_a_path_of_the_person_does_not_break_the_script(job):
    assert job.run(render(run='echo "$PATH"', env=(("PATH", "/nowhere"),))) == 0
    assert job.log == "/nowhere\n"
    assert job.marker("exit.-.0")[0] == "0"


def test_standard_input_reaches_the_payload(job):
    (job.path / "script").write_bytes(render(run="cat"))
    run = subprocess.run(["bash", "script"], cwd=job.path, env=job.env, input=b"given", capture_output=True)
    assert run.stdout == b"given"


def test_two_scripts_in_one_directory_keep_their_own_files(job):
    scripts = [render(run=f"sleep 0.2; echo {number}") for number in (1, 2)]
    del job.env["HPC_JOB_DIR"]
    running = []
    for number, script in enumerate(scripts):
        (job.path / f"s{number}").write_bytes(script)
        words = ["bash", f"s{number}"]
        running.append(subprocess.Popen(words, cwd=job.path, env=job.env, stdout=subprocess.PIPE))
    assert [process.communicate()[0] for process in running] == [b"1\n", b"2\n"]


def test_the_files_of_a_job_are_its_owners_alone(job):
    assert job.run(render(env=(("A", "b"),))) == 0
    (folder,) = job.path.glob("script-*")
    assert {file.stat().st_mode & 0o077 for file in folder.iterdir()} == {0}


def test_an_option_with_a_line_break_is_refused():
    with pytest.raises(SpecError, match="slurm: --comment has a line break"):
        render(scheduler="slurm", options=("--comment=a\nb",))


def test_rendering_the_same_wish_twice_gives_the_same_bytes():
    keys = {"run": "echo", "env": (("A", "1"),), "launcher": Launcher.MPIRUN, "tasks_per_node": 2}
    assert render(**keys) == render(**keys)

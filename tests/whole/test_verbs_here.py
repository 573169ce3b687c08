"""The verbs, used as a person uses them, with nothing configured: jobs run on the embedded site."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.people import HPC, Person

QUICK = "name: quick\nresources: {cpus: 1, memory: 50MiB}\ntime: 1m\nrun: echo result is 42; echo kept > kept.txt\n"
STATUS_KEYS = {
    "token", "ref", "site", "partition", "state", "native_state", "reason", "submitted_at", "started_at", "ended_at",
    "elapsed_s", "exit_code", "signal", "cost_usd", "attempt", "name",
}  # fmt: skip


def submit(person: Person, text: str, *words: str) -> str:
    return str(json.loads(person.hpc("submit", person.spec(text), *words, "--json"))["ref"])


def test_submit_prints_the_ref_and_detaches_and_the_job_goes_on(person: Person) -> None:
    answer = json.loads(person.hpc("submit", person.spec(QUICK), "--where", "auto", "--json"))
    assert set(answer) == {"token", "ref", "site", "partition", "job_id", "state"}
    assert answer["ref"] == f"here:{answer['job_id']}"
    person.hpc("wait", answer["ref"])
    assert person.hpc("logs", answer["ref"]) == "result is 42\n"


def test_submit_prints_nothing_but_the_ref_on_stdout(person: Person) -> None:
    assert person.hpc("submit", person.spec(QUICK)) == "here:1\n"


def test_following_ends_with_the_table_and_the_jobs_fate_is_the_exit_code(person: Person) -> None:
    good = person.try_hpc("submit", person.spec(QUICK), "-f")
    assert good.returncode == 0
    assert "result is 42" in good.stdout
    for word in ("state", "COMPLETED", "elapsed", "cost", "log"):
        assert word in good.stderr
    bad = person.try_hpc("submit", person.spec("run: exit 7\n", "bad.yaml"), "-f")
    assert bad.returncode == 10
    assert "FAILED, exit code 7" in bad.stderr


def test_a_plan_names_every_candidate_with_start_run_price_and_reason(person: Person) -> None:
    plan = json.loads(person.hpc("plan", person.spec(QUICK), "--json"))
    assert plan["placement"] == "here/local"
    (candidate,) = plan["candidates"]
    assert candidate["site"] == "here"
    assert set(candidate["start_s"]) == set(candidate["run_s"]) == {"p50", "p90"}
    assert candidate["cost_usd"] == 0
    assert candidate["cost_source"] == "this machine"
    assert candidate["refused"] is None


def test_a_job_that_fits_nowhere_is_refused_with_the_reason_and_nothing_is_submitted(person: Person) -> None:
    refused = person.try_hpc("submit", person.spec("nodes: 3\nrun: 'true'\n"), "--json")
    assert refused.returncode == 5
    assert "3 nodes" in json.loads(refused.stdout)["error"]["message"]
    assert json.loads(person.hpc("status", "--all", "--json")) == []


@pytest.mark.parametrize("verb", ["plan", "submit"])
def test_reasons_that_a_table_has_told_are_not_told_again(person: Person, verb: str) -> None:
    refused = person.try_hpc(verb, person.spec("nodes: 3\nrun: 'true'\n"))
    assert refused.returncode == 5
    assert (refused.stdout + refused.stderr).count("3 nodes") == 1
    assert "hpc: no site can run this job, for the reasons above" in refused.stderr


def test_status_has_its_stable_keys_and_the_truth(person: Person) -> None:
    ref = submit(person, "run: kill -9 $$\nname: dies\n")
    person.try_hpc("wait", ref)
    (job,) = json.loads(person.hpc("status", "--json"))
    assert set(job) == STATUS_KEYS
    assert (job["state"], job["exit_code"], job["name"]) == ("FAILED", 137, "dies")


def test_render_prints_the_script_and_submits_nothing(person: Person) -> None:
    script = person.hpc("render", person.spec(QUICK))
    assert script.startswith("#!/bin/bash")
    assert "result is 42" in script
    assert json.loads(person.hpc("status", "--all", "--json")) == []


def test_render_of_several_files_prints_all_of_them_and_names_all_that_fit_nowhere(person: Person) -> None:
    names = [person.spec(f"name: job-{nodes}\nnodes: {nodes}\nrun: 'true'\n", f"{nodes}.yaml") for nodes in (1, 2, 3)]
    refused = person.try_hpc("render", *names)
    assert (refused.returncode, refused.stdout) == (5, "")
    assert "2.yaml: no site can run this job" in refused.stderr
    assert "3.yaml: no site can run this job" in refused.stderr
    scripts = json.loads(person.hpc("render", names[0], names[0], "--json"))
    assert [each["site"] for each in scripts] == ["here", "here"]


def test_dry_run_submits_nothing_and_what_it_prints_is_what_would_be_submitted(person: Person) -> None:
    person.hpc("submit", person.spec(QUICK), "--dry-run")
    assert json.loads(person.hpc("status", "--all", "--json")) == []


def test_a_running_job_is_cancelled_with_what_it_started(person: Person, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    ref = submit(person, f"run: setsid sh -c 'sleep 3; touch {trace}' & sleep 60\n")
    while json.loads(person.hpc("status", ref, "--json"))[0]["state"] == "PENDING":
        pass
    person.hpc("cancel", ref)
    answer = person.try_hpc("wait", ref, "--json")
    assert answer.returncode == 10
    assert json.loads(answer.stdout)[0]["state"] == "CANCELLED"
    assert not trace.exists()


def test_outputs_are_fetched_into_a_directory(person: Person) -> None:
    (person.home / "code").mkdir()
    (person.home / "code" / "data.txt").write_text("shipped")
    ref = submit(
        person, "workdir: code\noutputs: [out/, copy.txt]\nrun: mkdir out; cp data.txt copy.txt; date > out/when\n"
    )
    person.hpc("wait", ref)
    person.hpc("fetch", ref, "--to", "results")
    assert (person.home / "results" / "copy.txt").read_text() == "shipped"
    assert (person.home / "results" / "out" / "when").exists()
    assert not (person.home / "code" / "copy.txt").exists()
    (person.home / "results" / "copy.txt").write_text("mine")
    refused = person.try_hpc("fetch", ref, "--to", "results")
    assert (refused.returncode, "results/copy.txt: there already" in refused.stderr) == (2, True)
    assert (person.home / "results" / "copy.txt").read_text() == "mine"
    person.hpc("fetch", ref, "--to", "results", "--force")
    assert (person.home / "results" / "copy.txt").read_text() == "shipped"


def test_a_dependency_by_name_runs_after_it(person: Person) -> None:
    trace = person.home / "trace"
    person.spec(f"name: prep\nrun: sleep 1; echo prep >> {trace}\n", "prep.yaml")
    person.spec(f"name: train\nafter: {{ok: [prep]}}\nrun: echo train >> {trace}\n", "train.yaml")
    refs = person.hpc("submit", "train.yaml", "prep.yaml", "--quiet").split()
    person.hpc("wait", *refs)
    assert trace.read_text().split() == ["prep", "train"]


def test_a_job_that_comes_after_several_waits_for_all_of_them(person: Person) -> None:
    trace = person.home / "trace"
    for name, seconds in (("slow", 1), ("quick", 0)):
        person.spec(f"name: {name}\nrun: sleep {seconds}; echo {name} >> {trace}\n", f"{name}.yaml")
    person.spec(f"name: train\nafter: {{ok: [slow, quick]}}\nrun: echo train >> {trace}\n", "train.yaml")
    person.spec(f"name: also\nafter: {{start: [slow], any: [quick]}}\nrun: echo also >> {trace}\n", "also.yaml")
    refs = person.hpc("submit", "also.yaml", "train.yaml", "slow.yaml", "quick.yaml", "--quiet").split()
    person.hpc("wait", *refs)
    assert trace.read_text().split()[-2:] == ["slow", "train"]


def test_a_missing_dependency_is_named_and_nothing_is_submitted(person: Person) -> None:
    answer = person.try_hpc("submit", person.spec("after: {ok: [nobody]}\nrun: 'true'\n"))
    assert answer.returncode == 3
    assert "nobody" in answer.stderr


def test_an_array_runs_every_task_and_counts_as_one_job(person: Person) -> None:
    ref = submit(person, f"array: 0-4%2\nrun: echo $SLURM_ARRAY_TASK_ID >> {person.home}/tasks\n")
    person.hpc("wait", ref)
    assert sorted((person.home / "tasks").read_text().split()) == ["0", "1", "2", "3", "4"]
    assert len(json.loads(person.hpc("status", "--json"))) == 1


def test_why_says_in_words_what_a_pending_job_waits_for(person: Person) -> None:
    whole = "resources: {cpus: 4, memory: 100MiB}\ntime: 5m\n"
    first = submit(person, whole + "run: sleep 30\n")
    second = submit(person, whole + "run: sleep 1\n")
    words = person.hpc("why", second)
    assert "PENDING" in words
    assert "waited" in words
    person.hpc("cancel", first, second)


def test_why_says_in_words_how_a_job_ended_and_what_it_wrote_last(person: Person) -> None:
    ref = submit(person, "run: pyhton train.py\n")
    person.try_hpc("wait", ref)
    words = person.hpc("why", ref)
    assert "exit code 127 (command not found): a name is misspelt" in words
    assert re.search("the last line of its output: .*pyhton: command not found", words)
    assert "exit code 127 (command not found)" in person.hpc("status", ref)


def test_what_is_not_final_in_time_is_named(person: Person) -> None:
    ref = submit(person, "resources: {memory: 20MiB}\nrun: sleep 60\n")
    answer = person.try_hpc("wait", ref, "--timeout", "1s")
    assert (answer.returncode, f"not final within 1s: {ref} is " in answer.stderr) == (11, True)
    person.hpc("cancel", ref)


def test_why_tells_of_an_array_which_tasks_failed_and_of_one_task_alone(person: Person) -> None:
    ref = submit(person, 'array: 0-3\nrun: echo task $SLURM_ARRAY_TASK_ID; [ "$SLURM_ARRAY_TASK_ID" -lt 2 ]\n')
    person.try_hpc("wait", ref)
    whole = person.hpc("why", ref)
    assert "tasks: 2 FAILED, 2 COMPLETED" in whole
    assert f"{ref}_2 FAILED exit code 1\n{ref}_3 FAILED exit code 1\n" in whole
    task = json.loads(person.hpc("why", f"{ref}_3", "--json"))
    assert (task["ref"], task["state"], task["exit_code"]) == (f"{ref}_3", "FAILED", 1)
    assert "the last line of its output: task 3" in task["why"]
    assert person.try_hpc("why", f"{ref}_9").returncode == 9
    assert "hpc why" in person.try_hpc("status", f"{ref}_3").stderr


def test_why_tells_of_an_array_that_runs_in_which_states_its_tasks_are(person: Person) -> None:
    ref = submit(person, "array: 0-1%1\nresources: {memory: 20MiB}\nrun: sleep 60\n")
    assert "is RUNNING\n" in (told := person.hpc("why", ref))
    assert "tasks: 1 RUNNING, 1 PENDING\n" in told
    person.hpc("cancel", ref)


def test_status_shows_only_the_states_that_are_asked_for(person: Person) -> None:
    good, bad = submit(person, "run: 'true'\n"), submit(person, "run: 'false'\n")
    person.try_hpc("wait", good, bad)
    assert [job["ref"] for job in json.loads(person.hpc("status", "--json", "-t", "FAILED,oom"))] == [bad]
    assert [job["ref"] for job in json.loads(person.hpc("status", "--json", "--state", "CD"))] == [good]
    assert person.hpc("status", "-t", "PENDING") == "no jobs in these states\n"
    assert person.try_hpc("status", "-t", "RUNING").returncode == 2


def test_an_option_of_sbatch_beside_a_spec_is_told_where_it_belongs(person: Person) -> None:
    answer = person.try_hpc("plan", person.spec(QUICK), "--account", "ml")
    assert (answer.returncode, "slurm: {account: ...}" in answer.stderr) == (2, True)


def test_a_job_that_has_ended_is_no_living_namesake(person: Person) -> None:
    first = submit(person, "name: twin\nresources: {memory: 20MiB}\nrun: 'true'\n")
    second = submit(person, "name: twin\nresources: {memory: 20MiB}\nrun: sleep 60\n")
    # Nothing but the command itself asks how the first one is: what the ledger saw last is that it lived.
    assert any(person.try_hpc("cancel", "twin", "--dry-run").returncode == 0 for _ in range(40))
    assert second in person.hpc("cancel", "twin")
    assert "had ended: COMPLETED" in person.hpc("cancel", first)


def test_an_option_of_sbatch_behind_the_script_is_the_script_s_and_that_is_said(person: Person) -> None:
    person.spec("#!/bin/bash\n#SBATCH -t 1 --mem=50\ntrue\n", "job.sh")
    assert "note: --time=5 stands behind the script" in person.try_hpc("submit", "job.sh", "--time=5").stderr
    assert "note: " not in person.try_hpc("submit", "job.sh", "--lr=5").stderr
    person.spec("#!/bin/bash\n#SBATCH -t 1 --mem=50\ntrue\n#SBATCH -N 4\n", "late.sh")
    assert "note: line 4: #SBATCH behind the first command" in person.try_hpc("plan", "late.sh").stderr
    person.spec("#!/bin/bash\n#SBATCH -t 1 --mem=50\ncat >x <<E\n#SBATCH -N 4\nE\n", "writes.sh")
    assert "note: " not in person.try_hpc("plan", "writes.sh").stderr


def test_a_job_that_was_refused_is_called_so_and_the_fix_is_not_another_site(person: Person) -> None:
    person.spec("#!/bin/bash\n#SBATCH -t 1 --mem=50 -o nowhere/%j.out\ntrue\n", "job.sh")
    answer = person.try_hpc("submit", "job.sh")
    assert answer.returncode == 5
    assert "mend what its scheduler names" in answer.stderr
    assert "  REFUSED  " in person.hpc("status")


def test_sites_have_their_stable_keys(person: Person) -> None:
    (site,) = json.loads(person.hpc("sites", "--json"))
    assert (site["site"], site["ok"], site["error"]) == ("here", True, "")
    (partition,) = site["partitions"]
    keys = {"name", "nodes_total", "nodes_idle", "gpus_total", "gpus_idle", "pending_jobs", "running_jobs"}
    assert set(partition) == keys


def test_a_broken_site_file_costs_one_line_and_not_the_run(person: Person) -> None:
    folder = person.home / "config" / "sites"
    folder.mkdir(parents=True)
    (folder / "broken.yaml").write_text("name: broken\nscheduler: slrum\n")
    sites = {site["site"]: site for site in json.loads(person.hpc("sites", "--json"))}
    assert not sites["broken"]["ok"]
    assert "scheduler" in sites["broken"]["error"]
    assert sites["here"]["ok"]
    person.hpc("submit", person.spec(QUICK), "-f", "--where", "here")


def test_where_a_site_is_configured_this_machine_is_used_only_if_named(person: Person) -> None:
    folder = person.home / "config" / "sites"
    folder.mkdir(parents=True)
    (folder / "lab.yaml").write_text("name: lab\nscheduler: slurm\ntransport: local\nslurm_conf: /nowhere/slurm.conf\n")
    answer = person.try_hpc("submit", person.spec(QUICK))
    assert answer.returncode == 6
    assert "--where here" in answer.stderr
    assert person.try_hpc("plan", "job.yaml", "--where", "lab", "--json").returncode == 6


def test_a_script_that_calls_srun_is_not_run_without_a_slurm(person: Person) -> None:
    answer = person.try_hpc("submit", person.spec("#!/bin/bash\n# srun\nsrun hostname\n", "job.sbatch"))
    assert answer.returncode == 5
    assert "calls srun" in answer.stderr


def test_an_sbatch_script_without_srun_runs_here(person: Person) -> None:
    script = "#!/bin/bash\n#SBATCH -n2 -t 1 --mem=50 --array=1-2 -o out-%a.txt\n"
    script += "echo task $SLURM_ARRAY_TASK_ID $1 of $SLURM_JOB_NAME\n"
    ref = json.loads(person.hpc("submit", "--json", person.spec(script, "job.sbatch"), "x"))["ref"]
    person.hpc("wait", ref)
    assert person.hpc("logs", ref, "--task", "2") == "task 2 x of job.sbatch\n"
    assert (person.home / "out-1.txt").exists()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script(person: Person, shell: str) -> None:
    assert "_HPC_COMPLETE" in person.hpc("completion", shell)


def test_an_unknown_verb_names_the_nearest(person: Person) -> None:
    answer = person.try_hpc("sumbit", "x")
    assert answer.returncode == 2
    assert "hpc submit" in answer.stderr


def test_a_habit_of_another_program_is_answered_with_the_verb(person: Person) -> None:
    assert "did you mean `hpc status`?" in person.try_hpc("squeue").stderr
    assert "did you mean `hpc cancel`?" in person.try_hpc("scancel", "3").stderr
    assert person.hpc().startswith("Usage: hpc ")


def test_every_verb_has_help_with_an_example(person: Person) -> None:
    from hybridhpc.cli.main import VERBS

    for verb in VERBS:
        text = person.hpc(verb, "--help")
        assert "Example:" in text, verb


def test_errors_are_json_too(person: Person) -> None:
    answer = person.try_hpc("status", "nothing:1", "--json")
    assert answer.returncode == 9
    assert json.loads(answer.stdout)["error"]["exit_code"] == 9


def test_a_file_that_is_missing_or_a_directory_is_said_so(person: Person) -> None:
    for word in ("missing.yaml", "."):
        answer = person.try_hpc("submit", word)
        assert answer.returncode == 9
        assert "Traceback" not in answer.stderr


def test_init_writes_a_spec_that_runs_and_never_overwrites(person: Person) -> None:
    person.hpc("init")
    person.hpc("submit", "job.yaml", "-f")
    (person.home / "job.yaml").write_text("mine")
    assert "is there already" in person.hpc("init")
    assert (person.home / "job.yaml").read_text() == "mine"


def test_nothing_of_a_batch_is_submitted_unless_all_of_it_can_be(person: Person) -> None:
    person.spec("name: first\nrun: 'true'\n", "first.yaml")
    person.spec("name: second\nnodes: 50\nrun: 'true'\n", "second.yaml")
    assert person.try_hpc("submit", "first.yaml", "second.yaml").returncode == 5
    assert json.loads(person.hpc("status", "--all", "--json")) == []


def test_a_dependency_may_be_named_by_its_file(person: Person) -> None:
    person.spec("name: first\nrun: 'true'\n", "first.yaml")
    person.spec("name: second\nafter: [first.yaml]\nrun: 'true'\n", "second.yaml")
    answers = json.loads(person.hpc("submit", "second.yaml", "first.yaml", "--json"))
    person.hpc("wait", *(answer["ref"] for answer in answers))


def test_what_comes_after_a_failed_job_is_refused(person: Person) -> None:
    ref = submit(person, "name: bad\nrun: exit 1\n")
    person.try_hpc("wait", ref)
    answer = person.try_hpc("submit", person.spec("after: [bad]\nrun: 'true'\n", "next.yaml"))
    assert answer.returncode == 2
    assert "would never start" in answer.stderr


def test_the_outputs_of_all_tasks_are_shown_under_their_names(person: Person) -> None:
    ref = submit(person, "array: 0-2\nrun: echo this is $SLURM_ARRAY_TASK_ID\n")
    person.hpc("wait", ref)
    lines = person.hpc("logs", ref).splitlines()
    assert [line for line in lines if not line.startswith("==>")] == ["this is 0", "this is 1", "this is 2"]
    assert sum(line.startswith("==>") for line in lines) == 3


def test_words_behind_a_script_are_its_own(person: Person) -> None:
    person.spec("#!/bin/bash\n#SBATCH -t 1 --mem=50\nprintf '%s|' \"$@\"\n", "args.sh")
    words = ("-f", "cfg.yaml", "--json", "--goal", "5", "--help", "--", "--quiet")
    ref = person.hpc("submit", "args.sh", *words[:3], "--where", "here", *words[3:]).strip()
    person.hpc("wait", ref)
    assert person.hpc("logs", ref) == "|".join(words) + "|"


@pytest.mark.parametrize("make", ["missing", "file", "fifo"])
def test_a_workdir_that_cannot_be_shipped_is_a_fault_of_the_spec(person: Person, make: str) -> None:
    if make == "file":
        (person.home / "code").touch()
    elif make == "fifo":
        (person.home / "code").mkdir()
        os.mkfifo(person.home / "code" / "pipe")
    answer = person.try_hpc("plan", person.spec("run: 'true'\nworkdir: code\n", "job.yaml"))
    assert answer.returncode == 3
    assert "job.yaml:2: workdir: " in answer.stderr


def test_a_name_that_several_living_jobs_bear_cancels_none(person: Person) -> None:
    text = "name: twin\nresources: {memory: 20MiB}\nrun: sleep 30\n"
    refs = [submit(person, text), submit(person, text)]
    answer = person.try_hpc("cancel", "twin")
    assert answer.returncode == 2
    assert all(ref in answer.stderr for ref in refs)
    person.hpc("cancel", *refs)


def test_in_a_deleted_directory_jobs_are_looked_after_and_none_is_submitted(person: Person) -> None:
    ref = submit(person, "resources: {memory: 20MiB}\nrun: sleep 60\n")
    gone = person.home / "gone"
    gone.mkdir()

    def from_there(*words: str) -> subprocess.CompletedProcess[str]:
        shell = ["sh", "-c", 'rmdir "$PWD"; "$@"; code=$?; mkdir "$PWD"; exit "$code"', "sh", HPC, *words]
        return subprocess.run(shell, cwd=gone, env=person.env, capture_output=True, text=True, timeout=60)

    assert ref in from_there("status").stdout
    assert from_there("cancel", ref).returncode == 0
    assert from_there("wait", ref).returncode == 10
    refused = from_there("submit", "job.yaml")
    assert (refused.returncode, "no longer exists" in refused.stderr) == (9, True)


@pytest.mark.parametrize(
    "words", [("logs", "{}_3"), ("logs", "{}", "--task", "3"), ("why", "{}_3"), ("cancel", "{}_3")]
)
def test_a_job_that_is_no_array_has_no_tasks(person: Person, words: tuple[str, ...]) -> None:
    ref = submit(person, QUICK)
    person.hpc("wait", ref)
    refused = person.try_hpc(*(word.format(ref) for word in words))
    assert (refused.returncode, refused.stdout) == (2, "")
    assert f"{ref} is no array" in refused.stderr


def test_a_script_on_standard_input_is_no_file(person: Person) -> None:
    refused = person.try_hpc("submit", "-")
    assert (refused.returncode, "standard input is not read" in refused.stderr) == (2, True)


def test_what_names_no_outputs_is_told_so_and_of_two_of_a_name_it_is_said_once(person: Person) -> None:
    for _ in range(2):
        ref = submit(person, QUICK)
        person.hpc("wait", ref)
    fetched = person.try_hpc("fetch", ref)
    assert (fetched.returncode, fetched.stderr.count("names no `outputs:`")) == (9, 1)
    assert person.try_hpc("logs", "quick").stderr.count("2 are called quick") == 1


def test_an_output_that_leads_out_of_the_job_is_not_followed_and_the_others_come(person: Person) -> None:
    ref = submit(person, "outputs: [link, missing, file]\nrun: ln -s ../.. link; echo x > file\n")
    person.hpc("wait", ref)
    answer = person.try_hpc("fetch", ref, "--to", "back")
    assert answer.returncode == 9
    assert "link" in answer.stderr
    assert "missing" in answer.stderr
    assert [path.name for path in (person.home / "back").iterdir()] == ["file"]


def test_a_misspelt_site_is_named_with_the_nearest(person: Person) -> None:
    answer = person.try_hpc("submit", person.spec(QUICK), "--where", "hree")
    assert answer.returncode == 2
    assert "did you mean here?" in answer.stderr


NO_ROOM = "hpc: what was printed could not be written: no space left on device"


def redirected(person: Person, words: str) -> subprocess.CompletedProcess[str]:
    """Run a command line of bash, of a pipe the first part's exit code."""
    command = ["bash", "-c", f"{HPC} {words}; exit ${{PIPESTATUS[0]}}"]
    return subprocess.run(
        command, env=person.env, cwd=person.home, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize(
    ("words", "code", "prints"),
    [
        ("--help", 0, True), ("status", 0, True), ("sites", 0, True), ("plan job.yaml", 0, True),
        ("plan wide.yaml", 5, True), ("why here:1", 0, True), ("render job.yaml", 0, True), ("logs here:1", 0, True),
        ("wait here:1", 0, True), ("events here:1", 0, True), ("events here:1_0", 0, True),
        ("cancel here:1", 0, True), ("why none", 9, False),
    ],
)  # fmt: skip
def test_streams_that_are_full_or_unread_are_no_trouble(person: Person, words: str, code: int, prints: bool) -> None:
    person.spec("resources: {cpus: 1, memory: 50MiB}\nrun: echo hi\n")
    person.spec("nodes: 3\nrun: 'true'\n", "wide.yaml")
    if "here:1" in words:
        person.try_hpc("submit", "job.yaml", "-f")
    full = redirected(person, f"{words} >/dev/full")
    assert (full.returncode, full.stderr.count(NO_ROOM)) == (code or 1, prints), full.stderr
    assert "Traceback" not in full.stderr
    assert redirected(person, f"{words} 2>&1 | true").returncode == code


@pytest.mark.parametrize(
    ("words", "code"), [("status --json", 0), ("plan --json wide.yaml", 5), ("why --json none", 9)]
)
def test_streams_that_are_closed_or_full_are_no_trouble(person: Person, words: str, code: int) -> None:
    person.spec("nodes: 3\nrun: 'true'\n", "wide.yaml")
    for where in ("<&- >&-", "2>&- >/dev/null", "<&- >&- 2>&-", "2>/dev/full"):
        assert redirected(person, f"{words} {where}").returncode == code, where
    assert redirected(person, f"{words} >/dev/full 2>&1").returncode == (code or 1)
    assert redirected(person, f"{words} >/dev/full").stderr.count(NO_ROOM) == 1


def test_a_ref_that_was_not_printed_is_given_to_who_repeats_the_command(person: Person) -> None:
    person.spec(QUICK)
    assert redirected(person, "submit job.yaml >/dev/full").returncode == 1
    assert redirected(person, "submit job.yaml 2>/dev/null | true").returncode == 0
    assert person.hpc("submit", "job.yaml") == "here:1\n"
    assert len(json.loads(person.hpc("status", "--json"))) == 1


def test_a_locale_without_utf_8_gets_none_in_pipes_either(person: Person) -> None:
    person.env["LC_ALL"] = "C"
    assert person.hpc("plan", person.spec(QUICK), "--chart").isascii()


def test_an_empty_place_is_not_every_place(person: Person) -> None:
    answer = person.try_hpc("plan", person.spec("run: 'true'\n"), "--where", "")
    assert answer.returncode == 2
    assert "--where" in answer.stderr


def test_all_faults_of_all_files_are_told_at_once(person: Person) -> None:
    keys = ("parallel: 3", "workdir: nowhere", "where: hree", "after: [nobody]", "secrets: {A: secret://env/NOPE}")
    person.spec("\n".join(["run: 'true'", *keys]) + "\n", "first.yaml")
    person.spec("matrix: {LR: [1, 1]}\narray: 0-3\nnodes: many\nrun: 'true'\n", "second.yaml")
    answer = person.try_hpc("submit", "first.yaml", "second.yaml", "--json")
    assert answer.returncode == 3
    told = [(Path(p["file"]).name, p["key"]) for p in json.loads(answer.stdout)["error"]["problems"]]
    assert told == [
        ("first.yaml", "parallel"), ("first.yaml", "workdir"), ("first.yaml", "where"), ("first.yaml", "secrets.A"),
        ("second.yaml", "matrix.LR"), ("second.yaml", "array"), ("second.yaml", "nodes"),
    ]  # fmt: skip
    alone = person.try_hpc("plan", "first.yaml", "--json")
    assert "after" in [problem["key"] for problem in json.loads(alone.stdout)["error"]["problems"]]


def test_a_refused_site_called_auto_hides_no_other(person: Person) -> None:
    sites = person.home / "config" / "sites"
    sites.mkdir(parents=True)
    (sites / "auto.yaml").write_text("job_root: ~/jobs\n")
    answer = person.try_hpc("plan", person.spec("run: 'true'\n"), "--where", "auto", "--no-chart")
    assert "\nhere: not considered: " in answer.stdout, answer.stderr


def test_a_place_that_is_none_is_named_where_it_is_written(person: Person) -> None:
    answer = person.try_hpc("plan", person.spec("run: 'true'\nwhere: hree\n"))
    assert answer.returncode == 3
    assert "job.yaml:2: where: no site and no label is called 'hree' (did you mean here?)" in answer.stderr
    assert person.try_hpc("plan", "job.yaml", "--where", "hree").returncode == 2


def test_where_may_be_given_more_than_once(person: Person) -> None:
    refused = person.try_hpc("plan", person.spec("run: 'true'\n"), "--where", "here", "--where", "!here")
    assert refused.returncode == 5
    assert "left out by where: !here" in refused.stdout

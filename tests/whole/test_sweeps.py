"""Sweeps as a person uses them, on the embedded site: one thing with a name, of many jobs."""

from __future__ import annotations

import json
import sqlite3

from tests.people import Person

SMALL = "resources: {cpus: 1, memory: 20MiB}\ntime: 5m\n"


def test_a_matrix_is_one_array_whose_points_have_their_own_values(person: Person) -> None:
    text = f"name: tune-${{LR}}\n{SMALL}matrix: {{LR: [0.1, '$(touch pwned)'], SEED: 0-1}}\n"
    text += f'run: echo "$HPC_NAME $LR $SEED" >> {person.home}/trace\n'
    answer = json.loads(person.hpc("submit", person.spec(text), "--json"))
    assert (answer["name"], answer["points"], len(answer["jobs"])) == ("tune", 4, 1)
    person.hpc("wait", answer["sweep"], "--timeout", "1m")
    assert sorted((person.home / "trace").read_text().splitlines()) == [
        "tune-$(touch pwned) $(touch pwned) 0",
        "tune-$(touch pwned) $(touch pwned) 1",
        "tune-0.1 0.1 0",
        "tune-0.1 0.1 1",
    ]
    assert not list(person.home.rglob("pwned"))


def test_waiting_shows_how_many_points_have_ended(person: Person) -> None:
    sweep = person.hpc("submit", person.spec(f"{SMALL}matrix: {{N: 1-30}}\nrun: 'true'\n"), "--quiet").strip()
    assert "30 of 30 ended" in person.try_hpc("wait", sweep, "--timeout", "2m").stderr


def test_a_table_makes_a_job_of_each_line(person: Person) -> None:
    (person.home / "params.csv").write_text('LR,NOTE\n0.1,"a, b"\n0.2,c\n')
    spec = person.spec(f'name: tab\n{SMALL}run: echo "$LR=$NOTE" >> {person.home}/trace\n')
    sweep = person.hpc("submit", spec, "--csv", "params.csv", "--quiet").strip()
    person.hpc("wait", sweep, "--timeout", "1m")
    assert sorted((person.home / "trace").read_text().splitlines()) == ["0.1=a, b", "0.2=c"]
    (person.home / "params.csv").write_text("LR,NOTE\n0.1\n")
    refused = person.try_hpc("submit", spec, "--csv", "params.csv")
    assert refused.returncode == 3
    assert "params.csv:2: has 1 values for 2 names" in refused.stderr


def test_a_sweep_is_one_thing_for_status_wait_and_cancel(person: Person) -> None:
    text = f"name: mix\n{SMALL}matrix: {{CODE: [0, 3], NAP: [0, 60]}}\nrun: sleep $NAP; exit $CODE\n"
    sweep = person.hpc("submit", person.spec(text), "--quiet").strip()
    ref = json.loads(person.hpc("status", "--json"))[0]["ref"]
    while '"FAILED": 1' not in person.hpc("status", sweep, "--json"):
        assert '"PENDING": 4' not in person.hpc("status", "mix", "--json")
    person.hpc("cancel", f"{ref}_1")
    person.hpc("cancel", sweep)
    ended = person.try_hpc("wait", sweep, "--timeout", "1m")
    assert ended.returncode == 10
    found = json.loads(person.hpc("status", sweep, "--json"))
    assert found["states"] == {"FAILED": 1, "CANCELLED": 2, "COMPLETED": 1}
    assert [point["state"] for point in found["points"]] == ["COMPLETED", "CANCELLED", "FAILED", "CANCELLED"]
    assert found["points"][2]["parameters"] == {"CODE": "3", "NAP": "0"}
    shown = person.hpc("status", sweep)
    assert "4 of 4 ended" in shown
    assert f"{ref}_2  FAILED" in shown


def test_many_files_are_one_sweep_and_a_refused_one_does_not_lose_the_others(person: Person) -> None:
    files = [person.spec(f"name: part-{n}\n{SMALL}run: sleep 60\n", f"part-{n}.yaml") for n in range(30)]
    done = person.try_hpc("submit", *files)
    refs = done.stdout.split()
    assert len(set(refs)) == 30
    assert "plan for part-0 and 29 more jobs like it" in done.stderr
    assert "30 jobs submitted as part-" in done.stderr
    assert "30 of 30 submitted" in done.stderr
    (line,) = person.hpc("status").splitlines()[1:]
    assert "30 jobs" in line
    assert "30 jobs are being cancelled" in person.hpc("cancel", "part")
    assert person.try_hpc("wait", "part", "--timeout", "1m").returncode == 10
    states = {job["state"] for job in json.loads(person.hpc("status", "--json"))}
    assert states == {"CANCELLED"}


def test_many_files_that_ask_for_different_things_have_one_table_and_json_has_all_of_them(person: Person) -> None:
    small = "resources: {{cpus: 1, memory: {}MiB}}\ntime: 5m\nrun: 'true'\n"
    files = [person.spec(f"name: part-{n}\n{small.format(8 + n)}", f"part-{n}.yaml") for n in range(30)]
    head, _, *rows = person.hpc("plan", *files).splitlines()
    assert head.startswith("plan for 30 jobs that ask for 30 different things; $0.00 in all; the first starts now, ")
    assert [row.split()[:2] for row in rows] == [["30", "here/local"]]
    assert person.try_hpc("submit", *files, "--dry-run").stderr.splitlines()[0].startswith("plan for 30 jobs")
    assert len(json.loads(person.hpc("plan", *files, "--json"))) == 30


def test_logs_and_outputs_of_all_jobs_of_a_sweep_come_together(person: Person) -> None:
    files = [
        person.spec(f"name: say-{n}\n{SMALL}outputs: [out]\nrun: echo word {n} | tee out\n", f"say-{n}.yaml")
        for n in range(3)
    ]
    refs = person.hpc("submit", *files, "--quiet").split()
    person.hpc("wait", "say", "--timeout", "1m")
    shown = person.hpc("logs", "say")
    assert [line for line in shown.splitlines() if line.startswith("word")] == ["word 0", "word 1", "word 2"]
    assert f"==> {refs[1]} say-1 <==" in shown
    assert len(person.hpc("fetch", "say", "--to", "results").split()) == 3
    assert (person.home / "results" / f"say-2-{refs[2].rpartition(':')[2]}" / "out").read_text() == "word 2\n"
    assert person.try_hpc("why", "say").returncode == 2


def test_each_point_runs_in_a_directory_of_its_own_and_leaves_its_outputs_there(person: Person) -> None:
    code = person.home / "code"
    (code / "deep").mkdir(parents=True)
    (code / "deep" / "word").write_text("shipped")
    run = 'test ! -e out && mkdir out && echo "$(cat deep/word) $LR" >out/r && echo mine >deep/word'
    text = f"name: tune\n{SMALL}workdir: code\noutputs: [out/r]\nmatrix: {{LR: [a, b, c]}}\nrun: {run}\n"
    person.hpc("submit", person.spec(text, "tune.yaml"), "--quiet", "-f")
    brought = person.hpc("fetch", "tune", "--to", "got").split()
    assert brought == [f"got/{point}/out/r" for point in range(3)]
    assert [(person.home / path).read_text() for path in brought] == ["shipped a\n", "shipped b\n", "shipped c\n"]
    assert person.try_hpc("fetch", "tune", "--to", "got").returncode == 2
    assert (code / "deep" / "word").read_text() == "shipped"


def test_points_that_left_nothing_are_named_together(person: Person) -> None:
    run = "case $N in 1|2|4) ;; *) touch out ;; esac"
    text = f"name: some\n{SMALL}outputs: [out]\nmatrix: {{N: 0-5}}\nrun: {run}\n"
    person.hpc("submit", person.spec(text, "some.yaml"), "--quiet", "-f")
    answer = person.try_hpc("fetch", "some", "--to", "got")
    assert answer.returncode == 9
    assert "here:1: points 1-2,4: out: there is none\n" in answer.stderr
    assert "not ended" not in answer.stderr
    assert json.loads(person.try_hpc("fetch", "some", "--to", "got", "--force", "--json").stdout)["missing"] == [
        f"{point}: out: there is none" for point in (1, 2, 4)
    ]


def test_of_two_living_sweeps_of_a_name_both_are_named_before_anything_is_cancelled(person: Person) -> None:
    spec = person.spec(f"name: twin\n{SMALL}matrix: {{N: 0-1}}\nrun: sleep 60\n", "twin.yaml")
    ids = [person.hpc("submit", spec, "--quiet", "--again").strip() for _ in range(2)]
    refused = person.try_hpc("cancel", "twin")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "2 living jobs or sweeps are called twin: " in refused.stderr
    assert all(each in refused.stderr for each in ids)
    person.hpc("cancel", *ids)


def test_points_of_an_array_that_was_refused_count_each_and_are_shown_as_one(person: Person) -> None:
    text = f"name: part-$N\n{SMALL}matrix: {{N: 0-4}}\nrun: 'true'\n"
    person.hpc("submit", person.spec(text, "part.yaml"), "--quiet", "-f")
    with sqlite3.connect(person.home / "state" / "ledger.sqlite") as db:
        db.execute("UPDATE attempts SET phase = 'REFUSED', state = 'FAILED', native_state = 'REFUSED', job_id = ''")
        db.execute("UPDATE jobs SET announced = 0")
    shown = person.hpc("status", "part")
    assert "5 of 5 ended" in shown and "\n5 REFUSED\n" in shown
    assert [line.split()[1] for line in shown.splitlines()[4:]] == ["REFUSED"]
    points = json.loads(person.hpc("status", "part", "--json"))["points"]
    assert [point["parameters"]["N"] for point in points] == list("01234")
    assert points[3]["name"] == "part-3"


def test_jobs_that_were_never_submitted_have_a_name_and_a_word(person: Person) -> None:
    """A ledger whose every job was refused: as a full disk leaves it behind."""
    for number in range(22):
        person.spec(f"name: full-{number}\n{SMALL}outputs: [x]\nrun: 'true'\n", f"{number}.yaml")
    person.hpc("submit", *(f"{number}.yaml" for number in range(22)), "--quiet")
    with sqlite3.connect(person.home / "state" / "ledger.sqlite") as db:
        db.execute("UPDATE attempts SET phase = 'REFUSED', state = 'FAILED', native_state = 'REFUSED', job_id = ''")
        db.execute("UPDATE jobs SET announced = 0")
        ((sweep, token),) = db.execute("SELECT sweep, token FROM jobs LIMIT 1").fetchall()
    waited = person.try_hpc("wait", sweep)
    assert waited.stdout == "22 jobs: 22 REFUSED\n"
    assert "was never submitted" in waited.stderr
    assert "  " not in waited.stderr.split("\n")[0]
    assert "none of its 22 jobs was ever submitted" in person.try_hpc("fetch", sweep).stderr
    assert "22 REFUSED" in person.hpc("status", sweep)
    assert "22 REFUSED" in person.hpc("status")
    assert person.hpc("cancel", sweep) == "22 jobs had ended: 22 REFUSED\n"
    assert f"{token[:8]} full-0 is REFUSED" in person.hpc("why", token)
    assert "is a sweep of 22 jobs" in person.try_hpc("events", sweep).stderr

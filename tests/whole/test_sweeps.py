"""Sweeps as a person uses them, on the embedded site: one thing with a name, of many jobs."""

from __future__ import annotations

import json

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

"""Sweeps: from values and tables to points, to arrays that a site takes, to shell that only reads them."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridhpc.errors import SpecError
from hybridhpc.model import JobSpec
from hybridhpc.points import Points
from hybridhpc.script.points import parse_points, points_file
from hybridhpc.script.task_files import env_file
from hybridhpc.spec.sweep import parse_csv, pieces, shape, sweep_name
from hybridhpc.spec.yaml import parse_spec


def spec(text: str) -> JobSpec:
    return parse_spec(text.encode(), "/home/me/train.yaml")


def test_a_matrix_makes_every_combination_and_keeps_values_as_they_were_written() -> None:
    found = spec("matrix: {LR: [0.10, 1e-3], SEED: 08-10}\nparallel: 2\nrun: x\n")
    assert found.points is not None
    assert found.points.names == ("LR", "SEED")
    assert found.points.rows[:4] == (("0.10", "08"), ("0.10", "09"), ("0.10", "10"), ("1e-3", "08"))
    assert found.array is not None
    assert (found.array.text, found.array.tasks, found.array.throttle) == ("0-5%2", 6, 2)


def test_the_array_has_the_name_without_parameters_and_each_point_its_own() -> None:
    found = spec("name: train-${LR}-s$SEED\nmatrix: {LR: [1], SEED: [7]}\nrun: x\n")
    assert found.points is not None
    assert (found.name, found.points.name) == ("train-s", "train-${LR}-s$SEED")
    assert found.points.fill(found.points.name, {"LR": "1", "SEED": "7"}) == "train-1-s7"


def test_a_table_is_read_and_its_faults_are_all_named_with_their_lines() -> None:
    assert parse_csv(b'LR,NOTE\n0.1,"a, b"\n\n0.2,\n', "p.csv") == Points(
        names=("LR", "NOTE"), rows=(("0.1", "a, b"), ("0.2", ""))
    )
    with pytest.raises(SpecError) as caught:
        parse_csv(b"LR,LR,9X\n1,2,3\n1,2\n1,2,3\n", "p.csv")
    words = str(caught.value)
    for piece in (
        "p.csv:1: 'LR' stands twice",
        "p.csv:1: '9X'",
        "p.csv:3: has 2 values",
        "p.csv:4: says the same as line 2",
    ):
        assert piece in words
    for content in (b"", b"LR\n", b'LR\n"1\n', b"LR\n" + b"".join(b"%d\n" % n for n in range(10_001))):
        with pytest.raises(SpecError):
            parse_csv(content, "p.csv")


def test_a_sweep_is_cut_into_arrays_that_the_site_takes() -> None:
    whole = spec("matrix: {SEED: 0-2499}\nparallel: 30\nrun: x\n")
    assert pieces(whole, None) == pieces(whole, 2500) == (whole,)
    cut = pieces(whole, 1001)
    assert [(piece.array.text, len(piece.points.rows)) for piece in cut if piece.array and piece.points] == [
        ("0-832%10", 833),
        ("0-832%10", 833),
        ("0-833%10", 834),
    ]
    assert whole.points is not None
    assert sum((piece.points.rows for piece in cut if piece.points), ()) == whole.points.rows


def test_jobs_that_differ_only_in_what_they_run_have_one_shape() -> None:
    first, second = spec("name: a-1\nrun: x\n"), spec("name: a-2\nrun: y\nenv: {A: b}\n")
    assert shape(first) == shape(replace(second, file="/elsewhere.yaml"))
    assert shape(first) != shape(spec("name: a-1\nnodes: 2\nrun: x\n"))
    assert (sweep_name(["a-1", "a-20"]), sweep_name(["a", "b"]), sweep_name(["x", "x"])) == ("a", "sweep", "x")


VALUES = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Co", "Cn", "Zl", "Zp")), max_size=30
).filter(lambda text: not text or text.isprintable())


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(VALUES, VALUES), min_size=1, max_size=4), st.integers(0, 3))
def test_every_value_reaches_its_task_exactly(rows: list[tuple[str, str]], task: int) -> None:
    points = Points(names=("LR", "SEED_2"), rows=tuple(rows), name="job-${LR}")
    file = points_file(points)
    assert parse_points(file.content) == points
    script = env_file((("OUT", "a '$HOME' $LR/${SEED_2}"),), points).text
    script += '\nprintf \'%s\\0\' "$LR" "$SEED_2" "$OUT" "$HPC_NAME"'
    answer = run_task(script, file.content, task % len(rows))
    first, second = rows[task % len(rows)]
    assert answer.stdout.decode().split("\0")[:4] == [first, second, f"a '$HOME' {first}/{second}", f"job-{first}"]


def run_task(script: str, points: bytes, task: int) -> subprocess.CompletedProcess[bytes]:
    directory = Path("/dev/shm") if Path("/dev/shm").is_dir() else Path("/tmp")
    import tempfile

    with tempfile.TemporaryDirectory(dir=directory) as folder:
        Path(folder, "points").write_bytes(points)
        env = {"HPC_JOB_DIR": folder, "SLURM_ARRAY_TASK_ID": str(task), "PATH": "/usr/bin:/bin", "HOME": "/h"}
        return subprocess.run(["/bin/bash", "-uc", script], env=env, capture_output=True, check=False)


def test_a_task_without_a_point_does_not_run() -> None:
    points = Points(names=("LR",), rows=(("1",),))
    answer = run_task(env_file((), points).text + "\necho ran", points_file(points).content, 1)
    assert (answer.returncode, answer.stdout) == (1, b"")
    assert b"has no parameters" in answer.stderr


def test_a_column_of_bash_s_own_is_refused_at_its_line() -> None:
    with pytest.raises(SpecError, match=r"p\.csv:1: 'UID': UID belongs to bash itself"):
        parse_csv(b"LR,UID\n1,2\n", "p.csv")

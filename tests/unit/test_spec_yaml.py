"""What a spec's text becomes, and what is said of one that is wrong. tests/broken/ holds a wrong spec per fault."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hybridhpc.document import MAX_VALUES
from hybridhpc.errors import SpecError
from hybridhpc.model import (
    After,
    Array,
    Bind,
    Checkpoint,
    Goal,
    Gpus,
    JobSpec,
    Launcher,
    Native,
    Resources,
    Retries,
    Work,
)
from hybridhpc.readers import quoted
from hybridhpc.script.render import render_script
from hybridhpc.sites.options import DERIVED
from hybridhpc.sites.site import Site
from hybridhpc.spec.aliases import ALIASES, FOREIGN
from hybridhpc.spec.dependencies import check_dependencies
from hybridhpc.spec.fault import problem_of
from hybridhpc.spec.schema import WRITE
from hybridhpc.spec.yaml import parse_spec

ROOT = Path(__file__).parents[2]
BROKEN = sorted((ROOT / "tests/broken").glob("*.yaml"))
DOCS = (ROOT / "docs/spec.md").read_text()


def parsed(text: str, *, path: str = "/home/me/job.yaml", **options: Any) -> JobSpec:
    return parse_spec(text.encode(), path, **options)


def work(text: str) -> Work:
    payload = parsed(f"run: 'true'\n{text}").payload
    assert isinstance(payload, Work)
    return payload


def said(text: str | bytes, **options: Any) -> str:
    content = text.encode() if isinstance(text, str) else text
    with pytest.raises(SpecError) as caught:
        parse_spec(content, "/j.yaml", **options)
    assert caught.value.exit_code == 3
    return str(caught.value)


@pytest.mark.parametrize("file", BROKEN, ids=lambda file: file.stem)
def test_a_broken_spec_gets_the_answer_that_lies_beside_it(file: Path) -> None:
    with pytest.raises(SpecError) as caught:
        parse_spec(file.read_bytes(), f"/{file.name}")
    assert f"{caught.value}\n" == file.with_suffix(".expected").read_text()


def test_every_fault_has_its_broken_spec() -> None:
    assert len(BROKEN) >= 40
    assert {file.stem for file in BROKEN} == {file.stem for file in (ROOT / "tests/broken").glob("*.expected")}


@pytest.mark.parametrize("file", sorted((ROOT / "configs/jobs").glob("*.yaml")), ids=lambda file: file.stem)
def test_a_shipped_job_can_be_read(file: Path) -> None:
    assert parse_spec(file.read_bytes(), str(file)).name == file.stem


@pytest.mark.parametrize("text", re.findall(r"```yaml\n(.*?)```", DOCS, re.DOTALL))
def test_an_example_of_the_documentation_can_be_read(text: str) -> None:
    assert parsed(text, now=1.8e9).payload


def test_the_documentation_names_every_key_and_every_other_spelling() -> None:
    known = {key.rpartition(".")[2] for key in [*WRITE, *ALIASES]} - {"*"}
    assert known <= set(re.findall(r"[a-z_]+", DOCS))


@pytest.mark.parametrize("key", [key for key in WRITE if "*" not in key])
def test_what_a_message_tells_to_write_can_be_written(key: str) -> None:
    lines = WRITE[key]
    for parent in reversed(key.split(".")[:-1]):
        lines = f"{parent}: {{{lines}{', dir: x' if parent == 'checkpoint' and 'dir:' not in lines else ''}}}"
    image = "image: x.sif\n" if key == "binds" else ""
    assert parsed(lines + "\n" + image + ("" if key == "run" else "run: 'true'"))


def test_every_key_reaches_the_value_that_it_is_for() -> None:
    spec = parsed(
        """
name: train-e2e
nodes: 2
resources: {gpus: H100:8, cpus: 104, memory: 1800GiB}
time: 12h
image: images/train.sif
binds: [/data:/data:ro, /scratch:/tmp]
workdir: .
outputs: [ckpt/, metrics.json]
tasks_per_node: 8
env: {NCCL_DEBUG: WARN}
secrets: {WANDB_API_KEY: secret://env/WANDB_API_KEY}
setup: [module load cuda, pip install x]
launcher: torchrun
run: python train.py
array: 0-99%10
after: {ok: [prep], any: other}
checkpoint: {dir: ckpt, signal: SIGUSR2, grace: 5m}
retries: {preempted: 20, node_fail: 3}
where: [dgx, aws/p5]
goal: {value_of_time: 50 USD/h, deadline: 1970-01-01T02:00+01:00, max_cost: 500 USD}
slurm: {account: ml, qos: high, exclusive: true}
"""
    )
    assert spec == JobSpec(
        name="train-e2e",
        file="/home/me/job.yaml",
        digest=spec.digest,
        resources=Resources(
            nodes=2,
            gpus=(Gpus(kind="H100", count=8),),
            cpus=104,
            memory=1800 * 1024,  # type: ignore[arg-type]
            walltime=43200,  # type: ignore[arg-type]
            whole_nodes=True,
        ),
        payload=Work(
            run="python train.py",
            setup="module load cuda\npip install x",
            launcher=Launcher.TORCHRUN,
            tasks_per_node=8,
            image="/home/me/images/train.sif",
            binds=(Bind(source="/data", target="/data", read_only=True), Bind(source="/scratch", target="/tmp")),
            workdir="/home/me",
            outputs=("ckpt/", "metrics.json"),
            env=(("NCCL_DEBUG", "WARN"),),
            secrets=(("WANDB_API_KEY", "secret://env/WANDB_API_KEY"),),
            checkpoint=Checkpoint(directory="ckpt", signal="USR2", grace=300),  # type: ignore[arg-type]
            retries=Retries(preempted=20, node_fail=3),
            slurm=(("account", "ml"), ("qos", "high"), ("exclusive", None)),
        ),
        array=Array(text="0-99%10", tasks=100, throttle=10),
        after=(After(kind="ok", jobs=("prep",)), After(kind="any", jobs=("other",))),
        native=Native(account="ml", qos="high"),
        where=("dgx", "aws/p5"),
        goal=Goal(value_of_time=50.0, deadline=3600.0, max_cost=500.0),  # type: ignore[arg-type]
    )


def test_a_spec_of_one_line_gets_the_defaults() -> None:
    spec = parsed("run: hostname", path="/home/me/my job.yaml")
    assert (spec.name, spec.resources, spec.where, spec.goal) == ("my job", Resources(), ("auto",), None)
    assert spec.payload == Work(run="hostname")


def test_a_file_whose_name_cannot_name_a_job_gets_one_that_can() -> None:
    assert parsed("run: x", path="/p/a\tb.yaml").name == "a-b"
    assert parsed("run: x", path="/p/\t.yaml").name == "job"


def test_the_digest_is_of_the_bytes() -> None:
    assert parsed("run: x").digest != parsed("run: x ").digest


@pytest.mark.parametrize(("alias", "key"), ALIASES.items())
def test_another_tools_spelling_means_the_same(alias: str, key: str) -> None:
    def spec(path: str, value: str) -> JobSpec:
        parent, _, last = path.rpartition(".")
        text = f"{parent}: {{{last}: {value}}}" if parent else f"{last}: {value}"
        return parsed(f"{text}\n" + "".join(f"{line}\n" for line in others if not line.startswith(f"{key}:")))

    others = ["run: x", "image: x.sif"]
    value = WRITE[key].partition(": ")[2]
    ours, theirs = spec(key, value), spec(alias, f"slurm/{value}" if alias.endswith("infra") else value)
    assert (ours.resources, ours.payload, ours.where) == (theirs.resources, theirs.payload, theirs.where)


@pytest.mark.parametrize("key", FOREIGN)
@pytest.mark.parametrize("parent", ["", "resources: "])
def test_a_key_that_cannot_be_kept_is_refused_with_the_reason(key: str, parent: str) -> None:
    line = f"resources: {{{key}: x}}" if parent else f"{key}: x"
    assert FOREIGN[key][0] in said(f"run: x\n{line}")


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("12:00:00", 43200), ("1:30", 90), ("1-12:00:00", 129600), ("90m", 5400), ('"2h"', 7200), ("1h30m", 5400)],
)
def test_a_time_is_no_number_of_base_sixty(written: str, seconds: int) -> None:
    assert parsed(f"run: x\ntime: {written}").resources.walltime == seconds


def test_numbers_are_decimal_and_words_are_words() -> None:
    spec = parsed("run: x\nname: 1e3\nnodes: 010\nresources: {cpus: 08}\nenv: {A: no, B: 1e3, C: 0o7, D: 1_0, E: ~}")
    assert (spec.name, spec.resources.nodes, spec.resources.cpus) == ("1e3", 10, 8)
    assert isinstance(spec.payload, Work)
    assert spec.payload.env == (("A", "no"), ("B", "1e3"), ("C", "0o7"), ("D", "1_0"), ("E", "~"))


def test_a_byte_order_mark_and_windows_line_ends_are_read() -> None:
    spec = parse_spec(b"\xef\xbb\xbfname: a\r\nrun: |\r\n  echo 1\r\n  echo 2\r\n", "/j.yaml")
    assert isinstance(spec.payload, Work)
    assert (spec.name, spec.payload.run) == ("a", "echo 1\necho 2\n")


def test_tabs_inside_a_script_are_its_own() -> None:
    assert parsed("run: |\n  cat <<-END\n  \ttext\n  \tEND\n").payload == Work(run="cat <<-END\n\ttext\n\tEND\n")


def test_keys_without_a_value_count_as_not_written() -> None:
    assert parsed("run: x\nname:\nresources:\ntime: null\nslurm:\nenv:\n", path="/j.yaml").name == "j"


@pytest.mark.parametrize(
    ("written", "gpus"),
    [
        ("H100:8", [("H100", 8)]),
        ("H100", [("H100", 1)]),
        ("8", [(None, 8)]),
        ("[H100:8, A100:4]", [("H100", 8), ("A100", 4)]),
        ("{name: H100, count: 8}", [("H100", 8)]),
        ("{count: 2}", [(None, 2)]),
        ("{H100: 8}", [("H100", 8)]),
        ("{H100:8, A100:8}", [("H100", 8), ("A100", 8)]),
        ("[{name: H100, count: 8}, A100]", [("H100", 8), ("A100", 1)]),
    ],
)
def test_gpus_are_read_in_every_familiar_way(written: str, gpus: list[tuple[str | None, int]]) -> None:
    spec = parsed(f"run: x\nresources: {{gpus: {written}}}")
    assert [(each.kind, each.count) for each in spec.resources.gpus] == gpus


@pytest.mark.parametrize(
    "written", ["{name: H100, memory: 80GB}", "[[H100]]", "H100:8:1", "{a: {b: c}}", "''", "[]", "80GB..", "H100x8"]
)
def test_gpus_that_cannot_be_meant_are_refused(written: str) -> None:
    assert "resources.gpus" in said(f"run: x\nresources: {{gpus: {written}}}")


@pytest.mark.parametrize("written", ["64GB", "64GiB", "64", "64+", "64GB..", "65536M"])
def test_memory_is_read_in_every_familiar_way(written: str) -> None:
    assert parsed(f"run: x\nresources: {{memory: {written}}}").resources.memory == 65536


@pytest.mark.parametrize(
    ("written", "image"),
    [
        ("nvcr.io/nvidia/pytorch:25.10-py3", "docker://nvcr.io/nvidia/pytorch:25.10-py3"),
        ("ubuntu", "docker://ubuntu"),
        ("localhost:5000/a/b@sha256:" + "0" * 64, "docker://localhost:5000/a/b@sha256:" + "0" * 64),
        ("docker:pytorch/pytorch", "docker://pytorch/pytorch"),
        ("docker://ubuntu:24.04", "docker://ubuntu:24.04"),
        ("oras://ghcr.io/a/b:1", "oras://ghcr.io/a/b:1"),
        ("library://lab/tools/x", "library://lab/tools/x"),
        ("/shared/x.sif", "/shared/x.sif"),
        ("../x.def", "/home/x.def"),
    ],
)
def test_an_image_is_a_url_or_a_file(written: str, image: str) -> None:
    assert work(f"image: {written}").image == image


@pytest.mark.parametrize(
    "written",
    [
        "docker://",
        "ami-0abc1234",
        "skypilot:gpu-ubuntu",
        "/a/directory",
        "~/x.sif",
        "$HOME/x.sif",
        "a b",
        "Ubuntu",
        "file:///x",
    ],
)
def test_what_is_no_image_is_refused(written: str) -> None:
    assert "image" in said(f"run: x\nimage: {written}")


@pytest.mark.parametrize("scheme", ["", "docker:", "docker://", "https://"])
@pytest.mark.parametrize("digest", ["", "@sha256:" + "0" * 64])
def test_a_password_in_an_image_is_not_repeated(scheme: str, digest: str) -> None:
    answer = said(f"run: x\nimage: {scheme}me:hunter2@registry.example.org/a/b{digest}")
    assert "image: holds a user or a password" in answer
    assert "hunter2" not in answer


@pytest.mark.parametrize(("word", "worth"), [("cheap", 1.0), ("balanced", 30.0), ("fast", 300.0)])
def test_a_goal_in_a_word_says_what_an_hour_of_waiting_is_worth(word: str, worth: float) -> None:
    assert parsed(f"run: x\ngoal: {word}").goal == Goal(value_of_time=worth)  # type: ignore[arg-type]


def test_a_deadline_that_has_passed_is_refused() -> None:
    text = "run: x\ngoal: {deadline: 1970-01-02T00:00Z}"
    assert parsed(text, now=86399.0).goal == Goal(value_of_time=30.0, deadline=86400.0)  # type: ignore[arg-type]
    assert "goal.deadline: has passed" in said(text, now=86400.0)


def test_extreme_moments_make_no_traceback() -> None:
    for moment in ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"):
        assert parsed(f"run: x\ngoal: {{deadline: '{moment}'}}", now=-1e12).goal is not None


@pytest.mark.parametrize(
    "written",
    [
        "{account: ml, exclusive: true, core_spec: 2, contiguous: false, C: ib, nice: ~, begin: }",
        "[--account=ml, --exclusive, --core-spec 2, -C ib]",
        "['-Aml', exclusive, core_spec=2, '-Cib']",
        "['--account=\"ml\"', --exclusive=true, --core-spec = 2, --constraint ib, --nice=null]",
    ],
)
def test_native_options_are_read_as_a_mapping_and_as_on_the_command_line(written: str) -> None:
    options = dict(work(f"slurm: {written}").slurm)
    assert options == {"account": "ml", "exclusive": None, "core-spec": "2", "constraint": "ib"}


@pytest.mark.parametrize("option", DERIVED)
def test_an_option_that_another_key_decides_is_refused_by_name(option: str) -> None:
    assert f"--{option} is set" in said(f"run: x\nslurm: {{{option}: 1}}")
    assert f"--{option} is set" in said(f"run: x\nslurm: [--{option}=1]")


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("[-A a, --account=b]", "--account stands twice"),
        ("{A: a, account: b}", "slurm.account: means the same as 'A'"),
        ("{comment: [a, b]}", "slurm.comment: must be one value, not a list"),
        ('{comment: "a\\nb"}', "slurm.comment: must be one line"),
        ('["--comment=a\\nb"]', "slurm[0]: must be one line"),
        ("{Z: 1}", "'Z' is no option of sbatch"),
        ("{'a b': 1}", "'a b' is no option of sbatch"),
        ("[{account: ml}]", "slurm[0]: must be one value, not a mapping"),
        ("3", "'3' is no option of sbatch"),
        (
            "\n  account: ml\n  constrain: ib",
            "/j.yaml:4: slurm.constrain: --constrain is no option of sbatch (did you mean",
        ),
        (
            "\n  - --account=ml\n  - --exklusive",
            "/j.yaml:4: slurm[1]: --exklusive is no option of sbatch (did you mean",
        ),
        (
            "\n  account: ml\n  hint: fast",
            "/j.yaml:4: slurm.hint: 'fast' is not what sbatch takes (write hint: compute_bound",
        ),
        ("\n  - --hint=fast", "/j.yaml:3: slurm[0]: 'fast' is not what sbatch takes (write hint: compute_bound"),
        ("{tmp: 10 gigabytes}", "slurm.tmp: '10 gigabytes' is no amount of memory (write tmp: 4G"),
        ("{tim: 5}", "slurm.tim: --tim is no option of sbatch (did you mean"),
        ("{tasks-per-node: 8}", "write tasks_per_node: 8"),
        ("{contiguous: 3}", "slurm.contiguous: --contiguous takes no argument (write contiguous: true)"),
        ("[--comment]", "slurm[0]: --comment needs an argument (write comment: ...)"),
        ("{comment: true}", "slurm.comment: --comment needs an argument"),
    ],
)
def test_a_native_option_that_cannot_be_passed_on_is_refused(written: str, message: str) -> None:
    assert message in said(f"run: x\nslurm: {written}")


def test_an_option_of_a_plugin_is_taken_and_told_to_routing() -> None:
    text = b"run: x\nslurm: {account: ml, container_image: a, --quick: true}\n"
    spec = parse_spec(text, "/j.yaml", plugins=(("container-image", "="), ("quick", ""), ("account", "=")))
    assert spec.plugin_options == (("container-image", "a"), ("quick", None))
    assert isinstance(spec.payload, Work)
    assert dict(spec.payload.slurm) == {"account": "ml", "container-image": "a", "quick": None}
    assert "(write plugin_options: [pyxis] into the file of a site whose" in said("run: x\nslurm: {container-image: a}")


def test_what_only_some_sites_have_is_told_to_routing() -> None:
    spec = parsed("run: x\nslurm: {A: ml, q: high, C: ib, reservation: r, L: matlab, w: n1}")
    assert spec.native == Native(
        account="ml", qos="high", constraint="ib", reservation="r", licenses="matlab", nodelist="n1"
    )
    assert not spec.resources.whole_nodes


def test_the_command_line_says_where_instead_of_the_spec() -> None:
    assert parsed("run: x\nwhere: dgx", where=("aws/p5",)).where == ("aws/p5",)
    assert said("run: x", where=("a/b/c",)).startswith("command line: --where: 'a/b/c' is no place")


@pytest.mark.parametrize(
    ("written", "where"),
    [
        ("auto", ("auto",)),
        ("dgx", ("dgx",)),
        ("[dgx, aws/p5]", ("dgx", "aws/p5")),
        ("[auto, '!aws']", ("auto", "!aws")),
        ("'gpu-memory >= 80GiB'", ("gpu-memory>=80GiB",)),
        ("[eu, 'gpu-speed>0.5', '!cloud']", ("eu", "gpu-speed>0.5", "!cloud")),
    ],
)
def test_places_are_read(written: str, where: tuple[str, ...]) -> None:
    assert parsed(f"run: x\nwhere: {written}").where == where


@pytest.mark.parametrize(
    "written",
    ["gpu-memory>=lots", "'gpu-speed>x'", "gpus>8", "/p5", "a,b", "auto/p5", "[]", "'!auto'", "a/b/c", "-x", "'a\\nb'"],
)
def test_what_is_no_place_is_refused(written: str) -> None:
    assert "where" in said(f"run: x\nwhere: {written}")


@pytest.mark.parametrize(
    ("written", "tasks", "throttle"),
    [("0-99", 100, None), ("1,4,7", 3, None), ("0-9:5,3%2", 3, 2), ("7-7", 1, None), ("1,1", 1, None)],
)
def test_an_array_is_read_as_slurm_reads_it(written: str, tasks: int, throttle: int | None) -> None:
    array = parsed(f"run: x\narray: {written}").array
    assert array is not None
    assert (array.tasks, array.throttle) == (tasks, throttle)


@pytest.mark.parametrize("written", ["9-0", "0-9:0", "a-b", "1-", "','", "0-9%0", "0-9%", "0-5000000", "-1", "''"])
def test_a_malformed_array_is_refused(written: str) -> None:
    assert "array" in said(f"run: x\narray: {written}")


def test_the_longest_name_fits_a_file_system() -> None:
    assert parsed(f"run: x\nname: {'a' * 200}").name == "a" * 200
    assert "201 bytes long" in said(f"run: x\nname: {'a' * 201}")
    assert "300 bytes long" in said(f"run: x\nname: {'é' * 150}")


@pytest.mark.parametrize("name", ["a/b", "..", "' '", '"a\\x1bb"', '"\\u202eb"', '"a\\tb"'])
def test_a_name_that_no_file_can_have_is_refused(name: str) -> None:
    assert "name" in said(f"run: x\nname: {name}")


def test_a_variable_and_a_secret_of_one_name_are_refused() -> None:
    assert "secrets.A" in said("run: x\nenv: [A=b]\nsecrets: {A: secret://x/y}")


def test_a_signal_must_come_after_the_job_has_begun() -> None:
    assert "checkpoint.grace" in said("run: x\ntime: 2m\ncheckpoint: {dir: a}")
    assert parsed("run: x\ntime: 121\ncheckpoint: {dir: a}".replace("121", "121s"))


@pytest.mark.parametrize(
    "line", ["*a : b", "&a k: b", "!!str k: b", "? {a: &b c}\n: {d: d, d: d}", ": b", "<<: {a: b}"]
)
def test_a_strange_key_is_one_problem_with_its_line(line: str) -> None:
    assert re.fullmatch(r"/j\.yaml:2: [^\n]+", said(f"run: x\n{line}"))


def test_a_goal_and_a_grace_have_their_bounds() -> None:
    assert "goal.deadline: 'soon' is no date and time" in said("run: x\ngoal: {deadline: soon}")
    assert "checkpoint.grace: '19h' is out of range" in said("run: x\ncheckpoint: {dir: a, grace: 19h}")
    assert "env: A stands twice" in said("run: x\nenv: [A=b, A=c]")


def test_a_file_that_is_too_large_is_not_read() -> None:
    assert "1,000,001 bytes" in said(b"run: x #" + b"-" * 999_993)
    assert parse_spec(b"run: x #" + b"-" * 999_992, "/j.yaml")


def test_lists_and_depth_are_bounded() -> None:
    assert f"more than {MAX_VALUES:,} values" in said("run: [" + "a, " * 30_000 + "]")
    assert "at most 1,000" in said("run: [" + "a, " * 1001 + "]")
    assert "20 deep" in said("run: " + "{a: " * 25 + "}" * 25)
    assert "20 deep" in said("[" * 100_000)


def test_at_most_a_hundred_problems_are_shown() -> None:
    lines = said("run: x\nenv:\n" + "".join(f"  {number}A: b\n" for number in range(150))).splitlines()
    assert len(lines) == 101
    assert lines[-1] == "/j.yaml: 50 more problems are not shown"


def test_what_is_quoted_in_a_message_is_short_and_printable() -> None:
    assert len(quoted("x" * 1000)) < 70
    assert "\x1b" not in said('run: x\ntime: "\\x1b[31m"')


def test_jobs_are_put_into_the_order_of_their_dependencies() -> None:
    last = parsed("run: x\nname: last\nafter: [prep.yaml, middle, 'dgx:77', a1b2]", path="/p/last.yaml")
    middle = parsed("run: x\nname: middle\nafter: {any: first}", path="/p/middle.yaml")
    first = parsed("run: x\nname: first", path="/p/prep.yaml")
    assert check_dependencies([last, middle, first], known={"a1b2"}) == (first, middle, last)
    assert check_dependencies([]) == ()


def test_a_circle_of_dependencies_is_named() -> None:
    specs = [parsed(f"run: x\nname: {a}\nafter: {b}", path=f"/p/{a}.yaml") for a, b in ("ab", "bc", "ca")]
    with pytest.raises(SpecError, match=r"(a -> b -> c -> a|b -> c -> a -> b|c -> a -> b -> c)"):
        check_dependencies(specs)


def test_missing_and_ambiguous_dependencies_are_all_named() -> None:
    specs = [parsed("run: x\nname: same", path=f"/p/{letter}.yaml") for letter in "ab"]
    specs.append(parsed("run: x\nafter: [same, gone, gone.yaml]", path="/p/c.yaml"))
    with pytest.raises(SpecError) as caught:
        check_dependencies(specs)
    assert [problem.message for problem in caught.value.problems] == [
        "'same' could be /p/a.yaml or /p/b.yaml",
        "'gone' is no job that is known",
        "'gone.yaml' is no job that is known",
    ]


def test_reading_a_spec_builds_no_pydantic_models() -> None:
    code = "import sys, hybridhpc.spec.yaml, hybridhpc.sites.catalog; sys.exit('pydantic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_spec_knows_the_lines_of_its_keys_however_they_are_spelled():
    text = b"# a comment\nnum_nodes: 2\nresources:\n  accelerators: H100:8\ncommands:\n  - true\nworkdir: .\n"
    spec = parse_spec(text, "/home/me/job.yaml")
    assert {"nodes": 2, "resources": 3, "run": 5, "workdir": 7}.items() <= dict(spec.lines).items()
    assert str(problem_of(spec, "workdir", "is gone", "make it")) == "/home/me/job.yaml:7: workdir: is gone (make it)"
    assert str(problem_of(spec, "name", "is odd")) == "/home/me/job.yaml: name: is odd"
    moved = parse_spec(b"\n" + text, "/home/me/job.yaml")
    assert replace(moved, digest=spec.digest) == spec


def test_a_fault_that_shows_when_a_script_is_made_names_its_line():
    spec = parse_spec(b"run: ./work\ntasks_per_node: 2\nlauncher: srun\n", "/home/me/job.yaml")
    site = Site(name="here", file=None, scheduler="here", transport="local")
    with pytest.raises(SpecError, match=r"job\.yaml:3: launcher: there is no srun"):
        render_script(spec, site, "local", None, "here", ())


@pytest.mark.parametrize(
    "text", ["matrix: {UID: 0-3}", "env: {UID: 1}", "env: [UID=1]", "secrets: {UID: secret://env/A}"]
)
def test_a_variable_of_bash_s_own_is_refused_where_it_stands(text: str) -> None:
    assert "UID belongs to bash itself" in said(f"run: x\n{text}\n")


def test_what_is_refused_is_told_how_to_be_written() -> None:
    assert "write 500 USD" in said("run: x\ngoal: {max_cost: abc}\n")
    assert "has more than 10,000 values" in said("run: x\nmatrix: {N: 0-99999999999999999}\n")

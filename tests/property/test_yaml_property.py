"""Laws of reading YAML: no input makes a traceback, nothing is converted unasked, no secret is repeated."""

from __future__ import annotations

from typing import Any

import yaml
from hypothesis import assume, given
from hypothesis import strategies as st

from hybridhpc.document import Document
from hybridhpc.errors import SpecError
from hybridhpc.model import JobSpec, Work
from hybridhpc.readers import KEPT_BY_BASH
from hybridhpc.schema import Form
from hybridhpc.sites.catalog import parse_site
from hybridhpc.sites.schema import WRITE as SITE_WRITE
from hybridhpc.sites.schema import site_form
from hybridhpc.sites.site import InvalidSite
from hybridhpc.spec.aliases import ALIASES, FOREIGN
from hybridhpc.spec.native import judge
from hybridhpc.spec.schema import WRITE, spec_form
from hybridhpc.spec.yaml import parse_spec

KEYS = sorted({part for key in [*WRITE, *ALIASES, *SITE_WRITE] for part in key.split(".")} | set(FOREIGN))
SCRAPS = [
    "0", "-1", "08", "1e3", "1_000", ".nan", ".inf", "no", "~", "null", "12:00:00", "1-", "9" * 400, "H100:8", "8xH100",
    "64GB", "64+", "0-99%10", "0-1000000", "a/b", "/a:/b:ro", "docker://x", "x.sif", "secret://a", "2026-13-01T00:00Z",
    "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "--time=3", "-Aml", "$HOME",
    "\x1b[31m", "é" * 150, "\u202e",
]  # fmt: skip
scalars = st.one_of(st.sampled_from(SCRAPS), st.text(max_size=12), st.none())
trees = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.sampled_from(KEYS), inner, max_size=4)),
    max_leaves=12,
)
specs = st.dictionaries(st.one_of(st.sampled_from(KEYS), st.text(max_size=6)), trees, max_size=6)
texts = st.text(st.characters(exclude_categories=["Cc", "Cs"], include_characters="\n"), max_size=40)


def _written(tree: Any) -> bytes:
    return yaml.safe_dump(tree, allow_unicode=True, sort_keys=False).encode("utf-8", "replace")


def _tried(content: bytes) -> JobSpec | SpecError:
    try:
        return parse_spec(content, "/specs/job.yaml", now=1.0)
    except SpecError as error:
        assert error.problems
        assert all(problem.file == "/specs/job.yaml" for problem in error.problems)
        assert "Input should" not in str(error)
        return error


def _spec(**keys: Any) -> JobSpec:
    return parse_spec(_written({"run": "true", **keys}), "/specs/job.yaml")


def _work(spec: JobSpec) -> Work:
    assert isinstance(spec.payload, Work)
    return spec.payload


@given(st.binary(max_size=200))
def test_no_bytes_make_a_traceback(content: bytes) -> None:
    _tried(content)
    parse_site(content, "/sites/x.yaml")


@given(st.text("ab:-?!&*<{}[]#|>'\"%@~,\t\n \\0\x85\u2028\ufeff", max_size=60))
def test_no_yaml_syntax_makes_a_traceback(text: str) -> None:
    _tried(text.encode())
    parse_site(text.encode(), "/sites/x.yaml")


@given(st.sampled_from([spec_form(), site_form(judge)]), specs, st.booleans())
def test_the_quick_way_through_a_schema_and_pydantics_agree(form: Form, tree: dict[str, Any], runs: bool) -> None:
    root = {"run": "true", **tree} if runs else tree
    document = Document(file="job.yaml", root=root)
    thorough, problems = form._faults(document, root, {})
    try:
        quick = form._schema.read(root)
    except ValueError:
        assert problems
    else:
        assert (quick, []) == (thorough, problems)


@given(specs)
def test_no_tree_of_known_keys_makes_a_traceback(tree: dict[str, Any]) -> None:
    content = _written({"run": "true", **tree})
    _tried(content)
    site = parse_site(_written(tree), "/sites/x.yaml")
    assert not isinstance(site, InvalidSite) or site.problems


@given(specs)
def test_the_same_file_always_gets_the_same_answer(tree: dict[str, Any]) -> None:
    first, second = _tried(_written(tree)), _tried(_written(tree))
    assert str(first) == str(second)


FREE = st.from_regex(r"[A-Z_][A-Z0-9_]{0,8}", fullmatch=True).filter(lambda name: name not in KEPT_BY_BASH.split())


@given(st.dictionaries(FREE, texts, max_size=5))
def test_values_of_variables_stay_what_was_written(env: dict[str, str]) -> None:
    assert dict(_work(_spec(env=env)).env) == env
    assert dict(_work(_spec(env=[f"{name}={value}" for name, value in env.items()])).env) == env


@given(st.one_of(st.integers(-(10**12), 10**12), st.booleans(), st.floats(), st.dates(), st.sampled_from(SCRAPS)))
def test_unquoted_values_of_variables_stay_what_was_typed(value: object) -> None:
    typed = str(value)
    assume(not any(mark in typed for mark in ("\x1b", "\u202e", "~", "null")))
    spec = parse_spec(f"run: 'true'\nenv:\n  A: {typed}\n".encode(), "/specs/job.yaml")
    assert _work(spec).env == (("A", typed),)


@given(texts)
def test_a_command_reaches_the_job_as_it_was_written(text: str) -> None:
    assume(text.strip())
    assert _work(_spec(run=text)).run == text


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60), st.integers(1, 9)), min_size=1, max_size=4))
def test_an_array_counts_its_tasks(ranges: list[tuple[int, int, int]]) -> None:
    text = ",".join(f"{first}-{first + more}:{step}" for first, more, step in ranges)
    spec = _spec(array=text)
    assert spec.array is not None
    assert spec.array.tasks == len({i for first, more, step in ranges for i in range(first, first + more + 1, step)})


@given(st.text("abcdefghij0123456789", min_size=12, max_size=30), st.integers(0, 6))
def test_a_secret_written_in_plain_text_is_never_repeated(secret: str, where: int) -> None:
    ways: list[Any] = [
        {"TOKEN": secret},
        [f"TOKEN={secret}"],
        secret,
        {f"TOKEN={secret}": None},
        {"TOKEN": [secret]},
        {"TOKEN": {secret: secret}},
        {"TOKEN": f"secret:/{secret}"},
    ]
    answer = _tried(_written({"run": "true", "secrets": ways[where]}))
    assert isinstance(answer, SpecError)
    assert secret not in str(answer)


@given(st.lists(st.sampled_from(sorted(set(FOREIGN) - {"run"})), unique=True, min_size=1, max_size=8))
def test_every_key_that_cannot_be_kept_is_named(keys: list[str]) -> None:
    answer = _tried(_written({"run": "true", **dict.fromkeys(keys, "x")}))
    assert isinstance(answer, SpecError)
    assert [problem.key for problem in answer.problems] == keys
    assert [problem.line for problem in answer.problems] == list(range(2, len(keys) + 2))


@given(st.permutations(["name: a", "nodes: 2", "time: 2h", "env: {A: b}", "where: x/y", "array: 0-3", "run: c"]))
def test_the_order_of_keys_does_not_matter(lines: list[str]) -> None:
    def value(parts: list[str]) -> list[object]:
        spec = parse_spec("\n".join(parts).encode(), "/specs/job.yaml")
        return [spec.name, spec.resources, spec.payload, spec.array, spec.where]

    assert value(lines) == value(sorted(lines))

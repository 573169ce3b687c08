"""The templates as Python render what Jinja renders, and are used only if they were made from these very templates."""

from __future__ import annotations

from pathlib import Path

import pytest

from hybridhpc.script import jinja, template_code, templates
from tests.golden.test_golden_scripts import CASES
from tests.job_scripts import render


def test_the_python_is_what_the_templates_translate_to():
    assert Path(template_code.__file__).read_text() == jinja.translate(), "run `make templates`"


@pytest.mark.parametrize("name", CASES)
def test_jinja_renders_the_same(name, monkeypatch):
    quick = render(**CASES[name])
    monkeypatch.setattr(template_code, "DIGEST", "of other templates")
    assert render(**CASES[name]) == quick


def test_a_changed_template_is_rendered_as_it_is_now(monkeypatch, tmp_path):
    (tmp_path / "here.sh.j2").write_text("# {{ place }}\n")
    monkeypatch.setattr(templates, "data_path", lambda name: tmp_path)
    monkeypatch.setattr(jinja, "data_path", lambda name: tmp_path)
    templates.digest.cache_clear()
    jinja.environment.cache_clear()
    try:
        assert render() == b"# site/batch\n"
    finally:
        templates.digest.cache_clear()
        jinja.environment.cache_clear()


def test_a_name_that_is_not_there_is_an_error():
    with pytest.raises(KeyError):
        templates.render("here.sh.j2", {})


def test_what_cannot_be_translated_is_refused(monkeypatch, tmp_path):
    (tmp_path / "odd.sh.j2").write_text("{% set x = 1 %}")
    monkeypatch.setattr(templates, "data_path", lambda name: tmp_path)
    with pytest.raises(ValueError, match="line 1: Assign is not translated"):
        jinja.translate()

"""From finished strings to text: by the templates translated to Python or, where they were changed since, by Jinja."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from hybridhpc.config import data_path
from hybridhpc.script import template_code


def render(template: str, context: Mapping[str, Any]) -> str:
    """Fill in a template. `context` holds text, lists and mappings; a name that it lacks is an error."""
    if template in template_code.TEMPLATES and digest() == template_code.DIGEST:
        return "".join(template_code.TEMPLATES[template](context).text())
    from hybridhpc.script import jinja

    return jinja.render(template, context)


@cache
def digest() -> str:
    """Return a digest of all templates, names and bytes: what was made from others is not used."""
    whole = hashlib.sha256()
    for name, path in template_files().items():
        content = path.read_bytes()
        whole.update(f"{name}\0{len(content)}\0".encode() + content)
    return whole.hexdigest()[:32]


def template_files() -> dict[str, Path]:
    """Return every template by name: its path below templates/."""
    folder = data_path("templates")
    return {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*.j2"))}

"""temporary"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hybridhpc.model import JobSpec


def file_position(words: Sequence[str]) -> int | None:
    return next((i for i, w in enumerate(words) if not w.startswith("-")), None)


def is_script(content: bytes, path: str) -> bool:
    return content.startswith(b"#!")


def read_script(
    content: bytes, path: str, *, flags: Sequence[str], args: Sequence[str], env: Mapping[str, str]
) -> JobSpec:
    raise RuntimeError

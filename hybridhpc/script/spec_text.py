"""A JobSpec as plain values and back, driven by its own types: what a new attempt is planned from. Pure."""

from __future__ import annotations

import base64
import types
import typing
from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from functools import cache
from typing import Any

from hybridhpc.model import JobSpec


def render_spec(spec: JobSpec) -> dict[str, Any]:
    """Return what a person asked for as plain values; what has its default is left out."""
    found: dict[str, Any] = _plain(spec)
    return found


def parse_spec_values(values: dict[str, Any]) -> JobSpec:
    """Read what render_spec gave. Raises KeyError, TypeError or ValueError if it is something else."""
    spec: JobSpec = _reader(JobSpec)(values)
    return spec


def _plain(value: Any) -> Any:  # noqa: ANN401
    if is_dataclass(value) and not isinstance(value, type):
        set_ = {each.name: getattr(value, each.name) for each in fields(value)}
        found = {name: _plain(it) for name, it in set_.items() if it != _default(type(value), name)}
        return {"": type(value).__name__, **found}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    return [_plain(each) for each in value] if isinstance(value, tuple) else value


@cache
def _defaults(kind: type) -> dict[str, Any]:
    return {each.name: each.default for each in fields(kind)}


def _default(kind: type, name: str) -> Any:  # noqa: ANN401
    return _defaults(kind).get(name, MISSING)


@cache
def _reader(kind: Any) -> Callable[[Any], Any]:  # noqa: ANN401
    """Return what turns plain values into a type: dataclasses, enums, bytes, tuples and unions of these."""
    kind = getattr(kind, "__supertype__", kind)
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        return _of_union(inner)
    if origin is tuple:
        return _of_tuple(inner)
    if isinstance(kind, type) and is_dataclass(kind):
        return _of_dataclass(kind)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind
    return base64.b64decode if kind is bytes else lambda value: value


def _of_dataclass(kind: type) -> Callable[[Any], Any]:
    hints = typing.get_type_hints(kind)
    readers = {each.name: _reader(hints[each.name]) for each in fields(kind)}
    return lambda value: kind(**{name: readers[name](it) for name, it in value.items() if name in readers})


def _of_tuple(inner: tuple[Any, ...]) -> Callable[[Any], Any]:
    if inner[1:] == (...,):
        read = _reader(inner[0])
        return lambda value: tuple(read(each) for each in value)
    readers = [_reader(each) for each in inner]
    return lambda value: tuple(read(each) for read, each in zip(readers, value, strict=True))


def _of_union(inner: tuple[Any, ...]) -> Callable[[Any], Any]:
    """A dataclass names itself; of other unions only `X | None` is met."""
    named = {kind.__name__: _reader(kind) for kind in inner if isinstance(kind, type) and is_dataclass(kind)}
    (plain, *_) = [_reader(kind) for kind in inner if kind is not type(None)]

    def read(value: Any) -> Any:  # noqa: ANN401
        if value is None:
            return None
        return named[value[""]](value) if isinstance(value, dict) and value.get("") in named else plain(value)

    return read

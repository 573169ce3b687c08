"""Building blocks for the schemas of files that people write: pydantic's validator, our own words for its errors.

Which keys a spec or a site file has does not belong here. The validator is used without pydantic's models, and only
for a file with a fault: others are read by the same readers alone, in less time than its import. See decision 0003.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from hybridhpc.document import Document, KeyPath
from hybridhpc.errors import Problem
from hybridhpc.readers import Fault, Plain, Reader, kind, quoted
from hybridhpc.wording import Wording

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails, SchemaValidator
    from pydantic_core.core_schema import CoreSchema

MAX_LENGTH = 200
MAX_ENTRIES = 1000
_KINDS: dict[type, str] = {str: "text", list: "list", dict: "mapping"}
_MARKS = frozenset({"[key]", "[text]", "[list]", "[mapping]"})
"""What pydantic's paths hold beside the person's keys."""


class Schema(NamedTuple):
    """How a value is read, in two ways that agree."""

    read: Callable[[Any], Any]
    """Returns the value; raises ValueError at the first fault."""
    core: Callable[[], CoreSchema]
    """Makes the schema with which pydantic finds all faults and where they are."""
    fields: Mapping[str, Schema] | None = None
    """Of a mapping with fixed keys, how each is read."""


class Form:
    """The schema of a file, and what is said about keys that it does not have: `write` and the others are Wording's."""

    def __init__(
        self,
        schema: Schema,
        *,
        write: Mapping[str, str],
        aliases: Mapping[str, str] | None = None,
        foreign: Mapping[str, tuple[str, str]] | None = None,
        strange: Callable[[str], tuple[str, str] | None] = lambda key: None,
    ) -> None:
        self._schema = schema
        self.write = write
        self._wording = Wording(write=write, aliases=aliases or {}, foreign=foreign or {}, strange=strange)

    def check(
        self, document: Document, root: Mapping[str, Plain], spelled: Mapping[KeyPath, KeyPath]
    ) -> tuple[dict[str, Any], list[Problem]]:
        """Return the values of what was written, or every problem. `spelled`: how a renamed key stands in the file."""
        try:
            return self._schema.read(root), []
        except ValueError:
            return self._faults(document, root, spelled)

    def readable(self, root: Mapping[str, Plain]) -> dict[str, Any]:
        """Return the values of those keys at the top level that are right, whatever is wrong with the others."""
        found = {}
        for key, value in root.items():
            with suppress(ValueError):
                if value is not None and self._schema.fields and key in self._schema.fields:
                    found[key] = self._schema.fields[key].read(value)
        return found

    @cached_property
    def _validator(self) -> SchemaValidator:
        from pydantic_core import SchemaValidator

        return SchemaValidator(self._schema.core())

    def _faults(
        self, document: Document, root: Mapping[str, Plain], spelled: Mapping[KeyPath, KeyPath]
    ) -> tuple[dict[str, Any], list[Problem]]:
        from pydantic_core import ValidationError

        try:
            return self._validator.validate_python(root), []
        except ValidationError as error:
            entries = error.errors(include_url=False, include_input=False)
        found = []
        for entry in entries:
            unknown = entry["type"] in ("extra_forbidden", "missing")
            path = tuple(part for part in entry["loc"][:-1] if part not in _MARKS) + _last(entry, whole=unknown)
            there = _spelled(path, spelled)
            if not any(there[: len(refused)] == refused for refused in document.refused):
                fault = entry.get("ctx", {}).get("error")
                message, hint = self._wording.of(entry["type"], path, fault)
                found.append(document.problem(there if unknown else document.written(there), message, hint))
        return {}, found


def plain(read: Callable[[Plain], Any]) -> Schema:
    """Return the schema of whatever `read` accepts. It raises ValueError with a sentence, best a Fault."""
    return Schema(read, lambda: _pydantic().no_info_plain_validator_function(read))


def word(read: Reader, *, longest: int = MAX_LENGTH) -> Schema:
    """Return the schema of one value of at most `longest` characters."""

    def check(value: Plain) -> Any:  # noqa: ANN401 -- whatever `read` makes of it
        if not isinstance(value, str):
            raise Fault(f"must be one value, not {kind(value)}")
        if len(value) > longest:
            raise Fault(f"is {len(value):,} characters long; at most {longest:,} make sense here")
        return read(value)

    return plain(check)


def several(item: Schema, *, split: Callable[[Plain], list[Plain]] | None = None) -> Schema:
    """Return the schema of a list, or of its one entry written without brackets; `split` may know other ways."""

    def check(value: Plain) -> list[Plain]:
        entries = (split or _entries)(value)
        if len(entries) > MAX_ENTRIES:
            raise Fault(f"has {len(entries):,} entries; at most {MAX_ENTRIES:,} make sense here")
        return entries

    def read(entries: list[Plain]) -> tuple[Any, ...]:
        return tuple(item.read(entry) for entry in entries)

    return before(check, Schema(read, lambda: _pydantic().tuple_variable_schema(item.core())))


def refused(message: str, hint: str = "") -> Schema:
    """Return the schema of a way of writing that is understood and not accepted."""

    def check(_: Plain) -> None:
        raise Fault(message, hint)

    return plain(check)


def table(key: Reader, value: Schema) -> Schema:
    """Return the schema of a mapping whose keys are the person's own; two that read alike are refused."""

    def check(entries: Plain) -> dict[str, Any]:
        first: dict[Any, str] = {}
        found: dict[str, Any] = dict(_mapping(entries))
        for written in found:
            try:
                same = first.setdefault(key(written), written)
            except ValueError:
                continue  # what is wrong with the key itself is said where it stands
            if same != written:
                found[written] = _Twice(same)
        return found

    keys, values = word(key), before(_once, value)

    def read(entries: dict[str, Any]) -> dict[Any, Any]:
        return {keys.read(written): values.read(each) for written, each in entries.items()}

    return before(check, Schema(read, lambda: _pydantic().dict_schema(keys.core(), values.core())))


def record(*required: str, **fields: Schema) -> Schema:
    """Return the schema of a mapping with fixed keys. A key without a value counts as not written."""

    def check(value: Plain) -> dict[str, Plain]:
        written = {} if value is None else _mapping(value)
        return {key: each for key, each in written.items() if each is not None or key not in fields}

    def read(entries: dict[str, Plain]) -> dict[str, Any]:
        if not set(required) <= entries.keys() <= fields.keys():
            raise Fault("a key is missing or unknown")
        return {key: each.read(entries[key]) for key, each in fields.items() if key in entries}

    def core() -> CoreSchema:
        make = _pydantic()
        known = {key: make.typed_dict_field(each.core(), required=key in required) for key, each in fields.items()}
        made: CoreSchema = make.typed_dict_schema(known, extra_behavior="forbid")
        return made

    return before(check, Schema(read, core))._replace(fields=fields)


def either(**branches: Schema) -> Schema:
    """Return the schema of a value that may be `text`, a `list` or a `mapping`."""

    def read(value: Plain) -> Any:  # noqa: ANN401 -- whatever the branch makes of it
        branch = branches.get(_KINDS.get(type(value), ""))
        if branch is None:
            raise Fault(f"cannot be {kind(value)}")
        return branch.read(value)

    def core() -> CoreSchema:
        marked = {f"[{name}]": branch.core() for name, branch in branches.items()}
        made: CoreSchema = _pydantic().tagged_union_schema(marked, lambda value: f"[{_KINDS.get(type(value))}]")
        return made

    return Schema(read, core)


def then(schema: Schema, make: Callable[[Any], Any]) -> Schema:
    """Return a schema whose value is made into another one. `make` raises Fault if it cannot be."""
    return Schema(
        lambda value: make(schema.read(value)),
        lambda: _pydantic().no_info_after_validator_function(make, schema.core()),
    )


def before(check: Callable[[Any], Any], schema: Schema) -> Schema:
    """Return a schema that reads what `check` makes of a value. `check` raises Fault if it cannot be."""
    return Schema(
        lambda value: schema.read(check(value)),
        lambda: _pydantic().no_info_before_validator_function(check, schema.core()),
    )


def _pydantic() -> Any:  # noqa: ANN401 -- a module
    from pydantic_core import core_schema

    return core_schema


@dataclass(frozen=True, slots=True)
class _Twice:
    """Stands for the value of a key that reads like an earlier one."""

    first: str


def _once(written: Plain | _Twice) -> Plain:
    if isinstance(written, _Twice):
        raise Fault(f"means the same as {quoted(written.first)}", "keep one of them")
    return written


def _entries(value: Plain) -> list[Plain]:
    if isinstance(value, dict) or value is None:
        raise Fault(f"must be one value or a list, not {kind(value)}")
    return [value] if isinstance(value, str) else value


def _mapping(value: Plain) -> dict[str, Plain]:
    if not isinstance(value, dict):
        raise Fault(f"must be a mapping, not {kind(value)}")
    return value


def _last(entry: ErrorDetails, *, whole: bool) -> KeyPath:
    """Return the end of pydantic's path, which is no mark where it names an unknown or missing key."""
    return tuple(part for part in entry["loc"][-1:] if whole or part not in _MARKS)


def _spelled(path: KeyPath, spelled: Mapping[KeyPath, KeyPath]) -> KeyPath:
    for length in range(len(path), 0, -1):
        if path[:length] in spelled:
            return spelled[path[:length]] + path[length:]
    return path

"""Dataclasses that are cheap to define: what all of ours have in common is written once. See docs/decisions/0008.

For type checkers `dataclass` is that of the standard library, and `dataclasses.fields` and `replace` know its classes.
It makes frozen, slotted, keyword-only ones. For others, and where very many instances are made, there is the standard
library's: it writes and compiles methods for every class, and these are quicker.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, KeysView, Mapping
from operator import attrgetter
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass
else:

    def dataclass(*, frozen: bool, slots: bool, kw_only: bool) -> Callable[[type], type]:
        """Return a decorator that makes a class a dataclass of this kind, which must be ours."""
        if not (frozen and slots and kw_only):
            raise TypeError("only frozen, slotted, keyword-only dataclasses are made here")
        return _make


class _Value:
    """The methods of all values; they are copied, so that a class has no base that it did not name."""

    _names: ClassVar[KeysView[str]]
    _defaults: ClassVar[Mapping[str, object]]
    _factories: ClassVar[Mapping[str, Callable[[], object]]]
    _compared: ClassVar[Callable[[object], object]]

    def __init__(self, /, **given: object) -> None:
        values = {**self._defaults, **given}
        for name, make in self._factories.items():
            if name not in values:
                values[name] = make()
        if values.keys() != self._names:
            odd = sorted(values.keys() ^ self._names)
            raise TypeError(f"{type(self).__qualname__}: these are missing, or no fields of it: {', '.join(odd)}")
        for name, value in values.items():
            _put(self, name, value)

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={getattr(self, name)!r}" for name in self._names)
        return f"{type(self).__qualname__}({values})"

    def __eq__(self, other: object) -> bool:
        compared = type(self)._compared
        return compared(self) == compared(other) if type(other) is type(self) else NotImplemented

    def __hash__(self) -> int:
        return hash(type(self)._compared(self))

    def __setattr__(self, name: str, value: object) -> None:
        raise dataclasses.FrozenInstanceError(f"{type(self).__qualname__}.{name} stays as it was made")

    def __delattr__(self, name: str) -> None:
        raise dataclasses.FrozenInstanceError(f"{type(self).__qualname__}.{name} stays as it was made")

    def __getstate__(self) -> object:
        return {name: getattr(self, name) for name in self._names}

    def __setstate__(self, state: Mapping[str, object]) -> None:
        for name, value in state.items():
            _put(self, name, value)


_put = object.__setattr__
_METHODS = {name: method for name, method in vars(_Value).items() if callable(method)}


def _make(written: type) -> Any:  # noqa: ANN401 -- a class with the fields and methods of a value
    for name, method in _METHODS.items():
        if name not in vars(written):
            setattr(written, name, method)
    made: Any = dataclasses.dataclass(init=False, repr=False, eq=False, kw_only=True, slots=True)(written)
    fields = dataclasses.fields(made)
    made._names = dict.fromkeys(field.name for field in fields).keys()
    made._defaults = {field.name: field.default for field in fields if field.default is not dataclasses.MISSING}
    factories = {field.name: field.default_factory for field in fields}
    made._factories = {name: make for name, make in factories.items() if make is not dataclasses.MISSING}
    made._compared = attrgetter(*[field.name for field in fields if field.compare])
    return made

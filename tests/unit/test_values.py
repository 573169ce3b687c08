"""Our dataclasses behave like the standard library's frozen, slotted, keyword-only ones."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from dataclasses import FrozenInstanceError, field, replace

import pytest

from hybridhpc.values import dataclass

KIND = {"frozen": True, "slots": True, "kw_only": True}


@dataclass(**KIND)
class Ours:
    """Fields of every sort."""

    name: str
    size: int = 1
    words: list[str] = field(default_factory=list)
    lines: tuple[int, ...] = field(default=(), compare=False)

    def __str__(self) -> str:
        return f"<{self.name}>"

    @property
    def double(self) -> int:
        return 2 * self.size


Theirs = dataclasses.dataclass(**KIND)(
    type("Ours", (), {key: value for key, value in vars(Ours).items() if key == "__annotations__"} | {
        "size": 1, "words": field(default_factory=list), "lines": field(default=(), compare=False),
    })
)  # fmt: skip


def test_a_value_is_what_the_standard_library_would_make_of_it():
    ours, theirs = Ours(name="a", size=3), Theirs(name="a", size=3)
    assert repr(ours) == repr(theirs).replace(Theirs.__qualname__, "Ours")
    assert dataclasses.asdict(ours) == dataclasses.asdict(theirs)
    assert [each.name for each in dataclasses.fields(Ours)] == [each.name for each in dataclasses.fields(Theirs)]
    assert (Ours.__slots__, Ours.__doc__, Ours.__module__) == (Theirs.__slots__, "Fields of every sort.", __name__)
    assert not hasattr(ours, "__dict__")


def test_own_methods_stay():
    assert (str(Ours(name="a")), Ours(name="a", size=2).double) == ("<a>", 4)


def test_defaults_are_made_anew():
    first, second = Ours(name="a"), Ours(name="b")
    first.words.append("x")
    assert (second.words, second.size) == ([], 1)


def test_equality_and_hash_go_by_the_compared_fields():
    one, other = Ours(name="a", lines=(1,)), Ours(name="a", lines=(2,))
    assert one == other
    assert one != replace(one, size=2)
    assert one != Theirs(name="a")
    assert one != "a"

    @dataclass(**KIND)
    class Single:
        only: int

    assert hash(Single(only=1)) == hash(Single(only=1))
    assert len({Single(only=1), Single(only=1), Single(only=2)}) == 2


def test_it_stays_as_it_was_made():
    value = Ours(name="a")
    with pytest.raises(FrozenInstanceError, match=r"Ours\.size"):
        value.size = 2
    with pytest.raises(FrozenInstanceError, match=r"Ours\.size"):
        del value.size
    assert value.size == 1


@pytest.mark.parametrize("given", [{}, {"name": "a", "colour": "red"}, {"size": 2}])
def test_a_wrong_call_names_what_is_wrong(given):
    with pytest.raises(TypeError, match=r"Ours: .*(name|colour)"):
        Ours(**given)


def test_copies_are_equal_and_apart():
    value = Ours(name="a", words=["x"])
    assert replace(value, name="b") == Ours(name="b", words=["x"])
    assert copy.copy(value) == copy.deepcopy(value) == pickle.loads(pickle.dumps(value)) == value
    assert copy.deepcopy(value).words is not value.words


def test_another_kind_is_refused():
    with pytest.raises(TypeError, match="only frozen"):
        dataclass(frozen=False, slots=True, kw_only=True)

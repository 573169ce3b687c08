"""All that is wrong with what a person wrote, told together: one fault does not hide another."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from hybridhpc.errors import Problem, SpecError, in_order


class Faults:
    """Takes note of the problems of specs; other errors pass."""

    def __init__(self) -> None:
        self._found: dict[str, list[Problem]] = {}

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Note what is found wrong inside, and go on behind it."""
        try:
            yield
        except SpecError as error:
            for problem in error.problems:
                self.note(problem)

    def note(self, problem: Problem) -> None:
        """Note one problem."""
        self._found.setdefault(problem.file, []).append(problem)

    def tell(self) -> None:
        """Raise SpecError if there are any, file by file, each by line."""
        if self._found:
            raise SpecError(tuple(problem for found in self._found.values() for problem in in_order(found)))

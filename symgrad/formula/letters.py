"""Which letter an index gets: n for an axis of size N, otherwise the next of i, j, k, ..."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from sympy import Expr, Symbol

_GENERIC = "ijklmpqrsuvwabcdeho"


class Letters:
    """Chooses index letters; those in `reserved` name tensors, dimensions or functions."""

    def __init__(self, reserved: Collection[str] = ()) -> None:
        self.reserved = frozenset(reserved)

    def pick(self, extent: Expr, used: Collection[str]) -> str:
        """A letter for an index of this extent that is not in use around it."""
        wanted = str(extent).lower() if isinstance(extent, Symbol) and len(str(extent)) == 1 else ""
        return next(c for c in self._candidates(wanted) if c not in used and c not in self.reserved)

    def several(self, extents: Iterable[Expr], used: Collection[str] = ()) -> list[str]:
        found: list[str] = []
        for extent in extents:
            found.append(self.pick(extent, {*used, *found}))
        return found

    def _candidates(self, wanted: str) -> Iterator[str]:
        yield from wanted
        yield from _GENERIC
        number = 1
        while True:
            yield f"i{number}"
            number += 1

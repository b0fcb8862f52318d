"""Statements that only copy: the copy becomes a view of its source, or its source a view of the copy.

    D <- view of S,  S stays as it is          D is that view of S
    view of D <- permuted or reshaped S        S is that view of D, permuted back: what made S writes into D

Either is done only if all views that are taken of the array stay views (NumPy copies where a reshape asks for
it), and if BLAS can still take every operand of a product.
"""

from __future__ import annotations

from collections.abc import Collection

from symgrad.lower.ir import Code, View
from symgrad.optimise.boxes import apart
from symgrad.optimise.inverse import seen_back
from symgrad.optimise.placing import placed_as
from symgrad.optimise.uses import Uses, copied, fresh, own_buffer, same_type, targets, views_of


def forward_destinations(code: Code, keep: Collection[str]) -> Code:
    """See the module's docstring."""
    forwarding = _Forwarding(fresh(code), keep)
    forwarding.run()
    return forwarding.code


class _Forwarding:
    def __init__(self, code: Code, keep: Collection[str]) -> None:
        self.code, self.keep, self.uses = code, set(keep), Uses(code)
        self.gone: set[int] = set()

    def run(self) -> None:
        """From the last copy to the first, so that a chain of copies ends in the place of the last one."""
        for place in reversed(range(len(self.code.statements))):
            statement = self.code.statements[place]
            source, (target, *_) = copied(statement), targets(statement)
            if source is None or not same_type(self.code, source.array, target.array):
                continue
            if self._made_in_place(place, source, target) or self._view_of_source(place, source, target):
                self.gone.add(place)
                self.uses = Uses(self.code, self.gone)
        self.code.statements = [s for place, s in enumerate(self.code.statements) if place not in self.gone]

    def _view_of_source(self, place: int, source: View, target: View) -> bool:
        """Make the target a view of a source that keeps its values."""
        root = self.code.root(source.array)
        if not target.whole or not own_buffer(self.code, target.array) or root == target.array:
            return False
        if self.code.arrays[root].kind not in ("buffer", "fixed", "parameter", "constant"):
            return False
        if self.uses.written(target.array) != [place] or any(w > place for w in self.uses.written(root)):
            return False
        if target.array in self.keep and self.code.arrays[root].kind != "buffer":
            return False
        return placed_as(self.code, target.array, source, self.keep, self.gone | {place})

    def _made_in_place(self, place: int, source: View, target: View) -> bool:
        """Let what makes the source write into the target; who reads the source reads it there."""
        name = source.array
        if not own_buffer(self.code, name) or name in self.keep or self.code.root(target.array) == name:
            return False
        writes, reads = self.uses.written(name), self.uses.read(name)
        if not writes or writes[-1] > place or place not in reads:
            return False
        others = set(reads) - set(writes) != {place}
        if others and self.code.arrays[self.code.root(target.array)].kind == "gradient":
            return False
        if not self._untouched(target, writes[0], place) or not self._stays(target, place):
            return False
        arrays = dict(self.code.arrays)
        view = seen_back(self.code, source, target)
        if view is not None and placed_as(self.code, name, view, self.keep, self.gone | {place}, few=0):
            return True
        self.code.arrays = arrays
        return False

    def _untouched(self, target: View, first: int, last: int) -> bool:
        """Whether no statement of that range, the last one aside, reads or writes what the target covers."""
        root = self.code.root(target.array)
        return all(
            apart(self.code, view, target)
            for place in range(first, last)
            if place not in self.gone
            for view in views_of(self.code.statements[place])
            if self.code.root(view.array) == root
        )

    def _stays(self, target: View, place: int) -> bool:
        """Whether no statement after that place writes what the target covers."""
        root = self.code.root(target.array)
        later = [self.code.statements[p] for p in self.uses.written(root) if p > place]
        return all(apart(self.code, v, target) for s in later for v in targets(s) if self.code.root(v.array) == root)

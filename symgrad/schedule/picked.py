"""Elements picked out of rows, one of each: A[0, t[0]], A[1, t[1]], ... as elements of A seen as one axis.

The place of the first element of each row is an array that is made once; a step adds the index to it, once for all that
use it. One index array takes half the time of two.
"""

from __future__ import annotations

from sympy import Expr

from symgrad.lower.ir import Array, Code, Gather, Scatter, View, whole
from symgrad.names import free_name
from symgrad.schedule.call import Argument, Call
from symgrad.schedule.sums import as_vector


class Picked:
    """The flat indices of one list of calls; `known` holds those made so far, by index and width of the rows.

    Without `flat`, rows and columns are indexed as they are.
    """

    def __init__(self, code: Code, flat: bool = True) -> None:
        self.code, self.flat = code, flat
        self.known: dict[tuple[View, Expr], View] = {}

    def gather(self, s: Gather) -> list[Call]:
        found = self._flat(s.source, s.index, s.equation)
        if found is None:
            return [Call("gather", (s.source, *entries(s.index)), s.target, s.equation)]
        source, index, made = found
        return [*made, Call("take", (source, index), s.target, s.equation)]

    def scatter(self, s: Scatter) -> list[Call]:
        if not s.unique:
            return [Call("scatter_add", (s.value, *entries(s.index)), s.target, s.equation)]
        found = self._flat(s.target, s.index, s.equation)
        target, index, made = found if found is not None else (s.target, None, [])
        places: tuple[Argument, ...] = entries(s.index) if index is None else (index,)
        if s.fresh:
            return [*made, Call("scatter", (s.value, *places), target, s.equation)]
        if index is None:
            return [Call("scatter_add", (s.value, *places), target, s.equation)]
        old = self._temporary(s.target, index.shape)
        return [
            *made,
            Call("take", (target, index), old, s.equation),
            Call("add", (old, s.value), old, s.equation, elementwise=True),
            Call("scatter", (old, index), target, s.equation),
        ]

    def _flat(self, view: View, index: tuple[View | None, ...], equation: str) -> tuple[View, View, list[Call]] | None:
        """The view as one axis, the index into it, and the calls that make that; None where rows are not in order."""
        if not self.flat or len(index) != 2 or len(view.shape) != 2:
            return None
        rows, columns = index
        if rows is None or columns is None:
            return None
        flat = as_vector(self.code, view)
        array = self.code.arrays[rows.array]
        in_order = array.kind == "range" and rows.whole and array.shape == view.shape[:1] == columns.shape
        if flat is None or not in_order or self.code.arrays[view.array].kind == "input":
            return None
        key = columns, view.shape[1]
        if key in self.known:
            return flat, self.known[key], []
        starts = self._starts(view.shape[0], view.shape[1])
        name = free_name(f"{columns.array}_flat", self.code.arrays)
        self.code.arrays[name] = Array(name, columns.shape, "int64", temporary=True)
        self.known[key] = whole(self.code.arrays[name])
        return flat, self.known[key], [Call("add", (starts, columns), self.known[key], equation, elementwise=True)]

    def _starts(self, count: Expr, width: Expr) -> View:
        """0, width, 2*width, ...; count of them."""
        for array in self.code.arrays.values():
            if array.kind == "starts" and array.shape == (count,) and array.value == width:
                return whole(array)
        made = Array(free_name("starts1", self.code.arrays), (count,), "int64", "starts", value=width)
        self.code.arrays[made.name] = made
        return whole(made)

    def _temporary(self, target: View, shape: tuple[Expr, ...]) -> View:
        made = Array(free_name(f"{target.array}_t1", self.code.arrays), shape, "float", temporary=True)
        self.code.arrays[made.name] = made
        return whole(made)


def entries(index: tuple[View | None, ...]) -> tuple[Argument, ...]:
    return tuple(":" if entry is None else entry for entry in index)

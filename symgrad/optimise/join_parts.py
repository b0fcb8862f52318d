"""Sums of arrays that are zero but for boxes: the boxes are written straight into the sum's array.

The adjoint of a slice is zero but for one box, and that of a tensor which is sliced several times is a sum of
such arrays. Boxes that are disjoint become parts of one array, which is filled with zeros only if they leave
gaps; beside other terms, a part is added to its box alone.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import sympy as sp

from symgrad.lower.ir import Array, Code, Fill, For, Map, Scatter, Statement, whole
from symgrad.optimise.boxes import Box, cover, disjoint, written_box
from symgrad.optimise.uses import Uses, added_symbols, fresh, purely_read, same_type


@dataclass(frozen=True)
class Boxed:
    """An array that is zero but for boxes: the place of its Fill, if it has one, and those of what writes the boxes."""

    name: str
    fill: int | None
    writes: tuple[int, ...]
    boxes: tuple[Box, ...]


def join_parts(code: Code, keep: Collection[str]) -> Code:
    """See the module's docstring."""
    joining = _Joining(fresh(code), keep)
    joining.sums()
    joining.fills()
    return joining.result()


class _Joining:
    """`changed` says what stands in the place of an old statement."""

    def __init__(self, code: Code, keep: Collection[str]) -> None:
        self.code, self.keep, self.uses = code, set(keep), Uses(code)
        self.boxed = {name: b for name in code.arrays if (b := self._boxed(name)) is not None}
        self.changed: dict[int, list[Statement]] = {}

    def result(self) -> Code:
        old = self.code.statements
        self.code.statements = [s for place, was in enumerate(old) for s in self.changed.get(place, [was])]
        return self.code

    def _boxed(self, name: str) -> Boxed | None:
        array, fill, writes = self.code.arrays[name], None, self.uses.written(name)
        if array.kind == "buffer" and array.alias is None and writes:
            fill, *writes = writes
            first = self.code.statements[fill]
            if not isinstance(first, Fill) or first.value != 0 or not first.target.whole:
                return None
        elif array.kind != "fixed":
            return None
        boxes = [self._written_box(name, self.code.statements[place]) for place in writes]
        found = tuple(box for box in boxes if box is not None)
        return Boxed(name, fill, tuple(writes), found) if writes and len(found) == len(boxes) else None

    def _written_box(self, name: str, statement: Statement) -> Box | None:
        if isinstance(statement, For | Scatter):
            return None
        if any(self.code.root(view.array) == name for view in purely_read(statement)):
            return None
        return written_box(self.code, statement.target, name)

    # sums of boxed arrays

    def sums(self) -> None:
        for place, statement in enumerate(self.code.statements):
            if isinstance(statement, Map) and not statement.accumulate and statement.target.whole:
                parts = self._parts(place, statement)
                array = self.code.arrays[statement.target.array]
                if parts and array.alias is None and array.kind in ("buffer", "gradient"):
                    self._join(place, statement, parts)

    def _parts(self, place: int, statement: Map) -> dict[sp.Expr, Boxed]:
        """The terms of the body that are boxed arrays which nobody else reads."""
        found: dict[sp.Expr, Boxed] = {}
        for symbol in added_symbols(statement.body):
            view = statement.reads[symbol]
            part = self.boxed.get(view.array)
            if part is None or not view.whole or view.shape != statement.target.shape or part.name in self.keep:
                continue
            readers = [p for p in self.uses.read(part.name) if p not in part.writes]
            if readers == [place] and same_type(self.code, part.name, statement.target.array):
                found[symbol] = part
        return found

    def _join(self, place: int, statement: Map, parts: dict[sp.Expr, Boxed]) -> None:
        rest = sp.Add(*(t for t in sp.Add.make_args(statement.body) if t not in parts))
        target = statement.target.array
        tail = self._added_later(place, target)
        boxes = [box for part in parts.values() for box in part.boxes]
        if rest == 0 and disjoint(boxes):
            stays = not any(p > place for p in self.uses.written(target))  # what lies outside the boxes
            if tail is not None and disjoint([*boxes, *tail.boxes]):
                self._assign(tail)
                boxes, stays = [*boxes, *tail.boxes], True
            self._write_in_place(place, statement, list(parts.values()), boxes, stays)
        elif all(self._can_move(part) for part in parts.values()):
            self._add_to_boxes(place, statement, rest, list(parts.values()))

    def _can_move(self, part: Boxed) -> bool:
        written = [self.code.statements[place] for place in part.writes]
        return all(isinstance(s, Map) and s.target.array == part.name for s in written)

    def _added_later(self, place: int, name: str) -> Boxed | None:
        """The boxes that statements add to the array, before anybody reads it; None if there are none."""
        writes = [p for p in self.uses.written(name) if p > place]
        boxes = [self._written_box(name, self.code.statements[p]) for p in writes]
        found = tuple(box for box in boxes if box is not None)
        readers = [p for p in self.uses.read(name) if p not in writes]
        early = bool(writes) and any(place < p < writes[-1] for p in readers)
        return Boxed(name, place, tuple(writes), found) if writes and len(found) == len(boxes) and not early else None

    def _write_in_place(
        self, place: int, statement: Map, parts: Sequence[Boxed], boxes: Sequence[Box], stays: bool
    ) -> None:
        target = self.code.arrays[statement.target.array]
        self.changed[place] = []
        for part in parts:
            self._drop_fill(part)
            self._assign(part)
            self.code.arrays[part.name] = replace(self.code.arrays[part.name], kind="buffer", alias=whole(target))
        if not cover(boxes, target.shape):
            self._zeros(target, parts, stays)

    def _zeros(self, target: Array, parts: Sequence[Boxed], stays: bool) -> None:
        """The gaps between the parts: zeros that stay if those of all parts did, or else filled at first.

        They do not stay where something is added to them.
        """
        fills = [part.fill for part in parts if part.fill is not None]
        if not fills and stays and target.kind == "buffer":
            self.code.arrays[target.name] = replace(target, kind="fixed")
            return
        first = min([*fills, *(place for part in parts for place in part.writes)])
        fill = Fill(whole(target), sp.Integer(0), self.code.statements[first].equation)
        self.changed[first] = [fill, *(s for s in self.changed.get(first, [self.code.statements[first]]))]

    def _drop_fill(self, part: Boxed) -> None:
        if part.fill is not None:
            self.changed[part.fill] = []

    def _assign(self, part: Boxed) -> None:
        """What is added to zeros is written."""
        for place in part.writes:
            statement = self.code.statements[place]
            if isinstance(statement, Map):
                self.changed[place] = [replace(statement, accumulate=False)]

    def _add_to_boxes(self, place: int, statement: Map, rest: sp.Expr, parts: Sequence[Boxed]) -> None:
        """The other terms first, then each part to its box."""
        reads = {symbol: view for symbol, view in statement.reads.items() if symbol in rest.free_symbols}
        empty = Fill(statement.target, sp.Integer(0), statement.equation)
        made: list[Statement] = [replace(statement, body=rest, reads=reads) if rest != 0 else empty]
        for part in parts:
            self._drop_fill(part)
            for written in part.writes:
                self.changed[written] = []
                made.append(self._moved(self.code.statements[written], statement))
        self.changed[place] = made

    def _moved(self, part: Statement, total: Map) -> Statement:
        """The statement that wrote a part, now adding to the total."""
        assert isinstance(part, Map)
        target = replace(part.target, array=total.target.array)
        return replace(part, target=target, accumulate=True, equation=total.equation)

    # boxed arrays that stay

    def fills(self) -> None:
        """Leave out zeros that are all overwritten."""
        for part in self.boxed.values():
            if part.fill is None or part.fill in self.changed:
                continue
            if disjoint(part.boxes) and cover(part.boxes, self.code.arrays[part.name].shape):
                self._drop_fill(part)
                self._assign(part)

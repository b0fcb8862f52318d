"""Where arrays come from while one equation is lowered: names, temporaries, views, padding, gathering."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import sympy as sp
from sympy import Expr, Symbol

from symgrad.equations import Equation, System
from symgrad.index.bounds import inside
from symgrad.index.definition import At, map_accesses, outermost
from symgrad.lower.ir import Array, Code, Cut, Fill, Gather, Map, Statement, View, whole
from symgrad.lower.views import ZERO, loops_of, padding, row_major, view_of, without_leading
from symgrad.names import free_name


class Lowering:
    """The code so far, and the names in it.

    `passes` names what is done beyond the plain statements. They take it that every array is there before the
    code runs, holds zeros at first, and keeps what nobody overwrites: arrays of kind "fixed" rely on it.
    """

    def __init__(self, system: System, reserved: set[str], passes: frozenset[str] = frozenset()) -> None:
        self.system, self.reserved, self.passes = system, reserved, passes
        self.wanted = set(system.wanted())
        self.code = Code()
        self.taken = set(reserved)
        self.gradients = {e: wrt for wrt, e in system.gradients.items()}
        self.ranges: dict[Expr, Array] = {}

    def leaf(self, name: str) -> None:
        leaf = self.system.leaves[name]
        array = Array(self.name(name), leaf.shape, leaf.dtype, leaf.kind, value=leaf.value)
        self.code.arrays[array.name] = array
        self.code.values[name] = array.name

    def name(self, wanted: str) -> str:
        name = free_name(wanted if wanted not in self.reserved else wanted + "_", self.taken)
        self.taken.add(name)
        return name

    def array(self, wanted: str, shape: Sequence[Expr], dtype: str = "float", alias: View | None = None) -> Array:
        made = Array(self.name(wanted), tuple(shape), dtype, alias=alias)
        self.code.arrays[made.name] = made
        return made

    def fix(self, array: Array) -> None:
        """Let the zeros that nothing is written over stand for good: no other array may share the memory."""
        self.code.arrays[array.name] = replace(array, kind="fixed")

    def range(self, extent: Expr) -> Array:
        """The array 0, 1, ... extent - 1."""
        if extent not in self.ranges:
            size = "".join(c if c.isalnum() else "_" for c in str(extent))
            made = Array(self.name(f"range_{size}"), (extent,), "int64", "range")
            self.code.arrays[made.name] = made
            self.ranges[extent] = made
        return self.ranges[extent]


class Access:
    """One equation being lowered. Accesses count in `arrays`: the equation's operands, then temporaries.

    `extents` are the loops that become array axes, `offsets` those that a For runs through.
    """

    def __init__(self, lowering: Lowering, e: Equation) -> None:
        self.lowering, self.e = lowering, e
        code = lowering.code
        self.arrays: list[Array] = [code.arrays[code.values[name]] for name in e.operands]
        self.extents: dict[Symbol, Expr] = dict(e.definition.extents)
        self.offsets: dict[Symbol, Expr] = {}
        self.sink: list[Statement] = code.statements

    def result(self) -> Array:
        """The array of the equation's value, in its own shape."""
        made = self.lowering.array(self.e.name, self.e.shape, self.e.dtype)
        self.lowering.code.values[self.e.name] = made.name
        return made

    def temporary(self, suffix: str, axes: Sequence[Symbol], dtype: str = "float") -> tuple[Array, At]:
        made = self.lowering.array(f"{self.e.name}_{suffix}", [self.size(i) for i in axes], dtype)
        return made, self.number(made, axes)

    def number(self, array: Array, axes: Sequence[Expr]) -> At:
        self.arrays.append(array)
        return At(len(self.arrays) - 1, axes)

    def size(self, loop: Symbol) -> Expr:
        return self.extents[loop]

    def emit(self, statement: Statement) -> None:
        self.sink.append(replace(statement, equation=self.e.name))

    def inside(self, at: At) -> bool:
        return inside(at, self.arrays[at.operand].shape, {**self.extents, **self.offsets})

    def viewable(self, at: At) -> At:
        """The access itself, or one to a gathered copy where no view gives it."""
        at = self.contiguous(at)
        axes = loops_of(at, self.extents)
        if view_of(self.arrays[at.operand], at, axes, self.extents):
            return at
        return self.gathered(at)

    def contiguous(self, at: At) -> At:
        """The access to a copy, where it reshapes what does not lie row after row."""
        array = self.arrays[at.operand]
        if at.view is None or row_major(array):
            return at
        copy = self.lowering.array(f"{array.name}_copy", array.shape, array.dtype)
        x = sp.Symbol("a0", real=True)
        self.emit(Map(whole(copy), x, {x: whole(array)}))
        return At(self.number(copy, at.index).operand, at.index, at.view)

    def plain(self, at: At) -> At:
        """An access that is a view and stays inside: gathered or padded where it has to be."""
        at = self.viewable(at)
        return at if self.inside(at) else self.padded(at)

    def padded(self, at: At) -> At:
        """The access to a copy with a border of zeros."""
        array = self.arrays[at.operand]
        sizes = at.sizes(array.shape)
        reach = padding(at, array.shape, {**self.extents, **self.offsets})
        shape = [sp.expand(n + a + b) for n, (a, b) in zip(sizes, reach, strict=True)]
        bordered = self.lowering.array(f"{array.name}_padded", shape, array.dtype)
        cuts = tuple(Cut(a, n) if (a, b) != (0, 0) else None for n, (a, b) in zip(sizes, reach, strict=True))
        x = sp.Symbol("a0", real=True)
        if "constant_borders" in self.lowering.passes:
            self.lowering.fix(bordered)
        else:
            self.emit(Fill(whole(bordered), ZERO))
        self.emit(Map(View(bordered.name, sizes, index=cuts), x, {x: View(array.name, sizes, at.view)}))
        return self.number(bordered, [e + a for e, (a, _) in zip(at.index, reach, strict=True)])

    def gathered(self, at: At) -> At:
        """A copy of the elements that the access reads, one axis per loop."""
        array = self.arrays[at.operand]
        axes = loops_of(at, self.extents)
        at = At(at.operand, [map_accesses(e, self.plain) for e in at.index], at.view)
        affine = At(at.operand, [ZERO if e.has(At) else e for e in at.index], at.view)
        if not self.inside(affine):
            bordered = self.padded(affine)
            array = self.arrays[bordered.operand]
            index = [e if e.has(At) else b for e, b in zip(at.index, bordered.index, strict=True)]
            at = At(bordered.operand, index)
        entries, axes = self.index(at.index, at.sizes(array.shape), axes)
        made, copy = self.temporary("taken", axes, array.dtype)
        source = View(array.name, at.sizes(array.shape), at.view)
        self.emit(Gather(whole(made), source, entries))
        return copy

    def index(
        self, index: Sequence[Expr], shape: Sequence[Expr], axes: list[Symbol]
    ) -> tuple[tuple[View | None, ...], list[Symbol]]:
        """Index entries, and the order of the axes that indexing with them gives."""
        picked = [k for k, e in enumerate(index) if e.has(At)]
        rest = [e for e in index if not e.has(At)]
        if len(picked) == 1 and all(
            self.extents.get(e) == n for e, n in zip(index, shape, strict=True) if not e.has(At)
        ):
            at = index[picked[0]]
            loops = loops_of(at, self.extents)
            if not set(loops) & set(rest) and len(set(rest)) == len(rest) and isinstance(at, At):
                place = [*rest[: picked[0]], *loops, *rest[picked[0] :]]
                if set(place) == set(axes):
                    return tuple(self.integers(e, loops) if e.has(At) else None for e in index), place
        return tuple(self.integers(e, axes) for e in index), axes

    def integers(self, e: Expr, axes: Sequence[Symbol]) -> View:
        """An index expression as an integer array over `axes`."""
        if isinstance(e, At):
            return without_leading(self.view(e, axes))
        loops = loops_of(e, self.extents)
        if len(loops) == 1 and e == loops[0]:
            at = self.number(self.lowering.range(self.size(e)), [e])
        else:
            made, at = self.temporary("index", loops, "int64")
            self.map(whole(made), loops, e, accumulate=False)
        return without_leading(self.view(at, axes))

    def view(self, at: At, axes: Sequence[Symbol]) -> View:
        view = view_of(self.arrays[at.operand], at, axes, self.extents)
        assert view is not None, at
        return view

    def map(self, target: View, axes: Sequence[Symbol], body: Expr, accumulate: bool) -> None:
        reads: dict[Symbol, View] = {}
        change: dict[Expr, Symbol] = {}
        for k, at in enumerate(sorted(outermost(body), key=sp.default_sort_key)):
            symbol = sp.Symbol(f"a{k}", real=True)
            change[at], reads[symbol] = symbol, without_leading(self.view(at, axes))
        body = body.xreplace(change)
        for i in loops_of(body, self.extents):
            at = self.number(self.lowering.range(self.size(i)), [i])
            reads[i] = without_leading(self.view(at, axes))
        self.emit(Map(target, body, reads, accumulate))

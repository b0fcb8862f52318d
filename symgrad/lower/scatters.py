"""Scatters: definitions that write at computed places."""

from __future__ import annotations

import sympy as sp
from sympy import Expr, Integer, Symbol

from symgrad.errors import EmitError
from symgrad.index.definition import At, map_accesses
from symgrad.lower.ir import Array, Cut, Fill, For, Map, Scatter, View, whole
from symgrad.lower.parts import parts_of, written_once
from symgrad.lower.reductions import Reductions
from symgrad.lower.views import ZERO, loops_of, padding
from symgrad.machine import estimate

MAX_OFFSETS = 4096


class Scatters(Reductions):
    """Lowers what cannot be written as one element for each index."""

    def scatter_form(self) -> None:
        d = self.e.definition
        if d.reduction != "sum":
            raise EmitError(f"a {d.reduction} into computed positions is not supported", node=self.e.name)
        target = self.result()
        if "write_parts" in self.lowering.passes and self.in_parts(target):
            return
        self.emit(Fill(whole(target), ZERO))
        if self.needs_index_arrays():
            self.scatter_add(target)
        else:
            self.strided(target)

    def in_parts(self, target: Array) -> bool:
        """The target written part by part, where the parts are known and few."""
        d = self.e.definition
        if not all(self.inside(at) for at in d.accesses) or (found := parts_of(d)) is None:
            return False
        axes, parts = found
        writing = written_once(d, parts)
        if writing.fill or (writing.constant and not self.keeps_zeros(whole(target))):
            self.emit(Fill(whole(target), ZERO))
        for part in writing.parts:
            self.extents = {i: part.counts[i] for i, _ in d.loops if i in part.counts}
            body = map_accesses(d.body.xreplace(part.place), self.expanded)
            index = tuple(Cut(Integer(s[0]), Integer(s[1]), s[2]) if isinstance(s, tuple) else s for s in part.spans)
            shape = tuple(self.size(i) for i in axes)
            view = View(target.name, shape, index=() if all(i is None for i in index) else index)
            if set(self.extents) <= set(axes):
                self.elementwise(view, axes, body, accumulate=part.adds)
            else:
                self.sum(view, axes, body, accumulate=part.adds)
        return True

    def needs_index_arrays(self) -> bool:
        """Whether strided parts of the target do not do: an index from data, or one loop on two axes."""
        d = self.e.definition
        shared = any(sum(w.has(i) for w in d.write) > 1 for i, _ in d.loops)
        return shared or any(w.has(At) for w in d.write)

    def scatter_add(self, target: Array) -> None:
        d = self.e.definition
        reach = padding(At(0, d.write), d.shape, self.extents)
        into, shift = self.bordered_target(target, reach)
        write = [map_accesses(w, self.plain) + a for w, (a, _) in zip(d.write, shift, strict=True)]
        axes = [i for i, _ in d.loops if any(w.has(i) for w in write)]
        index, axes = self.index(write, into.shape, axes)
        unique = all(any(w == i for w in d.write) for i in axes)
        value: View | Expr = d.body
        if len(axes) < len(d.loops) or d.body.has(At) or loops_of(d.body, self.extents):
            made, at = self.temporary("values", axes)
            self.sum(whole(made), list(axes), d.body)
            value = self.view(at, axes)
        self.emit(Scatter(whole(into), index, value, unique))
        self.unbordered(target, into, reach)

    def strided(self, target: Array) -> None:
        """An affine scatter: one loop of each axis is an array axis, the other ones are offsets."""
        d = self.e.definition
        axes = self.vector_loops()
        small = [i for i in self.extents if any(w.has(i) for w in d.write) and i not in axes]
        self.offsets = {i: self.size(i) for i in small}
        if not all(n.is_Integer for n in self.offsets.values()) or sp.Mul(*self.offsets.values()) > MAX_OFFSETS:
            raise EmitError("a scatter over offsets of unknown number", node=self.e.name)
        reach = padding(At(0, d.write), d.shape, self.extents)
        into, shift = self.bordered_target(target, reach)
        for i in small:
            del self.extents[i]
        outer, self.sink = self.sink, []
        cuts = tuple(
            self.written(w + a, into.shape[k]) for k, (w, (a, _)) in enumerate(zip(d.write, shift, strict=True))
        )
        view = View(into.name, tuple(self.size(i) for i in axes), index=cuts)
        if set(self.extents) <= set(axes):
            self.elementwise(view, axes, d.body, accumulate=bool(small))
        else:
            self.sum(view, axes, d.body, accumulate=bool(small))
        body, self.sink = self.sink, outer
        if small:
            self.emit(For(tuple((i, int(n)) for i, n in self.offsets.items()), tuple(body)))
        else:
            self.sink.extend(body)
        self.unbordered(target, into, reach)

    def vector_loops(self) -> list[Symbol]:
        """For each axis written with loops, the one that becomes an array axis: the longest."""
        chosen: list[Symbol] = []
        for w in self.e.definition.write:
            loops = [i for i in loops_of(w, self.extents) if i not in chosen]
            if loops:
                chosen.append(max(loops, key=lambda i: (not self.size(i).is_Integer, estimate(self.size(i)))))
        return chosen

    def written(self, w: Expr, axis_size: Expr) -> Cut | Expr | None:
        loops = loops_of(w, self.extents)
        if not loops:
            return sp.expand(w)
        start, step = sp.expand(w.xreplace({loops[0]: ZERO})), int(w.coeff(loops[0]))
        count = self.size(loops[0])
        return None if (start, step, count) == (0, 1, axis_size) else Cut(start, count, step)

    def bordered_target(self, target: Array, reach: list[tuple[Expr, Expr]]) -> tuple[Array, list[tuple[Expr, Expr]]]:
        """The target, or one with a border that takes what is written outside."""
        if all(pair == (0, 0) for pair in reach):
            return target, reach
        shape = [sp.expand(n + a + b) for n, (a, b) in zip(target.shape, reach, strict=True)]
        made = self.lowering.array(f"{target.name}_padded", shape)
        self.emit(Fill(whole(made), ZERO))
        return made, reach

    def unbordered(self, target: Array, into: Array, reach: list[tuple[Expr, Expr]]) -> None:
        if into is target:
            return
        cuts = tuple(Cut(a, n) if (a, b) != (0, 0) else None for n, (a, b) in zip(target.shape, reach, strict=True))
        x = sp.Symbol("a0", real=True)
        self.emit(Map(whole(target), x, {x: View(into.name, target.shape, index=cuts)}))

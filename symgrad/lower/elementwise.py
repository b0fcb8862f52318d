"""Elementwise bodies: one Map, or one for each term on the part where what it reads is inside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import sympy as sp
from sympy import Expr, Symbol

from symgrad.index.bounds import within
from symgrad.index.definition import At, map_accesses, outermost
from symgrad.lower.access import Access
from symgrad.lower.ir import Cut, Fill, View
from symgrad.lower.views import ZERO, loops_of, positive_part


class Elementwise(Access):
    """Lowers bodies whose every element stands by itself."""

    def elementwise(self, target: View, axes: Sequence[Symbol], body: Expr, accumulate: bool = False) -> None:
        """target <- body, where the target's axes are `axes`."""
        body = map_accesses(body, self.viewable)
        if all(self.inside(at) for at in outermost(body)):
            self.map(target, axes, body, accumulate)
        elif not accumulate and all(self.boxed(term) is not None for term in sp.Add.make_args(body)):
            self.by_terms(target, axes, body)
        else:
            self.map(target, axes, map_accesses(body, self.plain), accumulate)

    def by_terms(self, target: View, axes: Sequence[Symbol], body: Expr) -> None:
        """A sum of terms, each on the box of indices where what it reads is inside."""
        terms = sorted(sp.Add.make_args(body), key=lambda t: (bool(self.boxed(t)), sp.default_sort_key(t)))
        covered = not self.boxed(terms[0])
        if not covered and not (len(terms) == 1 and self.keeps_zeros(target)):
            self.emit(Fill(target, ZERO))
        for k, term in enumerate(terms):
            box = self.boxed(term) or {}
            self.on_box(target, axes, term, box, accumulate=(covered and k > 0) or (not covered and len(terms) > 1))

    def keeps_zeros(self, target: View) -> bool:
        """Whether what is not written of the target may be left to be 0 for good; it then is."""
        lowering = self.lowering
        if "constant_borders" not in lowering.passes or not target.whole or self.e.name in lowering.wanted:
            return False
        lowering.fix(lowering.code.arrays[target.array])
        return True

    def on_box(
        self,
        target: View,
        axes: Sequence[Symbol],
        term: Expr,
        box: Mapping[Symbol, tuple[Expr, Expr]],
        accumulate: bool,
    ) -> None:
        outer = dict(self.extents)
        change = {i: i + low for i, (low, _) in box.items()}
        self.extents.update({i: count for i, (_, count) in box.items()})
        part = replace(target, index=self.narrowed(target, axes, box), shape=tuple(map(self.size, axes)))
        self.map(part if box else target, axes, map_accesses(term.xreplace(change), self.expanded), accumulate)
        self.extents = outer

    def narrowed(
        self, target: View, axes: Sequence[Symbol], box: Mapping[Symbol, tuple[Expr, Expr]]
    ) -> tuple[Cut | Expr | None, ...]:
        """The target's index with the axes of the box cut further."""
        loops = iter(axes)
        entries: list[Cut | Expr | None] = []
        for entry in target.index or (None,) * len(axes):
            if isinstance(entry, Expr):
                entries.append(entry)
                continue
            loop = next(loops)
            if loop in box:
                low, count = box[loop]
                entry = Cut(low, count) if entry is None else Cut(entry.start + entry.step * low, count, entry.step)
            entries.append(entry)
        return tuple(entries)

    def expanded(self, at: At) -> At:
        return At(at.operand, [sp.expand(e) for e in at.index], at.view)

    def boxed(self, term: Expr) -> dict[Symbol, tuple[Expr, Expr]] | None:
        """{loop: (first, count)} outside of which the term is 0; None if that is not a box."""
        box: dict[Symbol, tuple[Expr, Expr]] = {}
        for at in outermost(term):
            if self.inside(at):
                continue
            if at not in sp.Mul.make_args(term) or at.view is not None:
                return None
            for e, n in zip(at.index, self.arrays[at.operand].shape, strict=True):
                if within(e, {**self.extents, **self.offsets}, n):
                    continue
                loops = loops_of(e, self.extents)
                if len(loops) != 1 or e.coeff(loops[0]) != 1 or loops[0] in box or e.free_symbols & self.offsets.keys():
                    return None
                low = sp.Max(ZERO, loops[0] - e)
                high = sp.Min(self.size(loops[0]), sp.expand(n + loops[0] - e))
                box[loops[0]] = (low, positive_part(sp.expand(high - low)))
        return box

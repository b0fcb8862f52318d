"""Reductions: sums of products as BLAS contractions, pairwise and the cheapest first; other ones as Reduce."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import sympy as sp
from sympy import Expr, Symbol

from symgrad.index.definition import At, map_accesses, outermost
from symgrad.lower.blocks import blocked, column_blocks, is_matrix, term_blocks, turned
from symgrad.lower.elementwise import Elementwise
from symgrad.lower.ir import Array, Contract, Map, Reduce, View, whole
from symgrad.lower.row_products import row_product
from symgrad.lower.views import ONE, loops_of, merged_view
from symgrad.machine import estimate


@dataclass(frozen=True)
class Factor:
    """One operand of a product: an access that is a view, and the loops it has."""

    at: At
    loops: tuple[Symbol, ...]


@dataclass(frozen=True)
class Groups:
    batch: list[Symbol]
    rows: list[Symbol]
    bound: list[Symbol]
    columns: list[Symbol]


class Reductions(Elementwise):
    """Lowers bodies that are combined over loops."""

    def sum_equation(self, axes: list[Symbol]) -> None:
        """The equation's own sum, in the layout that the contraction gives it."""
        e = self.e
        if e.name in self.lowering.gradients or any(i not in e.definition.body.free_symbols for i in axes):
            self.sum(whole(self.result()), axes, e.definition.body)
            return
        self.sum(None, axes, e.definition.body)

    def sum(self, target: View | None, axes: list[Symbol], body: Expr, accumulate: bool = False) -> None:
        """target <- sum of body over the loops that `axes` lacks; None is the equation's own, in any layout."""
        scale, factors, rest = self.factors(body)
        bound = [i for i in self.extents if i not in axes]
        scale *= sp.Mul(*(self.size(i) for i in bound if i not in body.free_symbols))
        if rest is not None:
            factors = [self.evaluated(rest)]
        target = target or (None if len(factors) > 1 and not accumulate else whole(self.result()))
        covers = {i for f in factors for i in f.loops}
        present = [i for i in axes if i in covers]
        if "same_memory" in self.lowering.passes and target is not None and target.whole and not accumulate:
            target, axes = self.without_units(target, axes, present)
        if accumulate or (target is not None and (present != axes or (len(factors) > 1 and bool(target.index)))):
            self.sum_then_spread(target, axes, present, factors, scale, accumulate)
            return
        self.product(target, axes, factors, scale)

    def without_units(self, target: View, axes: list[Symbol], present: list[Symbol]) -> tuple[View, list[Symbol]]:
        """The target in a shape without the axes of size 1 that the sum does not have."""
        if present == axes or any(self.size(i) != 1 for i in axes if i not in present):
            return target, axes
        sizes = tuple(self.size(i) for i in present)
        return View(target.array, sizes, sizes), present

    def sum_then_spread(
        self,
        target: View | None,
        axes: list[Symbol],
        present: list[Symbol],
        factors: list[Factor],
        scale: Expr,
        accumulate: bool,
    ) -> None:
        assert target is not None
        made, at = self.temporary("part", present)
        self.product(whole(made), present, factors, scale)
        self.map(target, axes, at, accumulate)

    def factors(self, body: Expr) -> tuple[Expr, list[Factor], Expr | None]:
        """(scale, factors, None), or (1, [], body) where the body is no product."""
        scale: Expr = ONE
        found: list[At] = []
        others: list[Expr] = []
        for part in sp.Mul.make_args(body):
            base, power = part.as_base_exp()
            if isinstance(part, sp.exp):
                base, power = part, ONE
            if isinstance(base, At) and power in (1, 2):
                found += [base] * int(power)
            elif part.has(At) or part.free_symbols & self.extents.keys():
                others.append(part)
            else:
                scale *= part
        if not found and (others or scale == 1) and not outermost(body):
            return ONE, [], body
        if not found or (len(others) > 1 and len(found) < 1):
            return ONE, [], body
        factors = [self.factor(self.plain(at)) for at in found]
        return scale, [*factors, *([self.evaluated(sp.Mul(*others))] if others else [])], None

    def factor(self, at: At) -> Factor:
        return Factor(at, tuple(loops_of(at, self.extents)))

    def evaluated(self, body: Expr) -> Factor:
        """A factor that is no access: its values in an array over the loops it has."""
        body = map_accesses(body, self.viewable)
        axes = loops_of(body, self.extents)
        made, at = self.temporary("each", axes)
        self.elementwise(whole(made), axes, body)
        return Factor(at, tuple(axes))

    def product(self, target: View | None, axes: list[Symbol], factors: list[Factor], scale: Expr) -> None:
        """The sum of the product of factors, contracted pairwise; the cheapest pair first."""
        while len(factors) > 2:
            left, right = self.cheapest(factors, axes)
            rest = [f for f in factors if f is not left and f is not right]
            kept = [i for i in self.union(left, right) if i in axes or any(i in f.loops for f in rest)]
            made, at = self.temporary("pair", kept)
            self.pair(whole(made), kept, left, right)
            factors = [*rest, Factor(at, tuple(kept))]
        if len(factors) == 2:
            self.pair(target, axes, *factors)
        else:
            assert target is not None
            self.reduce(target, axes, "sum", factors[0].at)
        if scale != 1:
            self.scale(target, scale)

    def scale(self, target: View | None, scale: Expr) -> None:
        array = self.lowering.code.arrays[target.array if target else self.lowering.code.values[self.e.name]]
        view = target or whole(array)
        x = sp.Symbol("a0", real=True)
        self.emit(Map(view, scale * x, {x: view}))

    def union(self, *factors: Factor) -> list[Symbol]:
        return list(dict.fromkeys(i for f in factors for i in f.loops))

    def cheapest(self, factors: list[Factor], axes: Sequence[Symbol]) -> tuple[Factor, Factor]:
        """The pair with the fewest multiplications; a symbolic dimension counts as `UNKNOWN`."""

        def cost(pair: tuple[int, int]) -> tuple[float, tuple[int, int]]:
            loops = self.union(factors[pair[0]], factors[pair[1]])
            return float(sp.Mul(*(estimate(self.size(i)) for i in loops))), pair

        pairs = [(a, b) for b in range(len(factors)) for a in range(b)]
        a, b = min(pairs, key=cost)
        return factors[a], factors[b]

    def pair(self, target: View | None, axes: list[Symbol], left: Factor, right: Factor) -> None:
        left, right = self.summed(left, right, axes), self.summed(right, left, axes)
        shared = [i for i in left.loops if i in right.loops]
        bound = [i for i in shared if i not in axes]
        batch = [i for i in axes if i in shared]
        rows = [i for i in axes if i in left.loops and i not in right.loops]
        columns = [i for i in axes if i in right.loops and i not in left.loops]
        if not bound:
            view = target or whole(self.result())
            self.map(view, axes, left.at * right.at, accumulate=False)
        elif batch and not rows and not columns:
            self.einsum(target or whole(self.result()), axes, left, right)
        else:
            if _places(axes, columns) < _places(axes, rows):
                left, right, rows, columns = right, left, columns, rows
            self.matrix_product(target, axes, left, right, Groups(batch, rows, bound, columns))

    def summed(self, factor: Factor, other: Factor, axes: Sequence[Symbol]) -> Factor:
        """The factor with the loops that only it has, and nobody wants, summed away."""
        kept = [i for i in factor.loops if i in axes or i in other.loops]
        if len(kept) == len(factor.loops):
            return factor
        made, at = self.temporary("sum", kept)
        self.reduce(whole(made), kept, "sum", factor.at)
        return Factor(at, tuple(kept))

    def einsum(self, target: View, axes: list[Symbol], left: Factor, right: Factor) -> None:
        letters = {i: "ijklmnpqrstuvw"[k] for k, i in enumerate(self.union(left, right))}
        terms = ["".join(letters[i] for i in loops) for loops in (left.loops, right.loops, axes)]
        subscripts = f"{terms[0]},{terms[1]}->{terms[2]}"
        views = self.view(left.at, left.loops), self.view(right.at, right.loops)
        self.emit(Contract(target, subscripts, *views))

    def matrix_product(
        self, target: View | None, axes: list[Symbol], left: Factor, right: Factor, groups: Groups
    ) -> None:
        """One BLAS product: groups of loops become one axis each; the result is a view of how it comes."""
        batch, rows, bound, columns = groups.batch, groups.rows, groups.bound, groups.columns
        if "small_products" in self.lowering.passes and not batch:
            if row_product(self, target, axes, left, right):
                return
            if self.thin_product(target, axes, left, right, groups):
                return
        if not batch:
            form = "dot"
            a = self.grouped(left.at, [g for g in (rows, bound) if g])
            b = self.grouped(right.at, [g for g in (bound, columns) if g])
            shape = [g for g in (rows, columns) if g]
        else:
            form = "matmul"
            single = [[i] for i in batch]
            a, b = (
                self.grouped(left.at, [*single, rows, bound]),
                self.grouped(right.at, [*single, bound, columns]),
            )
            shape = [*single, rows, columns]
        natural = [*batch, *rows, *columns]
        self.emit(Contract(self.product_target(target, axes, natural, shape), form, a, b))
        if target is not None and natural != axes:
            self.copy_out(target, axes, natural)

    def thin_product(
        self, target: View | None, axes: list[Symbol], left: Factor, right: Factor, groups: Groups
    ) -> bool:
        """Whether the product is one for which BLAS is better called otherwise; it then has been."""
        rows, bound, columns = groups.rows, groups.bound, groups.columns
        if not rows or not columns:
            return False
        a, b = self.grouped(left.at, [rows, bound]), self.grouped(right.at, [bound, columns])
        if not is_matrix(a) or not is_matrix(b):
            return False
        natural = [*rows, *columns]
        split = column_blocks(rows, bound, columns, self.extents)
        if split is not None and b.order is None and natural == axes:
            made = self.product_target(target, axes, natural, [rows, columns])
            a = replace(a, inserted=(0,), shape=(ONE, *a.shape))
            self.emit(Contract(blocked(made, 1, split), "matmul", a, blocked(b, 1, split)))
            return True
        if a.order is not None or b.order is None:
            return False
        return self.long_sum(target, axes, (a, b), groups)

    def long_sum(self, target: View | None, axes: list[Symbol], operands: tuple[View, View], groups: Groups) -> bool:
        """A sum over much with a small result, both operands read along their last axis."""
        rows, bound, columns = groups.rows, groups.bound, groups.columns
        a, b = operands
        split = term_blocks(rows, bound, columns, self.extents)
        first = turned(rows, bound, columns, self.extents)
        if [*rows, *columns] != axes or not (split or first):
            return False
        if first:
            a, b = _transposed(b), _transposed(a)
        sizes = a.shape[0], b.shape[1]
        target = target or whole(self.result())
        result = View(target.array, (_merged(rows, self.extents), _merged(columns, self.extents)))
        result = replace(result, reshape=result.shape)
        result = _transposed(result) if first else result
        if split is None:
            made = self.lowering.array(f"{self.e.name}_product", sizes)
            self.emit(Contract(whole(made), "dot", a, b))
            x = sp.Symbol("a0", real=True)
            self.emit(Map(result, x, {x: whole(made)}))
        else:
            made = self.lowering.array(f"{self.e.name}_products", (split.count, *sizes))
            self.emit(Contract(whole(made), "matmul", blocked(a, 1, split), blocked(b, 0, split)))
            self.emit(Reduce(result, "sum", whole(made), (0,)))
        return True

    def product_target(
        self, target: View | None, axes: list[Symbol], natural: list[Symbol], groups: list[list[Symbol]]
    ) -> View:
        """Where the product goes: its natural layout, seen as the groups."""
        sizes = tuple(self.size(i) for i in natural)
        shape = tuple(sp.Mul(*(self.size(i) for i in g)) for g in groups)
        if target is not None and natural == axes:
            array = self.lowering.code.arrays[target.array]
        elif target is None and natural == axes:
            array = self.result()
        else:
            array = self.lowering.array(f"{self.e.name}_product", sizes)
            self.natural = array
            if target is None:
                self.alias(array, axes, natural)
        return View(array.name, shape, None if shape == array.shape else shape)

    def alias(self, array: Array, axes: list[Symbol], natural: list[Symbol]) -> None:
        """The equation's value: the product with its axes in the order of the definition."""
        order = tuple(natural.index(i) for i in axes)
        view = View(array.name, tuple(self.size(i) for i in axes), order=order)
        made = self.lowering.array(self.e.name, view.shape, alias=view)
        self.lowering.code.values[self.e.name] = made.name

    def copy_out(self, target: View, axes: list[Symbol], natural: list[Symbol]) -> None:
        self.map(target, axes, self.number(self.natural, natural), accumulate=False)

    def grouped(self, at: At, groups: list[list[Symbol]]) -> View:
        """The access with one axis per group of loops: a view where possible, else a view of a copy."""
        array = self.arrays[at.operand]
        if all(len(g) <= 1 for g in groups):
            loops = [g[0] for g in groups if g]
            view = self.view(at, loops)
            empty = tuple(k for k, g in enumerate(groups) if not g)
            return view if not empty else replace(view, inserted=empty, shape=_with_ones(view.shape, empty))
        merged = merged_view(array, at, groups, self.extents)
        if merged is not None:
            return merged
        axes = [i for g in groups for i in g]
        made, copy = self.temporary("columns", axes, array.dtype)
        self.map(whole(made), axes, at, accumulate=False)
        merged = merged_view(made, copy, groups, self.extents)
        assert merged is not None
        return merged

    # other reductions

    def repeat(self, target: View) -> None:
        """The power that a product over loops that its body does not name comes to."""
        d = self.e.definition
        count = sp.Mul(*(n for i, n in d.reduced if i not in d.body.free_symbols))
        if d.reduction == "prod" and count != 1:
            x = sp.Symbol("a0", real=True)
            self.emit(Map(target, x**count, {x: target}))

    def reduce(self, target: View, axes: list[Symbol], kind: str, at: At) -> None:
        """target <- reduction of an access over the loops that `axes` lacks."""
        loops = loops_of(at, self.extents)
        natural = [i for e in at.index for i in loops_of(e, self.extents)]
        present = [i for i in axes if i in loops]
        bound = [i for i in natural if i not in axes]
        order = natural if [i for i in natural if i in axes] == present else [*present, *bound]
        if not bound:
            self.map(target, axes, at, accumulate=False)
            return
        positions = tuple(k for k, i in enumerate(order) if i in bound)
        if present != axes:
            made, part = self.temporary("part", present)
            self.emit(Reduce(whole(made), kind, self.view(at, order), positions))
            self.map(target, axes, part, accumulate=False)
        else:
            self.emit(Reduce(target, kind, self.view(at, order), positions))


def _merged(loops: Sequence[Symbol], extents: Mapping[Symbol, Expr]) -> Expr:
    """The size of several loops as one axis."""
    return sp.Mul(*(extents[i] for i in loops))


def _transposed(view: View) -> View:
    return replace(view, shape=view.shape[::-1], order=(1, 0) if view.order is None else None)


def _places(axes: Sequence[Symbol], loops: Sequence[Symbol]) -> int:
    return min((axes.index(i) for i in loops), default=len(axes))


def _with_ones(shape: Sequence[Expr], places: Sequence[int]) -> tuple[Expr, ...]:
    sizes = list(shape)
    for k in places:
        sizes.insert(k, ONE)
    return tuple(sizes)

"""Conditions on indices, and what the extents of the loops decide about them.

A loop may run over a part of an axis: y = x[:2] is y[i] = x[i] for i < 2. Backwards, ∂f/∂x[s] = Σ_i [s = i] ȳ[i] is
ȳ[s] only where s < 2. Whoever puts one index in the place of another therefore needs the second one's range beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import sympy as sp
from sympy import Expr, Symbol

from symgrad.algebra.delta import Delta
from symgrad.formula.indexed import Element, Reduction
from symgrad.index.bounds import value_range

Extents = Mapping[Symbol, Expr]
ShapeOf = Callable[[str], Sequence[Expr]]


def inside(index: Expr, extents: Extents, size: Expr) -> Expr:
    """The condition that an index is in 0 .. size - 1, without what always holds."""
    if extents.get(index) == size:
        return sp.true
    low, high = value_range(index, extents)
    parts = [] if low.is_nonnegative else [sp.Ge(index, 0)]
    if not sp.expand(size - 1 - high).is_nonnegative:
        parts.append(sp.Lt(index, size))
    return sp.And(*parts)


def with_ranges(expr: Expr, extents: Extents) -> Expr:
    """The expression with i = j as i = j and j < n, wherever j may leave the range 0 .. n - 1 of i."""

    def ranged(left: Expr, right: Expr) -> Expr:
        equal = sp.Eq(left, right, evaluate=False)
        both = ((left, right), (right, left))
        sides = [(i, j) for i, j in both if i in extents and not (j.is_Integer or j.has(Element))]
        return sp.And(equal, *(inside(j, extents, extents[i]) for i, j in sides))

    return expr.replace(sp.Eq, ranged)


def decided(expr: Expr, extents: Extents) -> Expr:
    """The expression with every comparison of indices that holds, or fails, for all their values replaced by that."""
    if not expr.has(sp.Piecewise):
        return expr
    comparisons = expr.atoms(sp.Lt, sp.Le, sp.Gt, sp.Ge)
    verdicts = {c: _verdict(c, extents) for c in comparisons if c.free_symbols & extents.keys() and not c.has(Element)}
    return expr.xreplace({c: verdict for c, verdict in verdicts.items() if verdict is not None})


def _verdict(comparison: Expr, extents: Extents) -> Expr | None:
    low, high = value_range(sp.expand(comparison.gts - comparison.lts), extents)
    strict = isinstance(comparison, sp.Lt | sp.Gt)
    if low.is_positive if strict else low.is_nonnegative:
        return sp.true
    return sp.false if (high.is_nonpositive if strict else high.is_negative) else None


def reads_whole(expr: Expr, extents: Extents, shape_of: ShapeOf) -> bool:
    """Whether every index runs over the whole of each axis that it reads: only then is A_ij the matrix A."""
    for found, here in _scopes(expr, extents):
        if isinstance(found, Delta):
            first, second = (here.get(i) for i in found.args)
            if first is not None and second is not None and first != second:
                return False
        elif isinstance(found, Element):
            sizes = shape_of(found.name) if found.view is None else found.view
            if any(here.get(i, n) != n for i, n in zip(found.index, sizes, strict=True)):
                return False
    return True


def with_parts_marked(expr: Expr, shape_of: ShapeOf) -> Expr:
    """The expression with the range of every sum over a part of an axis written into it: Σ_k [k < 2] x_k."""

    def marked(reduction: Expr) -> Expr:
        loops = dict(reduction.loops)
        partial = (i for i, n in loops.items() if not _covers(reduction.body, i, n, shape_of))
        condition = sp.And(*(sp.Lt(i, loops[i]) for i in partial))
        if condition == sp.true:
            return reduction
        if reduction.kind != "sum":
            return Reduction(reduction.kind, reduction.body, reduction.loops, sp.And(reduction.condition, condition))
        ranges = sp.Piecewise((1, condition), (0, True))
        return Reduction("sum", ranges * reduction.body, reduction.loops, reduction.condition)

    return expr.replace(lambda e: isinstance(e, Reduction), marked)


def _covers(body: Expr, loop: Symbol, size: Expr, shape_of: ShapeOf) -> bool:
    """Whether what the body reads tells a loop's range: it is the index of whole axes, or of none."""
    if not reads_whole(body, {loop: size}, shape_of):
        return False
    indices = [i for e in body.atoms(Element) for i in e.index if loop in i.free_symbols]
    return loop in indices or not indices


def _scopes(expr: Expr, extents: Extents) -> Iterator[tuple[Expr, Extents]]:
    """Every part of an expression with the extents of the loops around it."""
    stack = [(expr, extents)]
    while stack:
        here, around = stack.pop()
        yield here, around
        inner = {**around, **dict(here.loops)} if isinstance(here, Reduction) else around
        stack.extend((part, inner) for part in ([here.body] if isinstance(here, Reduction) else here.args))


def comparison(relation: type[Expr], left: Expr, right: Expr) -> Expr:
    """A comparison of expressions that hold choices, as cases: SymPy cannot hold a choice inside a condition.

    Choices inside sums stay where they are.
    """
    sums = {r: sp.Dummy(f"r{k}", real=True) for k, r in enumerate(_sums(left, right))}
    cases = _cases(relation, left.xreplace(sums), right.xreplace(sums))
    return cases.xreplace({dummy: r for r, dummy in sums.items()})


def _sums(left: Expr, right: Expr) -> list[Expr]:
    """The sums of both sides, those with others in them first."""
    found = left.atoms(Reduction) | right.atoms(Reduction)
    return sorted(found, key=lambda r: (-len(r.atoms(Reduction)), sp.default_sort_key(r)))


def _cases(relation: type[Expr], left: Expr, right: Expr) -> Expr:
    inner = (p for side in (left, right) for p in side.atoms(sp.Piecewise) if not _has_choice(p))
    choice = min(inner, key=sp.default_sort_key, default=None)
    if choice is None:
        return relation(left, right)
    cases, before = [], sp.true
    for value, condition in choice.args:
        sides = (side.xreplace({choice: value}) for side in (left, right))
        cases.append(sp.And(before, condition, _cases(relation, *sides)))
        before = sp.And(before, sp.Not(condition))
    return sp.Or(*cases)


def _has_choice(choice: Expr) -> bool:
    """Whether there is a choice inside the choice."""
    return any(value.has(sp.Piecewise) for value, _ in choice.args)

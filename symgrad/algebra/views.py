"""Reads through a reshape as plain reads, where the shapes tell which axes were split or joined.

Row-major order groups the axes of both shapes: (m*p, n) and (m, p, n) have the groups m*p = m p and n = n. A split
axis is read at i*p + j. A joined axis is read at a quotient and a remainder, which are loops of their own where the
axis is summed over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise, product

import sympy as sp
from sympy import Dummy, Expr, Symbol

from symgrad.algebra.delta import Delta
from symgrad.formula.indexed import Element, Reduction

Shape = Sequence[Expr]
Loops = Mapping[Symbol, Expr]
Group = tuple[list[int], list[int]]


def groups(view: Shape, shape: Shape) -> list[Group] | None:
    """The axes of both that have the same elements; None where no pairing of products is found."""
    found: list[Group] = []
    start, other = 0, 0
    while start < len(view) or other < len(shape):
        ends = product(range(start, len(view) + 1), range(other, len(shape) + 1))
        same = [(a, b) for a, b in ends if a + b > start + other and _equal(view[start:a], shape[other:b])]
        if not same:
            return None
        a, b = min(same, key=sum)
        found.append((list(range(start, a)), list(range(other, b))))
        start, other = a, b
    return found


def _equal(first: Shape, second: Shape) -> bool:
    return bool(sp.expand(sp.Mul(*first) - sp.Mul(*second)) == 0)


def plain_index(index: Sequence[Expr], view: Shape, shape: Shape, extents: Loops) -> list[Expr] | None:
    """The index of a read through `view` in the tensor's own shape, where that has a closed form."""
    found: dict[int, Expr] = {}
    pairs = groups(view, shape)
    if pairs is None:
        return None
    for own, other in pairs:
        flat: Expr = sp.Integer(0)
        for k in own:
            flat = sp.expand(flat * view[k] + index[k])
        if len(other) > 1:
            parts = _parts(flat, [shape[k] for k in other], extents)
            if parts is None:
                return None
            found |= dict(zip(other, parts, strict=True))
        else:
            found |= dict.fromkeys(other, flat)
    return [found[k] for k, _ in enumerate(shape)]


def _parts(flat: Expr, sizes: Shape, extents: Loops) -> list[Expr] | None:
    """i, j of i p + j for sizes (m, p)."""
    digits = _digits(flat, extents)
    weights = [sp.expand(sp.Mul(*sizes[k + 1 :])) for k, _ in enumerate(sizes)]
    if digits is None or not digits.keys() <= set(weights):
        return None
    return [digits.get(weight, sp.Integer(0)) for weight in weights]


def with_split_loops(expr: Expr, shape_of: Callable[[str], Shape]) -> Expr:
    """The expression with every sum over a joined axis as a sum over its parts."""

    def split(reduction: Expr) -> Expr:
        body, loops = reduction.body, dict(reduction.loops)
        while (joined := next(_joined(body, loops, shape_of), None)) is not None:
            loop, sizes = joined
            parts = {Dummy(f"{loop}", integer=True, nonnegative=True): n for n in sizes}
            value: Expr = sp.Integer(0)
            for i, n in parts.items():
                value = value * n + i
            body = body.xreplace({loop: sp.expand(value)})
            loops = {i: n for i, n in loops.items() if i != loop} | parts
        return Reduction(reduction.kind, body, loops.items(), reduction.condition)

    return expr.replace(lambda e: isinstance(e, Reduction) and e.condition == sp.true, split)


def _joined(body: Expr, loops: Loops, shape_of: Callable[[str], Shape]) -> Iterator[tuple[Symbol, Shape]]:
    """(loop, the sizes of the axes that it joins) ..."""
    for e in sorted(body.atoms(Element), key=sp.default_sort_key):
        for own, other in (groups(e.view, shape_of(e.name)) or ()) if e.view is not None else ():
            if len(own) == 1 and len(other) > 1 and e.index[own[0]] in loops:
                yield e.index[own[0]], [shape_of(e.name)[k] for k in other]


def split_deltas(expr: Expr, extents: Loops) -> Expr:
    """δ(i p + j, k p + l) as δ(i, k) δ(j, l), for j and l below p."""
    return expr.replace(lambda e: isinstance(e, Delta), lambda delta: _split_delta(delta, extents))


def _split_delta(delta: Expr, extents: Loops) -> Expr:
    if not isinstance(delta, Delta):
        return delta
    left, right = (_digits(side, extents) for side in delta.args)
    if left is None or right is None or left.keys() != right.keys() or len(left) < 2:
        return delta
    return sp.Mul(*(Delta(left[weight], right[weight]) for weight in left))


def _digits(side: Expr, extents: Loops) -> dict[Expr, Symbol] | None:
    """weight -> loop of i p + j, each loop staying below the next weight."""
    found: dict[Expr, Symbol] = {}
    for term in sp.Add.make_args(sp.expand(side)):
        loops = [s for s in term.free_symbols if s in extents]
        if len(loops) != 1 or sp.expand(term / loops[0]) in found:
            return None
        found[sp.expand(term / loops[0])] = loops[0]
    weights = sorted(found, key=lambda w: (sp.total_degree(w), w if w.is_Integer else 0))
    for low, high in pairwise(weights):
        if sp.expand(low * extents[found[low]] - high) != 0:
            return None
    return found

"""Indices: those of an expression's own axes, and the bound ones of its sums, named by where they stand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import count

import sympy as sp
from sympy import Dummy, Expr, Symbol

from symgrad.formula.indexed import Element, Reduction

Loops = Mapping[Symbol, Expr]

_MOST_ORDERS = 24
_STAR = Symbol("*")


def head(axis: int) -> Symbol:
    """The index of an expression's own axis."""
    return Symbol(f"@{axis}", integer=True, nonnegative=True)


def heads(rank: int) -> tuple[Symbol, ...]:
    """The indices of an expression with so many axes."""
    return tuple(head(axis) for axis in range(rank))


def opened(reduction: Reduction) -> tuple[Expr, dict[Symbol, Expr]]:
    """(body, loops) of a sum without a condition, with bound indices that occur nowhere else."""
    names = fresh(reduction)
    return reduction.body.xreplace(names), {names[i]: n for i, n in reduction.loops}


def fresh(reduction: Reduction) -> dict[Symbol, Symbol]:
    """Bound index -> one that occurs nowhere else."""
    return {i: Dummy("k", integer=True, nonnegative=True) for i, _ in reduction.loops}


def in_order(expr: Expr, symmetric: frozenset[str]) -> Expr:
    """The expression with the indices of symmetric matrices sorted."""
    if not symmetric:
        return expr
    change = {
        e: Element(e.name, sorted(e.index, key=sp.default_sort_key))
        for e in expr.atoms(Element)
        if e.name in symmetric and e.view is None
    }
    return expr.xreplace(change)


def renamed(
    kind: str, body: Expr, loops: Loops, condition: Expr = sp.true, symmetric: frozenset[str] = frozenset()
) -> Reduction:
    """The reduction with bound indices named by where they stand."""
    level = 1 + nesting(body)
    orders = _orders(body, loops, symmetric)
    named = []
    for order in orders:
        names = {i: Symbol(f"#{level}.{k}", integer=True, nonnegative=True) for k, i in enumerate(order)}
        named.append((in_order(body.xreplace(names), symmetric), names))
    best, names = min(named, key=lambda pair: str(pair[0])) if len(named) > 1 else named[0]
    return Reduction(kind, best, [(names[i], loops[i]) for i in names], condition.xreplace(names))


def loops_apart(expr: Expr) -> Expr:
    """The expression with bound indices that no two sums share, so that each can have a letter."""
    numbers = count(1)

    def apart(here: Expr) -> Expr:
        if not here.has(Reduction):
            return here
        if not isinstance(here, Reduction):
            return here.func(*map(apart, here.args))
        names = {i: Symbol(f"#{next(numbers)}", integer=True, nonnegative=True) for i, _ in here.loops}
        body, condition = (part.xreplace(names) for part in (here.body, here.condition))
        return Reduction(here.kind, apart(body), [(names[i], n) for i, n in here.loops], condition)

    return apart(expr)


def nesting(expr: Expr) -> int:
    """How many sums of a normal expression stand inside each other."""
    return max((_level(reduction) for reduction in expr.atoms(Reduction)), default=0)


def _level(reduction: Reduction) -> int:
    return int(str(reduction.loops[0][0])[1:].split(".")[0])


def _orders(body: Expr, loops: Loops, symmetric: frozenset[str]) -> list[tuple[Symbol, ...]]:
    """The orders of the loops that the body leaves open; nearly always one.

    Loops are told apart by colour refinement (Weisfeiler and Leman): a loop's colour is where it stands, and beside
    which colours. Where equals are left, each of them is tried as the first.
    """
    if len(loops) == 1:
        return [tuple(loops)]
    factors = sp.Mul.make_args(body)
    start = {i: str(n) for i, n in loops.items()}
    found: list[tuple[Symbol, ...]] = []
    stack = [_refined(start, factors, symmetric)]
    while stack and len(found) < _MOST_ORDERS:
        colours = stack.pop()
        classes: dict[str, list[Symbol]] = {}
        for i in sorted(loops, key=lambda i: (colours[i], str(i))):
            classes.setdefault(colours[i], []).append(i)
        equal = next((same for same in classes.values() if len(same) > 1), None)
        if equal is None:
            found.append(tuple(i for same in classes.values() for i in same))
            continue
        stack += [_refined(colours | {i: colours[i] + "<"}, factors, symmetric) for i in equal]
    return found


def _refined(
    colours: dict[Symbol, str], factors: Sequence[Expr], symmetric: frozenset[str]
) -> dict[Symbol, str]:
    """Colours that no further round tells apart."""
    before = len(set(colours.values()))
    while True:
        places = {i: sorted(_place(i, f, colours, symmetric) for f in factors if f.has(i)) for i in colours}
        longer = {i: f"{colour}|{places[i]}" for i, colour in colours.items()}
        ranks = {colour: f"{rank:03}" for rank, colour in enumerate(sorted(set(longer.values())))}
        colours = {i: ranks[colour] for i, colour in longer.items()}
        if len(ranks) == before:
            return colours
        before = len(ranks)


def _place(i: Symbol, factor: Expr, colours: Mapping[Symbol, str], symmetric: frozenset[str]) -> str:
    """Where an index stands in a factor, the others being known by colour alone."""
    if isinstance(factor, Element) and factor.view is None:
        index = ["*" if e == i else colours.get(e, str(e)) for e in factor.index]
        return f"{factor.name}{sorted(index) if factor.name in symmetric else index}"
    names = {j: _STAR if j == i else Symbol(f"?{colour}") for j, colour in colours.items()}
    return str(in_order(factor.xreplace(names), symmetric))

"""Sums of products with Kronecker deltas, and which factors of a sum no index ties together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import sympy as sp
from sympy import Expr, Symbol

from symgrad.algebra.delta import Delta
from symgrad.algebra.factors import bracketed, factors_of
from symgrad.algebra.naming import Loops
from symgrad.algebra.ranges import inside
from symgrad.formula.indexed import Element


def applied(term: Expr) -> Expr:
    """δ_ij a_j as δ_ij a_i: behind a delta, its first index stands for both."""
    factors = list(sp.Mul.make_args(term))
    for place in range(len(factors)):
        delta = factors[place]
        if isinstance(delta, Delta) and any(i.is_Symbol for i in delta.args):
            first, second = delta.args
            old, new = (second, first) if second.is_Symbol else (first, second)
            factors = [f if k == place else f.xreplace({old: new}) for k, f in enumerate(factors)]
    return sp.Mul(*factors)


def contracted(factors: list[Expr], loops: dict[Symbol, Expr]) -> tuple[list[Expr], dict[Symbol, Expr]]:
    """Every bound index that a delta ties to something else replaced by it."""
    loops = dict(loops)
    while True:
        found = next(_bindings(factors, loops), None)
        if found is None:
            return factors, loops
        delta, bound, value = found
        size = loops.pop(bound)
        ranges = () if value.is_Symbol or value.is_Integer else factors_of(bracketed(inside(value, loops, size)))
        factors = [*(f.xreplace({bound: value}) for f in factors if f is not delta), *ranges]


def _bindings(factors: Sequence[Expr], loops: Loops) -> Iterator[tuple[Expr, Symbol, Expr]]:
    for factor in factors:
        if isinstance(factor, Delta):
            for bound in sorted(factor.free_symbols & loops.keys(), key=str):
                value = _solved(factor, bound)
                if value is not None:
                    yield factor, bound, value


def _solved(delta: Expr, bound: Symbol) -> Expr | None:
    """What a delta says that an index is: another one, moved by a number of places, or a number."""
    difference = sp.expand(delta.args[0] - delta.args[1])
    slope = difference.coeff(bound)
    if slope not in (1, -1):
        return None
    value = sp.expand(bound - slope * difference)
    indices = [s for s in value.free_symbols if not s.is_positive]
    moved = len(indices) <= 1 and all(value.coeff(i) == 1 for i in indices)
    return value if moved and bound not in indices and not value.has(Element) else None


def components(factors: Sequence[Expr], loops: Loops) -> list[tuple[list[Expr], dict[Symbol, Expr]]]:
    """The factors in groups that no bound index ties together, each with its loops; the free ones first."""
    groups: list[tuple[list[Expr], dict[Symbol, Expr]]] = [([], {})]
    for i, n in loops.items():
        groups.append(([], {i: n}))
    for factor in factors:
        tied = [g for g in groups[1:] if g[1].keys() & factor.free_symbols]
        if not tied:
            groups[0][0].append(factor)
            continue
        joined = ([f for g in tied for f in g[0]] + [factor], {i: n for g in tied for i, n in g[1].items()})
        groups = [g for g in groups if not any(g is t for t in tied)] + [joined]
    return groups

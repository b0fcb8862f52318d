"""Reductions over a few neighbours as one elementwise expression of all of them.

    Y[h] = max(p, X[2h + p])        becomes        Y[h] = max(X[2h], X[2h + 1])

Each neighbour is a strided view as long as Y, where a reduction of windows would go through two elements at a time.
A reduction over an axis of its own stays one.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import sympy as sp
from sympy import Expr, Integer, Symbol

from symgrad.equations import Equation, System, equation
from symgrad.index.definition import At, Definition, define
from symgrad.lower.forms import is_window, product, reads_of, replaced
from symgrad.machine import LIMITS

_COMBINED: dict[str, Callable[..., Expr]] = {
    "sum": sp.Add,
    "prod": sp.Mul,
    "max": lambda *terms: sp.Max(*terms, evaluate=False),
    "min": lambda *terms: sp.Min(*terms, evaluate=False),
}


def unroll_windows(system: System) -> System:
    """The system with every such reduction written out."""
    return replaced(system, {e.name: [_unrolled(e)] for e in system if _is_small(e)})


def _is_small(e: Equation) -> bool:
    if e.solution is not None or not e.definition.gathers or not e.definition.reduced or product(e) is not None:
        return False
    sizes = [n for _, n in e.definition.reduced]
    known = all(n.is_Integer for n in sizes) and sp.Mul(*sizes) <= LIMITS.neighbours
    return known and all(_slides(e, i) for i, _ in e.definition.reduced)


def _slides(e: Equation, loop: Symbol) -> bool:
    """Whether the loop is a part of an index."""
    extents = e.definition.extents
    return any(is_window(index, extents) for at in reads_of(e) for index in at.index if index.has(loop))


def _unrolled(e: Equation) -> Equation:
    d: Definition = e.definition
    names = [i for i, _ in d.reduced]
    terms = []
    for values in itertools.product(*(range(int(n)) for _, n in d.reduced)):
        place = dict(zip(names, map(Integer, values), strict=True))
        terms.append(d.body.xreplace(place).replace(lambda x: isinstance(x, At), _expanded))
    loops = [(i, n) for i, n in d.loops if i not in names]
    made = define(loops, d.shape, d.write, _COMBINED[d.reduction](*terms))
    return equation(e.name, made, e.operands, dtype=e.dtype, origin=e.origin, adjoint_of=e.adjoint_of)


def _expanded(at: At) -> At:
    return At(at.operand, [sp.expand(e) for e in at.index], at.view)

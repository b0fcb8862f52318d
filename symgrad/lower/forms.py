"""What the form of an equation says: products, plain axes, and windows that slide over an axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import sympy as sp
from sympy import Expr, Symbol

from symgrad.equations import Equation, System
from symgrad.index.definition import At, outermost
from symgrad.lower.views import loops_of


def product(e: Equation) -> tuple[Expr, list[At]] | None:
    """(number, accesses) of a sum of products of at least two accesses, each an element of a tensor as it is."""
    d = e.definition
    if e.solution is not None or d.reduction != "sum" or not d.reduced:
        return None
    factors = sp.Mul.make_args(d.body)
    accesses = [f for f in factors if isinstance(f, At)]
    others = sp.Mul(*(f for f in factors if not isinstance(f, At)))
    if len(accesses) < 2 or others.has(At) or others.free_symbols & d.extents.keys():
        return None
    return others, accesses


def affine(at: At) -> bool:
    """Whether no index is read from data."""
    return not any(e.has(At) for e in at.index)


def is_window(e: Expr, extents: Mapping[Symbol, Expr]) -> bool:
    """Whether an index slides: it has two loops, or one with a stride."""
    loops = loops_of(e, extents)
    return len(loops) == 2 or (len(loops) == 1 and abs(e.coeff(loops[0])) != 1)


def windowed(at: At, extents: Mapping[Symbol, Expr]) -> bool:
    return affine(at) and any(is_window(e, extents) for e in at.index)


def plain_axes(index: Sequence[Expr], extents: Mapping[Symbol, Expr]) -> dict[Symbol, int]:
    """{loop: axis} of the axes that a loop of its own runs along."""
    return {e: axis for axis, e in enumerate(index) if e in extents and sum(other.has(e) for other in index) == 1}


def reads_of(e: Equation) -> list[At]:
    """The accesses that stand in no other one's index; none where whole tensors are read."""
    return [] if e.solution is not None else sorted(outermost(e.definition.body), key=sp.default_sort_key)


def replaced(system: System, made: Mapping[str, Sequence[Equation]]) -> System:
    """The system with each equation named in `made` replaced by those given, which end with one of its name."""
    result = system.copy()
    result.equations = {n.name: n for e in system for n in made.get(e.name, (e,))}
    return result

"""Equations that say nothing: constants, copies and zeros are written into their users."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from sympy import Expr, Integer, Mul

from symgrad.equations import Equation, Leaf, System
from symgrad.expand import exact
from symgrad.index.definition import At, Definition, define, index_symbol
from symgrad.simplify.substitute import substitute


def fold_constants(system: System, keep: Collection[str] = ()) -> System:
    """Replace elements of constant and copying equations by what they stand for; drop what becomes unused.

    The equations `keep` stay as they are.
    """
    result = system.copy()
    trivial = {leaf.name: e for leaf in system.leaves.values() if (e := _even(leaf)) is not None}
    for name, e in system.equations.items():
        if name in keep:
            continue
        changed = _without_reduction(substitute(result, e, trivial))
        result.equations[name] = changed
        if is_constant(changed.definition) or is_copy(changed):
            trivial[name] = changed
    return result.pruned(keep)


def _even(leaf: Leaf) -> Equation | None:
    """The equation of a constant tensor that is the same number everywhere, such as a state that starts at zero."""
    if leaf.kind != "constant" or not leaf.shape or leaf.dtype != "float":
        return None
    values = set(np.ravel(leaf.value).tolist())
    if len(values) != 1 or not np.isfinite(value := values.pop()):
        return None
    return Equation(leaf.name, _filled(leaf.shape, exact(value)), ())


def is_constant(d: Definition) -> bool:
    """Whether every element is the same number, or an expression of dimensions."""
    return d.elementwise and not d.body.has(At) and not d.body.free_symbols & d.extents.keys()


def is_copy(e: Equation) -> bool:
    """Whether the body is one element of another tensor at the same or a permuted, cut or broadcast place."""
    body = e.definition.body
    return (
        e.definition.elementwise
        and isinstance(body, At)
        and body.view is None
        and not any(i.has(At) for i in body.index)
        and _plain(e.definition, body)
    )


def _plain(d: Definition, body: At) -> bool:
    loops = [i for i in body.index if not i.is_Integer]
    return len(set(loops)) == len(loops) and set(loops) <= {i for i, _ in d.loops}


def _without_reduction(e: Equation) -> Equation:
    """A reduction of one number, many times, as the number that this is."""
    d = e.definition
    indices = d.extents.keys() & d.body.free_symbols
    if d.elementwise or not d.gathers or d.body.has(At) or indices:
        return _without_zero_sum(e)
    count = Mul(*(n for _, n in d.reduced))
    value = {"sum": d.body * count, "prod": d.body**count}.get(d.reduction, d.body)
    return Equation(e.name, _filled(d.shape, value), (), e.dtype, e.origin, e.adjoint_of)


def _without_zero_sum(e: Equation) -> Equation:
    """A sum of zeros, wherever it is written, as the constant 0."""
    d = e.definition
    if d.body != 0 or d.reduction != "sum" or d.elementwise:
        return e
    return Equation(e.name, _filled(d.shape, Integer(0)), (), e.dtype, e.origin, e.adjoint_of)


def _filled(shape: tuple[Expr, ...], value: Expr) -> Definition:
    """The definition of a tensor that is the same number everywhere."""
    index = [index_symbol(f"i{k}") for k, _ in enumerate(shape)]
    return define(list(zip(index, shape, strict=True)), shape, index, value)

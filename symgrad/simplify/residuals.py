"""Sums of squares as products of a residual with itself: r = z - y is computed once, for the loss and its gradient.

    e = k g**2;   S = sum of c e        becomes        r = g;   S = sum of c k r**2

where nothing else reads e and g is more than an element; what contains g, or is a multiple of it, reads r.
"""

from __future__ import annotations

import sympy as sp
from sympy import Expr

from symgrad.equations import Equation, System, equation
from symgrad.index.definition import At, define
from symgrad.names import free_name
from symgrad.simplify.scalar_cost import is_plain
from symgrad.simplify.substitute import Operands, rebuilt

MOST_OPERATIONS = 40  # of a body that is looked at


def share_residuals(system: System) -> System:
    """The system with an equation for every residual whose squares are added up."""
    result, uses, wanted = system.copy(), system.uses(), set(system.wanted())
    for e in system:
        found = _square(e) if is_plain(e) and e.name not in wanted and len(uses[e.name]) == 1 else None
        if found is None:
            continue
        scale, root = found
        total = result.equations[uses[e.name][0]]
        name = free_name(f"{e.origin or e.name}_r", result)
        changed = _summed(total, e, name, scale)
        if changed is None:
            continue
        d = e.definition
        made = equation(name, define(d.loops, d.shape, d.write, root), e.operands, origin=e.origin)
        result.add(changed)
        result.add(made)
        for user in system:
            if is_plain(user) and user.name != e.name:
                result.add(_reading(result.equations[user.name], made))
    return result.pruned().sorted()


def _square(e: Equation) -> tuple[Expr, Expr] | None:
    """(k, g) where e is k*g**2 for a number k and a sum g."""
    scale, power = e.definition.body.as_independent(At, as_Add=False)
    if not isinstance(power, sp.Pow) or power.exp != 2 or not isinstance(power.base, sp.Add):
        return None
    return None if scale.free_symbols & e.definition.extents.keys() else (scale, power.base)


def _summed(total: Equation, e: Equation, name: str, scale: Expr) -> Equation | None:
    """The sum of the elements of e as one of the squares of those of `name`."""
    d = total.definition
    factor, read = d.body.as_independent(At, as_Add=False)
    plain = isinstance(read, At) and read.view is None and len(set(read.index)) == len(read.index)
    if total.solution is not None or d.reduction != "sum" or not d.reduced or not plain:
        return None
    if total.source(read) != e.name or set(read.index) != d.extents.keys() or total.dtype != "float":
        return None
    operands = Operands(())
    return rebuilt(total, factor * scale * At(operands.number(name), read.index) ** 2, operands)


def _reading(e: Equation, residual: Equation) -> Equation:
    """e with the residual's value for what it computes."""
    d = residual.definition
    if e.shape != residual.shape or not set(residual.operands) <= set(e.operands):
        return e
    operands = Operands(e.operands)
    place = dict(zip(d.write, e.definition.write, strict=True))
    root = operands.adopt(d.body, residual.operands).xreplace(place)
    body = e.definition.body
    value = At(operands.number(residual.name), e.definition.write)
    if body.has(root):
        return rebuilt(e, body.xreplace({root: value}), operands)
    ratio = _multiple(body, root)
    return e if ratio is None else rebuilt(e, ratio * value, operands)


def _multiple(body: Expr, root: Expr) -> Expr | None:
    """The number c where body is c*root."""
    if body.atoms(At) != root.atoms(At) or sp.count_ops(body) > MOST_OPERATIONS:
        return None
    body, root = sp.expand(body), sp.expand(root)
    first = min(root.atoms(At), key=sp.default_sort_key)
    if root.coeff(first) == 0:
        return None
    ratio = body.coeff(first) / root.coeff(first)
    return ratio if not ratio.has(At) and sp.expand(body - ratio * root) == 0 else None

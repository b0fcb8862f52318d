"""Masks applied last: c*where(test, d, 0) as where(test, c*d, 0), so that what is not selected cannot spoil it.

0 times infinity is not a number: the gradient of where(x > 0, x, exp(x) - 1) at 800 would be lost. Plain
cotangents are left as they are, for they are finite as long as the gradient is.
"""

from __future__ import annotations

import sympy as sp
from sympy import Expr

from symgrad.equations import Equation, System
from symgrad.index.definition import At, outermost
from symgrad.simplify.substitute import Operands, rebuilt


def apply_masks_last(system: System) -> System:
    """Move every choice between something and 0 out of the products that it stands in."""
    result = system.copy()
    for name, e in system.equations.items():
        if e.adjoint_of and e.definition.elementwise and e.definition.body.has(sp.Piecewise):
            body = e.definition.body.replace(sp.Mul, lambda *factors, e=e: _outermost(system, e, factors))
            result.equations[name] = rebuilt(e, body, Operands(e.operands))
    return result


def _outermost(system: System, e: Equation, factors: tuple[Expr, ...]) -> Expr:
    masks = {f: mask for f in factors if (mask := _mask(f)) is not None}
    rest = [f for f in factors if f not in masks]
    if not masks or all(_is_cotangent(system, e, f) or _is_share(system, e, f) for f in rest if f.has(At)):
        return sp.Mul(*factors)
    value = sp.Mul(*rest, *(inside for inside, _ in masks.values()))
    return sp.Piecewise((value, sp.And(*(test for _, test in masks.values()))), (0, True))


def _mask(factor: Expr) -> tuple[Expr, Expr] | None:
    """(value, condition) of a factor that is 0 unless one condition holds."""
    if not isinstance(factor, sp.Piecewise) or len(factor.args) != 2:
        return None
    (first, test), (second, _) = factor.args
    if second == 0:
        return first, test
    return (second, sp.Not(test)) if first == 0 else None


def _is_cotangent(system: System, e: Equation, factor: Expr) -> bool:
    """Whether a factor is an element of an adjoint, or a sum of such."""
    names = {e.source(at) for at in outermost(factor)}
    adjoint = all(n in system.equations and system.equations[n].adjoint_of for n in names)
    return adjoint and factor.is_polynomial(*outermost(factor))


def _is_share(system: System, e: Equation, factor: Expr) -> bool:
    """Whether a factor is one over a number of elements that masks select: 1 or more where one of them does."""
    base, power = factor.as_base_exp()
    count = system.equations.get(e.source(base)) if power == -1 and isinstance(base, At) else None
    if count is None or count.solution is not None or count.definition.reduction != "sum":
        return False
    mask = _mask(count.definition.body)
    return bool(count.definition.reduced) and mask is not None and mask[0] == 1

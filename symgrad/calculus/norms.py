"""Powers that sums are made of: Σ |u|ᵖ is a norm of u to the power p."""

from __future__ import annotations

import sympy as sp
from sympy import Expr


def order_of(body: Expr) -> Expr | None:
    """p, where the body is |u| to the power p, an integer above 1."""
    powers = {factor.as_base_exp()[1] for factor in sp.Mul.make_args(body) if not factor.is_number}
    if not powers:
        return None
    order = max(powers, key=sp.default_sort_key) + (1 if body.has(sp.Abs) and len(powers) > 1 else 0)
    return order if order.is_Integer and order > 1 and rooted(body, order) is not None else None


def rooted(body: Expr, order: Expr) -> Expr | None:
    """u, where the body is |u| to the power `order`; |u|³ is |u| u² to SymPy."""
    inside: dict[Expr, Expr] = {}
    number: Expr = sp.Integer(1)
    for factor in sp.Mul.make_args(body):
        base, power = factor.as_base_exp()
        if factor.is_number:
            number = number * factor
        else:
            u = base.args[0] if isinstance(base, sp.Abs) else base
            inside[u] = inside.get(u, sp.Integer(0)) + power
    absolute = order.is_even or all(sp.Abs(u) in sp.Mul.make_args(body) for u in inside)
    if not number.is_positive or not absolute or any(power != order for power in inside.values()):
        return None
    return sp.Mul(number ** (1 / order), *inside)


def is_divisor(factor: Expr) -> bool:
    """Whether a factor stands below the fraction line."""
    power = factor.as_base_exp()[1]
    return bool(power.is_Rational and power < 0 and not isinstance(factor, sp.exp))

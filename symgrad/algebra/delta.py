"""The Kronecker delta over tensor indices."""

from __future__ import annotations

from functools import reduce

import sympy as sp
from sympy import Expr

from symgrad.formula.indexed import Element


class Delta(Expr):  # type: ignore[misc]
    """1 where two indices are equal, else 0. Symmetric, and its own square."""

    is_commutative = True
    is_real = True
    is_finite = True
    is_nonnegative = True

    def __new__(cls, left: Expr, right: Expr) -> Expr:
        difference = sp.expand(left - right)
        if difference.is_Integer:
            return sp.Integer(difference == 0)
        first, second = sorted((sp.sympify(left), sp.sympify(right)), key=sp.default_sort_key)
        made: Delta = Expr.__new__(cls, first, second)
        return made

    def _eval_power(self, power: Expr) -> Expr | None:
        return self if power.is_positive else None


def deltas(condition: Expr) -> tuple[Expr, Expr] | None:
    """(product of deltas, remaining condition) of a condition that says that indices are equal."""
    parts = condition.args if isinstance(condition, sp.And) else (condition,)
    equal = [c for c in parts if isinstance(c, sp.Eq) and not c.has(Element)]
    if not equal:
        return None
    product = reduce(lambda p, c: p * Delta(c.lhs, c.rhs), equal, sp.Integer(1))
    return product, sp.And(*(c for c in parts if c not in equal))

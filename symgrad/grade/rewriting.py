"""Expressions in few kinds of atoms, so that more of what is equal becomes the same.

    where(c, a, b) = [c] (a - b) + b       |u| = u (2 [u > 0] - 1)       max(a, b) = [a > b] (a - b) + b
    σ(u) = 1 / (1 + exp(-u))               tanh(u) = (exp(2u) - 1) / (exp(2u) + 1), and so on

An indicator [c] is its own square. These hold everywhere but at kinks, where u is 0 and there is no gradient.
Conditions on integers alone stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import sympy as sp
from sympy import Expr, Integer
from sympy.core.relational import Relational

from symgrad.formula.indexed import Element, Reduction
from symgrad.index.functions import erfc, expm1, log1p, plain_conditions, sigmoid, softplus


class Indicator(Expr):  # type: ignore[misc]
    """1 where a condition on numbers holds, else 0: its own square."""

    is_commutative = True
    is_real = True
    is_finite = True

    def _eval_power(self, power: Expr) -> Expr | None:
        return self if power.is_positive else None


class Positive(Indicator):
    """[u > 0]."""


class Zero(Indicator):
    """[u = 0]."""


def positive(u: Expr) -> Expr:
    """[u > 0]; the same atom for u and -u, unless u may be 0 on more than a kink."""
    if u.is_number:
        return Integer(bool(u > 0))
    return 1 - Positive(-u) if u.could_extract_minus_sign() and not _may_stay_zero(u) else Positive(u)


def _may_stay_zero(u: Expr) -> bool:
    """Whether u is put together from pieces, one of which may be 0 throughout."""
    return bool(u.has(Indicator, sp.Piecewise, sp.Heaviside, sp.Abs, sp.sign))


def zero(u: Expr) -> Expr:
    """[u = 0]."""
    if u.is_number:
        return Integer(u == 0)
    return Zero(-u) if u.could_extract_minus_sign() else Zero(u)


def in_atoms(expr: Expr, integral: Collection[str] = ()) -> Expr:
    """The expression with choices as indicators and hyperbolic functions as exponentials.

    Args:
        integral: the tensors that hold integers.
    """
    return _Rewriting(frozenset(integral))(plain_conditions(expr))


class _Rewriting:
    """One pass over an expression, inner parts first."""

    def __init__(self, integral: frozenset[str]) -> None:
        self.integral = integral
        self.done: dict[Expr, Expr] = {}

    def __call__(self, expr: Expr) -> Expr:
        if expr not in self.done:
            self.done[expr] = self._made(expr)
        return self.done[expr]

    def _made(self, expr: Expr) -> Expr:
        if isinstance(expr, Element) or not expr.args:
            return expr
        if isinstance(expr, Reduction):
            return Reduction(expr.kind, self(expr.body), expr.loops, expr.condition)
        if isinstance(expr, sp.Piecewise):
            return self._chosen([(self(value), self.truth(condition)) for value, condition in expr.args])
        if isinstance(expr, sp.Heaviside):
            return positive(self(expr.args[0]))
        if isinstance(expr, sp.Abs | sp.sign):
            return self._of_sign(expr)
        args = [self(arg) for arg in expr.args]
        if isinstance(expr, sp.Max | sp.Min):
            return _extreme(args, isinstance(expr, sp.Max))
        rule = _FUNCTIONS.get(expr.func)
        return rule(args[0]) if rule is not None else expr.func(*args)

    def _of_sign(self, expr: Expr) -> Expr:
        """|u| or the sign of u."""
        (u,) = expr.args
        if isinstance(u, sp.Piecewise):
            return self(sp.Piecewise(*((expr.func(value), condition) for value, condition in u.args)))
        argument = self(u)
        if _may_stay_zero(argument):
            return expr.func(argument)
        side = 2 * positive(argument) - 1
        return side * argument if isinstance(expr, sp.Abs) else side

    def _chosen(self, rows: list[tuple[Expr, Expr]]) -> Expr:
        """The value of the first row whose truth is 1, else 0."""
        result: Expr = Integer(0)
        for value, truth in reversed(rows):
            result = truth * value + (1 - truth) * result
        return result

    def truth(self, condition: Expr) -> Expr:
        """A condition as a number, 1 or 0."""
        if condition in (sp.true, sp.false):
            return Integer(condition == sp.true)
        if isinstance(condition, sp.And):
            return sp.Mul(*map(self.truth, condition.args))
        if isinstance(condition, sp.Or):
            return 1 - sp.Mul(*(1 - self.truth(c) for c in condition.args))
        if isinstance(condition, sp.Not):
            return 1 - self.truth(condition.args[0])
        if not isinstance(condition, Relational):
            return 1 - zero(self(condition))
        if self._exact(condition):
            return sp.Piecewise((1, condition), (0, True))
        return self._comparison(condition)

    def _exact(self, condition: Expr) -> bool:
        elements = condition.atoms(Element)
        return not condition.has(Reduction) and all(e.name in self.integral for e in elements)

    def _comparison(self, relation: Relational) -> Expr:
        for side, other in ((relation.lhs, relation.rhs), (relation.rhs, relation.lhs)):
            if isinstance(side, sp.Piecewise) and other.is_number:  # where(c, u, 0) > 0 is c and u > 0
                rows = [(relation.xreplace({side: value}), condition) for value, condition in side.args]
                return self._chosen([(self.truth(inner), self.truth(condition)) for inner, condition in rows])
        difference = self(relation.lhs) - self(relation.rhs)
        if isinstance(relation, sp.Eq | sp.Ne):
            return zero(difference) if isinstance(relation, sp.Eq) else 1 - zero(difference)
        if difference.is_number:
            return Integer(bool(relation.func(difference, 0)))
        greater = difference if isinstance(relation, sp.StrictGreaterThan | sp.GreaterThan) else -difference
        strict = isinstance(relation, sp.StrictGreaterThan | sp.StrictLessThan)
        return positive(greater) if strict else 1 - positive(-greater)


def _extreme(args: list[Expr], largest: bool) -> Expr:
    best, *rest = sorted(args, key=sp.default_sort_key)
    for other in rest:
        above = positive(other - best) if largest else positive(best - other)
        best = above * (other - best) + best
    return best


_FUNCTIONS: dict[Any, Callable[[Expr], Expr]] = {
    sp.tanh: lambda u: (sp.exp(2 * u) - 1) / (sp.exp(2 * u) + 1),
    sp.sinh: lambda u: (sp.exp(u) - sp.exp(-u)) / 2,
    sp.cosh: lambda u: (sp.exp(u) + sp.exp(-u)) / 2,
    sp.tan: lambda u: sp.sin(u) / sp.cos(u),
    sigmoid: lambda u: sp.exp(u) / (1 + sp.exp(u)),
    softplus: lambda u: sp.log(1 + sp.exp(u)),
    log1p: lambda u: sp.log(1 + u),
    expm1: lambda u: sp.exp(u) - 1,
    erfc: lambda u: 1 - sp.erf(u),
}

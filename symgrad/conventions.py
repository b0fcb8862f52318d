"""What the derivative is where there is none: one record that formulas, code and verification read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import sympy as sp
from sympy import Expr


@dataclass(frozen=True)
class Convention:
    """At a kink of `function`, its derivative is taken to be `value`; `rewrite` says so to SymPy's result."""

    function: str
    where: str
    value: str
    rewrite: Callable[[Expr], Expr] = lambda derivative: derivative


def _no_impulses(derivative: Expr) -> Expr:
    """Steps are flat: SymPy's DiracDelta, infinite at one point, becomes 0."""
    return derivative.replace(sp.DiracDelta, lambda *_: sp.Integer(0))


CONVENTIONS = (
    Convention("where(c, a, b)", "c changes", "the derivative of the branch that c selects"),
    Convention("relu(x)", "x = 0", "0: where(x > 0, x, 0) selects the constant"),
    Convention("leaky_relu, elu, selu", "x = 0", "the derivative from the left"),
    Convention("clip(x, low, high)", "x = low, x = high", "1: the bounds belong to the inside"),
    Convention("abs(x)", "x = 0", "0: sign(0) = 0"),
    Convention("maximum(a, b), minimum(a, b)", "a = b", "shared evenly: 1/2 each (heaviside(0) = 1/2)"),
    Convention("max, min over an index", "several winners", "shared evenly among all winners"),
    Convention("sign, heaviside, comparisons", "the step", "0: a step is flat on both sides", _no_impulses),
    Convention("hinge(p, t)", "t*p = 1", "0: where(1 - t*p > 0, ...) selects the constant"),
)


def apply_conventions(derivative: Expr) -> Expr:
    """SymPy's derivative of a scalar body with every convention applied."""
    for convention in CONVENTIONS:
        derivative = convention.rewrite(derivative)
    return derivative

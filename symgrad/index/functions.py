"""The scalar functions that a formula may use.

A function of our own is one defining expression. SymPy differentiates that expression, and `stable`, the
rules that recognise such an expression again, writes the result in functions that neither overflow nor
cancel: d/dx of 1/(1 + exp(-x)) comes out as sigmoid(x)*sigmoid(-x). No derivative is written by hand.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import sympy as sp
from sympy import Expr, Function, Integer, Rational, exp
from sympy.core.relational import Relational

_X = sp.Symbol("x", real=True)


class Defined(Function):  # type: ignore[misc]
    """A scalar function given by an expression of one variable, evaluated in a stable way."""

    is_real = True

    @staticmethod
    def definition(x: Expr) -> Expr:
        raise NotImplementedError

    def fdiff(self, argindex: int = 1) -> Expr:
        function: Any = type(self)
        return _derivative(function).xreplace({_X: self.args[0]})

    def _eval_is_real(self) -> bool:
        return True

    def _eval_evalf(self, prec: int) -> Expr:
        return self.definition(self.args[0])._eval_evalf(prec)


class sigmoid(Defined):
    @staticmethod
    def definition(x: Expr) -> Expr:
        return 1 / (1 + exp(-x))


class softplus(Defined):
    @staticmethod
    def definition(x: Expr) -> Expr:
        return sp.log(1 + exp(x))


class log1p(Defined):
    @staticmethod
    def definition(x: Expr) -> Expr:
        return sp.log(1 + x)


class expm1(Defined):
    @staticmethod
    def definition(x: Expr) -> Expr:
        return exp(x) - 1


class erfc(Defined):
    """SymPy's own erfc rewrites erfc(-x) as 2 - erfc(x), which cancels; this one stays as it is written."""

    @staticmethod
    def definition(x: Expr) -> Expr:
        return sp.erfc(x)


@cache
def _derivative(function: Any) -> Expr:
    return stable(function.definition(_X).diff(_X))


def stable(expr: Expr) -> Expr:
    """The same value, written so that floating point keeps it for large and small arguments.

    Rules, each an identity over the reals:
        (1 + exp(u))**-n              -> sigmoid(-u)**n
        exp(u) * sigmoid(-u)          -> sigmoid(u)
        log(1 + exp(u))               -> softplus(u)
        log(sigmoid(u))               -> -softplus(-u)
        exp(u) - 1                    -> expm1(u)      (the whole sum)
        1 - sigmoid(u)                -> sigmoid(-u)   (the whole sum)
        log(1 + u)                    -> log1p(u)      (u not a number)
        log1p(exp(u))                 -> softplus(u)
        log(exp(u) * c)               -> u + log(c)
    """
    return expr.replace(_is_stabilised, _stabilise) if expr.has(exp, sp.log, sigmoid) else expr


def recognise_sigmoids(expr: Expr) -> Expr:
    """1/(1 + exp(u)) and what follows from it, written with sigmoid; nothing else is changed."""
    if not expr.has(exp):
        return expr
    return expr.replace(lambda e: isinstance(e, sp.Pow | sp.Mul), _sigmoid_form)


def _sigmoid_form(expr: Expr) -> Expr:
    return _inverse_power(expr) if isinstance(expr, sp.Pow) else _absorb_exponentials(expr)


def _is_stabilised(expr: Expr) -> bool:
    return isinstance(expr, sp.Pow | sp.Mul | sp.log | sp.Add | log1p)


def _stabilise(expr: Expr) -> Expr:
    if isinstance(expr, sp.Pow):
        return _inverse_power(expr)
    if isinstance(expr, sp.Mul):
        return _absorb_exponentials(expr)
    if isinstance(expr, sp.Add):
        return _difference_from_one(expr)
    return _logarithm(expr)


def _one_plus_exp(expr: Expr) -> Expr | None:
    """u where expr is 1 + exp(u)."""
    if isinstance(expr, sp.Add) and len(expr.args) == 2 and expr.args[0] == 1 and isinstance(expr.args[1], exp):
        return expr.args[1].args[0]
    return None


def _inverse_power(expr: Expr) -> Expr:
    base, power = expr.as_base_exp()
    if not (power.is_Integer and power < 0):
        return expr
    u = _one_plus_exp(base)
    return expr if u is None else sigmoid(-u) ** -power


def _absorb_exponentials(expr: Expr) -> Expr:
    """exp(u) * sigmoid(-u)**n -> sigmoid(u) * sigmoid(-u)**(n-1), for each exponential factor."""
    factors = list(expr.args)
    for e in [f for f in factors if isinstance(f, exp)]:
        u = e.args[0]
        for place, factor in enumerate(factors):
            base, power = factor.as_base_exp()
            if base == sigmoid(-u) and power.is_Integer and power > 0:
                factors[place] = base ** (power - 1)
                factors[factors.index(e)] = sigmoid(u)
                break
    return sp.Mul(*factors)


def _difference_from_one(expr: Expr) -> Expr:
    constant, rest = expr.as_coeff_Add()
    if constant == 1 and isinstance(-rest, sigmoid):
        return sigmoid(-(-rest).args[0])
    return expm1(rest.args[0]) if constant == -1 and isinstance(rest, exp) else expr


def _logarithm(expr: Expr) -> Expr:
    (argument,) = expr.args
    if isinstance(expr, log1p):
        return softplus(argument.args[0]) if isinstance(argument, exp) else expr
    exponents = [f.args[0] for f in sp.Mul.make_args(argument) if isinstance(f, exp)]
    if exponents:
        others = [f for f in sp.Mul.make_args(argument) if not isinstance(f, exp)]
        return sp.Add(*exponents) + sp.log(sp.Mul(*others))
    u = _one_plus_exp(argument)
    if u is not None:
        return softplus(u)
    if isinstance(argument, sigmoid):
        return -softplus(-argument.args[0])
    constant, rest = argument.as_coeff_Add()
    return log1p(rest) if constant == 1 and rest != 0 else expr


def _where(condition: Expr, yes: Expr, no: Expr) -> Expr:
    return sp.Piecewise((yes, truth(condition)), (no, True))


def is_condition(expr: Expr) -> bool:
    """Whether expr is true or false rather than a number (SymPy counts a Symbol among its booleans)."""
    return isinstance(expr, sp.logic.boolalg.BooleanFunction | sp.logic.boolalg.BooleanAtom | Relational)


def truth(condition: Expr) -> Expr:
    """A condition as SymPy wants it: a number is true where it is not 0."""
    return condition if is_condition(condition) else sp.Ne(condition, 0)


def plain_conditions(expr: Expr) -> Expr:
    """Without SymPy's ITE, a choice between conditions, which it makes of comparisons with a Piecewise."""
    return expr.replace(sp.ITE, lambda test, yes, no: sp.Or(sp.And(test, yes), sp.And(sp.Not(test), no)))


def _heaviside(x: Expr) -> Expr:
    return sp.Heaviside(x, Rational(1, 2))


# name in formula text -> (number of arguments, constructor)
FUNCTIONS: dict[str, tuple[int, Callable[..., Expr]]] = {
    "exp": (1, exp),
    "log": (1, sp.log),
    "log1p": (1, log1p),
    "expm1": (1, expm1),
    "sqrt": (1, sp.sqrt),
    "rsqrt": (1, lambda x: 1 / sp.sqrt(x)),
    "abs": (1, sp.Abs),
    "sign": (1, sp.sign),
    "sin": (1, sp.sin),
    "cos": (1, sp.cos),
    "tan": (1, sp.tan),
    "sinh": (1, sp.sinh),
    "cosh": (1, sp.cosh),
    "tanh": (1, sp.tanh),
    "atan": (1, sp.atan),
    "sigmoid": (1, sigmoid),
    "softplus": (1, softplus),
    "erf": (1, sp.erf),
    "erfc": (1, erfc),
    "heaviside": (1, _heaviside),
    "maximum": (2, sp.Max),
    "minimum": (2, sp.Min),
    "where": (3, _where),
}

CONSTANTS: dict[str, Expr] = {"pi": sp.pi, "inf": sp.oo}

ZERO, ONE = Integer(0), Integer(1)

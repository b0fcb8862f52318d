"""Identities of products, and of logarithms of products: numbers, signs, brackets [c]."""

from __future__ import annotations

from collections.abc import Iterable

import sympy as sp
from sympy import Expr, Integer, Symbol

from symgrad.algebra.delta import Delta
from symgrad.formula.indexed import Element, Reduction


def factors_of(term: Expr) -> list[Expr]:
    """The factors of a term."""
    return list(sp.Mul.make_args(term))


def multiplied_out(expr: Expr) -> Expr:
    """Products and whole powers of sums as sums; nothing inside functions or below a fraction."""
    below = {p: sp.Dummy() for p in sp.Mul.make_args(expr) if p.is_Pow and p.exp.is_negative}
    return sp.expand(expr.xreplace(below), deep=False, power_base=False, power_exp=False, log=False).xreplace(
        {dummy: power for power, dummy in below.items()}
    )


def logarithm(expr: Expr) -> Expr:
    """log(exp(u)*r) = u + log(r), and log(1/r) = -log(r)."""
    parts = factors_of(expr.args[0])
    exponents = [f.args[0] for f in parts if isinstance(f, sp.exp)]
    rest = sp.Mul(*(f for f in parts if not isinstance(f, sp.exp)))
    base, power = rest.as_base_exp()
    logarithm = -sp.log(base) if power == -1 else sp.log(rest)
    return sp.Add(*exponents, logarithm)


def numbers_in_front(term: Expr) -> Expr:
    """(2 a - 2 b)**p c = 2**p (a - b)**p c."""
    if not isinstance(term, sp.Mul):
        return term
    numbers, rest = [], []
    for factor in term.args:
        base, power = factor.as_base_exp()
        shared, primitive = base.primitive() if isinstance(base, sp.Add) else (sp.Integer(1), base)
        plain = shared != 1 and shared.is_positive and power.is_Rational
        numbers += [shared**power] if plain else []
        rest.append(primitive**power if plain else factor)
    return sp.Mul(*numbers, *rest) if numbers else term


def added_powers(factors: Iterable[tuple[Expr, Expr]]) -> dict[Expr, Expr]:
    """base -> the sum of its powers."""
    powers: dict[Expr, Expr] = {}
    for base, power in factors:
        powers[base] = powers.get(base, Integer(0)) + power
    return powers


def gathered(term: Expr) -> Expr:
    """u**a / u = u**(a - 1), and sinh(u)/cosh(u) = tanh(u), which neither overflow nor divide by 0 where these do."""
    if not isinstance(term, sp.Mul):
        return term
    powers = added_powers((f, Integer(1)) if isinstance(f, sp.exp) else f.as_base_exp() for f in term.args)
    for base in [b for b in powers if isinstance(b, sp.sinh)]:
        below = sp.cosh(base.args[0])
        if powers[base].is_positive and powers.get(below) == -powers[base]:
            powers[sp.tanh(base.args[0])] = powers.pop(base)
            del powers[below]
    return sp.Mul(*(base**power for base, power in powers.items()))


def without_signs(term: Expr) -> Expr:
    """u sign(u) = |u|, |u| sign(u) = u, sign(u)/u = 1/|u|, sign(u)/|u| = 1/u.

    Whole powers only: √|u| sign(u) is 0 where u is, and u/√|u| is nothing there.
    """
    for factor in sp.Mul.make_args(term):
        if isinstance(factor, sp.sign):
            (u,) = factor.args
            powers = term.as_powers_dict()
            for old, new in ((u, sp.Abs(u)), (sp.Abs(u), u)):
                power = powers.get(old, Integer(0))
                if (power - 1).is_nonnegative:
                    return without_signs(term / factor / old * new)
                if (power + 1).is_nonpositive:
                    return without_signs(term / factor * old / new)
    return term


def bracketed(condition: Expr) -> Expr:
    """[c and d] as [c] [d]: 1 where the condition holds, else 0."""
    parts = condition.args if isinstance(condition, sp.And) else (condition,)
    return sp.Mul(*(sp.Piecewise((1, part), (0, True)) for part in parts))


def is_bracket(expr: Expr) -> bool:
    """Whether this is [c]."""
    return isinstance(expr, sp.Piecewise) and [value for value, _ in expr.args] == [1, 0]


def without_powers_of_brackets(term: Expr) -> Expr:
    """[c]² = [c], and what is 0 unless c holds needs no [c] beside it."""
    factors = [f.as_base_exp() for f in sp.Mul.make_args(term)]
    choices = [base for base, _ in factors if isinstance(base, sp.Piecewise) and base.args[-1] == (0, True)]
    known = {c for p in choices if len(p.args) == 2 and not is_bracket(p) for c in sp.And.make_args(p.args[0][1])}
    kept = []
    for base, power in factors:
        bracket = is_bracket(base) and power.is_positive
        kept.append(sp.Integer(1) if bracket and base.args[0][1] in known else base if bracket else base**power)
    return sp.Mul(*kept)


def is_finite(expr: Expr) -> bool:
    """Whether it is finite whatever finite numbers it reads, so that it may stand beside a zero."""
    if isinstance(expr, sp.Pow):
        return bool(expr.exp.is_Integer and expr.exp.is_positive) and is_finite(expr.base)
    if isinstance(expr, Reduction):
        return is_finite(expr.body)
    if isinstance(expr, sp.Add | sp.Mul | sp.Abs | sp.sign):
        return all(map(is_finite, expr.args))
    return isinstance(expr, Element | Delta | sp.Rational | Symbol) or is_bracket(expr)

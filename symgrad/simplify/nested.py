"""Scalar bodies in Horner form: a x + b x**3 as x (a + b x**2), a/s + b/s as (a + b)/s.

Only numbers are multiplied into sums, and only common factors taken out of them: no form cancels where the one that
it stands for does not, as the expansion of (x - y)**2 would.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import sympy as sp
from sympy import Expr, Integer, Symbol

from symgrad.index.functions import is_condition
from symgrad.simplify.spelled import spelled_out
from symgrad.simplify.straight import Shape, straight_line, weight

MOST_TERMS = 40


def cheapest_form(body: Expr, shapes: Mapping[Symbol, Shape]) -> Expr:
    """The form of the body that costs least over operands of these shapes; the first of those that cost the same."""
    body = spelled_out(body)
    forms = list(dict.fromkeys([body, nested(body), nested(spread(body))]))
    return min(forms, key=lambda form: weight(straight_line(form, shapes)[0])) if len(forms) > 1 else body


def spread(expr: Expr) -> Expr:
    """Every number that multiplies a sum multiplied into it."""

    def change(product: Expr) -> Expr:
        number, rest = product.as_independent(*product.atoms(Symbol), as_Add=False)
        factors = sp.Mul.make_args(rest)
        place = next((k for k, f in enumerate(factors) if isinstance(f, sp.Add)), None)
        if number == 1 or place is None:
            return product
        inside = sp.Add(*(number * term for term in factors[place].args))
        return sp.Mul(inside, *factors[:place], *factors[place + 1 :])

    return _everywhere(expr, lambda e: change(e) if isinstance(e, sp.Mul) else e)


def nested(expr: Expr) -> Expr:
    """Every sum with its common factors taken out, the most common first."""
    return _everywhere(expr, lambda e: _factored(e.args) if isinstance(e, sp.Add) and len(e.args) <= MOST_TERMS else e)


def _everywhere(expr: Expr, change: Callable[[Expr], Expr]) -> Expr:
    """`change` applied to every part of an expression that is a number, the innermost first."""
    if not expr.args or is_condition(expr) or isinstance(expr, sp.Piecewise | sp.Max | sp.Min):
        return expr
    arguments = [_everywhere(a, change) for a in expr.args]
    return change(expr if tuple(arguments) == expr.args else expr.func(*arguments))


def _factored(terms: Sequence[Expr]) -> Expr:
    """The sum of the terms as factor * (sum) + rest."""
    powers = [_powers(term) for term in terms]
    counts: dict[Expr, int] = {}
    for found in powers:
        for base in found:
            counts[base] = counts.get(base, 0) + 1
    shared = [base for base, count in counts.items() if count > 1]
    if not shared:
        return sp.Add(*terms)
    base = min(shared, key=lambda b: (-counts[b], sp.default_sort_key(b)))
    having = [k for k, found in enumerate(powers) if base in found]
    power = min(powers[k][base] for k in having)
    inside = _factored([_without(terms[k], base, power) for k in having])
    outside = [terms[k] for k in range(len(terms)) if k not in having]
    product = sp.Mul(base**power, inside)
    return sp.Add(product, _factored(outside)) if outside else product


def _powers(term: Expr) -> dict[Expr, Expr]:
    """The factors of a term that are no numbers, each base with the sign of its power, and that power."""
    found: dict[Expr, Expr] = {}
    for factor in sp.Mul.make_args(term):
        base, power = _power(factor)
        if factor.free_symbols and power.is_Rational:
            found[base] = power
    return found


def _power(factor: Expr) -> tuple[Expr, Expr]:
    """A factor as a base and a positive power, where it has a rational one."""
    base, power = (factor, Integer(1)) if isinstance(factor, sp.exp) else factor.as_base_exp()
    return (1 / base, -power) if power.is_Rational and power < 0 else (base, power)


def _without(term: Expr, base: Expr, power: Expr) -> Expr:
    """The term divided by base**power; a quotient by SymPy would invert what may be 0, such as a mask."""
    factors = [(factor, _power(factor)) for factor in sp.Mul.make_args(term)]
    return sp.Mul(*(base ** (p - power) if b == base else factor for factor, (b, p) in factors))

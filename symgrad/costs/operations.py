"""Operations of a definition: those of its scalar body at every value of the loops, and those that combine them.

What counts as one operation of a body:

    arithmetic   + - * / and minus, |x|, sign, max and min, a comparison (with the choice that it makes), and/or/not
    calls        exp, log, tanh, sqrt, powers that are no small integers, sigmoid, ...: any other function

An integer power counts the products of repeated squaring. A part that occurs twice in a body is computed once, and
what is the same for every element (numbers, dimensions) before the loops, at no cost. A sum, product, maximum or
minimum takes one operation for each element that goes in, so that a matrix product has 2*m*n*k.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

import sympy as sp
from sympy import Expr, Integer, Symbol
from sympy.core.relational import Relational

from symgrad.index.definition import At, Definition

GREATEST_PRODUCT = 16  # integer powers up to this one are products
_ARITHMETIC = (sp.Abs, sp.sign, sp.Heaviside)


class Count(NamedTuple):
    """Numbers of operations, by kind."""

    arithmetic: Expr
    calls: Expr


class _Step(NamedTuple):
    """What one node of an expression costs, and the parts that it is computed from."""

    arithmetic: int
    calls: int
    parts: tuple[Expr, ...]


@lru_cache(maxsize=4096)
def definition_operations(d: Definition) -> Count:
    """The operations of a definition, as polynomials in its dimensions."""
    every = sp.Mul(*(n for _, n in d.loops))
    loops = frozenset(d.extents)
    combines = _combines(d)
    body, scaled = d.body, Integer(0)
    if combines and d.gathers and d.reduction == "sum":  # a constant factor is taken out of the sum
        scale, body = _split(d.body, loops)
        scaled = Integer(0) if scale == 1 else sp.Mul(*d.shape)
    arithmetic, calls = scalar_operations(body, loops)
    return Count(sp.expand((arithmetic + combines) * every + scaled), sp.expand(calls * every))


def _split(body: Expr, loops: frozenset[Symbol]) -> tuple[Expr, Expr]:
    """(the constant factor, the rest)."""
    factors = sp.Mul.make_args(body)
    constant = sp.Mul(*(f for f in factors if not _varies(f, loops)))
    return (Integer(1), body) if constant == body else (constant, body / constant)


def _combines(d: Definition) -> bool:
    """Whether several values of the loops meet in one element of the result."""
    told = {w for w in d.write if w in d.extents}
    for w in d.write:
        inside = w.free_symbols & d.extents.keys()
        if len(inside) == 1 and not w.has(At):
            told |= inside
    return len(told) < len(d.loops)


def scalar_operations(body: Expr, loops: Iterable[Symbol] = ()) -> tuple[int, int]:
    """(arithmetic operations, calls) of a scalar body at one value of its loops."""
    varying = frozenset(loops)
    arithmetic = calls = 0
    seen: set[Expr] = set()
    stack = [body]
    while stack:
        expr = stack.pop()
        if expr in seen or isinstance(expr, At | Symbol) or not _varies(expr, varying):
            continue
        seen.add(expr)
        step = _step(expr, varying)
        arithmetic, calls = arithmetic + step.arithmetic, calls + step.calls
        stack.extend(step.parts)
    return arithmetic, calls


def _varies(expr: Expr, loops: frozenset[Symbol]) -> bool:
    return bool(expr.has(At, *loops))


def _step(expr: Expr, loops: frozenset[Symbol]) -> _Step:
    if isinstance(expr, sp.Add):
        return _sum(expr, loops)
    if isinstance(expr, sp.Mul):
        return _product(expr, loops)
    if isinstance(expr, sp.Pow) and not isinstance(expr, sp.exp):
        return _power(*expr.as_base_exp())
    if isinstance(expr, sp.Max | sp.Min | sp.And | sp.Or):
        return _Step(_operands(expr.args, loops) - 1, 0, expr.args)
    if isinstance(expr, sp.Piecewise):
        return _Step(0, 0, tuple(part for pair in expr.args for part in pair.args))
    if isinstance(expr, (Relational, sp.Not, *_ARITHMETIC)):
        return _Step(1, 0, expr.args)
    return _Step(0, 1, expr.args)


def _operands(parts: Iterable[Expr], loops: frozenset[Symbol]) -> int:
    """How many operands a chain has: all constants are one."""
    varying = [_varies(part, loops) for part in parts]
    return sum(varying) + (not all(varying))


def _sum(expr: Expr, loops: frozenset[Symbol]) -> _Step:
    """Minus signs of single terms cost nothing: they are subtracted."""
    content, rest = expr.primitive()
    if content != 1:
        return _Step(1, 0, (rest,))
    negative = all(term.could_extract_minus_sign() for term in expr.args)
    terms = tuple(-term if term.could_extract_minus_sign() else term for term in expr.args)
    return _Step(_operands(terms, loops) - 1 + negative, 0, terms)


def _product(expr: Expr, loops: frozenset[Symbol]) -> _Step:
    """Factors with negative powers are divided by: a quotient of two factors is one operation."""
    constant: Expr = Integer(1)
    above: list[Expr] = []
    below: list[Expr] = []
    for factor in expr.args:
        content, bare = factor.primitive() if isinstance(factor, sp.Add) else (Integer(1), factor)
        constant *= content
        if not _varies(bare, loops):
            constant *= bare
        elif _is_divisor(bare):
            below.append(1 / bare)
        else:
            above.append(bare)
    factors = len(above) + len(below) + (constant != 1)
    reciprocal = bool(below) and not above and constant == 1
    return _Step(factors - 1 + reciprocal, 0, (*above, *below))


def _is_divisor(factor: Expr) -> bool:
    if not isinstance(factor, sp.Pow) or isinstance(factor, sp.exp):
        return False
    return bool(factor.exp.is_Rational and factor.exp.is_negative)


def _power(base: Expr, power: Expr) -> _Step:
    if power.is_Rational and power.is_negative:
        return _Step(1, 0, (base**-power,))
    if power.is_Integer and power <= GREATEST_PRODUCT:
        return _Step(int(power).bit_length() + int(power).bit_count() - 2, 0, (base,))
    return _Step(0, 1, (base, power))

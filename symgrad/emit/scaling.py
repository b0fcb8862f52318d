"""An optimizer's table in the form that takes the fewest passes over its vectors.

A part of the state that follows s' = a s + b e, a and b free of vectors, is kept as S = s / b: then S' = a S + e takes
a pass less. Factors are pulled out of products, quotients, roots and sums, as in sqrt(c v) + d =
sqrt(c) (sqrt(v) + d / sqrt(c)), so that all scalar parts meet in a few numbers, which are computed once a step. Nothing
here knows an optimizer's name.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import sympy as sp
from sympy import Expr, Symbol

from symgrad.optimizers import Optimizer, k, theta


@dataclass(frozen=True)
class Scaled:
    """The table's form.

    Attributes:
        steps: (vector, name of the row, body) in order; a vector that is neither theta nor a part of the state is a
            value on the way.
        scale: part of the state -> what it is to be multiplied by, as it is kept.
        scalars: the numbers in the bodies -> their values.
    """

    steps: tuple[tuple[Symbol, str, Expr], ...]
    scale: Mapping[Symbol, Expr]
    scalars: Mapping[Symbol, Expr]


def scaled(optimizer: Optimizer, passes: Callable[[Scaled], int]) -> Scaled:
    """The form with the fewest `passes` of those with some of the state kept scaled."""
    scale: dict[Symbol, Expr] = {s: sp.S.One for s in optimizer.updates if s != theta}
    best = _form(optimizer, scale)
    for state in list(scale):
        factor = _innovation_factor(optimizer, state)
        if factor == 1 or k in factor.free_symbols:
            continue
        found = _form(optimizer, scale | {state: factor})
        if passes(found) < passes(best):
            scale, best = scale | {state: factor}, found
    return best


def _vectors(optimizer: Optimizer) -> set[Symbol]:
    """All symbols of the table that are no numbers."""
    symbols = {s for expr in optimizer.updates.values() for s in expr.free_symbols} | set(optimizer.updates)
    return {s for s in symbols if s != k and str(s) not in optimizer.defaults}


def _innovation_factor(optimizer: Optimizer, state: Symbol) -> Expr:
    """The b of s' = a s + b e; 1 where the row has not this form."""
    vectors = _vectors(optimizer)
    terms = sp.Add.make_args(optimizer.updates[state])
    own = [term for term in terms if term.has(state)]
    if len(own) != 1 or (own[0] / state).free_symbols & vectors:
        return sp.S.One
    return _factored(sp.Add(*(term for term in terms if term not in own)), vectors)[0]


def _form(optimizer: Optimizer, scale: Mapping[Symbol, Expr]) -> Scaled:
    """The rows with the state scaled so, factors pulled out and numbers named."""
    vectors = _vectors(optimizer)
    kept = {s: factor * s for s, factor in scale.items()}
    steps: list[tuple[Symbol, str, Expr]] = []
    names: dict[Expr, Symbol] = {}
    for target, expr in optimizer.updates.items():
        body = sp.Integer(0)
        divisor = scale.get(target, sp.S.One)
        for rest, factor in _terms(expr.xreplace(kept), vectors).items():
            number, operand = _number(factor / divisor, names), _named(rest, vectors, names)
            if not rest.is_Symbol and not number.is_number and rest.free_symbols & vectors:
                value = Symbol(f"q{len(steps) + 1}", real=True)
                steps.append((value, str(target), operand))
                operand = value
            body += number * operand
        steps.append((target, str(target), body))
    return Scaled(tuple(steps), scale, {symbol: value for value, symbol in names.items()})


def _terms(expr: Expr, vectors: Collection[Symbol]) -> dict[Expr, Expr]:
    """The vector parts of a sum -> what each is multiplied by."""
    found: dict[Expr, Expr] = {}
    for term in sp.Add.make_args(expr):
        factor, rest = _factored(term, vectors)
        found[rest] = found.get(rest, sp.S.Zero) + factor
    return found


def _factored(expr: Expr, vectors: Collection[Symbol]) -> tuple[Expr, Expr]:
    """(c, r) with expr = c r and c free of vectors. What stands under a root is taken as positive."""
    if not expr.free_symbols & set(vectors):
        return expr, sp.S.One
    if isinstance(expr, sp.Mul):
        factors, rests = zip(*(_factored(a, vectors) for a in expr.args), strict=True)
        return sp.Mul(*factors), sp.Mul(*rests)
    if isinstance(expr, sp.Pow) and expr.exp.is_number:
        factor, rest = _factored(expr.base, vectors)
        return factor**expr.exp, rest**expr.exp
    if isinstance(expr, sp.Add):
        terms = [_factored(a, vectors) for a in expr.args]
        common = {factor for factor, rest in terms if rest != 1}
        if len(common) == 1:
            factor = common.pop()
            return factor, sp.Add(*(rest if rest != 1 else f / factor for f, rest in terms))
    return sp.S.One, expr


def _named(expr: Expr, vectors: Collection[Symbol], names: dict[Expr, Symbol]) -> Expr:
    """A body with its scalar parts named."""
    if not expr.free_symbols & set(vectors):
        return _number(expr, names)
    if isinstance(expr, sp.Add | sp.Mul):
        fixed = [a for a in expr.args if not a.free_symbols & set(vectors)]
        moving = [_named(a, vectors, names) for a in expr.args if a not in fixed]
        return expr.func(*moving, *([_number(expr.func(*fixed), names)] if fixed else []))
    if isinstance(expr, sp.Pow) and expr.exp.is_number:
        return _named(expr.base, vectors, names) ** expr.exp
    return expr.func(*(_named(a, vectors, names) for a in expr.args)) if expr.args else expr


def _number(value: Expr, names: dict[Expr, Symbol]) -> Expr:
    """The name of a scalar, with a minus before it where it stands for a subtraction."""
    if value.is_number and (abs(value) == 1 or value == 0):
        return value
    if value.could_extract_minus_sign() and not isinstance(value, sp.Add):
        return -_number(-value, names)
    return names.setdefault(value, value if value.is_Symbol else Symbol(f"h{len(names) + 1}", real=True))

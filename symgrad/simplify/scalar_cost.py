"""What an elementwise equation costs when it is computed by array functions."""

from __future__ import annotations

from functools import lru_cache

import sympy as sp
from sympy import Expr, Symbol

from symgrad.equations import Equation
from symgrad.index.definition import Definition
from symgrad.simplify.nested import cheapest_form
from symgrad.simplify.straight import Shape, straight_line, weight


def is_plain(e: Equation) -> bool:
    """Whether e computes floats element by element."""
    return e.solution is None and e.definition.elementwise and e.dtype == "float"


def passes(*equations: Equation) -> float:
    """How often the equations go through an array of the largest of their shapes; a transcendental counts for more."""
    each = max(_weight_of_pass(e.shape) for e in equations)
    return sum(_weight(e.definition) for e in equations) / each


@lru_cache(maxsize=4096)
def _weight(d: Definition) -> float:
    body, shapes = _over_symbols(d)
    return weight(straight_line(cheapest_form(body, shapes), shapes)[0])


def _weight_of_pass(shape: Shape) -> float:
    a = Symbol("a", real=True)
    return weight(straight_line(-a, {a: shape})[0])


def _over_symbols(d: Definition) -> tuple[Expr, dict[Symbol, Shape]]:
    """The body over symbols, and the shape in which each of them broadcasts to the result's."""

    def shape(loops: set[Symbol]) -> Shape:
        return tuple(n if w in loops else sp.Integer(1) for w, n in zip(d.write, d.shape, strict=True))

    change = {at: Symbol(f"a{k}", real=True) for k, at in enumerate(d.accesses)}
    shapes = {symbol: shape(at.free_symbols) for at, symbol in change.items()}
    body = d.body.xreplace(change)
    return body, shapes | {i: shape({i}) for i, _ in d.loops if i in body.free_symbols}

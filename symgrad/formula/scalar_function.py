"""A function of one variable as notation, its variable written z."""

from __future__ import annotations

import sympy as sp
from sympy import Expr, Symbol

from symgrad.formula.notation import Atom, Node
from symgrad.formula.scalar import Converter, Value
from symgrad.formula.symbols import Style


class _OneVariable(Converter):
    def leaf(self, expr: Expr) -> Value:
        return Value(Atom("z", "z"))

    def symbol(self, expr: Symbol) -> Node:
        return Style.of(str(expr)).atom()

    def term_key(self, expr: Expr) -> tuple[object, ...]:
        return (sp.default_sort_key(expr),)

    def factor_key(self, expr: Expr) -> tuple[object, ...]:
        return any(a.could_extract_minus_sign() for a in expr.args), sp.default_sort_key(expr)


def function_node(body: Expr) -> Node:
    """An expression over one access, as it stands behind f(z) = ."""
    return _OneVariable(lambda number: Atom("f", "f"), matrix=False).convert(body).node

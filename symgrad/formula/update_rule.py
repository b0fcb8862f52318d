"""An optimizer's table as notation, its hyperparameters by the letters of its paper."""

from __future__ import annotations

from collections.abc import Collection

import sympy as sp
from sympy import Expr, Symbol

from symgrad.formula.notation import Atom, Node
from symgrad.formula.scalar import Converter, Value
from symgrad.formula.symbols import Style
from symgrad.optimizers import Optimizer

_LETTERS = {
    "lr": Atom("η", r"\eta"),
    "beta1": Atom("β₁", r"\beta_{1}"),
    "beta2": Atom("β₂", r"\beta_{2}"),
    "eps": Atom("ε", r"\varepsilon"),
    "momentum": Atom("μ", r"\mu"),
    "weight_decay": Atom("λ", r"\lambda"),
    "velocity": Atom("v", "v"),
}


class _Update(Converter):
    """No tensor is read by index: every name is a symbol. Old values stand before the gradient, numbers before both."""

    def __init__(self, vectors: Collection[str]) -> None:
        super().__init__(lambda number: Atom("f", "f"), matrix=False)  # no table applies a function by letter
        self.vectors = frozenset(vectors)

    def leaf(self, expr: Expr) -> Value:
        raise TypeError(f"an update reads whole vectors, not {expr}")

    def symbol(self, expr: Symbol) -> Node:
        return letter(str(expr))

    def term_key(self, expr: Expr) -> tuple[object, ...]:
        names = {str(s) for s in expr.free_symbols}
        return not names & self.vectors, "g" in names, sp.default_sort_key(expr)

    def factor_key(self, expr: Expr) -> tuple[object, ...]:
        names = {str(s) for s in expr.free_symbols}
        return bool(names & self.vectors), expr.is_Add, sp.default_sort_key(expr)

    def convert(self, expr: Expr) -> Value:
        return Value(self.symbol(expr)) if isinstance(expr, Symbol) else super().convert(expr)


def letter(name: str) -> Atom:
    """The symbol of a vector or hyperparameter."""
    return _LETTERS.get(name, Style.of(name).atom())


def update_rule(optimizer: Optimizer) -> list[tuple[Atom, Node]]:
    """(symbol, its new value), in the order in which they are computed."""
    converter = _Update({"theta", "g", *optimizer.state})
    return [(letter(str(s)), converter.convert(value).node) for s, value in optimizer.updates.items()]

"""An expression in its shortest form, to print and to compute."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property

from sympy import Expr

from symgrad.algebra.closed import Closed
from symgrad.algebra.contractions import system_of
from symgrad.algebra.inverses import Facts
from symgrad.algebra.tidy import Given, Shape, softmax_recognised, tidied
from symgrad.calculus.display import Display, symbol
from symgrad.equations import System
from symgrad.formula.lines import Line
from symgrad.formula.notation import Atom
from symgrad.names import free_name
from symgrad.simplify import fold_constants, share_equal, stabilise


class Shortened:
    """See the module's docstring.

    Attributes:
        expr: the expression, in normal form.
        shape: of the tensor whose elements it gives.
        given: the tensors that were named on the way.
        history: (rule, expression, tensors named so far) after each rule that changed something.
    """

    def __init__(self, closed: Closed, raw: Expr, shape: Shape) -> None:
        self.closed, self.shape = closed, shape
        self.given: dict[str, Given] = {}
        self.history: list[tuple[str, Expr, dict[str, Given]]] = []
        self.expr = self._named(raw)

    def _named(self, raw: Expr) -> Expr:
        """The shortest form, softmaxes by their names."""
        facts, system = self.closed.facts, self.closed.system
        expr = self._tidied(self._recorded("values written in", raw), facts)
        while True:
            name = free_name("s" if "s" not in system else "p", {*system.leaves, *system.equations, *self.given})
            found = softmax_recognised(expr, facts, name, self.shape_of)
            if found is None:
                return expr
            replaced, self.given[name] = found
            given = self.given[name]
            facts = facts.with_normalised(name, given.axis, given.shape[given.axis])
            expr = self._tidied(self._recorded(f"softmax recognised: {name}", replaced), facts)

    def _tidied(self, expr: Expr, facts: Facts) -> Expr:
        rule, short = tidied(expr, facts)
        return self._recorded(rule, short) if short != expr else expr

    def _recorded(self, rule: str, expr: Expr) -> Expr:
        self.history.append((rule, expr, dict(self.given)))
        return expr

    def shape_of(self, name: str) -> Shape:
        """The shape of a tensor that the expression names."""
        return self.given[name].shape if name in self.given else tuple(self.closed.system.shape(name))

    @cached_property
    def display(self) -> Display:
        """Writes expressions in these symbols."""
        return Display(self.closed, {name: symbol(name) for name in self.given}, self.shape_of)

    def lines(self, left: Atom) -> list[Line]:
        """left = the expression, then what the names stand for."""
        return [self.display.line(left, self.expr, self.shape), *self._introduced()]

    def map_lines(self, plain: Atom, vec: Atom, rows: Shape, columns: Shape) -> list[Line]:
        """The same for a derivative of a tensor by a tensor; see Display.map_line."""
        return [self.display.map_line(plain, vec, self.expr, rows, columns), *self._introduced()]

    def _introduced(self) -> list[Line]:
        given = [self.display.line(symbol(n), g.expr, g.shape) for n, g in self.given.items()]
        return [*given, *self.display.unresolved(self.expr)]


def computed(
    results: Mapping[str, tuple[Expr, Sequence[Expr]]],
    closed: Closed,
    given: Mapping[str, Given],
    inputs: Iterable[str] | None = None,
) -> tuple[System, dict[str, str]]:
    """(the equations that compute the results, in a stable form; label -> tensor).

    Their leaves are `inputs`, by default those that are used.
    """
    system, names = system_of(results, closed.system, given)
    used = system.needed_for(names.values())
    kept = list(inputs) if inputs is not None else [name for name in system.leaves if name in used]
    system.leaves = {name: system.leaves[name] for name in kept}
    return share_equal(fold_constants(stabilise(system))), names

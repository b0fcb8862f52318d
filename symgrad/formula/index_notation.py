"""Index expressions as notation: x[n,i] for elements, Σₙ for reductions."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property

import sympy as sp
from sympy import Expr, Symbol

from symgrad.formula.indexed import Element, Reduction, Solved, name_indices, positions
from symgrad.formula.matrix import Setting
from symgrad.formula.notation import Atom, Node, reduced
from symgrad.formula.render_latex import latex
from symgrad.formula.render_text import text
from symgrad.formula.scalar import Converter, NoMatrixForm, Value
from symgrad.formula.solution_form import solved_atom
from symgrad.formula.symbols import Style


class IndexConverter(Converter):
    """Converts the value of one element; `heads` are the index symbols of that element."""

    def __init__(
        self,
        names: Mapping[Symbol, str],
        heads: Sequence[Symbol],
        atoms: Mapping[str, Atom],
        order: Mapping[str, int],
        setting: Setting,
    ) -> None:
        super().__init__(setting.function_letter, matrix=False)
        self.first_adjoint = setting.first_adjoint
        self.names, self.atoms, self.order = names, atoms, order
        self.place = {head: k for k, head in enumerate(heads)}

    def leaf(self, expr: Expr) -> Value:
        if isinstance(expr, Element):
            return Value(self.element(self.atoms[expr.name], expr.index, expr.view))
        if isinstance(expr, Solved):
            return Value(self.element(solved_atom(expr, self.atoms), expr.index))
        if not isinstance(expr, Reduction):
            raise NoMatrixForm
        body = self.convert(expr.body).node
        condition = None if expr.condition == sp.true else self.convert(expr.condition).node
        return Value(reduced(expr.kind, [self.names[i] for i, _ in expr.loops], body, condition))

    def element(self, atom: Atom, index: Sequence[Expr], view: Sequence[Expr] | None = None) -> Atom:
        """A symbol with its index."""
        if view is not None:
            atom = _reshaped(atom, view)
        if not index:
            return atom
        nodes = [self.convert(e).node for e in index]
        written = ",".join(close(text(node)) for node in nodes)
        below = ",".join(latex(node) for node in nodes)
        base = f"{{{atom.latex}}}" if "_" in atom.latex or "^" in atom.latex else atom.latex
        return Atom(f"{atom.text}[{written}]", f"{base}_{{{below}}}")

    def relation_side(self, expr: Expr) -> Value:
        """Index expressions are written close."""
        value = self.convert(expr)
        if expr.has(Element, Reduction) or not expr.free_symbols & self.names.keys():
            return value
        return Value(Atom(close(text(value.node)), latex(value.node)))

    def symbol(self, expr: Symbol) -> Node:
        if expr in self.names:
            return Atom(self.names[expr], self.names[expr])
        return Style.of(str(expr)).atom()

    def term_key(self, expr: Expr) -> tuple[object, ...]:
        return positions(expr, self.order), self._indices(expr)

    def factor_key(self, expr: Expr) -> tuple[object, ...]:
        first = min((self.place[s] for s in expr.free_symbols if s in self.place), default=len(self.place))
        places = positions(expr, self.order)
        backward = any(place >= self.first_adjoint for place in places)
        return expr.has(Reduction), first, not backward, places, self._indices(expr)

    def _indices(self, expr: Expr) -> _Indices:
        return _Indices(expr, self.names)


class _Indices:
    """What tells expressions apart that read the same tensors; written out only where a sort comes to it."""

    def __init__(self, expr: Expr, names: Mapping[Symbol, str]) -> None:
        self.expr, self.names = expr, names

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Indices) and self.text == other.text

    def __lt__(self, other: _Indices) -> bool:
        return self.text < other.text

    @cached_property
    def text(self) -> str:
        return str(self.expr.xreplace({s: Symbol(name) for s, name in self.names.items()}))


def close(index: str) -> str:
    """An index without the blanks of a formula: 2h+p."""
    for sign in "+−":
        index = index.replace(f" {sign} ", sign)
    return re.sub(r"(\d) (?=[a-z])", r"\1", index)


def _reshaped(atom: Atom, view: Sequence[Expr]) -> Atom:
    sizes = ", ".join(map(str, view))
    return Atom(f"reshape({atom.text}; {sizes})", rf"\operatorname{{reshape}}({atom.latex}; {sizes})")


def index_line(
    symbol: Atom,
    heads: Sequence[Symbol],
    shape: Sequence[Expr],
    body: Expr,
    atoms: Mapping[str, Atom],
    order: Mapping[str, int],
    setting: Setting,
    of: Callable[[Atom], Atom] = lambda atom: atom,
) -> tuple[Atom, Node]:
    """(`of` the symbol with its index, the value there)."""
    names, _ = name_indices(heads, shape, body, setting.letters)
    converter = IndexConverter(names, heads, atoms, order, setting)
    value = converter.convert(body).node
    return of(converter.element(symbol, heads)), value

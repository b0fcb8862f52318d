"""Closed expressions as lines to read: in matrix notation where that exists, else with indices."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import sympy as sp
from sympy import Expr

from symgrad.algebra.closed import INVERSE, Closed
from symgrad.algebra.delta import Delta
from symgrad.algebra.normal import heads
from symgrad.algebra.tidy import Shape, finished
from symgrad.calculus.vectorised import vectorised
from symgrad.calculus.words import matrix_notation
from symgrad.formula.index_notation import index_line
from symgrad.formula.indexed import Element
from symgrad.formula.letters import Letters
from symgrad.formula.lines import Line
from symgrad.formula.matrix import Setting
from symgrad.formula.notation import Atom, Call, Inverse, Node, Norm
from symgrad.formula.render_latex import latex
from symgrad.formula.render_text import text
from symgrad.formula.scalar import NoMatrixForm
from symgrad.formula.symbols import Style, subscript


_FORMS: dict[str, Callable[..., Node]] = {
    INVERSE: Inverse,
    "nuclear": lambda matrix: Norm(matrix, "*"),
    "logdet": lambda matrix: Call("log", r"\log", (Call("|", "|", (Call("det", r"\det", (matrix,)),)),)),
    "eigenvalues": lambda matrix: Call("λ", r"\lambda", (matrix,)),
    "cholesky": lambda matrix: Call("chol", r"\operatorname{chol}", (matrix,)),
}
_SPELLED = {"lam": "lambda"}  # a word that Python keeps


class Display:
    """Writes expressions closed in one system.

    Attributes:
        symbols: tensors that were given a name on the way -> their symbol.
    """

    def __init__(self, closed: Closed, symbols: Mapping[str, Atom]) -> None:
        self.closed, self.symbols = closed, dict(symbols)

    def line(self, left: Atom, expr: Expr, shape: Sequence[Expr]) -> Line:
        """left = expr."""
        shown = finished(expr)
        try:
            return Line(left, self.node(shown, len(shape)), tuple(shape))
        except NoMatrixForm:
            return self._indexed(left, shown, shape)

    def map_line(self, plain: Atom, vec: Atom, expr: Expr, rows: Shape, columns: Shape) -> Line:
        """The derivative of a tensor by a tensor: `plain` = a matrix, `vec` = a matrix for vec, or with indices."""
        shown, shape = finished(expr), (*rows, *columns)
        if len(rows) <= 1 and len(columns) <= 1:
            return self.line(plain, expr, shape)
        try:
            return Line(vec, vectorised(shown, rows, columns, self.node))
        except NoMatrixForm:
            return self._indexed(plain, shown, shape)

    def node(self, expr: Expr, rank: int) -> Node:
        """The expression in matrix notation. Raises NoMatrixForm."""
        names = {e.name: self.name(e.name) for e in expr.atoms(Element)}
        return matrix_notation(expr, heads(rank), names, self.closed.facts.symmetric)

    def name(self, tensor: str) -> Node:
        """How a tensor is written: its symbol, or what it is of other tensors, as A⁻¹ is of A."""
        if tensor in self.symbols:
            return self.symbols[tensor]
        if tensor not in self.closed.operands:
            return symbol(tensor)
        call = self.closed.system.equations[tensor].definition.call  # type: ignore[attr-defined]
        arguments = [self._argument(operand) for operand in self.closed.operands[tensor]]
        if call in _FORMS:
            return _FORMS[call](*arguments)
        return Call(call, rf"\operatorname{{{call}}}", tuple(arguments))

    def _argument(self, operand: Expr) -> Node:
        rank = len(operand.free_symbols & set(heads(3)))
        return self.node(finished(operand), max(rank, 2))

    def _indexed(self, left: Atom, expr: Expr, shape: Sequence[Expr]) -> Line:
        names = sorted({e.name for e in expr.atoms(Element)})
        atoms = {name: _atom(self.name(name)) for name in names}
        leaves = self.closed.system.leaves.values()
        reserved = {atom.text for atom in atoms.values()} | {str(s) for x in leaves for n in x.shape for s in n.free_symbols}
        setting = Setting(Letters(reserved), False, lambda number: left, len(names))
        order = {name: place for place, name in enumerate(names)}
        body = expr.replace(Delta, lambda a, b: sp.Piecewise((1, sp.Eq(a, b, evaluate=False)), (0, True)))
        return Line(*index_line(left, heads(len(shape)), shape, body, atoms, order, setting), tuple(shape))


def symbol(name: str) -> Atom:
    """A variable: Greek letters as such, a number at the end below the line."""
    style = Style.of(_SPELLED.get(name, name))
    plain = Style(style.base, style.below)
    if not style.number or style.below:
        return Atom(plain.text + subscript(style.number) * bool(style.number), plain.latex)
    return Atom(plain.text + subscript(style.number), f"{plain.latex}_{{{style.number}}}")


def _atom(node: Node) -> Atom:
    """A node as one symbol, for an index behind it."""
    return node if isinstance(node, Atom) else Atom(f"({text(node)})", rf"\left({latex(node)}\right)")

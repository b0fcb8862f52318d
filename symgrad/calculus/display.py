"""Closed expressions as lines to read: in matrix notation where that exists, else with indices."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import sympy as sp
from sympy import Expr

from symgrad.algebra.closed import INVERSE, Closed
from symgrad.algebra.delta import Delta
from symgrad.algebra.naming import heads, loops_apart
from symgrad.algebra.ranges import reads_whole, with_parts_marked
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
        shape_of: the shape of a tensor that expressions name.
        indexed: operands of matrix functions that were written with a symbol, for want of matrix notation.
    """

    def __init__(self, closed: Closed, symbols: Mapping[str, Atom], shape_of: Callable[[str], Shape]) -> None:
        self.closed, self.symbols, self.shape_of = closed, dict(symbols), shape_of
        self.indexed: dict[str, Expr] = {}

    def line(self, left: Atom, expr: Expr, shape: Sequence[Expr]) -> Line:
        """left = expr."""
        shown = finished(expr)
        try:
            return Line(left, self.node(shown, shape), tuple(shape))
        except NoMatrixForm:
            return self._indexed(left, shown, shape)

    def map_line(self, plain: Atom, vec: Atom, expr: Expr, rows: Shape, columns: Shape) -> Line:
        """The derivative of a tensor by a tensor: `plain` = a matrix, `vec` = a matrix for vec, or with indices."""
        shown, shape = finished(expr), (*rows, *columns)
        if not rows or not columns or len(rows) == 1 == len(columns):
            return self.line(plain, expr, shape)
        try:
            return Line(vec, vectorised(shown, rows, columns, self.node))
        except NoMatrixForm:
            return self._indexed(plain, shown, shape)

    def node(self, expr: Expr, shape: Sequence[Expr]) -> Node:
        """The expression in matrix notation. Raises NoMatrixForm."""
        if not reads_whole(expr, dict(zip(heads(len(shape)), shape, strict=True)), self.shape_of):
            raise NoMatrixForm
        names = {e.name: self.name(e.name) for e in expr.atoms(Element)}
        return matrix_notation(expr, heads(len(shape)), names, self.closed.facts.symmetric)

    def unresolved(self, expr: Expr) -> list[Line]:
        """The lines of tensors that the expression reads through a reshape, or that have no matrix notation."""
        names = sorted({e.name for e in expr.atoms(Element)} - self.symbols.keys() - self.closed.operands.keys())
        left = [name for name in names if name in self.closed.system.equations]
        lines = [self.line(symbol(name), self.closed[name], self.closed.system.shape(name)) for name in left]
        for name, operand in list(self.indexed.items()):
            lines.append(self.line(symbol(name), operand, self.closed.system.shape(name)))
        return lines

    def name(self, tensor: str) -> Node:
        """How a tensor is written: its symbol, or what it is of other tensors, as A⁻¹ is of A."""
        if tensor in self.symbols:
            return self.symbols[tensor]
        if tensor not in self.closed.operands:
            return symbol(tensor)
        e = self.closed.system.equations[tensor]
        call = e.definition.call  # type: ignore[attr-defined]  # tensors with operands are Solutions
        arguments = [self._argument(*pair) for pair in zip(e.operands, self.closed.operands[tensor], strict=False)]
        if call in _FORMS:
            return _FORMS[call](*arguments)
        return Call(call, rf"\operatorname{{{call}}}", tuple(arguments))

    def _argument(self, name: str, operand: Expr) -> Node:
        """The operand in matrix notation, or a symbol that has a line of its own."""
        try:
            return self.node(finished(operand), self.closed.system.shape(name))
        except NoMatrixForm:
            self.indexed[name] = operand
            return symbol(name)

    def _indexed(self, left: Atom, expr: Expr, shape: Sequence[Expr]) -> Line:
        names = sorted({e.name for e in expr.atoms(Element)})
        atoms = {name: _atom(self.name(name)) for name in names}
        leaves = self.closed.system.leaves.values()
        dimensions = {str(s) for leaf in leaves for n in leaf.shape for s in n.free_symbols}
        reserved = {atom.text for atom in atoms.values()} | dimensions
        setting = Setting(Letters(reserved), False, lambda number: left, len(names))
        order = {name: place for place, name in enumerate(names)}
        ranged = loops_apart(with_parts_marked(expr, self.shape_of))
        body = ranged.replace(Delta, lambda a, b: sp.Piecewise((1, sp.Eq(a, b, evaluate=False)), (0, True)))
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

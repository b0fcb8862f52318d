"""One equation of a derivation as a line: in matrix notation where that exists, else with indices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from sympy import Expr

from symgrad.formula.index_notation import index_line
from symgrad.formula.mathml_symbols import operator
from symgrad.formula.notation import Atom, Call, Node, Sum
from symgrad.formula.plan import Plan
from symgrad.formula.render_latex import latex
from symgrad.formula.render_mathml import elements, signed
from symgrad.formula.render_text import text
from symgrad.formula.scalar_function import function_node
from symgrad.markup import element, xml

WIDTH = 100


@dataclass(frozen=True)
class Line:
    """left = right, and where it holds more than one equation, the others."""

    left: Node
    right: Node
    shape: tuple[Expr, ...] | None = None
    more: tuple[tuple[Node, Node], ...] = ()

    @property
    def text(self) -> str:
        return ",  ".join(f"{text(left)} = {text(right)}" for left, right in self._pairs)

    @property
    def latex(self) -> str:
        """With the alignment mark of an `aligned` environment."""
        first, *rest = (f"{latex(left)} &= {latex(right)}" for left, right in self._pairs)
        return r", \quad ".join([first, *(part.replace("&=", "=") for part in rest)])

    @property
    def mathml_rows(self) -> list[Element]:
        """Rows of a table with the left side, the equals sign, and the right side; a long sum takes several."""
        first, *rest = self._right_parts()
        rows = [_table_row(elements(self.left), "=", first), *(_table_row([], "", part) for part in rest)]
        return rows + [_table_row(elements(left), "=", elements(right)) for left, right in self.more]

    @property
    def mathml(self) -> str:
        """A `math` element that stands by itself."""
        return mathml_block([self])

    def _right_parts(self) -> list[list[Element]]:
        """The right side, in parts of at most a line where it is a long sum."""
        if len(self.text) <= WIDTH or not isinstance(self.right, Sum):
            return [elements(self.right)]
        parts: list[list[Element]] = []
        room = 0
        for k, term in enumerate(self.right.terms):
            size = len(_term(term[1])) + 3
            if k == 0 or size > room:
                parts.append([])
                room = WIDTH - len(text(self.left)) - 3
            parts[-1] += signed(term, first=k == 0)
            room -= size
        return parts

    @property
    def _pairs(self) -> tuple[tuple[Node, Node], ...]:
        return ((self.left, self.right), *self.more)

    def wrapped(self, indent: str) -> list[str]:
        """The text, a long sum broken before its terms."""
        if len(self.text) <= WIDTH or self.more or not isinstance(self.right, Sum):
            return [indent + self.text]
        head = f"{text(self.left)} = "
        lines, current = [], indent + head
        margin = " " * (len(indent + head) - 2)
        for k, term in enumerate(self.right.terms):
            sign = ("−" if term[0] else "") if k == 0 else ("− " if term[0] else "+ ")
            body = _term(term[1])
            if k and len(current) + len(sign + body) > WIDTH:
                lines.append(current.rstrip())
                current = margin
            current += sign + body + " "
        return [*lines, current.rstrip()]


def _term(node: Node) -> str:
    """A term as it stands in a sum."""
    return text(Sum(((True, node),)))[1:]


class Lines:
    """Makes the lines of a plan."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan

    def matrix(self, name: str) -> list[Line]:
        """The line of an equation; an adjoint at the loss stage says first what it is."""
        plan, symbol = self.plan, self.plan.symbols[name]
        form, shape = plan.forms[name], plan.system.shape(name)
        if form is None or len(form.axes) != len(shape):
            return [*self._head(name, symbol), self._indexed(name)]
        tensor = self._boundary(name)
        left = symbol if tensor is None else self.partial(plan.symbols[tensor])
        return [*self._head(name, symbol), Line(left, form.node, shape)]

    def indexed(self, name: str) -> list[Line]:
        """The same in index notation."""
        line = self._indexed(name)
        if self._boundary(name) is None:
            return [line]
        return [Line(self._indexed(name, adjoint=True).left, line.left, self.plan.system.shape(name)), line]

    def _boundary(self, name: str) -> str | None:
        """The tensor at the loss stage whose adjoint this is."""
        tensor = self.plan.symbols.adjoints.get(name)
        return tensor if tensor in self.plan.boundary else None

    def _head(self, name: str, symbol: Atom) -> list[Line]:
        tensor = self._boundary(name)
        return (
            []
            if tensor is None
            else [Line(symbol, self.partial(self.plan.symbols[tensor]), self.plan.system.shape(name))]
        )

    def _indexed(self, name: str, adjoint: bool = False) -> Line:
        plan = self.plan
        tensor = None if adjoint else self._boundary(name)
        heads, body = plan.template(name)
        shape = plan.system.shape(name)
        left, right = index_line(
            plan.symbols[name if tensor is None else tensor],
            heads,
            shape,
            body,
            plan.symbols.atoms,
            plan.order,
            plan.setting,
            (lambda atom: atom) if tensor is None else self.partial,
        )
        return Line(left, right, None if tensor is not None else shape)

    def partial(self, atom: Atom) -> Atom:
        """∂L/∂z."""
        loss = self.plan.symbols.loss
        return Atom(f"∂{loss.text}/∂{atom.text}", rf"\frac{{\partial {loss.latex}}}{{\partial {atom.latex}}}", True)

    def function(self, number: int) -> Line:
        """f(z) = ..., f'(z) = ..."""
        functions = self.plan.functions
        name, z = functions.letter(number), Atom("z", "z")
        left = Call(name.text, name.latex, (z,))
        slope = Call(name.text + "'", name.latex + "'", (z,))
        body, derivative = (function_node(e) for e in (functions.bodies[number], functions.derivative(number)))
        return Line(left, body, None, ((slope, derivative),))


def latex_block(lines: Sequence[Line]) -> str:
    """Lines one below the other, their equals signs aligned."""
    if len(lines) == 1:
        return lines[0].latex.replace("&=", "=")
    body = " \\\\\n".join("  " + line.latex for line in lines)
    return "\\begin{aligned}\n" + body + "\n\\end{aligned}"


def mathml_block(lines: Sequence[Line]) -> str:
    """A `math` element with the lines one below the other, their equals signs aligned."""
    rows = [row for line in lines for row in line.mathml_rows]
    table = element("mtable", {"class": "lines", "columnalign": "right center left", "displaystyle": "true"}, *rows)
    return xml(element("math", {"display": "block"}, table))


def _table_row(left: Sequence[Element], sign: str, right: Sequence[Element]) -> Element:
    cells = (left, [operator(sign, "infix")] if sign else [], right)
    return element("mtr", {}, *(element("mtd", {}, *cell) for cell in cells))

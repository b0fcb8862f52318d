"""One line per equation for comments in code: the formula in the most readable notation that fits."""

from __future__ import annotations

from symgrad.equations import Equation, System
from symgrad.formula.index_notation import index_line
from symgrad.formula.indexed import Template, element, with_elements
from symgrad.formula.letters import Letters
from symgrad.formula.matrix import Form, Operand, Setting, form
from symgrad.formula.notation import Atom
from symgrad.formula.render_text import text
from symgrad.formula.scalar import NoMatrixForm
from symgrad.formula.survey import dimensions, places, vectors_are_rows
from symgrad.formula.symbols import Symbols

LONGEST = 100


class Comments:
    """The comments of a system's equations, any number of them."""

    def __init__(self, system: System) -> None:
        self.system = system
        gradients = set(system.gradients.values())
        forward = {e.name for e in system if e.adjoint_of is None and e.name not in gradients}
        self.symbols = Symbols(system, forward, {*forward, *system.leaves}, system.loss != "loss")
        self.order = places(system, forward)
        computed_first = {name: k - len(self.order) for name, k in self.order.items() if name in forward}
        self.order |= computed_first  # matmul1 + b1, as networks are written
        letters = Letters({*self.symbols.texts, *dimensions(system)})
        rows = vectors_are_rows(system, forward)
        # no equation of a system applies a function by letter: only a Plan introduces them
        self.setting = Setting(letters, rows, lambda number: Atom("f", "f"), len(system.leaves) + len(forward))

    def __call__(self, name: str) -> str:
        """At most 100 characters on one line."""
        e = self.system.equations[name]
        written = self._matrix(e) or self._indexed(e)
        written = written.replace("\n", " ")
        return written if len(written) <= LONGEST else written[: LONGEST - 1].rstrip() + "…"

    def _matrix(self, e: Equation) -> str | None:
        try:
            made = form(e.definition, [self._operand(name) for name in e.operands], self.setting)
        except NoMatrixForm:
            return None
        whole = len(made.axes) == len(e.shape)
        return f"{self.symbols[e.name].text} = {text(made.node)}" if whole else None

    def _operand(self, name: str) -> Operand:
        shape = self.system.shape(name)
        return Operand(Form(self.symbols[name], tuple(range(len(shape)))), shape, (self.order[name],), True)

    def _indexed(self, e: Equation) -> str:
        heads, body = _template(e)
        left, right = index_line(
            self.symbols[e.name],
            heads,
            e.shape,
            body,
            self.symbols.atoms,
            self.order,
            self.setting,
        )
        return f"{text(left)} = {text(right)}"


def _template(e: Equation) -> Template:
    return with_elements(e.definition, e.operands, lambda name, at: element([name] * (at.operand + 1), at))


def statement_comment(system: System, equation_name: str) -> str:
    """The formula that an equation computes, on one line of at most 100 characters.

    `Comments(system)` does the same for many equations of one system, without starting anew for each.
    """
    return Comments(system)(equation_name)

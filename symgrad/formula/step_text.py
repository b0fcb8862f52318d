"""What is said of a chain-rule step: the rule over whole tensors, the derivative of one element by another, and
which index equations were solved.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import sympy as sp
from sympy import Expr, Symbol

from symgrad.derive import Contribution
from symgrad.derive.solve import Solution, solutions
from symgrad.equations import Equation
from symgrad.formula.index_notation import IndexConverter, close
from symgrad.formula.indexed import Reduction, name_indices, with_elements
from symgrad.formula.lines import Line, Lines
from symgrad.formula.notation import Atom, total
from symgrad.formula.render_latex import latex
from symgrad.formula.render_text import text
from symgrad.formula.step_plan import StepPlan
from symgrad.index.definition import At, Definition, index_symbol


def chain_line(plan: StepPlan, tensor: str, ends: Sequence[str]) -> Line:
    """∂L/∂x = ∂L/∂y · ∂y/∂x, a sum over the tensors y that x comes through."""
    partial = Lines(plan).partial
    x = plan.symbols[tensor]
    terms = [_link(partial(plan.symbols[end]), plan.symbols[end], x) for end in ends]
    return Line(partial(x), total(terms), plan.system.shape(tensor))


def _link(outer: Atom, y: Atom, x: Atom) -> Atom:
    inner = rf"\frac{{\partial {y.latex}}}{{\partial {x.latex}}}"
    return Atom(f"{outer.text} · ∂{y.text}/∂{x.text}", rf"{outer.latex} \cdot {inner}")


class Read:
    """One contribution in letters: an element that is read, what reads it, and the derivative."""

    def __init__(self, plan: StepPlan, part: Contribution) -> None:
        self.plan, self.part = plan, part
        loops = part.scattered.loops
        self.sizes = tuple(n for _, n in loops)
        self.heads = tuple(i for i, _ in loops)

    def derivative(self, x: Atom, y: Atom) -> str:
        """∂y[n,j]/∂x[n,i] = ..."""
        write, index = self.part.scattered.write, self.part.cotangent.index
        one = self.part.scattered.body.xreplace({self.part.cotangent: sp.Integer(1)})
        parts, converter = self._in_letters(one, *index, *write)
        value, above, below = parts[0], parts[1 : 1 + len(index)], parts[1 + len(index) :]
        top, bottom = converter.element(y, above), converter.element(x, below)
        return f"∂{top.text}/∂{bottom.text} = {text(converter.convert(value).node)}"

    def _in_letters(self, *parts: Expr) -> tuple[Sequence[Expr], IndexConverter]:
        loops = self.part.scattered.loops
        each = Definition(loops, self.sizes, self.heads, "sum", sp.Tuple(*parts))
        heads, found = with_elements(each, self.part.operands, self.plan.value())
        names, _ = name_indices(heads, self.sizes, found, self.plan.setting.letters)
        plan = self.plan
        return tuple(found), IndexConverter(names, heads, plan.symbols.atoms, plan.order, plan.setting)


class Solved:
    """The index equations of a contribution whose solutions are no mere change of name."""

    def __init__(self, plan: StepPlan, part: Contribution, scattered: Equation) -> None:
        self.plan, self.part, self.scattered = plan, part, scattered

    @cached_property
    def _found(self) -> tuple[Definition, tuple[Solution, ...]]:
        shape = tuple(self.plan.system.shape(self.part.operands[-1]))
        return solutions(self.part.scattered, self.part.cotangent, shape)

    @property
    def telling(self) -> list[Solution]:
        """Those that a reader should see."""
        return [s for s in self._found[1] if s.index != s.loop]

    @property
    def open(self) -> list[Expr]:
        """The indices that are affine, but have no solution in whole numbers for every element."""
        return [w for w in self._found[0].write if not w.is_Symbol and not w.is_Integer and not w.has(At)]

    @property
    def by_data(self) -> bool:
        """Whether an index is read from data."""
        return any(w.has(At) for w in self._found[0].write)

    def lines(self) -> list[Line]:
        """Each as h+p = s, p = s−h, in the letters of the unsolved form."""
        converter = IndexConverter(self._letters(), (), {}, {}, self.plan.setting)

        def written(expr: Expr) -> Atom:
            node = converter.convert(expr).node
            return Atom(close(text(node)), latex(node))

        return [
            Line(written(s.index), written(s.target), None, ((written(s.loop), written(s.value)),))
            for s in self.telling
        ]

    def _letters(self) -> dict[Symbol, str]:
        """A letter for each loop and each target; the template names its symbols after them."""
        heads, body = self.plan.template(self.scattered.name)
        names, _ = name_indices(heads, self.scattered.shape, body, self.plan.setting.letters)
        bound = body.loops if isinstance(body, Reduction) else ()
        symbols = [*heads, *(i for i, _ in bound)]
        by_name = {symbol.name: names[symbol] for symbol in symbols}
        index = {i: by_name[str(i)] for i, _ in self.scattered.definition.loops if str(i) in by_name}
        for axis, w in enumerate(self.scattered.definition.write):
            index[index_symbol(f"s{axis}")] = by_name[f"s{axis}"]
            if w.is_Symbol:
                index[w] = by_name[f"s{axis}"]
        return index

"""Hessians that know their structure: formula, and NumPy code that multiplies and solves without forming them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property

from symgrad.algebra.closed import Closed, jacobian_of
from symgrad.calculus.derivative import Declarations, require_scalar
from symgrad.calculus.display import symbol
from symgrad.calculus.forward import forward_of, symmetric_variables
from symgrad.calculus.result import Result
from symgrad.calculus.shortened import Shortened
from symgrad.calculus.structure import name_of, pieces
from symgrad.calculus.structured import Block, Differentiated, MapProgram, emit_map
from symgrad.derive import derive_system
from symgrad.errors import DeriveError, nearest
from symgrad.expression import Problem, read_expression
from symgrad.formula.lines import Line
from symgrad.formula.notation import Atom
from symgrad.names import free_name


def hessian(expression: str, wrt: str | Sequence[str] | None = None, declare: Declarations = None) -> HessianFormula:
    """The Hessian of a scalar expression by one variable, or by several, in blocks.

    Called with arrays, the result gives an object with `matvec`, `solve` and `todense`.

    Raises FormulaError, ShapeError and DeriveError as `gradient` does.
    """
    problem = read_expression(expression, declare)
    require_scalar(problem)
    return HessianFormula(problem, _variables(problem, wrt))


def _variables(problem: Problem, wrt: str | Sequence[str] | None) -> tuple[str, ...]:
    known = list(problem.variables)
    if not known:
        raise DeriveError("the expression has no variables", hint='name one in it: "norm2(x)"')
    if wrt is not None and not isinstance(wrt, str | list | tuple):
        raise DeriveError(f"wrt is a name or a list of names, not {type(wrt).__name__}", hint=f"wrt={known[0]!r}")
    names = [wrt] if isinstance(wrt, str) else known if wrt is None else list(wrt)
    if not names or (wrt is None and len(names) > 1):
        raise DeriveError("name the variable to differentiate by", hint=f"wrt= one of {', '.join(known)}, or several")
    for name in names:
        if name not in known:
            hint = nearest(str(name), known) or f"wrt= one of {', '.join(known)}"
            raise DeriveError(f"there is no variable {name!r}", hint=hint)
    return tuple(dict.fromkeys(names))


class HessianFormula(Result):
    """The Hessian of an expression. Printed: its formula. Called with arrays: the Hessian there.

    Attributes:
        problem: the expression.
        names: the variables.
    """

    def __init__(self, problem: Problem, names: tuple[str, ...]) -> None:
        self.problem, self.names = problem, names
        system = derive_system(forward_of(problem), of=problem.output, wrt=list(names), zeros=True)
        self._first, self._slopes = Closed(system, symmetric=symmetric_variables(problem)), dict(system.gradients)
        self.blocks = {(b.rows, b.columns): b for column in names for b in self._column(column)}

    def _column(self, column: str) -> Iterator[Block]:
        """The blocks whose columns are this variable's: by symmetry, the derivatives of its gradient by the others."""
        first = self._first.system
        seed = free_name("seed", first)
        second = derive_system(first, of=first.gradients[column], wrt=list(self.names), seed=seed, zeros=True)
        closed = Closed(second, symmetric=symmetric_variables(self.problem), whole=seed)
        shape = second.shape(column)
        for row in self.names:
            own = second.shape(row)
            raw = jacobian_of(closed, second.gradients[row], seed)
            short = Shortened(closed, raw, (*own, *shape))
            structure = pieces(short.expr, tuple(own), tuple(shape))
            yield Block(row, column, short, structure, (tuple(own), tuple(shape)))

    @property
    def structure(self) -> str:
        """In words: diagonal, low rank, Kronecker, blocks, dense, and sums of them."""
        if len(self.names) == 1:
            return name_of(self.blocks[self.names[0], self.names[0]].structure)
        return "; ".join(f"{p}, {q}: {name_of(b.structure)}" for (p, q), b in self.blocks.items())

    @property
    def lines(self) -> list[Line]:
        """One for each block, then those of the symbols that they introduce."""
        own, introduced = self._lines()
        return [*own, *introduced]

    def _lines(self) -> tuple[list[Line], list[Line]]:
        """(the blocks' lines, those of the symbols in them)."""
        own: list[Line] = []
        introduced: dict[str, Line] = {}
        for block in self.blocks.values():
            first, *rest = block.short.map_lines(_left(block, "{}"), _left(block, "vec({})"), *block.shapes)
            own.append(first)
            introduced |= {line.text: line for line in rest}
        return own, list(introduced.values())

    @property
    def text(self) -> str:
        """The formulas, one below the other, and what their symbols stand for."""
        own, introduced = self._lines()
        written = [part for line in own for part in line.wrapped("")]
        if introduced:
            written += ["where", *(part for line in introduced for part in line.wrapped("  "))]
        return "\n".join(written)

    def __str__(self) -> str:
        return f"{self.text}\nstructure: {self.structure}"

    def __repr__(self) -> str:
        return f"<hessian: {self.structure}>"

    # the code

    @cached_property
    def program(self) -> MapProgram:
        """The emitted function `hessian` of every variable of the expression."""
        title = [self.text, "", f"Structure: {self.structure}."]
        places = {name: k for k, name in enumerate(self.names)}
        upper = [block for (p, q), block in self.blocks.items() if places[p] <= places[q]]
        return emit_map("hessian", self.problem, title, upper, self._gradients())

    def _gradients(self) -> Differentiated:
        first = self._first
        short = {n: Shortened(first, first[g], first.system.shape(n)) for n, g in self._slopes.items()}
        return Differentiated("gradient", short)


def _left(block: Block, form: str) -> Atom:
    """∂²f/∂p∂q, the variables in a form: as they are, or vec of them."""
    p, q = symbol(block.rows), symbol(block.columns)
    texts = [form.format(v.text) for v in (p, q)]
    latexes = [form.format(v.latex).replace("vec", r"\operatorname{vec}") for v in (p, q)]
    if block.rows == block.columns:
        return Atom(f"∂²f/∂{texts[0]}²", rf"\frac{{\partial^2 f}}{{\partial {latexes[0]}^2}}")
    return Atom(
        f"∂²f/∂{texts[0]}∂{texts[1]}", rf"\frac{{\partial^2 f}}{{\partial {latexes[0]} \, \partial {latexes[1]}}}"
    )

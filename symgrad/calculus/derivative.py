"""Derivatives of one expression: formula, steps and NumPy function.

    gradient("norm2(A @ x - b)**2", wrt="x")      2 Aᵀ (A x − b)

An expression is read into a network, the network is derived by the one routine that derives every network, and
the outcome is closed, brought to its shortest form, and printed and emitted from there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from sympy import Dummy, Expr

from symgrad.algebra.closed import Closed, jacobian_of
from symgrad.algebra.naming import head, heads
from symgrad.calculus.display import symbol
from symgrad.calculus.forward import forward_of, symmetric_variables
from symgrad.calculus.result import Result
from symgrad.calculus.shortened import Shortened, computed
from symgrad.calculus.steps import CalculusSteps, gradient_steps
from symgrad.calculus.structure import name_of, pieces
from symgrad.calculus.structured import Block, Differentiated, MapProgram, emit_map
from symgrad.derive import derive_system
from symgrad.emit.function import Check, FunctionProgram, emit_function
from symgrad.equations import System
from symgrad.errors import DeriveError, nearest
from symgrad.expression import Declaration, Problem, read_expression
from symgrad.formula.indexed import Element, Reduction
from symgrad.formula.lines import Line
from symgrad.formula.notation import Atom
from symgrad.names import free_name

Declarations = Mapping[str, str | Declaration] | None


def gradient(expression: str, wrt: str | None = None, declare: Declarations = None) -> Derivative:
    """The gradient of a scalar expression by one of its variables, in the variable's shape.

    Args:
        expression: NumPy syntax, such as "sum(log(1 + exp(-y * (X @ w))))".
        wrt: the variable; may be left out if there is only one.
        declare: variable -> "scalar", "vector(n)", "matrix(m, n)", "symmetric(n, n)", "spd(n, n)"; what is not
            declared is inferred.

    Raises:
        FormulaError: the text is no expression.
        ShapeError: its shapes do not fit, or it is not a scalar.
        DeriveError: the variable does not occur, or a function has no derivative.
    """
    problem = read_expression(expression, declare)
    return _gradient(problem, _variable(problem, wrt))


def jacobian(expression: str, wrt: str | None = None, declare: Declarations = None) -> Derivative:
    """The Jacobian J[..., r...] = ∂ value[...] / ∂ variable[r...] of an expression of any shape.

    Arguments and errors as for `gradient`.
    """
    problem = read_expression(expression, declare)
    name = _variable(problem, wrt)
    forward = forward_of(problem)
    seed = free_name("seed", forward)
    system = derive_system(forward, of=problem.output, wrt=[name], seed=seed, zeros=True)
    closed = Closed(system, symmetric=symmetric_variables(problem), whole=seed)
    shape, rows = forward.shape(name), forward.shape(problem.output)
    turned = jacobian_of(closed, system.gradients[name], seed)
    return Derivative(problem, (name,), "jacobian", closed, _axes_first(turned, len(shape), len(rows)), (*rows, *shape))


def hvp(expression: str, wrt: str | None = None, declare: Declarations = None, vector: str = "v") -> Derivative:
    """The Hessian of a scalar expression times a tensor `vector` of the variable's shape.

    Arguments and errors as for `gradient`.
    """
    problem = read_expression(expression, declare)
    name = _variable(problem, wrt)
    require_scalar(problem)
    if not isinstance(vector, str) or vector in problem.variables:
        raise DeriveError(f"the vector cannot be called {vector!r}", hint='a name that is not taken: vector="u"')
    first = derive_system(forward_of(problem), of=problem.output, wrt=[name], zeros=True)
    second = derive_system(first, of=first.gradients[name], wrt=[name], seed=vector, zeros=True)
    closed = Closed(second, symmetric=symmetric_variables(problem), whole=vector)
    product, shape = closed[second.gradients[name]], second.shape(name)
    along = closed[first.gradients[name]] * Element(vector, heads(len(shape)))
    loops = {Dummy(f"i{k}", integer=True, nonnegative=True): n for k, n in enumerate(shape)}
    slope = Reduction("sum", along.xreplace(dict(zip(heads(len(shape)), loops, strict=True))), loops.items())
    value = closed.normal(slope if shape else along)
    return Derivative(problem, (name, vector), "hvp", closed, product, shape, value)


def _gradient(problem: Problem, name: str) -> Derivative:
    require_scalar(problem)
    system = derive_system(forward_of(problem), of=problem.output, wrt=[name], zeros=True)
    closed = Closed(system, symmetric=symmetric_variables(problem))
    return Derivative(problem, (name,), "gradient", closed, closed[system.gradients[name]], system.shape(name))


def require_scalar(problem: Problem) -> None:
    """Raise DeriveError for an expression with axes."""
    if problem.shape != ():
        raise DeriveError(
            f"the expression has shape {tuple(problem.shape)} and is no scalar",
            hint="reduce it with sum, or ask for the Jacobian",
        )


def _variable(problem: Problem, wrt: str | None) -> str:
    names = list(problem.variables)
    if wrt is None and len(names) == 1:
        return names[0]
    if wrt not in names:
        told = nearest(str(wrt), names) if wrt is not None else None
        raise DeriveError(
            "name the variable to differentiate by" if wrt is None else f"there is no variable {wrt!r}",
            hint=told or f"wrt= one of {', '.join(names)}",
        )
    return str(wrt)


def shapes_of(problem: Problem) -> str:
    """The variables with their shapes: A (m, n), x (n,)."""
    return ", ".join(f"{v.name} {v.shape}" for v in problem.variables.values())


def _axes_first(expr: Expr, old: int, new: int) -> Expr:
    """The expression with its last `new` axes in front."""
    order = {head(k): head(k + new) for k in range(old)} | {head(old + k): head(k) for k in range(new)}
    return expr.xreplace(order)


@dataclass
class Derivative(Result):
    """A derivative of an expression. Printed: the expression, the derivative, and what its symbols stand for.

    Called with an array for each variable, by keyword, it evaluates the emitted NumPy function in float64.

    Attributes:
        problem: the expression.
        names: the variable, and the vector of a Hessian-vector product.
        kind: gradient, jacobian or hvp.
        closed: the system that it was derived in.
        raw, sizes: its elements before they were shortened, and its shape.
        checked: what it is the gradient of, where that is not the expression.
    """

    problem: Problem
    names: tuple[str, ...]
    kind: str
    closed: Closed
    raw: Expr
    sizes: tuple[Expr, ...]
    checked: Expr | None = None

    @property
    def shape(self) -> tuple[int | Expr, ...]:
        """Integers, and symbols for dimensions that have a name."""
        return tuple(int(n) if n.is_Integer else n for n in self.sizes)

    # the formula

    @cached_property
    def short(self) -> Shortened:
        """The shortest form."""
        return Shortened(self.closed, self.raw, self.sizes)

    @property
    def lines(self) -> list[Line]:
        """The derivative's own line, then those of the symbols that it introduces."""
        if self.kind != "jacobian":
            return self.short.lines(self._left())
        rank = len(self.problem.shape)
        vec = symbol(self.names[0])
        stacked = Atom(
            f"∂vec(f)/∂vec({vec.text})ᵀ",
            rf"\frac{{\partial \operatorname{{vec}}(f)}}{{\partial \operatorname{{vec}}({vec.latex})^{{\top}}}}",
        )
        return self.short.map_lines(self._left(), stacked, self.sizes[:rank], self.sizes[rank:])

    def _left(self) -> Atom:
        name = symbol(self.names[0])
        if self.kind == "hvp":
            vector = symbol(self.names[1])
            latex = rf"\frac{{\partial^2 f}}{{\partial {name.latex}^2}} {vector.latex}"
            return Atom(f"∂²f/∂{name.text}² {vector.text}", latex)
        return Atom(f"∂f/∂{name.text}", rf"\frac{{\partial f}}{{\partial {name.latex}}}")

    @property
    def value_lines(self) -> list[Line]:
        """f = the expression, and what it reads through a reshape."""
        output, display = self.problem.output, self.short.display
        own = display.line(Atom("f", "f"), self.closed[output], self.closed.system.shape(output))
        return [own, *display.unresolved(self.closed[output])]

    @property
    def text(self) -> str:
        """The derivative in matrix notation where that exists, else with indices."""
        first, *rest = self.lines
        written = first.wrapped("")
        if rest:
            written += ["where", *(part for line in rest for part in line.wrapped("  "))]
        return "\n".join(written)

    def __str__(self) -> str:
        value = [part for line in self.value_lines for part in line.wrapped("")]
        return "\n".join([*value, self.text, f"shapes: {shapes_of(self.problem)}"])

    def __repr__(self) -> str:
        return f"<{self.kind}: {self.lines[0].text}>"

    # a Jacobian's structure

    @cached_property
    def _block(self) -> Block:
        """The Jacobian as a linear map from the variable to the value."""
        rank = len(self.problem.shape)
        rows, columns = tuple(self.sizes[:rank]), tuple(self.sizes[rank:])
        structure = pieces(self.short.expr, rows, columns)
        return Block(self.problem.output, self.names[0], self.short, structure, (rows, columns))

    @property
    def structure(self) -> str:
        """A Jacobian's, in words: diagonal, low rank, Kronecker, blocks, dense, and sums of them."""
        if self.kind != "jacobian":
            raise DeriveError(f"a {self.kind} has no structure", hint="ask for that of a jacobian or a hessian")
        return name_of(self._block.structure)

    @cached_property
    def operator(self) -> MapProgram:
        """The emitted function that returns a Jacobian as a linear map, with `matvec`, `solve` and `todense`."""
        title = [self.text, "", f"Structure: {self.structure}."]
        output = self.problem.output
        value = Shortened(self.closed, self.closed[output], self.closed.system.shape(output))
        return emit_map("jacobian", self.problem, title, [self._block], Differentiated("value", {output: value}))

    # steps

    def steps(self) -> CalculusSteps:
        """A gradient derived step by step, with every rule that was used. Raises DeriveError for other derivatives."""
        if self.kind != "gradient":
            raise DeriveError("steps are those of a gradient", hint="ask the gradient for its steps")
        return gradient_steps(self.problem, self.names[0], self.short)

    # the function

    @cached_property
    def program(self) -> FunctionProgram:
        """The emitted function."""
        system, tensors = self._computed()
        check = Check(tensors["value"], {self.kind: self.names[0]}, properties=self._properties())
        return emit_function(system, self.kind, {self.kind: tensors[self.kind]}, title=str(self), check=check)

    def _computed(self) -> tuple[System, dict[str, str]]:
        output = self.problem.output
        value = self.closed[output], self.closed.system.shape(output)
        if self.checked is not None:
            value = self.checked, ()
        wanted = {"value": value, self.kind: (self.short.expr, self.sizes)}
        return computed(wanted, self.closed, self.short.given, [*self.problem.variables, *self.names[1:]])

    def _properties(self) -> dict[str, frozenset[str]]:
        return {name: v.properties for name, v in self.problem.variables.items() if v.properties}

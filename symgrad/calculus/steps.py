"""A derivative of an expression step by step: the chain rule through each operation, then what simplifies it.

The operations of the expression are named u₁, u₂, ..., their adjoints ū₁, ū₂, ...: ū = ∂f/∂u. Every step is an
equation between tensors, so every step can be evaluated.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, overload

import numpy as np
from sympy import Expr

from symgrad.algebra.closed import Closed
from symgrad.algebra.contractions import system_of
from symgrad.algebra.tidy import Given, Shape, tidied
from symgrad.calculus.display import Display, symbol
from symgrad.calculus.shortened import Shortened
from symgrad.derive import derive_system
from symgrad.equations import System
from symgrad.evaluate.reference import evaluate
from symgrad.expand import expand
from symgrad.expression import Problem, Variable
from symgrad.formula.lines import Line, latex_block
from symgrad.formula.notation import Atom
from symgrad.formula.symbols import subscript, whole_adjoints

TOLERANCE = 1e-8


@dataclass(frozen=True)
class CalculusStep:
    """One step.

    Attributes:
        number: its place, from 1.
        rule: what was used, in words.
        shape: of the tensor on the left, in named dimensions.
    """

    number: int
    rule: str
    shape: tuple[int | Expr, ...]
    line: Line = field(repr=False)
    _claim: Claim = field(repr=False)

    @property
    def text(self) -> str:
        """The equation that the rule gives."""
        return self.line.text

    @property
    def latex(self) -> str:
        """The same in LaTeX, for math mode."""
        return latex_block([self.line])

    def check(self, values: Mapping[str, Any] | None = None, seed: int = 0) -> float:
        """The largest difference between both sides, relative to the largest entry: a step holds below 1e-8.

        Args:
            values: an array for each variable; without them, random ones of small sizes.
        """
        return self._claim.error(values, seed)

    def __str__(self) -> str:
        sizes = ", ".join(map(str, self.shape)) + ("," if len(self.shape) == 1 else "")
        *front, last = self.line.wrapped("     ")
        return "\n".join([f"{self.number:3}  {self.rule}", *front, f"{last}    ({sizes})"])


@dataclass(frozen=True)
class Claim:
    """That a tensor of a system is what an expression says."""

    system: System
    tensor: str
    closed: Closed
    expr: Expr
    given: Mapping[str, Given]
    variables: Mapping[str, Variable]

    def error(self, values: Mapping[str, Any] | None, seed: int) -> float:
        """See CalculusStep.check."""
        data = dict(values) if values is not None else random_values(self.variables.values(), seed)
        expected = evaluate(self.system, data, needed=[self.tensor, *data])[self.tensor]
        shape = self.system.shape(self.tensor)
        rebuilt, names = system_of({"found": (self.expr, shape)}, self.closed.system, self.given)
        found = evaluate(rebuilt, data, needed=[names["found"], *data])[names["found"]]
        scale = max(1.0, float(np.abs(expected).max(initial=0.0)))
        return float(np.abs(found - expected).max(initial=0.0)) / scale


def random_values(variables: Iterable[Variable], seed: int) -> dict[str, Any]:
    """Random arrays of small, different sizes, with the properties that were declared."""
    random = np.random.default_rng(seed)
    sizes: dict[str, int] = {}
    data = {}
    for v in variables:
        for n in v.shape:
            if not n.is_Integer:
                sizes.setdefault(str(n), 3 + len(sizes))
        array = random.standard_normal([int(n) if n.is_Integer else sizes[str(n)] for n in v.shape])
        if "positive definite" in v.properties:
            array = array @ array.T + len(array) * np.eye(len(array))
        elif "symmetric" in v.properties:
            array = (array + array.T) / 2
        data[v.name] = array
    return data


class CalculusSteps(Sequence[CalculusStep]):
    """The steps of one derivative. Printed, they read as a worked solution."""

    def __init__(self, given: Sequence[Line], steps: Iterable[CalculusStep]) -> None:
        self.given, self._steps = tuple(given), tuple(steps)

    @overload
    def __getitem__(self, index: int) -> CalculusStep: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[CalculusStep, ...]: ...
    def __getitem__(self, index: int | slice) -> CalculusStep | tuple[CalculusStep, ...]:
        return self._steps[index]

    def __len__(self) -> int:
        return len(self._steps)

    def __str__(self) -> str:
        given = [part for line in self.given for part in line.wrapped("  ")]
        return "\n".join(["write", *given, "", *map(str, self._steps)])

    @property
    def latex(self) -> str:
        """The whole solution in LaTeX, for math mode."""
        return latex_block([*self.given, *(step.line for step in self._steps)])


def gradient_steps(problem: Problem, name: str, short: Shortened) -> CalculusSteps:
    """The steps from the expression to its gradient by a variable, `short` being what they arrive at."""
    return _Solution(problem, name, short).steps()


class _Solution:
    def __init__(self, problem: Problem, name: str, short: Shortened) -> None:
        self.problem, self.name, self.short = problem, name, short
        self.system = derive_system(expand(problem.graph), of=problem.output, wrt=[name], zeros=True)
        self.adjoints = whole_adjoints(self.system)
        self.operations = [n for n in self.system.equations if n in problem.graph and n != problem.output]
        shown = [*self.operations, *(d for d, tensor in self.adjoints.items() if tensor in self.operations)]
        self.closed = Closed(self.system, keep=shown, symmetric=short.closed.facts.symmetric)
        self.symbols = self._symbols()

    def _symbols(self) -> dict[str, Atom]:
        found = {self.problem.output: Atom("f", "f")}
        for number, operation in enumerate(self._worth_a_name(), 1):
            found[operation] = Atom("u" + subscript(str(number)), f"u_{{{number}}}")
        for adjoint, tensor in self.adjoints.items():
            if tensor in found and tensor != self.problem.output:
                place = found[tensor].text[1:]
                found[adjoint] = Atom("ū" + place, rf"\bar{{{found[tensor].latex}}}")
        return found

    def _worth_a_name(self) -> list[str]:
        """The operations on the way from the variable to the value."""
        needed = self.system.needed_for(self.system.gradients.values())
        return [n for n in self.operations if n in needed or n in self.adjoints.values()]

    def steps(self) -> CalculusSteps:
        forward = [n for n in (*self.operations, self.problem.output) if n in self.symbols]
        given = [self._line(self.symbols[n], n, self._own(n)) for n in forward]
        chain = list(self._chain())
        return CalculusSteps(given, [*chain, *self._closing(len(chain), chain[-1].text)])

    def _line(self, left: Atom, name: str, expr: Expr) -> Line:
        symbols = {n: atom for n, atom in self.symbols.items() if n != name}
        return Display(self.closed, symbols, self.closed.system.shape).line(left, expr, self.system.shape(name))

    def _own(self, name: str) -> Expr:
        """What a tensor is of others, its own symbol not being one of them."""
        closed = Closed(self.system, keep=self.closed.keep - {name}, symmetric=self.closed.facts.symmetric)
        _, expr = tidied(closed[name], closed.facts)
        self.closed.operands |= closed.operands
        for added in closed.system:
            self.closed.system.equations.setdefault(added.name, added)
        return expr

    def _chain(self) -> Iterator[CalculusStep]:
        wanted = self.system.gradients[self.name]
        number = 0
        for name in list(self.system.equations):
            tensor = self.name if name == wanted else self.adjoints.get(name)
            hidden = name not in self.symbols and name != wanted
            if tensor is None or tensor == self.problem.output or hidden:
                continue
            number += 1
            users = [n for n in self._users(tensor) if n in self.symbols]
            through = [self._line(self.symbols[n], n, self._own(n)).text for n in users]
            left = self._gradient_symbol() if name == wanted else self.symbols[name]
            rule = "chain rule through " + " and ".join(through)
            yield self._step(number, rule, left, name)

    def _users(self, tensor: str) -> list[str]:
        """The operations that read a tensor, in order."""
        readers = set(self.problem.graph.successors(tensor))
        return [n for n in (*self.operations, self.problem.output) if n in readers]

    def _gradient_symbol(self) -> Atom:
        name = symbol(self.name)
        return Atom(f"∂f/∂{name.text}", rf"\frac{{\partial f}}{{\partial {name.latex}}}")

    def _closing(self, number: int, last: str) -> Iterator[CalculusStep]:
        """The values written in, then each simplification that changed something."""
        wanted = self.system.gradients[self.name]
        for offset, (rule, expr, given) in enumerate(self.short.history, 1):
            display = Display(self.short.closed, {n: symbol(n) for n in given}, self.short.shape_of)
            line = display.line(self._gradient_symbol(), expr, self.short.shape)
            if offset == 1 and line.text == last:
                continue
            claim = Claim(self.system, wanted, self.short.closed, expr, given, self.problem.variables)
            yield CalculusStep(number + offset, rule, _sizes(self.short.shape), line, claim)

    def _step(self, number: int, rule: str, left: Atom, name: str) -> CalculusStep:
        expr = self._own(name)
        claim = Claim(self.system, name, self.closed, expr, {}, self.problem.variables)
        return CalculusStep(number, rule, _sizes(tuple(self.system.shape(name))), self._line(left, name, expr), claim)


def _sizes(shape: Shape) -> tuple[int | Expr, ...]:
    return tuple(int(n) if n.is_Integer else n for n in shape)

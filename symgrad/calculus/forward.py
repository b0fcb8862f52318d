"""An expression's network with its value in normal form: what cancels before it is differentiated need not afterwards.

The shift of log(sum(exp(x))) by the maximum, which keeps the op from overflowing, is gone here; so are the sums that
only hold other sums.
"""

from __future__ import annotations

from dataclasses import replace

from symgrad.algebra.closed import Closed
from symgrad.algebra.contractions import system_of
from symgrad.equations import System, equation
from symgrad.expand import expand
from symgrad.expression import Problem
from symgrad.index.definition import At, define, index_symbol


def forward_of(problem: Problem) -> System:
    """The equations of the expression, `problem.output` being its value."""
    closed = Closed(expand(problem.graph), symmetric=symmetric_variables(problem))
    output = problem.output
    shape = closed.system.shape(output)
    system, names = system_of({output: (closed[output], shape)}, closed.system, {})
    made = names[output]
    if made in system.equations and made not in closed.system:
        system.add(replace(system.equations.pop(made), name=output, origin=output))
    elif made != output:
        index = [index_symbol(f"i{k}") for k, _ in enumerate(shape)]
        copy = define(list(zip(index, shape, strict=True)), shape, index, At(0, index))
        system.add(equation(output, copy, [made], origin=output))
    return replace(system, outputs=(output,), loss=output if not shape else None)


def symmetric_variables(problem: Problem) -> list[str]:
    """Those that were declared so."""
    return [name for name, v in problem.variables.items() if "symmetric" in v.properties]

"""The one move of the simplifier: an elementwise equation written in the place of its elements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import sympy as sp
from sympy import Expr

from symgrad.equations import Equation, System, equation
from symgrad.index.bounds import inside
from symgrad.index.definition import At, define, map_accesses, tested
from symgrad.index.functions import plain_conditions
from symgrad.index.solution import Read, Solution


class Operands:
    """The growing operand list of an equation that is being rewritten."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = list(names)

    def number(self, name: str) -> int:
        if name not in self.names:
            self.names.append(name)
        return self.names.index(name)

    def adopt(self, expr: Expr, names: tuple[str, ...]) -> Expr:
        """`expr`, whose accesses count in `names`, counting in this list."""

        def change(at: At) -> Expr:
            index = [self.adopt(e, names) for e in at.index]
            return At(self.number(names[at.operand]), index, at.view)

        return map_accesses(expr, change)

    def element(self, source: Equation, index: Sequence[Expr]) -> Expr:
        """The element of an elementwise equation, over this list. That of a filled tensor has any index."""
        loops = [i for i, _ in source.definition.loops]
        return self.adopt(source.definition.body, source.operands).xreplace(dict(zip(loops, index, strict=False)))


def rebuilt(e: Equation, body: Expr, operands: Operands) -> Equation:
    """e with another body over `operands`."""
    d = e.definition
    definition = define(d.loops, d.shape, d.write, plain_conditions(body), d.reduction)
    return equation(e.name, definition, operands.names, dtype=e.dtype, origin=e.origin, adjoint_of=e.adjoint_of)


def substitute(system: System, e: Equation, bodies: Mapping[str, Equation]) -> Equation:
    """e with the elements of `bodies` replaced by what they are, wherever that is the same.

    It is not where the access may lie outside (there it reads 0) or goes through a view; and SymPy cannot hold
    a choice inside a condition. A solution reads whole tensors: only copies and transposes are written into it.
    """
    if e.solution is not None:
        return _read_through(system, e, e.solution, bodies)
    operands = Operands(e.operands)
    extents = e.definition.extents
    start = _conditions(e, bodies, operands)
    conditions = tested(start)

    def element(at: At) -> Expr:
        if at.operand >= len(e.operands):  # came in with a condition, and is done
            return at
        index = [map_accesses(i, element) for i in at.index]
        source = bodies.get(e.source(at))
        nested = source is not None and at in conditions and source.definition.body.has(sp.Piecewise)
        if source is None or nested or not _replaceable(at, source, extents):
            return At(at.operand, index, at.view)
        return operands.element(source, index)

    body = map_accesses(start, element)
    return e if body == e.definition.body else rebuilt(e, body, operands)


def _read_through(system: System, e: Equation, solution: Solution, bodies: Mapping[str, Equation]) -> Equation:
    """e reading what the copies among its operands are copies of."""
    operands = Operands(())
    reads = []
    for read in solution.reads:
        name, transposed = e.operands[read.operand], read.transposed
        source = bodies.get(name)
        order = None if source is None else _whole_copy(system, source)
        if source is not None and order is not None:
            name, transposed = source.operands[0], transposed != (order == (1, 0))
        reads.append(Read(operands.number(name), transposed))
    if operands.names == list(e.operands) and tuple(reads) == solution.reads:
        return e
    made = solution.reading(reads)
    return equation(e.name, made, operands.names, dtype=e.dtype, origin=e.origin, adjoint_of=e.adjoint_of)


def _whole_copy(system: System, source: Equation) -> tuple[int, ...] | None:
    """The axes of the tensor that `source` copies whole, as they stand in the copy; None if it is no such copy."""
    d, body = source.definition, source.definition.body
    if not d.elementwise or not isinstance(body, At) or body.view is not None:
        return None
    if not all(index in d.write for index in body.index) or len(body.index) != len(d.write):
        return None
    order = tuple(d.write.index(index) for index in body.index)
    whole = tuple(d.shape[axis] for axis in order) == tuple(system.shape(source.operands[body.operand]))
    return order if whole else None


def _replaceable(at: At, source: Equation, extents: Mapping[sp.Symbol, Expr]) -> bool:
    if at.view is not None:
        return not source.definition.body.free_symbols & source.definition.extents.keys()
    return inside(at, source.shape, extents)


def _conditions(e: Equation, bodies: Mapping[str, Equation], operands: Operands) -> Expr:
    """e's body with tests of boolean tensors, `B[i] != 0`, replaced by the conditions that made them."""
    change = {}
    for test in sorted(e.definition.body.atoms(sp.Ne), key=sp.default_sort_key):
        at, zero = test.args
        source = bodies.get(e.source(at)) if isinstance(at, At) else None
        if (
            zero == 0
            and source is not None
            and source.dtype == "bool"
            and isinstance(source.definition.body, sp.Piecewise)
            and _replaceable(at, source, e.definition.extents)
        ):
            condition = operands.adopt(source.definition.body.args[0][1], source.operands)
            loops = [i for i, _ in source.definition.loops]
            change[test] = condition.xreplace(dict(zip(loops, at.index, strict=True)))
    return e.definition.body.xreplace(change)

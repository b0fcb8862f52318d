"""A number times a sum that nobody else reads, as one equation: the mean, whose elements are added with weights 1/N."""

from __future__ import annotations

from sympy import Expr

from symgrad.equations import Equation, System
from symgrad.index.definition import At, define
from symgrad.simplify.substitute import Operands


def scale_sums(system: System) -> System:
    """The system with every S and c*S, where only the latter reads S, as one sum."""
    result, uses, wanted = system.copy(), system.uses(), set(system.wanted())
    for e in system:
        scale = _scale(e)
        source = result.equations.get(e.operands[0]) if scale is not None else None
        if source is None or len(uses[source.name]) != 1 or source.name in wanted or e.shape != source.shape:
            continue
        d = source.definition
        if source.solution is None and d.reduction == "sum" and d.gathers and d.reduced and source.dtype == e.dtype:
            definition = define(d.loops, d.shape, d.write, scale * d.body, "sum")
            operands = Operands(source.operands).names
            result.add(Equation(e.name, definition, tuple(operands), e.dtype, e.origin, e.adjoint_of))
    return result.pruned()


def _scale(e: Equation) -> Expr | None:
    """The number c, if e is c times the element at the same place of one tensor."""
    if e.solution is not None or not e.definition.elementwise or e.dtype != "float" or len(e.operands) != 1:
        return None
    scale, read = e.definition.body.as_independent(At, as_Add=False)
    if not isinstance(read, At) or read.view is not None or read.index != e.definition.write:
        return None
    return None if scale.free_symbols & e.definition.extents.keys() else scale

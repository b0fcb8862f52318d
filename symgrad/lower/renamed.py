"""Copies that change nothing: who reads one reads the tensor itself."""

from __future__ import annotations

from symgrad.equations import Equation, System, equation
from symgrad.index.definition import At


def drop_copies(system: System) -> System:
    """The system without tensors that are others under a new name, those that are wanted left."""
    same: dict[str, str] = {}
    wanted = set(system.wanted())
    result = system.copy()
    for e in system:
        if any(name in same for name in e.operands):
            e = _reading(e, [same.get(name, name) for name in e.operands])
        result.equations[e.name] = e
        if _is_same(system, e) and e.name not in wanted:
            same[e.name] = e.source(e.definition.body)
    return result.pruned()


def _reading(e: Equation, operands: list[str]) -> Equation:
    if e.solution is not None:
        return Equation(e.name, e.definition, tuple(operands), e.dtype, e.origin, e.adjoint_of)
    return equation(e.name, e.definition, operands, dtype=e.dtype, origin=e.origin, adjoint_of=e.adjoint_of)


def _is_same(system: System, e: Equation) -> bool:
    d = e.definition
    if e.solution is not None or not d.elementwise or not isinstance(d.body, At) or d.body.view is not None:
        return False
    source = e.operands[d.body.operand]
    same = d.body.index == d.write and system.shape(source) == d.shape
    return same and system.dtype(source) == e.dtype

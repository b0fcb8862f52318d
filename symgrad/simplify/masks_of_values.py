"""Masks read from what they masked: [z > 0] as [max(z, 0) > 0], so that z need not be kept for the gradient of relu."""

from __future__ import annotations

import sympy as sp
from sympy import Expr

from symgrad.equations import Equation, System
from symgrad.index.definition import At
from symgrad.simplify.fuse import fuse_elementwise
from symgrad.simplify.scalar_cost import is_plain
from symgrad.simplify.spelled import spelled_out
from symgrad.simplify.substitute import Operands, rebuilt


def read_masks_of_values(system: System) -> System:
    """The system with the tests z > 0 of adjoints as tests of the tensor that is max(z, 0), where there is one."""
    result = system.copy()
    rectified: dict[str, Equation] = {}
    for e in system:
        changed = result.add(_retested(e, rectified)) if is_plain(e) else e
        source = _rectified(system, changed)
        if source is not None:
            rectified.setdefault(source, changed)
    return fuse_elementwise(result, keep=[name for name in result.equations if name not in rectified])


def _rectified(system: System, e: Equation) -> str | None:
    """The tensor z where e is max(z, 0), all of it."""
    if not is_plain(e) or len(e.definition.accesses) != 1:
        return None
    (at,) = e.definition.accesses
    plain = at.index == e.definition.write and at.view is None and system.shape(e.source(at)) == e.shape
    return e.source(at) if plain and spelled_out(e.definition.body) == sp.Max(at, 0) else None


def _retested(e: Equation, rectified: dict[str, Equation]) -> Equation:
    if not e.adjoint_of or not rectified.keys() & set(e.operands):
        return e
    operands = Operands(e.operands)

    def test(at: Expr, zero: Expr) -> Expr:
        value = rectified.get(e.source(at)) if isinstance(at, At) and zero == 0 else None
        if value is None or at.view is not None or value.shape != e.shape:
            return sp.Gt(at, zero)
        return sp.Gt(At(operands.number(value.name), at.index), 0)

    body = e.definition.body.replace(sp.Gt, test)
    return rebuilt(e, body, operands) if body != e.definition.body else e

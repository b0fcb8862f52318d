"""Elementwise chains as one body: a tensor that only one elementwise equation reads is written into it."""

from __future__ import annotations

from collections.abc import Container

import sympy as sp

from symgrad.equations import Equation, System
from symgrad.simplify.substitute import substitute

MAX_OPERATIONS = 150


def fuse_elementwise(system: System, keep: Container[str] = ()) -> System:
    """Write single-use elementwise equations into their elementwise users, except those named in `keep`."""
    result = system.copy()
    wanted, uses = set(system.wanted()), system.uses()
    for name in list(result.equations):
        e = result.equations[name]
        sources = {
            operand: result.equations[operand]
            for operand in e.operands
            if operand not in wanted
            and operand not in keep
            and len(uses[operand]) == 1
            and _fusible(result, operand, e)
        }
        result.equations[name] = substitute(result, e, sources) if sources else e
    return result.pruned()


def _fusible(system: System, operand: str, user: Equation) -> bool:
    source = system.equations.get(operand)
    if source is None or not source.definition.elementwise or not user.definition.elementwise:
        return False
    reads = [at for at in user.definition.accesses if user.source(at) == operand]
    whole = len(reads) == 1 and set(reads[0].index) == {i for i, _ in user.definition.loops}
    small = sp.count_ops(source.definition.body) + sp.count_ops(user.definition.body) <= MAX_OPERATIONS
    return whole and small

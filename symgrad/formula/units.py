"""Axes of size 1, which the derivation reads at index 0, shown as the matrices that they are.

To the compiler an outer product of columns is D[i, 0]*A[j, 0]; a reader wants D Aᵀ, the sum over their one
column.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import sympy as sp
from sympy import Expr, Symbol

from symgrad.index.definition import At, Definition, index_symbol, map_accesses


def with_unit_loops(definition: Definition, shapes: Sequence[Sequence[Expr]]) -> Definition:
    """The definition with its index 0 on axes of size 1 as one more loop, where that makes a sum of products."""
    column = index_symbol(f"i{len(definition.loops)}")
    body = map_accesses(definition.body, lambda at: _opened(at, shapes[at.operand], column))
    if body == definition.body or not _sums(definition):
        return definition
    return replace(definition, loops=(*definition.loops, (column, sp.Integer(1))), body=body)


def _opened(at: At, shape: Sequence[Expr], column: Symbol) -> At:
    if at.view is not None:
        return at
    return At(at.operand, [column if e == 0 and n == 1 else e for e, n in zip(at.index, shape, strict=True)])


def _sums(definition: Definition) -> bool:
    """Whether the body is summed already, or is a product that a sum over one value makes a contraction."""
    if definition.reduction != "sum" or not definition.gathers:
        return False
    factors = [f for f in sp.Mul.make_args(definition.body) if isinstance(f, At)]
    return bool(definition.reduced) or len(factors) >= 2

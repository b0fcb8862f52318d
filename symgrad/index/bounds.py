"""Which values an index takes: the least and greatest of an affine expression over its loops."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import sympy as sp
from sympy import Expr, Symbol

from symgrad.index.definition import At


def value_range(index: Expr, extents: Mapping[Symbol, Expr]) -> tuple[Expr, Expr]:
    """The least and greatest value of `index` (affine in the loops) while each loop runs from 0 to extent - 1."""
    low = high = index
    for loop in sorted(index.free_symbols, key=str):
        if loop in extents:
            ends = (sp.Integer(0), extents[loop] - 1)
            down, up = ends if index.coeff(loop).is_nonnegative else ends[::-1]
            low, high = low.xreplace({loop: down}), high.xreplace({loop: up})
    return sp.expand(low), sp.expand(high)


def within(index: Expr, extents: Mapping[Symbol, Expr], size: Expr) -> bool:
    """Whether the index provably stays in 0 .. size - 1. Data-dependent indices are checked by the program."""
    if index.has(At):
        return True
    if extents.get(index) == size:
        return True
    low, high = value_range(index, extents)
    return bool(low.is_nonnegative) and bool(sp.expand(size - 1 - high).is_nonnegative)


def inside(at: At, shape: Sequence[Expr], extents: Mapping[Symbol, Expr]) -> bool:
    """Whether the access provably stays within its operand, which has this shape."""
    return all(within(e, extents, n) for e, n in zip(at.index, at.sizes(shape), strict=True))

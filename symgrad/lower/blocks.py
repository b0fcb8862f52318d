"""Long thin products as many small ones: OpenBLAS has kernels for small matrices that need no packing.

A product of filters (16, 150) and columns (150, 6400) runs at 75 GF/s as one call and at 108 in blocks of 64
columns; a gradient (25, 50176) @ (50176, 6) at 23, and at 78 in blocks of 1024 terms that are added up. Both are one
`matmul` over views. Where a product stays whole and both operands go along their last axis, the one with more rows
comes first (twice as fast for 150 rows and 16).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import sympy as sp
from sympy import Expr, Symbol

from symgrad.lower.ir import View
from symgrad.machine import LIMITS, MACHINE, estimate


@dataclass(frozen=True)
class Split:
    """Neighbouring axes as (number of blocks, size of each)."""

    count: Expr
    size: Expr


def column_blocks(
    rows: Sequence[Symbol], bound: Sequence[Symbol], columns: Sequence[Symbol], extents: Mapping[Symbol, Expr]
) -> Split | None:
    """How to cut the columns so that each product is small; None if it is, or cannot be.

    Samples, which come last, stay an axis of their own: the product can then be carried out for some of them.
    """
    if len(columns) > 1 and not extents[columns[-1]].is_Integer:
        return Split(merged_size(columns[:-1], extents), extents[columns[-1]])
    return _split(columns, _count([*rows, *bound], extents), LIMITS.block_columns, extents)


def term_blocks(
    rows: Sequence[Symbol], bound: Sequence[Symbol], columns: Sequence[Symbol], extents: Mapping[Symbol, Expr]
) -> Split | None:
    """How to cut the loops that are summed over, where blocks are long enough to be worth it."""
    return _split(bound, _count([*rows, *columns], extents), LIMITS.block_terms, extents)


def _split(loops: Sequence[Symbol], others: int, least: int, extents: Mapping[Symbol, Expr]) -> Split | None:
    """The longest blocks of the last loops that keep the product small."""
    if len(loops) < 2 or others * _count(loops, extents) <= MACHINE.small_product:
        return None
    for k in range(1, len(loops)):
        size = _count(loops[k:], extents)
        if others * size <= MACHINE.small_product:
            blocks = Split(merged_size(loops[:k], extents), merged_size(loops[k:], extents))
            return blocks if size >= least else None
    return None


def turned(
    rows: Sequence[Symbol], bound: Sequence[Symbol], columns: Sequence[Symbol], extents: Mapping[Symbol, Expr]
) -> bool:
    """Whether a long sum of few results is better computed as its transpose: more rows than columns."""
    few, many = _count(rows, extents), _count(columns, extents)
    return few < many and _count(bound, extents) >= 4 * many


def blocked(view: View, axis: int, split: Split) -> View:
    """A matrix view of a whole array with the blocks of one axis as a new first axis."""
    order = view.order or tuple(range(len(view.shape)))
    stored = [view.shape[order.index(k)] for k in range(len(order))]
    place = order[axis]
    reshape = (*stored[:place], split.count, split.size, *stored[place + 1 :])
    moved = (place, *(k + (k >= place) for k in order))
    shape = (split.count, *view.shape[:axis], split.size, *view.shape[axis + 1 :])
    return View(view.array, shape, reshape, order=None if moved == tuple(range(len(moved))) else moved)


def is_matrix(view: View) -> bool:
    """Whether the view is a whole array as a matrix, its axes merged and transposed at most."""
    return len(view.shape) == 2 and not (view.windows or view.index or view.inserted)


def _count(loops: Sequence[Symbol], extents: Mapping[Symbol, Expr]) -> int:
    return estimate(merged_size(loops, extents))


def merged_size(loops: Sequence[Symbol], extents: Mapping[Symbol, Expr]) -> Expr:
    """Of several loops as one axis."""
    return sp.Mul(*(extents[i] for i in loops))

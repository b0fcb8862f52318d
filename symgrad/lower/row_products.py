"""Products of windows that slide along the first axis of an array, as one small product for each row.

    Y[o, h, j] = sum(p, c, K[o, p, c] R[s*h + p, c, j])       Y[:, h] = K R[s*h : s*h + P]        for each h
    D[p, c, o] = sum(h, j, R[s*h + p, c, j] Y[o, h, j])       D = sum over h of R[s*h : s*h + P] Y[:, h]ᵀ

R[s*h : s*h + P] with its first two axes as one is a view. All rows are one `matmul` over overlapping views: nothing is
copied for the windows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import sympy as sp
from sympy import Expr, Symbol

from symgrad.lower.blocks import merged_size
from symgrad.lower.ir import Array, Contract, Cut, Reduce, View, whole
from symgrad.lower.views import ONE, loops_of, position_loop, row_major
from symgrad.lower.window_rows import is_row_access
from symgrad.machine import LIMITS, estimate

if TYPE_CHECKING:
    from symgrad.lower.reductions import Factor, Reductions


@dataclass(frozen=True)
class _Rows:
    """An access R[start + s*position + tap, inner, outer]: `inner` goes with the tap, `outer` with the position."""

    array: Array
    position: Symbol
    tap: Symbol
    start: Expr
    step: Expr
    inner: tuple[Symbol, ...]
    outer: tuple[Symbol, ...]

    def view(self, extents: Mapping[Symbol, Expr]) -> View:
        """(positions, taps and inner axes, outer axes)."""
        each, columns = merged_size(self.inner, extents), merged_size(self.outer, extents)
        window, count = extents[self.tap] * each, extents[self.position]
        return View(
            self.array.name,
            (count, window, columns),
            (self.array.shape[0] * each, columns),
            ((0, window),),
            (Cut(self.start * each, count, int(self.step * each)), None, None),
            (0, 2, 1),
        )


def row_product(job: Reductions, target: View | None, axes: list[Symbol], left: Factor, right: Factor) -> bool:
    """Whether the product of two factors is one of these; it then has been emitted."""
    for windows, other in ((left, right), (right, left)):
        rows = _rows(job, windows, other)
        if rows is None or not (rows.step * merged_size(rows.inner, job.extents)).is_Integer:
            continue  # a view's step is a number
        if rows.position in axes and not any(i in axes for i in (rows.tap, *rows.inner)):
            return _each_row(job, target, axes, rows, other)
        if rows.tap in axes and not any(i in axes for i in (rows.position, *rows.outer)):
            return _over_rows(job, target, axes, rows, other)
    return False


def _rows(job: Reductions, windows: Factor, other: Factor) -> _Rows | None:
    at, extents = windows.at, job.extents
    array = job.arrays[at.operand]
    if not row_major(array) or not is_row_access(at, array.shape, extents):
        return None
    row = at.index[0]
    position = position_loop(row, loops_of(row, extents), extents)
    assert position is not None
    (tap,) = (i for i in loops_of(row, extents) if i != position)
    if (position in other.loops) == (tap in other.loops):
        return None
    with_tap = [(i in other.loops) == (tap in other.loops) for i in at.index[1:]]
    inner = tuple(i for i, is_inner in zip(at.index[1:], with_tap, strict=True) if is_inner)
    outer = tuple(at.index[1 + len(inner) :])
    if with_tap != sorted(with_tap, reverse=True) or not outer:
        return None
    start = row.xreplace({position: sp.Integer(0), tap: sp.Integer(0)})
    return _Rows(array, position, tap, start, row.coeff(position), inner, outer)


def _each_row(job: Reductions, target: View | None, axes: list[Symbol], rows: _Rows, other: Factor) -> bool:
    """A result that has the positions: one block of it for each."""
    bound = [rows.tap, *rows.inner]
    left = [i for i in other.loops if i not in bound]
    left.sort(key=axes.index)
    if not left or any(i not in other.loops for i in bound):
        return False
    a = job.grouped(other.at, [left, bound])
    a = replace(a, inserted=(0, *(k + 1 for k in a.inserted)), shape=(ONE, *a.shape))
    job.emit(Contract(_blocks(job, target, axes, left, rows), "matmul", a, rows.view(job.extents)))
    if target is not None and axes not in ([*left, rows.position, *rows.outer], [rows.position, *left, *rows.outer]):
        job.copy_out(target, axes, [rows.position, *left, *rows.outer])
    return True


def _blocks(job: Reductions, target: View | None, axes: list[Symbol], left: list[Symbol], rows: _Rows) -> View:
    """Where the blocks go: into the result as it is, where the positions stand before or behind the rows of a block."""
    outer = list(rows.outer)
    if axes != [*left, rows.position, *outer]:
        return job.product_target(target, axes, [rows.position, *left, *outer], [[rows.position], left, outer])
    array = (target or whole(job.result())).array
    height, count, width = merged_size(left, job.extents), job.size(rows.position), merged_size(outer, job.extents)
    return View(array, (count, height, width), (height, count, width), order=(1, 0, 2))


def _over_rows(job: Reductions, target: View | None, axes: list[Symbol], rows: _Rows, other: Factor) -> bool:
    """A sum over the positions: products that are added up."""
    window = [rows.tap, *rows.inner]
    right = [i for i in other.loops if i != rows.position and i not in rows.outer]
    right.sort(key=axes.index)
    if not right or any(i not in other.loops for i in rows.outer):
        return False
    at, view, outer = other.at, rows.view(job.extents), list(rows.outer)
    short = estimate(merged_size([*window, *right], job.extents)) <= LIMITS.transposed_result
    if short:
        a = job.grouped(at, [[rows.position], right, outer])
        b = replace(view, shape=(view.shape[0], view.shape[2], view.shape[1]), order=None)
        groups = [right, window]
    else:
        made, at = job.temporary("turned", [rows.position, *outer, *right])
        job.map(whole(made), [rows.position, *outer, *right], other.at, accumulate=False)
        a, b = view, job.grouped(at, [[rows.position], outer, right])
        groups = [window, right]
    sizes = [merged_size(g, job.extents) for g in groups]
    products = job.lowering.array(f"{job.e.name}_products", (job.size(rows.position), *sizes))
    job.emit(Contract(whole(products), "matmul", a, b))
    natural = [*groups[0], *groups[1]]
    job.emit(Reduce(job.product_target(target, axes, natural, groups), "sum", whole(products), (0,)))
    if target is not None and natural != axes:
        job.copy_out(target, axes, natural)
    return True



"""Accesses as strided views: every axis an integer, a cut, or a sliding window, never a copy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import sympy as sp
from sympy import Expr, Symbol

from symgrad.index.bounds import value_range
from symgrad.index.definition import At
from symgrad.lower.ir import Array, Cut, View

ZERO, ONE = sp.Integer(0), sp.Integer(1)


def loops_of(expr: Expr, extents: Mapping[Symbol, Expr]) -> list[Symbol]:
    """The loops in `expr`, in a fixed order."""
    return sorted(expr.free_symbols & extents.keys(), key=lambda s: (len(str(s)), str(s)))


def padding(at: At, shape: Sequence[Expr], extents: Mapping[Symbol, Expr]) -> list[tuple[Expr, Expr]]:
    """How far the access reaches beyond each axis, before and after."""
    reach = []
    for e, n in zip(at.index, at.sizes(shape), strict=True):
        low, high = (ZERO, ZERO) if e.has(At) else value_range(e, extents)
        reach.append((positive_part(-low), positive_part(sp.expand(high - n + 1)) if not e.has(At) else ZERO))
    return reach


def positive_part(size: Expr) -> Expr:
    if size.is_nonpositive:
        return ZERO
    return size if size.is_nonnegative else sp.Max(ZERO, size)


def view_of(array: Array, at: At, axes: Sequence[Symbol], extents: Mapping[Symbol, Expr]) -> View | None:
    """The access as a view whose axes are the loops `axes`, missing ones of size 1; None if it is none."""
    index: list[Cut | Expr | None] = []
    tail: list[Cut | Expr | None] = []
    windows: list[tuple[int, Expr]] = []
    found: list[Symbol] = []
    trailing: list[Symbol] = []
    for axis, (e, n) in enumerate(zip(at.index, at.sizes(array.shape), strict=True)):
        loops = loops_of(e, extents)
        if e.has(At) or len(loops) > 2 or any(i in found or i in trailing for i in loops):
            return None
        if len(loops) == 2:
            made = _window(e, loops, extents)
            if made is None:
                return None
            outer, inner, size, cut, inner_cut = made
            windows.append((axis, size))
            index.append(cut)
            tail.append(inner_cut)
            found.append(outer)
            trailing.append(inner)
        elif loops:
            index.append(_cut(e, loops[0], extents[loops[0]], n))
            found.append(loops[0])
        else:
            index.append(e)
    return _assembled(array, at, [*index, *tail], tuple(windows), [*found, *trailing], axes, extents)


def _cut(e: Expr, loop: Symbol, extent: Expr, size: Expr) -> Cut | None:
    start, step = e.xreplace({loop: ZERO}), int(e.coeff(loop))
    return None if (start, step, extent) == (0, 1, size) else Cut(sp.expand(start), extent, step)


def position_loop(e: Expr, loops: Sequence[Symbol], extents: Mapping[Symbol, Expr]) -> Symbol | None:
    """The longest of the loops of an index that runs forwards: the positions; the offsets may run backwards."""
    by_extent = sorted(loops, key=lambda i: (not extents[i].is_Integer, extents[i].is_Integer and extents[i], str(i)))
    return next((i for i in reversed(by_extent) if e.coeff(i).is_positive), None)


def _window(
    e: Expr, loops: list[Symbol], extents: Mapping[Symbol, Expr]
) -> tuple[Symbol, Symbol, Expr, Cut | None, Cut | None] | None:
    """(position loop, offset loop, window size, cut of the positions, cut of the window)."""
    outer = position_loop(e, loops, extents)
    if outer is None:
        return None
    (inner,) = (i for i in loops if i != outer)
    gap, stride = e.coeff(inner), e.coeff(outer)
    last = extents[inner] - 1
    start = sp.expand(e.xreplace({inner: ZERO if gap.is_positive else last, outer: ZERO}))
    size = abs(gap) * last + 1
    first = ZERO if gap.is_positive else size - 1
    inner_cut = None if gap == 1 else Cut(first, extents[inner], int(gap))
    return outer, inner, size, Cut(start, extents[outer], int(stride)), inner_cut


def _assembled(
    array: Array,
    at: At,
    index: list[Cut | Expr | None],
    windows: tuple[tuple[int, Expr], ...],
    found: list[Symbol],
    axes: Sequence[Symbol],
    extents: Mapping[Symbol, Expr],
) -> View:
    present = [i for i in axes if i in found]
    order: tuple[int, ...] | None = tuple(found.index(i) for i in present)
    if order == tuple(range(len(found))):
        order = None
    inserted = tuple(k for k, i in enumerate(axes) if i not in found)
    shape = tuple(ONE if i not in found else extents[i] for i in axes)
    plain = all(entry is None for entry in index)
    view = None if at.view is None or at.view == array.shape else at.view
    return View(array.name, shape, view, windows, () if plain else tuple(index), order, inserted)


def row_major(array: Array) -> bool:
    """Whether the elements lie in the order of the array's own axes: it is no view, or a reshaped whole array."""
    return array.alias is None or array.alias == View(array.alias.array, array.shape, array.shape)


def merged_view(
    array: Array, at: At, groups: Sequence[Sequence[Symbol]], extents: Mapping[Symbol, Expr]
) -> View | None:
    """The whole array with each group of loops as one axis, where neighbouring axes allow that."""
    if not row_major(array) or at.view is not None:
        return None
    if any(extents.get(e) != n for e, n in zip(at.index, array.shape, strict=True)):
        return None
    order = [g for g in groups if g]
    where = {id(g): [at.index.index(i) for i in g] for g in order}
    if any(where[id(g)] != list(range(where[id(g)][0], where[id(g)][0] + len(g))) for g in order):
        return None
    by_place = sorted(order, key=lambda g: where[id(g)][0])
    reshape = tuple(sp.Mul(*(extents[i] for i in g)) for g in by_place)
    permutation = tuple(by_place.index(g) for g in order)
    inserted = tuple(k for k, g in enumerate(groups) if not g)
    shape = tuple(sp.Mul(*(extents[i] for i in g)) for g in groups)
    same = reshape == array.shape
    return View(
        array.name,
        shape,
        None if same else reshape,
        order=None if permutation == tuple(range(len(order))) else permutation,
        inserted=inserted,
    )


def without_leading(view: View) -> View:
    """The view without new axes in front: broadcasting puts them there by itself."""
    count = 0
    while count in view.inserted:
        count += 1
    inserted = tuple(k - count for k in view.inserted if k >= count)
    return replace(view, inserted=inserted, shape=view.shape[count:]) if count else view

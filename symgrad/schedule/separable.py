"""Separability: which statements can be carried out for some samples alone.

Every axis of every view in a statement is one of the statement's loops. A statement is

    row      if the loop of the samples runs over an axis of its target, and of each view that has samples:
             the samples from `start` to `stop` of the result then need the same samples of the operands, and no other
    across   if that loop is summed (or maximised, ...) away
    free     if nothing in it has samples
    whole    otherwise: sorting, cumulating, a matrix function, a comparison of samples with one another

Nothing is assumed of an op: an index that is shifted, cut or computed makes the statement `whole`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass

import sympy as sp
from sympy import Expr, Symbol

from symgrad.lower.ir import (
    Array,
    Code,
    Contract,
    Fill,
    For,
    Gather,
    Map,
    Reduce,
    Scatter,
    Shape,
    Statement,
    View,
    dims_product,
    views_read,
)

ROW, ACROSS, FREE, WHOLE = "row", "across", "free", "whole"

Loops = tuple[Hashable, ...]


@dataclass(frozen=True)
class Cut:
    """Where the samples are in a view: they are `axis`, or the outer part of it, each of `width` entries.

    Where they are its inner part, the entries of some samples are no view of an array that has others too.
    """

    axis: int
    width: Expr
    inner: bool = False


def kind_of(code: Code, statement: Statement, size: Symbol) -> str:
    """What the statement is by the samples, of which there are `size`."""
    if isinstance(statement, For):
        kinds = {kind_of(code, inner, size) for inner in statement.body}
        return kinds.pop() if len(kinds) == 1 else FREE if not kinds else WHOLE
    views = list(axis_loops(code, statement))
    bearing = [(view, loops) for view, loops in views if has_samples(code, view.array, size)]
    if not bearing:
        return FREE
    found = {sample_loop(code, view, loops, size) for view, loops in bearing}
    if len(found) != 1 or None in found:
        return WHOLE
    (loop,) = found
    target, target_loops = views[0]
    if loop in target_loops:
        return ROW if has_samples(code, target.array, size) else WHOLE
    return ACROSS if not has_samples(code, target.array, size) and isinstance(statement, Reduce | Contract) else WHOLE


def has_samples(code: Code, array: str, size: Symbol) -> bool:
    return any(n.has(size) for n in code.arrays[array].shape)


def sample_loop(code: Code, view: View, loops: Loops, size: Symbol) -> Hashable | None:
    """The loop that runs over the samples of a view; None if the view has not all of them, in order, once."""
    cut = sample_axis(code.arrays[view.array].shape, view, size)
    return None if cut is None else loops[cut.axis]


def sample_axis(shape: Shape, view: View, size: Symbol) -> Cut | None:
    """The axis of a view of an array of that shape that runs over the array's samples; None if there is none such."""
    axes = [k for k, n in enumerate(shape) if n.has(size)]
    if len(axes) != 1 or shape[axes[0]] != size:
        return None
    axis, width, inner = axes[0], sp.Integer(1), False
    if view.reshape is not None:
        before, behind = dims_product(shape[:axis]), dims_product(shape[axis + 1 :])
        axis, width = _after_reshape(view.reshape, size)
        inner = axis >= 0 and width != 1 and dims_product(view.reshape[:axis]) != before
        if axis < 0 or (inner and dims_product(view.reshape[axis + 1 :]) != behind):
            return None
    if view.windows and any(k == axis for k, _ in view.windows):
        return None
    if view.index:
        if view.index[axis] is not None:
            return None
        axis -= sum(isinstance(entry, Expr) for entry in view.index[:axis])
    if view.order is not None:
        axis = view.order.index(axis)
    for place in view.inserted:
        axis += place <= axis
    return Cut(axis, width, inner)


def _after_reshape(shape: Shape, size: Symbol) -> tuple[int, Expr]:
    """The axis of the reshaped array with the samples, and how many entries it has for each; -1 if there is none."""
    axes = [k for k, n in enumerate(shape) if n.has(size)]
    if len(axes) != 1:
        return -1, sp.Integer(1)
    width = sp.cancel(shape[axes[0]] / size)
    return (axes[0], width) if width.is_Integer else (-1, sp.Integer(1))


# ---- The loops of each view


def axis_loops(code: Code, statement: Statement) -> Iterator[tuple[View, Loops]]:
    """The statement's views, its target first, each with the loop that every axis of the view is."""
    yield from _LOOPS.get(type(statement), _opaque)(code, statement)


def _map(code: Code, s: Map) -> Iterator[tuple[View, Loops]]:
    yield s.target, tuple(range(len(s.target.shape)))
    for view in s.reads.values():
        yield view, _aligned(view, s.target.shape)


def _aligned(view: View, shape: Shape) -> Loops:
    """Loops of a view that broadcasts to the shape, whose loops are 0, 1, ..."""
    shift = len(shape) - len(view.shape)
    return tuple(k + shift if n == shape[k + shift] else None for k, n in enumerate(view.shape))


def _reduce(code: Code, s: Reduce) -> Iterator[tuple[View, Loops]]:
    yield s.target, tuple(k for k in range(len(s.source.shape)) if k not in s.axes)
    yield s.source, tuple(range(len(s.source.shape)))


def _contract(code: Code, s: Contract) -> Iterator[tuple[View, Loops]]:
    left, right = len(s.left.shape), len(s.right.shape)
    if s.form == "dot":
        rows, columns = ("row",) * (left == 2), ("column",) * (right == 2)
        yield s.target, (*rows, *columns)
        yield s.left, (*rows, "bound")
        yield s.right, ("bound", *columns)
    elif s.form == "matmul":
        batch = tuple(range(len(s.target.shape) - 2))
        yield s.target, (*batch, "row", "column")
        yield s.left, (*batch[len(batch) - (left - 2) :], "row", "bound")
        yield s.right, (*batch[len(batch) - (right - 2) :], "bound", "column")
    else:
        operands, result = s.form.split("->")
        yield s.target, tuple(result)
        for view, letters in zip((s.left, s.right), operands.split(","), strict=True):
            yield view, tuple(letters)


def _gather(code: Code, s: Gather) -> Iterator[tuple[View, Loops]]:
    loops, indexed = _index_loops(code, s.source, s.index)
    yield s.target, loops
    yield s.source, indexed
    yield from _index_views(s.index)


def _scatter(code: Code, s: Scatter) -> Iterator[tuple[View, Loops]]:
    loops, indexed = _index_loops(code, s.target, s.index)
    yield s.target, indexed
    if isinstance(s.value, View):
        yield s.value, loops[len(loops) - len(s.value.shape) :]
    yield from _index_views(s.index)


def _index_rank(index: Sequence[View | None]) -> int:
    return max(len(entry.shape) for entry in index if entry is not None)


def _index_views(index: Sequence[View | None]) -> Iterator[tuple[View, Loops]]:
    rank = _index_rank(index)
    for entry in index:
        if entry is not None:
            shift = rank - len(entry.shape)
            yield entry, tuple(("index", k + shift) for k in range(len(entry.shape)))


def _index_loops(code: Code, view: View, index: Sequence[View | None]) -> tuple[Loops, Loops]:
    """The loops of array[index], and those of the array's axes: an axis has one where it is read in order."""
    entries = [*index, *[None] * (len(view.shape) - len(index))]
    picked = [k for k, entry in enumerate(entries) if entry is not None]
    rank = _index_rank(index)
    positions = tuple(("index", k) for k in range(rank))
    axes: list[Hashable] = [
        ("axis", k) if entry is None else _in_order(code, entry, view.shape[k], rank) for k, entry in enumerate(entries)
    ]
    rest = [("axis", k) for k in range(len(entries)) if k not in picked]
    neighbours = picked == list(range(picked[0], picked[-1] + 1))
    first = sum(k < picked[0] for k in range(len(entries)) if k not in picked) if neighbours else 0
    return (*rest[:first], *positions, *rest[first:]), tuple(axes)


def _in_order(code: Code, entry: View, size: Expr, rank: int) -> Hashable:
    """The loop of an axis that is indexed by 0, 1, ... size - 1; something that is no loop for another index."""
    array = code.arrays[entry.array]
    long = [k for k, n in enumerate(entry.shape) if n != 1]
    if array.kind == "range" and array.shape == (size,) and not entry.index and len(long) == 1:
        return "index", long[0] + rank - len(entry.shape)
    return None


def _fill(code: Code, s: Fill) -> Iterator[tuple[View, Loops]]:
    yield s.target, tuple(range(len(s.target.shape)))


def _opaque(code: Code, s: Statement) -> Iterator[tuple[View, Loops]]:
    """No loop is known: an axis of samples is nobody else's."""
    yield s.target, (None,) * len(s.target.shape)  # type: ignore[union-attr]
    for view in views_read(s):
        yield view, (None,) * len(view.shape)


_LOOPS: dict[type, Callable[..., Iterator[tuple[View, Loops]]]] = {
    Map: _map,
    Reduce: _reduce,
    Contract: _contract,
    Gather: _gather,
    Scatter: _scatter,
    Fill: _fill,
}


def is_range_of_samples(array: Array, size: Symbol) -> bool:
    return array.kind == "range" and array.shape == (size,)

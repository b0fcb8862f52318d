"""Reductions as the calls that take least: sums as BLAS products with ones, sums of products in one go.

    sum over the leading axes     dot(ones, rows)            over the last axes     dot(rows, ones)
    of a product, leading axes    einsum("ij,ij->j")         last axes              vecdot       all axes     dot
    maximum over a short axis     of the transposed copy, along its first axis

Only arrays that lie in memory row after row are taken so; everything else is reduced as it is.
"""

from __future__ import annotations

from collections.abc import Sequence

import sympy as sp
from sympy import Expr

from symgrad.lower.filled import ones
from symgrad.lower.ir import Array, Code, Contract, Reduce, View, dims_product, whole
from symgrad.machine import MACHINE
from symgrad.names import free_name
from symgrad.schedule.call import Call

MOST_COUNTED = 127  # that a signed byte holds
_KINDS = {"sum": "add", "prod": "multiply", "max": "maximum", "min": "minimum"}


def reduce_calls(code: Code, s: Reduce) -> list[Call]:
    """The calls of a reduction of one view."""
    if _counts_few(code, s):
        return _count(code, s)
    if code.arrays[s.source.array].dtype == "float" and s.axes:
        rank = len(s.source.shape)
        if s.kind == "sum":
            made = _sum(code, s, rank)
            if made is not None:
                return made
        elif s.kind in ("max", "min") and s.axes == (rank - 1,) and rank > 1:
            made = _along_columns(code, s)
            if made is not None:
                return made
    return plain_reduction(code, s)


def plain_reduction(code: Code, s: Reduce) -> list[Call]:
    """NumPy's reduction of the view as it is."""
    axes = _axes(s)
    dtype = "None" if code.arrays[s.source.array].dtype == "float" else "DTYPE"
    return [Call(f"{_KINDS[s.kind]}.reduce", (s.source, axes, dtype), s.target, s.equation)]


def _axes(s: Reduce) -> str:
    return str(s.axes[0]) if len(s.axes) == 1 else str(s.axes)


def _counts_few(code: Code, s: Reduce) -> bool:
    """Whether the reduction counts which of a few elements are set."""
    number = sp.Mul(*(s.source.shape[axis] for axis in s.axes))
    few = bool(number.is_Integer) and number <= MOST_COUNTED and len(s.axes) < len(s.source.shape)
    return s.kind == "sum" and code.arrays[s.source.array].dtype == "bool" and few


def _count(code: Code, s: Reduce) -> list[Call]:
    """The count in bytes, and then as numbers: a quarter of the time."""
    count = Array(free_name(f"{s.target.array}_count", code.arrays), s.target.shape, "int8", temporary=True)
    code.arrays[count.name] = count
    return [
        Call("add.reduce", (s.source, _axes(s), "np.int8"), whole(count), s.equation),
        Call("copy", (whole(count),), s.target, s.equation),
    ]


def _sum(code: Code, s: Reduce, rank: int) -> list[Call] | None:
    kept = len(s.axes)
    if s.axes == tuple(range(rank)):
        return _total(code, s)
    if s.axes == tuple(range(kept)):
        rows, out = as_matrix(code, s.source, kept), as_vector(code, s.target)
        if rows is not None and out is not None:
            return [Call("dot", (ones(code, s.source.shape[:kept]), rows), out, s.equation)]
    if s.axes == tuple(range(rank - kept, rank)):
        rows, out = as_matrix(code, s.source, rank - kept), as_vector(code, s.target)
        if rows is not None and out is not None:
            return [Call("dot", (rows, ones(code, s.source.shape[rank - kept :])), out, s.equation)]
    return None


def _total(code: Code, s: Reduce) -> list[Call] | None:
    """The sum over all axes: that of the rows first, for which no array as large as the source is needed."""
    rank = len(s.source.shape)
    if rank == 1:
        row = as_vector(code, s.source)
        return None if row is None else [Call("dot", (row, ones(code, row.shape)), s.target, s.equation)]
    rows = as_matrix(code, s.source, rank - 1)
    if rows is None:
        return None
    sums = _temporary(code, s.target, rows.shape[1:])
    return [
        Call("dot", (ones(code, s.source.shape[:-1]), rows), sums, s.equation),
        Call("dot", (sums, ones(code, sums.shape)), s.target, s.equation),
    ]


def _along_columns(code: Code, s: Reduce) -> list[Call] | None:
    """The largest of each of many short rows."""
    rows, out = as_matrix(code, s.source, len(s.source.shape) - 1), as_vector(code, s.target)
    if rows is None or out is None or not rows.shape[1].is_Integer or rows.shape[1] > MACHINE.short_axis:
        return None
    columns = _temporary(code, s.target, rows.shape[::-1])
    turned = View(rows.array, rows.shape[::-1], rows.reshape, order=(1, 0))
    return [
        Call("copy", (turned,), columns, s.equation),
        Call(f"{_KINDS[s.kind]}.reduce", (columns, "0", "None"), out, s.equation),
    ]


def product_calls(code: Code, s: Contract) -> list[Call]:
    """The calls of a sum of elementwise products, given as einsum subscripts."""
    terms, result = s.form.split("->")
    left, right = terms.split(",")
    first, second = _natural(s.left, left), _natural(s.right, right)
    if first == second and result:
        for split in range(1, len(first)):
            kept_rows, kept_columns = result == first[:split], result == first[split:]
            operands = _matrices(code, s, split) if kept_rows or kept_columns else None
            out = as_vector(code, s.target)
            if operands is not None and out is not None:
                if kept_rows:
                    return [Call("vecdot", operands, out, s.equation)]
                return [Call("einsum", ('"ij,ij->j"', *operands), out, s.equation)]
    if first == second and not result:
        flat = as_vector(code, _unordered(code, s.left)), as_vector(code, _unordered(code, s.right))
        if flat[0] is not None and flat[1] is not None:
            return [Call("dot", (flat[0], flat[1]), s.target, s.equation)]
    return plain_product(s)


def plain_product(s: Contract) -> list[Call]:
    """The sum by its subscripts."""
    return [Call("einsum", (f'"{s.form}"', s.left, s.right), s.target, s.equation)]


def _natural(view: View, letters: str) -> str:
    """The letters of a view's axes in the order in which they lie in memory."""
    if view.order is None:
        return letters
    return "".join(letters[view.order.index(axis)] for axis in range(len(letters)))


def _unordered(code: Code, view: View) -> View:
    """The view without its permutation of axes."""
    if view.order is None or view.inserted:
        return view
    shape = tuple(view.shape[view.order.index(axis)] for axis in range(len(view.shape)))
    return View(view.array, shape, view.reshape, view.windows, view.index)


def _matrices(code: Code, s: Contract, split: int) -> tuple[View, View] | None:
    left, right = (as_matrix(code, _unordered(code, v), split) for v in (s.left, s.right))
    return (left, right) if left is not None and right is not None else None


# ---- views of what lies in memory row after row


def as_matrix(code: Code, view: View, split: int) -> View | None:
    """The view with its first `split` axes, and its others, as one axis each."""
    groups = view.shape[:split], view.shape[split:]
    return _reshaped(code, view, groups)


def as_vector(code: Code, view: View) -> View | None:
    return _reshaped(code, view, (view.shape,))


def _reshaped(code: Code, view: View, groups: Sequence[Sequence[Expr]]) -> View | None:
    """One axis for each group; samples are merged only with what comes behind them, so that they can be cut."""
    array = code.arrays[view.array]
    if any(not n.is_Integer for group in groups for n in group[1:]):
        return None
    shape = tuple(dims_product(tuple(group)) for group in groups)
    if view.windows or view.index or view.order or view.inserted or not _is_contiguous(code, array):
        return None
    return View(view.array, shape, None if shape == array.shape else shape)


def _is_contiguous(code: Code, array: Array) -> bool:
    while array.alias is not None:
        alias = array.alias
        if alias.windows or alias.index or alias.order or alias.inserted:
            return False
        array = code.arrays[alias.array]
    return True


def _temporary(code: Code, target: View, shape: Sequence[Expr]) -> View:
    made = Array(free_name(f"{target.array}_t1", code.arrays), tuple(shape), "float", temporary=True)
    code.arrays[made.name] = made
    return whole(made)

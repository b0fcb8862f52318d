"""Where the elements of a view lie in memory: an offset and a stride for each axis, in elements and symbolic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sympy as sp
from sympy import Expr

from symgrad.lower.ir import Code, Cut, Shape, View

ZERO, ONE = sp.Integer(0), sp.Integer(1)
Axes = tuple[tuple[Expr, Expr], ...]  # (size, stride)


@dataclass(frozen=True)
class Layout:
    """The elements of `root` at offset + sum of index times stride."""

    root: str
    offset: Expr
    axes: Axes

    @property
    def contiguous(self) -> bool:
        """Whether the elements lie in row-major order without gaps."""
        return all(n == 1 or stride == wanted for (n, stride), (_, wanted) in zip(self.axes, self._packed, strict=True))

    @property
    def _packed(self) -> Axes:
        return row_major(tuple(n for n, _ in self.axes))

    @property
    def inner_contiguous(self) -> bool:
        """Whether neighbours along the last axis that has more than one element are neighbours in memory."""
        return bool(next((stride for n, stride in reversed(self.axes) if n != 1), ONE) == 1)

    @property
    def transposed(self) -> bool:
        """Whether the elements that are neighbours in memory are so along another axis than the last one."""
        return not self.inner_contiguous and any(n != 1 and stride == 1 for n, stride in self.axes)

    @property
    def blas(self) -> bool:
        """Whether the last two axes are a matrix that BLAS takes: one of them without gaps, the other one outside."""
        if len(self.axes) < 2:
            return self.inner_contiguous
        (rows, down), (columns, right) = self.axes[-2:]
        return _leading(rows, down, columns, right) or _leading(columns, right, rows, down)


def _leading(outer: Expr, outer_stride: Expr, inner: Expr, inner_stride: Expr) -> bool:
    packed = inner == 1 or inner_stride == 1
    return packed and (outer == 1 or bool(sp.expand(outer_stride - inner).is_nonnegative))


def row_major(shape: Shape) -> Axes:
    axes: list[tuple[Expr, Expr]] = []
    stride: Expr = ONE
    for n in reversed(shape):
        axes.insert(0, (n, stride))
        stride = sp.expand(stride * n)
    return tuple(axes)


def array_layout(code: Code, name: str) -> Layout | None:
    """Where an array lies; None if one of the views that it is an alias of would be a copy."""
    array = code.arrays[name]
    return Layout(name, ZERO, row_major(array.shape)) if array.alias is None else view_layout(code, array.alias)


def view_layout(code: Code, view: View) -> Layout | None:
    """Where a view lies; None if NumPy would have to copy to make it."""
    array = array_layout(code, view.array)
    if array is None:
        return None
    axes: Axes | None = array.axes
    if view.reshape is not None:
        axes = reshaped(array.axes, view.reshape)
        if axes is None:
            return None
    assert axes is not None
    offset, placed = array.offset, list(axes)
    for axis, size in view.windows:
        n, stride = placed[axis]
        placed[axis] = (n - size + 1, stride)
        placed.append((size, stride))
    if view.index:
        offset, placed = _indexed(offset, placed, view.index)
    if view.order is not None:
        placed = [placed[k] for k in view.order]
    for k in view.inserted:
        placed.insert(k, (ONE, ZERO))
    return Layout(array.root, offset, tuple(placed))


def _indexed(
    offset: Expr, axes: Sequence[tuple[Expr, Expr]], index: Sequence[Cut | Expr | None]
) -> tuple[Expr, list[tuple[Expr, Expr]]]:
    left: list[tuple[Expr, Expr]] = []
    for (n, stride), entry in zip(axes, index, strict=True):
        if entry is None:
            left.append((n, stride))
        elif isinstance(entry, Cut):
            offset = sp.expand(offset + entry.start * stride)
            left.append((entry.count, stride * entry.step))
        else:
            offset = sp.expand(offset + entry * stride)
    return offset, left


def reshaped(axes: Axes, shape: Shape) -> Axes | None:
    """The axes of a row-major reshape, None if it needs a copy."""
    runs = _runs(axes)
    result: list[tuple[Expr, Expr]] = []
    size, stride = runs.pop() if runs else (ONE, ONE)
    taken: Expr = ONE
    for n in reversed(shape):
        if n == 1:
            result.insert(0, (ONE, ONE))
            continue
        if taken == size:
            if not runs:
                return None
            (size, stride), taken = runs.pop(), ONE
        result.insert(0, (n, sp.expand(stride * taken)))
        taken = sp.expand(taken * n)
    return tuple(result) if taken == size and not runs else None


def _runs(axes: Axes) -> list[tuple[Expr, Expr]]:
    """The axes with neighbours merged where the outer one steps over the inner one exactly."""
    runs: list[tuple[Expr, Expr]] = []
    for n, stride in axes:
        if n == 1:
            continue
        if runs and sp.expand(stride * n) == runs[-1][1]:
            runs[-1] = (sp.expand(runs[-1][0] * n), stride)
        else:
            runs.append((sp.expand(n), stride))
    return runs

"""Boxes of an array's elements: what a cut view writes, and whether two of them meet."""

from __future__ import annotations

from collections.abc import Sequence

import sympy as sp
from sympy import Expr

from symgrad.lower.ir import Code, Cut, Shape, View, dims_product

Box = tuple[Cut, ...]


def _cut(entry: Cut | Expr | None, size: Expr) -> Cut:
    if entry is None:
        return Cut(sp.Integer(0), size)
    return entry if isinstance(entry, Cut) else Cut(entry, sp.Integer(1))


def disjoint(boxes: Sequence[Box]) -> bool:
    """Whether provably no two boxes have an element in common."""
    return all(_apart(a, b) for k, b in enumerate(boxes) for a in boxes[:k])


def cover(boxes: Sequence[Box], shape: Shape) -> bool:
    """Whether boxes that are disjoint make up the whole array."""
    elements = sp.Add(*(dims_product(tuple(cut.count for cut in box)) for box in boxes))
    return bool(sp.expand(elements - dims_product(shape)) == 0)


def _apart(a: Box, b: Box) -> bool:
    return any(_cuts_apart(x, y) for x, y in zip(a, b, strict=True))


def _cuts_apart(a: Cut, b: Cut) -> bool:
    if _ends_before(a, b) or _ends_before(b, a):
        return True
    gap = sp.expand(b.start - a.start)
    return bool(a.step == b.step and gap.is_Integer and gap % a.step)


def _ends_before(a: Cut, b: Cut) -> bool:
    return bool(sp.expand(b.start - a.start - (a.count - 1) * a.step).is_positive)


def written_box(code: Code, view: View, base: str) -> Box | None:
    """The elements of the array `base` that a view of it or of its views names; None if they are no box."""
    if base not in _chain(code, view):
        return None
    box, axes = _within(code, view, base)
    return box if axes is not None else None


def apart(code: Code, a: View, b: View) -> bool:
    """Whether provably no element is seen by both views, as far as cuts of an array that both are views of tell."""
    chain = _chain(code, b)
    common = next((name for name in _chain(code, a) if name in chain), None)
    return common is None or disjoint([_within(code, view, common)[0] for view in (a, b)])


def _chain(code: Code, view: View) -> list[str]:
    """The view's array, the array that this is a view of, and so on."""
    names = [view.array]
    while (alias := code.arrays[names[-1]].alias) is not None:
        names.append(alias.array)
    return names


def _within(code: Code, view: View, base: str) -> tuple[Box, list[int | None] | None]:
    """A box of the array `base` with all elements of the view; and for each axis of the view that of the base.

    The axes are None where a reshape leaves no simple correspondence.
    """
    alias = code.arrays[view.array].alias
    axes: list[int | None] | None
    if view.array == base or alias is None:
        shape = code.arrays[view.array].shape
        box, axes = tuple(_cut(None, n) for n in shape), list(range(len(shape)))
    else:
        box, axes = _within(code, alias, base)
    if view.reshape is not None or view.windows or axes is None:
        return box, None
    if view.index:
        box, axes = _narrowed(box, axes, view.index)
    if view.order is not None:
        axes = [axes[k] for k in view.order]
    for k in view.inserted:
        axes.insert(k, None)
    return box, axes


def _narrowed(box: Box, axes: Sequence[int | None], index: Sequence[Cut | Expr | None]) -> tuple[Box, list[int | None]]:
    cuts, left = list(box), []
    for axis, entry in zip(axes, index, strict=True):
        if axis is not None and entry is not None:
            old, new = cuts[axis], entry if isinstance(entry, Cut) else Cut(entry, sp.Integer(1))
            cuts[axis] = Cut(sp.expand(old.start + old.step * new.start), new.count, old.step * new.step)
        if entry is None or isinstance(entry, Cut):
            left.append(axis)
    return tuple(cuts), left

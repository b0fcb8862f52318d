"""Arrays of one shape as consecutive parts of one array, so that what is done to each can be done to all at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import sympy as sp
from sympy import Expr

from symgrad.lower.ir import Array, Code, Cut, Map, Shape, View, dims_product, whole
from symgrad.names import free_name
from symgrad.optimise.layout import Axes, Layout, row_major, view_layout
from symgrad.optimise.uses import make_alias, own_buffer


@dataclass(frozen=True)
class Column:
    """One operand of statements of one form: where each of them finds it, as rows of `rows` times `width` elements.

    `order` brings the statements into the order of memory; `root` is the array that holds all, None if the
    operands have yet to be brought together.
    """

    layouts: tuple[Layout, ...]
    rows: Expr
    width: Shape
    root: str | None

    @property
    def elements(self) -> Expr:
        return dims_product((self.rows, *self.width))


def column(code: Code, views: Sequence[View], leading: int = 1) -> Column | None:
    """The views as a column whose first `leading` axes are rows; None where they are no parts of that kind."""
    layouts = [view_layout(code, view) for view in views]
    first = layouts[0]
    if first is None:
        return None
    shape = tuple(n for n, _ in first.axes)
    found = [layout for layout in layouts if layout is not None and _axes_equal(layout.axes, row_major(shape))]
    if len(found) < len(layouts):
        return None
    roots = {layout.root for layout in found}
    rows, width = dims_product(shape[:leading]), shape[leading:]
    if len(roots) == 1:
        return Column(tuple(found), rows, width, found[0].root)
    alone = [_whole_buffer(code, layout, shape) for layout in found]
    same = len({(code.arrays[r].shape, code.arrays[r].dtype) for r in roots}) == 1
    return Column(tuple(found), rows, width, None) if all(alone) and same and len(roots) == len(found) else None


def _axes_equal(axes: Axes, packed: Axes) -> bool:
    return all(n == m and (n == 1 or s == t) for (n, s), (m, t) in zip(axes, packed, strict=True))


def _whole_buffer(code: Code, layout: Layout, shape: Shape) -> bool:
    size = dims_product(code.arrays[layout.root].shape)
    return own_buffer(code, layout.root) and sp.expand(size - dims_product(shape)) == 0


def memory_order(columns: Sequence[Column]) -> list[int] | None:
    """The order of the statements in which every column that lies in one array lies without gaps; None if none is."""
    order: list[int] | None = None
    for c in columns:
        if c.root is None:
            continue
        places = _places(c)
        if places is None:
            return None
        wanted = sorted(range(len(places)), key=places.__getitem__)
        if order not in (None, wanted):
            return None
        order = wanted
        if [places[k] for k in order] != list(range(places[order[0]], places[order[0]] + len(places))):
            return None
    return order if order is not None else list(range(len(columns[0].layouts)))


def _places(c: Column) -> list[int] | None:
    """Where each part lies, counted in parts."""
    places = [sp.cancel(layout.offset / c.elements) for layout in c.layouts]
    return [int(p) for p in places] if all(p.is_Integer for p in places) else None


def stacked(code: Code, c: Column, order: Sequence[int]) -> View:
    """All parts of the column as one view with merged rows; they are brought together first if they are apart."""
    root = c.root or _brought_together(code, [c.layouts[k].root for k in order])
    first = sp.Integer(0) if c.root is None else sp.cancel(c.layouts[order[0]].offset / c.elements)
    count = sp.expand(len(order) * c.rows)
    total = sp.cancel(dims_product(code.arrays[root].shape) / dims_product(c.width))
    shape, reshape = (count, *c.width), (sp.expand(total), *c.width)
    seen = None if reshape == code.arrays[root].shape else reshape
    if sp.expand(total - count) == 0:
        return View(root, shape, seen)
    index = (Cut(sp.expand(first * c.rows), count), *(None,) * len(c.width))
    return View(root, shape, seen, index=index)


def _brought_together(code: Code, names: Sequence[str]) -> str:
    """A new array of which the arrays become the parts."""
    like = code.arrays[names[0]]
    made = Array(
        free_name(f"{min(names, key=lambda n: (len(n), n))}_all", code.arrays),
        (sp.Integer(len(names)), *like.shape),
        like.dtype,
    )
    code.arrays[made.name] = made
    for k, name in enumerate(names):
        make_alias(code, name, View(made.name, like.shape, index=(sp.Integer(k), *(None,) * len(like.shape))))
    return made.name


def transposed(view: View) -> View:
    """The view of a matrix with its axes exchanged."""
    order = view.order or (0, 1)
    return replace(view, shape=view.shape[::-1], order=None if order == (1, 0) else (order[1], order[0]))


def copy_in_front(code: Code, array: str, axis: int) -> tuple[str, Map]:
    """A copy of the array with that axis first, and the statement that makes it."""
    source = code.arrays[array]
    order = (axis, *(k for k in range(len(source.shape)) if k != axis))
    made = Array(free_name(f"{array}_first", code.arrays), tuple(source.shape[k] for k in order), source.dtype)
    code.arrays[made.name] = made
    x = sp.Symbol("a0", real=True)
    return made.name, Map(whole(made), x, {x: View(array, made.shape, order=order)})


def parts_in_front(code: Code, c: Column, order: Sequence[int]) -> View | None:
    """All parts of the column with an axis in front that counts them; None if their array has no such axis."""
    shape = tuple(n for n, _ in c.layouts[0].axes)
    root = c.root or _brought_together(code, [c.layouts[k].root for k in order])
    array = code.arrays[root]
    if array.shape[1:] != shape:
        return None
    first = sp.Integer(0) if c.root is None else sp.cancel(c.layouts[order[0]].offset / c.elements)
    count = sp.Integer(len(order))
    index = () if count == array.shape[0] else (Cut(first, count), *(None,) * len(shape))
    return View(root, (count, *shape), index=index)

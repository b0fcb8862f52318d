"""Windows that a product reads along several axes: copied along all of them but the first.

    Y[o, h, w] = sum(c, p, q, K[o, c, p, q] X[c, s*h + p, w + q])       becomes

    R[i, c, q, w] = X[c, i, w + q]
    Y[o, h, w]    = sum(c, p, q, K[o, c, p, q] R[s*h + p, c, q, w])

The windows of one row are rows of R behind one another: a matrix that overlaps with that of the next row, so that
nothing more is copied (see `row_products`). The gradient by K reads the same rows.
"""

from __future__ import annotations

from collections.abc import Sequence

from sympy import Expr, Symbol

from symgrad.equations import Equation, System, equation
from symgrad.index.bounds import inside
from symgrad.index.definition import At, define, index_symbol
from symgrad.lower.copies import Copies, Copy, loops_in_order
from symgrad.lower.forms import is_window, product, replaced, windowed
from symgrad.lower.views import loops_of, position_loop


def window_rows(system: System) -> System:
    """The system with every such copy."""
    result = Copies(system, "window_rows", _rows).run()
    made = {e.name: [_of_the_first(result, e)] for e in result if e.name not in system.equations}
    return replaced(result, made).pruned()


def _of_the_first(system: System, e: Equation) -> Equation:
    """A copy of a shifted copy, as one of what that is a copy of."""
    at, source = e.definition.body, system.equations.get(e.operands[0])
    if source is None or source.solution is not None or not source.definition.elementwise or source.dtype != e.dtype:
        return e
    d, body = e.definition, source.definition.body
    if not isinstance(body, At) or body.view is not None:
        return e
    places = dict(zip(source.definition.write, at.index, strict=True))
    index = [i.xreplace(places) for i in body.index]
    if any(is_window(i, d.extents) or len(loops_of(i, d.extents)) > 1 for i in index):
        return e
    made = define(d.loops, d.shape, d.write, At(0, index))
    return equation(e.name, made, [source.source(body)], dtype=e.dtype, origin=e.origin, adjoint_of=e.adjoint_of)


def is_row_access(at: At, shape: Sequence[Expr], extents: dict[Symbol, Expr]) -> bool:
    """Whether windows slide over the first axis alone, forwards, and every other axis is read as it is."""
    if at.view is not None or not at.index or len(loops_of(at.index[0], extents)) != 2:
        return False
    row = at.index[0]
    position = position_loop(row, loops_of(row, extents), extents)
    others = at.index[1:]
    taps = [i for i in loops_of(row, extents) if i != position]
    plain = all(extents.get(e) == n for e, n in zip(others, shape[1:], strict=True)) and len(set(others)) == len(others)
    return position is not None and row.coeff(taps[0]) == 1 and plain and not set(others) & row.free_symbols


def _rows(system: System, e: Equation, at: At) -> Copy | None:
    extents = e.definition.extents
    shape = at.sizes(system.shape(e.source(at)))
    if not windowed(at, extents) or at.view is not None or not inside(at, shape, extents):
        return None
    axis = next(k for k, i in enumerate(at.index) if is_window(i, extents))
    sliding, loops, other = loops_of(at.index[axis], extents), loops_in_order(at, extents), _other(e, at)
    position = position_loop(at.index[axis], sliding, extents)
    if other is None or position is None or len(sliding) != 2 or len(set(loops)) != len(loops):
        return None
    (tap,) = (i for i in sliding if i != position)
    if at.index[axis].coeff(tap) != 1 or other.has(position) == other.has(tap):
        return None
    row = index_symbol("r0")
    rest = [i for i in loops if i not in sliding]
    moving = [i for i in rest if other.has(i) == other.has(position)]
    axes = (row, *(i for i in rest if i not in moving), *moving)
    source = tuple(row if k == axis else i for k, i in enumerate(at.index))
    same = tuple(j for k, i in enumerate(at.index) for j in ([row] if k == axis else [x for x in loops if i.has(x)]))
    return Copy(axes, {**extents, row: shape[axis]}, source, (at.index[axis], *axes[1:]), same)


def _other(e: Equation, at: At) -> At | None:
    """The other operand of the product, if no loop is a batch of products."""
    found = product(e)
    if found is None or len(found[1]) != 2 or not e.definition.gathers:
        return None
    others = [x for x in found[1] if x != at]
    batch = any(x.has(i) and at.has(i) for x in others for i in e.definition.write)
    return others[0] if len(others) == 1 and not batch else None

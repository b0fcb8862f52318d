"""Windows that a product reads, copied once, with the border of zeros that they reach into.

    Y[o, h] = sum(c, p, K[o, c, p] X[c, s*h + p - a])     becomes

    P[c, i]    = X[c, i - a]
    C[c, p, h] = P[c, s*h + p]
    Y[o, h]    = sum(c, p, K[o, c, p] C[c, p, h])         a product of matrices as they lie in memory

The gradient by K reads the same windows: it shares C.
"""

from __future__ import annotations

import sympy as sp
from sympy import Symbol

from symgrad.equations import Equation, System
from symgrad.index.bounds import inside
from symgrad.index.definition import At, index_symbol
from symgrad.lower.copies import Copies, Copy, loops_in_order
from symgrad.lower.forms import is_window, windowed
from symgrad.lower.views import loops_of, padding
from symgrad.lower.window_rows import is_row_access


def pad_windows(system: System) -> System:
    """Windows that reach outside, or lie in a tensor that is given, moved to a copy with a border."""
    return Copies(system, "padded", _bordered).run()


def copy_windows(system: System) -> System:
    """Every window in a product as an axis of its own of a copy."""
    return Copies(system, "columns", _columns).run()


def _bordered(system: System, e: Equation, at: At) -> Copy | None:
    extents, shape = e.definition.extents, at.sizes(system.shape(e.source(at)))
    given = e.source(at) in system.leaves
    if not windowed(at, extents) or (inside(at, shape, extents) and not given):
        return None
    reach = padding(at, shape, extents)
    axes = tuple(index_symbol(f"a{k}") for k in range(len(shape)))
    sizes = {i: sp.expand(n + a + b) for i, n, (a, b) in zip(axes, shape, reach, strict=True)}
    source = tuple(i - a for i, (a, _) in zip(axes, reach, strict=True))
    place = tuple(sp.expand(i + a) for i, (a, _) in zip(at.index, reach, strict=True))
    return Copy(axes, sizes, source, place, axes)


def _columns(system: System, e: Equation, at: At) -> Copy | None:
    """Offsets before positions, so that what lies together in the tensor stays together in the copy."""
    d = e.definition
    loops = loops_in_order(at, d.extents)
    given = e.source(at) in system.leaves
    rows = not given and is_row_access(at, at.sizes(system.shape(e.source(at))), d.extents)
    if rows or not windowed(at, d.extents) or len(set(loops)) != len(loops):
        return None
    moving = _moving(e, at)
    axes = (*(i for i in loops if i not in moving), *(i for i in loops if i in moving))
    return Copy(axes, d.extents, at.index, axes, tuple(loops))


def _moving(e: Equation, at: At) -> set[Symbol]:
    """The loops from one window to the next, and those of the axes behind the windows."""
    d = e.definition
    windows = [axis for axis, i in enumerate(at.index) if is_window(i, d.extents)]
    behind = {i for index in at.index[windows[0] :] for i in loops_of(index, d.extents) if i == index}
    return behind | {i for axis in windows for i in loops_of(at.index[axis], d.extents) if i in d.write}

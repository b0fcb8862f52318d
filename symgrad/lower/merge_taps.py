"""A convolution that only a pooling without overlap reads, done for all places of the window at once.

    Z[o, j] = sum(c, k, X[c, j + k] K[o, c, k]),   Y[o, h] = max(p, Z[o, s*h + p])        becomes

    T[o, p, c, p + k] = K[o, c, k]                         small: the filters at each place of the window
    Z[o, p, h]    = sum(c, u, X[c, s*h + u] T[o, p, c, u])
    Y[o, h]       = max(p, Z[o, p, h])

The windows of X are fewer by s per axis (and longer by s - 1), the product has s times as many rows, and the
pooling goes along an axis. With many filters the longer windows cost more than that saves.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import sympy as sp
from sympy import Expr, Symbol

from symgrad.equations import Equation, System, equation
from symgrad.index.definition import At, define, index_symbol
from symgrad.lower.forms import plain_axes, product
from symgrad.lower.views import loops_of
from symgrad.machine import LIMITS
from symgrad.names import free_name


@dataclass(frozen=True)
class Axis:
    """One axis that is pooled: the loops h and p of the pooling, j of the convolution, and its window k."""

    step: int
    h: Symbol
    p: Symbol
    j: Symbol
    k: Symbol
    count: Expr
    kernel: Expr


def merge_taps(system: System) -> System:
    """The network with every such pair rewritten."""
    for name in list(system.equations):
        e = system.equations[name]
        made = _merged(system, e)
        if made:
            equations = {n: q for n, q in system.equations.items() if n not in (name, made[1].name)}
            system = replace(system, equations=equations | {q.name: q for q in made}).sorted()
    return system


def _merged(system: System, pooling: Equation) -> tuple[Equation, Equation, Equation] | None:
    """(the spread filters, the convolution, the pooling)."""
    d = pooling.definition
    if pooling.solution is not None or not d.gathers or not d.reduced or not isinstance(d.body, At) or d.body.view:
        return None
    conv = system.equations.get(pooling.source(d.body))
    if conv is None or conv.name in system.wanted() or len(system.uses()[conv.name]) > 1:
        return None
    found = product(conv)
    if found is None or len(found[1]) != 2 or not conv.definition.gathers:
        return None
    for x, filters in (found[1], found[1][::-1]):
        axes = _axes(pooling, conv, x, filters)
        if axes and _few(conv, filters):
            return _rewritten(system, pooling, conv, (x, filters), axes, found[0])
    return None


def _few(conv: Equation, filters: At) -> bool:
    rows = sp.Mul(*(n for i, n in conv.definition.loops if i in conv.definition.write and filters.has(i)))
    return bool(rows.is_Integer) and rows <= LIMITS.filters


def _axes(pooling: Equation, conv: Equation, x: At, filters: At) -> list[Axis] | None:
    """What is pooled, if every axis either is pooled in this way or goes through as it is."""
    d, c = pooling.definition, conv.definition
    axes: list[Axis] = []
    if x.view is not None or filters.view is not None:
        return None
    for read, j, size in zip(d.body.index, c.write, c.shape, strict=True):
        if read in d.extents:
            if read not in d.write:
                return None
            continue
        loops = loops_of(read, d.extents)
        offsets = [i for i in loops if i not in d.write]
        if len(loops) != 2 or len(offsets) != 1:
            return None
        (p,), (h,) = offsets, [i for i in loops if i in d.write]
        step = d.extents[p]
        if not step.is_Integer or sp.expand(read - step * h - p) != 0:
            return None
        k = _kernel_loop(conv, x, filters, j)
        if k is None or not c.extents[k].is_Integer or not sp.expand(size - step * d.extents[h]).is_nonnegative:
            return None
        axes.append(Axis(int(step), h, p, j, k, d.extents[h], c.extents[k]))
    pooled = {axis.p for axis in axes}
    return axes if pooled == {i for i, _ in d.reduced} else None


def _kernel_loop(conv: Equation, x: At, filters: At, j: Symbol) -> Symbol | None:
    """The loop k of x[..., j + k - a, ...] that runs along an axis of the filters."""
    extents = conv.definition.extents
    indices = [e for e in x.index if e.has(j)]
    if len(indices) != 1 or filters.has(j):
        return None
    others = [i for i in loops_of(indices[0], extents) if i != j]
    if len(others) != 1 or indices[0].coeff(j) != 1 or indices[0].coeff(others[0]) != 1:
        return None
    alone = others[0] in plain_axes(filters.index, extents) and sum(e.has(others[0]) for e in x.index) == 1
    return others[0] if alone else None


def _rewritten(
    system: System, pooling: Equation, conv: Equation, pair: tuple[At, At], axes: list[Axis], scale: Expr
) -> tuple[Equation, Equation, Equation]:
    x, filters = pair
    c = conv.definition
    places = [index_symbol(f"p{n}") for n in range(len(axes))]
    rows = [index_symbol(f"h{n}") for n in range(len(axes))]
    longer = [index_symbol(f"u{n}") for n in range(len(axes))]
    taps = {axis.k: u for axis, u in zip(axes, longer, strict=True)}
    sizes = {u: axis.kernel + axis.step - 1 for axis, u in zip(axes, longer, strict=True)}
    sizes |= {p: sp.Integer(axis.step) for axis, p in zip(axes, places, strict=True)}
    sizes |= {h: axis.count for axis, h in zip(axes, rows, strict=True)}
    extents = {**c.extents, **sizes}
    own = [i for e in filters.index for i in loops_of(e, c.extents)]
    order = [*(i for i in own if i in c.write), *places, *(taps.get(i, i) for i in own if i not in c.write)]
    about = {"dtype": conv.dtype, "origin": conv.origin, "adjoint_of": conv.adjoint_of}
    name = free_name(f"{conv.source(filters)}_spread", {*system.leaves, *system.equations})
    spread = {u: axis.k + p for axis, u, p in zip(axes, longer, places, strict=True)}
    loops = [*((i, c.extents[i]) for i in own), *((p, sizes[p]) for p in places)]
    shape = [extents[i] for i in order]
    spreading = define(loops, shape, [i.xreplace(spread) for i in order], filters)
    filters_made = equation(name, spreading, conv.operands, **about)
    moved = {axis.j: axis.step * h for axis, h in zip(axes, rows, strict=True)} | taps
    reading = At(x.operand, [e.xreplace(moved) for e in x.index]) * At(len(conv.operands), order)
    first = min(c.write.index(axis.j) for axis in axes)
    change = {axis.j: h for axis, h in zip(axes, rows, strict=True)}
    write = [i.xreplace(change) for i in c.write]
    write = [*write[:first], *places, *write[first:]]
    gone = {axis.j for axis in axes} | {axis.k for axis in axes}
    loops = [*((i, n) for i, n in c.loops if i not in gone), *sizes.items()]
    conv_made = equation(
        conv.name,
        define(loops, [extents[i] for i in write], write, scale * reading),
        [*conv.operands, name],
        **about,
    )
    return filters_made, conv_made, _pooling(pooling, axes, first)


def _pooling(pooling: Equation, axes: list[Axis], first: int) -> Equation:
    d = pooling.definition
    by_place = {axis.h: axis for axis in axes}
    index = [next((i for i in loops_of(e, d.extents) if i in by_place), e) for e in d.body.index]
    index = [*index[:first], *(axis.p for axis in axes), *index[first:]]
    made = define(d.loops, d.shape, d.write, At(d.body.operand, index), d.reduction)
    return equation(
        pooling.name,
        made,
        pooling.operands,
        dtype=pooling.dtype,
        origin=pooling.origin,
        adjoint_of=pooling.adjoint_of,
    )

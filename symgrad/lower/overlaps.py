"""Adjoints of windows as one product and an addition of overlapping parts.

    dX[n, c, j] = sum(o, m, dY[n, o, j - m] K[o, c, m])      reads each dY once for every m

becomes

    G[c, m, n, h] = sum(o, K[o, c, m] dY[n, o, h])           one product, nothing copied
    dX[n, c, h + m] += G[c, m, n, h]                         strided parts added up

where G has no more elements than the windows of dY would have. A sum that is written at strided places is split
in the same way, so that there is one product for all offsets.
"""

from __future__ import annotations

from dataclasses import replace

import sympy as sp
from sympy import Expr, Symbol

from symgrad.equations import Equation, System, equation
from symgrad.index.definition import At, Definition, define, index_symbol
from symgrad.lower.forms import affine, product, replaced
from symgrad.lower.views import estimate, loops_of
from symgrad.names import free_name


def add_overlaps(system: System) -> System:
    """The system with every such sum split."""
    taken = {*system.leaves, *system.equations}
    made: dict[str, list[Equation]] = {}
    for e in system:
        scattered = _scattered(system, e)
        if scattered is not None and (split := _split(scattered, taken)):
            taken.add(split[0].name)
            made[e.name] = split
    return replaced(system, made)


def _scattered(system: System, e: Equation) -> Equation | None:
    """e as a sum written at h + m, if it is one, or is a correlation that is cheaper so."""
    found = product(e)
    if found is None or len(found[1]) != 2 or not all(map(affine, found[1])):
        return None
    if not e.definition.gathers:
        return None if any(w.has(At) for w in e.definition.write) else e
    return next((s for at in found[1] if (s := _turned(system, e, at))), None)


def _turned(system: System, e: Equation, at: At) -> Equation | None:
    """The correlation e with loops over what `at` reads in place of those over what is written."""
    d = e.definition
    shape = at.sizes(system.shape(e.source(at)))
    change: dict[Symbol, Expr] = {}
    sizes: dict[Symbol, Expr] = {}
    for read, n in zip(at.index, shape, strict=True):
        written = [i for i in loops_of(read, d.extents) if i in d.write]
        others = [i for i in loops_of(read, d.extents) if i not in d.write]
        if len(written) == 1 and len(others) == 1 and read.coeff(written[0]) == 1:
            alone = sum(e.has(written[0]) for x in d.accesses for e in x.index) == 1
            if not alone or not read.coeff(others[0]).is_negative:
                return None
            h = index_symbol(f"h{len(change)}")
            change[written[0]], sizes[h] = sp.expand(h - read + written[0]), n
        elif len(loops_of(read, d.extents)) > 1:
            return None
    if not change or not _cheaper(d, change, sizes, at):
        return None
    loops = [loop for loop in d.loops if loop[0] not in change]
    body = d.body.xreplace(change).replace(lambda x: isinstance(x, At), _expanded)
    write = [w.xreplace(change) for w in d.write]
    return replace(e, definition=Definition((*loops, *sizes.items()), d.shape, tuple(write), "sum", body))


def _expanded(at: At) -> At:
    return At(at.operand, [sp.expand(e) for e in at.index], at.view)


def _cheaper(d: Definition, change: dict[Symbol, Expr], sizes: dict[Symbol, Expr], at: At) -> bool:
    """Whether the parts to be added have no more elements than the windows to be copied."""
    summed = [i for i, _ in d.reduced if i in at.index]
    kept = [n for i, n in d.loops if i not in change and i not in summed]
    windows = [n for i, n in d.loops if at.has(i)]
    return _count([*kept, *sizes.values()]) <= _count(windows)


def _count(sizes: list[Expr]) -> int:
    return int(sp.Mul(*(sp.Integer(estimate(n)) for n in sizes)))


def _split(e: Equation, taken: set[str]) -> list[Equation] | None:
    """The product, and the sum of its parts at the places where they are written."""
    d = e.definition
    summed = [i for i, _ in d.loops if not any(w.has(i) for w in d.write)]
    found = product(e)
    if not summed or found is None or not all(any(at.has(i) for at in found[1]) for i in d.extents):
        return None
    few, many = sorted(found[1], key=lambda at: (_count([d.extents[i] for i in loops_of(at, d.extents)]), str(at)))
    found_loops = [i for at in (few, many) for read in at.index for i in loops_of(read, d.extents) if i not in summed]
    axes = list(dict.fromkeys(found_loops))
    sizes = [d.extents[i] for i in axes]
    name = free_name(f"{e.name}_parts", taken)
    parts = define(d.loops, sizes, axes, d.body)
    joined = define([(i, d.extents[i]) for i in axes], d.shape, d.write, At(0, axes))
    about = {"dtype": e.dtype, "origin": e.origin, "adjoint_of": e.adjoint_of}
    return [equation(name, parts, e.operands, **about), equation(e.name, joined, [name], **about)]

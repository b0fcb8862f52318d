"""Adjoints of windows as one product and an addition of overlapping parts.

    dX[n, c, j] = sum(o, m, dY[n, o, j - m] K[o, c, m])      reads each dY once for every m

becomes

    G[c, m, n, h] = sum(o, K[o, c, m] dY[n, o, h])           one product, nothing copied
    dX[n, c, h + m] += G[c, m, n, h]                         strided parts added up

where G has no more elements than the windows of dY would have. A sum that is written at strided places is split
in the same way, so that there is one product for all offsets.

Where windows slide along several axes, the first of them may stay as it is: there a product goes through dY with a
border of zeros, and there are fewer parts to be added. The border costs few multiplications where dY has many rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import sympy as sp
from sympy import Expr, Symbol

from symgrad.equations import Equation, System, equation
from symgrad.index.definition import At, Definition, define, index_symbol
from symgrad.lower.forms import affine, product, replaced
from symgrad.lower.views import loops_of
from symgrad.machine import LIMITS, estimate
from symgrad.names import free_name


def add_overlaps(system: System) -> System:
    """The system with every such sum split."""
    return _all_split(system, _scattered)


def overlap_rows(system: System) -> System:
    """The system with every such sum over several sliding axes split along all of these but the first one."""
    return _all_split(system, _scattered_in_rows)


def _all_split(system: System, scattered: Callable[[System, Equation], Equation | None]) -> System:
    taken = {*system.leaves, *system.equations}
    made: dict[str, list[Equation]] = {}
    for e in system:
        turned = scattered(system, e)
        if turned is not None and (split := _split(turned, taken)):
            taken.add(split[0].name)
            made[e.name] = split
    return replaced(system, made)


def _scattered_in_rows(system: System, e: Equation) -> Equation | None:
    """e with its first sliding axis running forwards, and written at the overlapping parts of the other ones."""
    found = product(e)
    if found is None or len(found[1]) != 2 or not all(map(affine, found[1])) or not e.definition.gathers:
        return None
    for at in found[1]:
        turn = _turn(system, e, at)
        row = next(iter(turn.change), None) if turn is not None else None
        if turn is None or row is None or len(turn.change) < 2 or not _small_border(e.definition, turn, row):
            continue
        tap = turn.taps.pop(row)
        turn.sizes.pop(turn.places.pop(row))
        del turn.change[row]
        change = {tap: e.definition.extents[tap] - 1 - tap}
        reversed_row = replace(e, definition=replace(e.definition, body=_changed(e.definition.body, change)))
        return _along(reversed_row, turn)
    return None


def _small_border(d: Definition, turn: _Turn, row: Symbol) -> bool:
    rows, border = turn.sizes[turn.places[row]], d.extents[turn.taps[row]] - 1
    return bool(rows.is_Integer and border.is_Integer) and border <= LIMITS.border * rows


def _scattered(system: System, e: Equation) -> Equation | None:
    """e as a sum written at h + m, if it is one, or is a correlation that is cheaper so."""
    found = product(e)
    if found is None or len(found[1]) != 2 or not all(map(affine, found[1])):
        return None
    if not e.definition.gathers:
        return None if any(w.has(At) for w in e.definition.write) else e
    return next((s for at in found[1] if (s := _turned(system, e, at))), None)


@dataclass
class _Turn:
    """Loops over what is read in place of those over what is written.

    Attributes:
        change: loop written -> what it becomes; sizes: new loop -> its extent.
        places: loop written -> the new loop; taps: loop written -> the loop of the window.
    """

    change: dict[Symbol, Expr] = field(default_factory=dict)
    sizes: dict[Symbol, Expr] = field(default_factory=dict)
    places: dict[Symbol, Symbol] = field(default_factory=dict)
    taps: dict[Symbol, Symbol] = field(default_factory=dict)


def _turned(system: System, e: Equation, at: At) -> Equation | None:
    """The correlation e with loops over what `at` reads in place of those over what is written."""
    turn = _turn(system, e, at)
    if turn is None or not turn.change or not _cheaper(e.definition, turn.change, turn.sizes, at):
        return None
    return _along(e, turn)


def _turn(system: System, e: Equation, at: At) -> _Turn | None:
    d = e.definition
    shape = at.sizes(system.shape(e.source(at)))
    turn = _Turn()
    for read, n in zip(at.index, shape, strict=True):
        written = [i for i in loops_of(read, d.extents) if i in d.write]
        others = [i for i in loops_of(read, d.extents) if i not in d.write]
        if len(written) == 1 and len(others) == 1 and read.coeff(written[0]) == 1:
            alone = sum(e.has(written[0]) for x in d.accesses for e in x.index) == 1
            if not alone or not read.coeff(others[0]).is_negative:
                return None
            h = index_symbol(f"h{len(turn.change)}")
            turn.change[written[0]], turn.sizes[h] = sp.expand(h - read + written[0]), n
            turn.places[written[0]], turn.taps[written[0]] = h, others[0]
        elif len(loops_of(read, d.extents)) > 1:
            return None
    return turn


def _along(e: Equation, turn: _Turn) -> Equation:
    """e, written where what it reads goes."""
    d = e.definition
    loops = [loop for loop in d.loops if loop[0] not in turn.change]
    write = [w.xreplace(turn.change) for w in d.write]
    body = _changed(d.body, turn.change)
    return replace(e, definition=Definition((*loops, *turn.sizes.items()), d.shape, tuple(write), "sum", body))


def _changed(body: Expr, change: Mapping[Symbol, Expr]) -> Expr:
    return body.xreplace(dict(change)).replace(lambda x: isinstance(x, At), _expanded)


def _expanded(at: At) -> At:
    return At(at.operand, [sp.expand(e) for e in at.index], at.view)


def _cheaper(d: Definition, change: dict[Symbol, Expr], sizes: dict[Symbol, Expr], at: At) -> bool:
    """Whether the parts to be added have no more elements than the windows to be copied."""
    summed = [i for i, _ in d.reduced if i in at.index]
    kept = [n for i, n in d.loops if i not in change and i not in summed]
    windows = [n for i, n in d.loops if at.has(i)]
    return _count([*kept, *sizes.values()]) <= _count(windows)


def _count(sizes: list[Expr]) -> int:
    return estimate(sp.Mul(*sizes))


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

"""Comparisons that several equations make, made once: which elements attain a maximum, and how many.

The mask is an array of booleans with an axis for each loop of the comparison, those that move within a window first.
"""

from __future__ import annotations

import sympy as sp
from sympy import Expr, Symbol
from sympy.core.relational import Relational

from symgrad.equations import Equation, System, equation
from symgrad.index.definition import At, Definition, define, outermost
from symgrad.lower.copies import loops_in_order
from symgrad.lower.forms import is_window, replaced
from symgrad.names import free_name
from symgrad.simplify.substitute import Operands, rebuilt

Key = tuple[tuple[str, ...], Definition]


def share_masks(system: System) -> System:
    """The system with each mask of several loops that two equations or more have as a tensor of its own."""
    uses: dict[Key, set[str]] = {}
    for e in system:
        for mask in _masks(e):
            uses.setdefault(_key(e, mask)[0], set()).add(e.name)
    shared = {key for key, names in uses.items() if len(names) > 1}
    taken = {*system.leaves, *system.equations}
    known: dict[Key, tuple[str, list[int]]] = {}
    made: dict[str, list[Equation]] = {}
    for e in system:
        new: list[Equation] = []
        operands = Operands(e.operands)
        change: dict[Expr, Expr] = {}
        for mask in _masks(e):
            key, same = _key(e, mask)
            if key not in shared:
                continue
            if key not in known:
                name = free_name(f"{e.name}_mask", taken)
                taken.add(name)
                axes = _axes(e, mask, same)
                new.append(_mask(e, mask, name, axes))
                known[key] = name, [same.index(i) for i in axes]
            name, order = known[key]
            change[mask] = At(operands.number(name), [same[k] for k in order])
        if change:
            made[e.name] = [*new, rebuilt(e, e.definition.body.xreplace(change), operands)]
    return replaced(system, made)


def _masks(e: Equation) -> list[Expr]:
    """The factors of the body that are 1 where one comparison of two elements holds, and 0 elsewhere."""
    if e.solution is not None:
        return []
    found = []
    for p in sp.Mul.make_args(e.definition.body):
        if isinstance(p, sp.Piecewise) and [value for value, _ in p.args] == [1, 0] and _plain(p.args[0][1]):
            found.append(p)
    return found


def _plain(condition: Expr) -> bool:
    sides = condition.args if isinstance(condition, Relational) else ()
    return len(sides) == 2 and all(isinstance(side, At) and not any(i.has(At) for i in side.index) for side in sides)


def _key(e: Equation, mask: Expr) -> tuple[Key, list[Symbol]]:
    """What is compared, in terms that do not depend on the equation, and its loops in that order."""
    longest = max(outermost(mask), key=lambda at: (len(at.free_symbols), sp.default_sort_key(at)))
    loops = loops_in_order(longest, e.definition.extents)
    loops += sorted((mask.free_symbols & e.definition.extents.keys()) - set(loops), key=str)
    made = _mask(e, mask, "", loops)
    return (made.operands, made.definition), loops


def _axes(e: Equation, mask: Expr, loops: list[Symbol]) -> list[Symbol]:
    """The loops, those first that only move within a window."""
    extents = e.definition.extents
    plain = {i for at in outermost(mask) for i in at.index if i in extents}
    slides = [i for i in loops if i not in plain]
    windows = [index for at in outermost(mask) for index in at.index if is_window(index, extents)]
    return [*slides, *(i for i in loops if i not in slides)] if windows else loops


def _mask(e: Equation, mask: Expr, name: str, axes: list[Symbol]) -> Equation:
    extents = e.definition.extents
    loops = [(i, extents[i]) for i in axes]
    definition = define(loops, [n for _, n in loops], axes, mask)
    return equation(name, definition, e.operands, dtype="bool", origin=e.origin, adjoint_of=e.adjoint_of)

"""What every part of a scatter shares, computed once: factors that do not depend on the offset of the part."""

from __future__ import annotations

import sympy as sp
from sympy import Expr

from symgrad.equations import Equation, System, equation
from symgrad.index.definition import At, define
from symgrad.lower.forms import replaced
from symgrad.lower.views import loops_of, position_loop
from symgrad.names import free_name
from symgrad.simplify.substitute import Operands


def share_invariant(system: System) -> System:
    """The system with such factors in equations of their own."""
    taken = {*system.leaves, *system.equations}
    made: dict[str, list[Equation]] = {}
    for e in system:
        split = _split(e, taken)
        if split:
            made[e.name] = split
            taken.add(split[0].name)
    return replaced(system, made)


def _split(e: Equation, taken: set[str]) -> list[Equation] | None:
    d = e.definition
    if e.solution is not None or d.gathers or any(w.has(At) for w in d.write):
        return None
    positions = [position_loop(w, loops_of(w, d.extents), d.extents) for w in d.write]
    offsets = {i for i in d.extents if i not in positions}
    alone = [f for f in sp.Mul.make_args(d.body) if not f.free_symbols & offsets]
    value: Expr = sp.Mul(*alone)
    if not value.has(At) or isinstance(value, At):
        return None
    axes = [i for i, _ in d.loops if value.has(i)]
    loops = [(i, d.extents[i]) for i in axes]
    about = {"dtype": e.dtype, "origin": e.origin, "adjoint_of": e.adjoint_of}
    name = free_name(f"{e.name}_each", taken)
    first = equation(name, define(loops, [n for _, n in loops], axes, value), e.operands, **about)
    operands = Operands(e.operands)
    rest = sp.Mul(*(f for f in sp.Mul.make_args(d.body) if f not in alone)) * At(operands.number(name), axes)
    second = define(d.loops, d.shape, d.write, rest, d.reduction)
    return [first, equation(e.name, second, operands.names, **about)]

"""Sums of products in terms of smaller sums that are there: sum over n, j of q[n,j] v[j] as sum over j of v[j] S[j].

S[j], the sum over n of q[n,j], is what some gradient has a multiple of: the loss need not go through q again.
"""

from __future__ import annotations

import sympy as sp
from sympy import Expr

from symgrad.equations import Equation, System, equation
from symgrad.index.definition import At, Definition, define
from symgrad.names import free_name
from symgrad.simplify.substitute import Operands, substitute

Key = tuple[Definition, tuple[str, ...], str]


def share_sums(system: System) -> System:
    """The system with the sums over everything written in sums that other equations are multiples of."""
    known: dict[Key, str] = {}
    for e in system:
        if _is_sum(e) and e.definition.write and set(e.definition.write) <= set(e.definition.extents):
            known.setdefault(_bare(e).key, e.name)
    result = system.copy()
    for e in system:
        if _is_sum(e) and not e.definition.write and len(e.definition.reduced) > 1:
            _share(result, e, known)
    return result.sorted()


def _is_sum(e: Equation) -> bool:
    return e.solution is None and e.definition.reduction == "sum" and bool(e.definition.reduced) and e.dtype == "float"


def _bare(e: Equation) -> Equation:
    """A sum without name and numeric factor."""
    d = e.definition
    return equation("", define(d.loops, d.shape, d.write, _parts(e)[1]), e.operands)


def _parts(e: Equation) -> tuple[Expr, Expr]:
    """The factor of e's body that is a number, and the rest."""
    scale, rest = e.definition.body.as_independent(At, *e.definition.extents, as_Add=False)
    return scale, rest


def _share(system: System, e: Equation, known: dict[Key, str]) -> None:
    sources = {k: system.equations[k] for k in e.operands if k in system.equations}
    plain = {k: s for k, s in sources.items() if s.definition.elementwise and isinstance(s.definition.body, sp.Mul)}
    for opened in (e, substitute(system, e, plain)):
        if _shared(system, opened, known):
            return


def _shared(system: System, e: Equation, known: dict[Key, str]) -> bool:
    d = e.definition
    loops = {i for i, _ in d.loops}
    factors = sp.Mul.make_args(d.body)
    small = [f for f in factors if not loops <= f.free_symbols]
    large = [f for f in factors if loops <= f.free_symbols]
    outer = sp.Mul(*small)
    kept = [(i, n) for i, n in d.loops if i in outer.free_symbols]
    if not large or not kept:
        return False
    index, sizes = [i for i, _ in kept], [n for _, n in kept]
    loops_in_order = [*kept, *(loop for loop in d.loops if loop not in kept)]
    inner = equation("", define(loops_in_order, sizes, index, sp.Mul(*large)), e.operands)
    holder = known.get(inner.key)
    if holder is None:
        return False
    owner = system.equations[holder]
    remarks = {"origin": owner.origin, "adjoint_of": owner.adjoint_of}
    name = holder
    scale, _ = _parts(owner)
    if scale != 1:
        name = free_name(f"{holder}_sum", system)
        system.add(equation(name, inner.definition, inner.operands, **remarks))
        o = owner.definition
        o_kept = [loop for loop in o.loops if loop[0] in o.write]
        system.add(equation(holder, define(o_kept, o.shape, o.write, scale * At(0, o.write)), [name], **remarks))
        known[inner.key] = name
    operands = Operands(e.operands)
    value = outer * At(operands.number(name), index)
    made = define(kept, d.shape, d.write, value, "sum")
    system.add(equation(e.name, made, operands.names, dtype=e.dtype, origin=e.origin, adjoint_of=e.adjoint_of))
    return True

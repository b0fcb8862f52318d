"""Factors of few elements pulled out of large products: v of e[n,j] = v[j] q[n,j] is multiplied where e is read.

A product that reads e has often another such factor, with which v is combined before; a sum over n of what e is a
factor of is v[j] times the sum with q.
"""

from __future__ import annotations

from collections.abc import Sequence

import sympy as sp
from sympy import Expr, Symbol

from symgrad.equations import Equation, System, equation
from symgrad.index.bounds import inside
from symgrad.index.definition import At, define
from symgrad.machine import LIMITS
from symgrad.names import free_name
from symgrad.simplify.scalar_cost import is_plain, passes
from symgrad.simplify.substitute import Operands, rebuilt


def pull_factors(system: System) -> System:
    """The system with every factor pulled out of the products that become cheaper so, together with their readers."""
    for name in list(system.equations):
        system = _pulled(system, name)
    return system.sorted()


def _pulled(system: System, name: str) -> System:
    e = system.equations[name]
    if not is_plain(e) or name in system.wanted() or not isinstance(e.definition.body, sp.Mul):
        return system
    loops = {i for i, _ in e.definition.loops}
    small = [f for f in e.definition.body.args if not loops <= f.free_symbols]
    large = [f for f in e.definition.body.args if loops <= f.free_symbols]
    if not any(f.has(At) for f in small) or not large or (len(large) == 1 and isinstance(large[0], At)):
        return system
    factor = sp.Mul(*small)
    changed = [rebuilt(e, sp.Mul(*large), Operands(e.operands))]
    result = system.copy()
    result.add(changed[0])
    readers = [system.equations[user] for user in system.uses()[name]]
    for reader in readers:
        made = reading(result, reader, e, factor)
        if not made:
            return system
        for part in made:
            result.add(part)
        changed += [part for part in made if is_plain(part)]
    before = passes(e, *(r for r in readers if is_plain(r)))
    return result if passes(*changed) <= before - LIMITS.pull_gain else system


def reading(system: System, reader: Equation, e: Equation, factor: Expr) -> list[Equation]:
    """The reader with `factor` times the elements of e; for a sum, the sum without it too. Empty if that cannot be."""
    if reader.solution is not None or reader.dtype != "float":
        return []
    reads = [at for at in reader.definition.accesses if reader.source(at) == e.name]
    if any(at.view is not None or not all(i.is_Symbol for i in at.index) for at in reads):
        return []
    extents = reader.definition.extents  # outside, e is 0: the product with the factor need not be
    if not all(inside(at, e.shape, extents) for at in reads):
        return []
    if is_plain(reader):
        operands = Operands(reader.operands)
        change = {at: at * _at_place(e, at, factor, operands) for at in reads}
        return [rebuilt(reader, reader.definition.body.xreplace(change), operands)]
    return _sum_without(system, reader, e, factor, reads)


def _at_place(e: Equation, at: At, factor: Expr, operands: Operands) -> Expr:
    loops = [i for i, _ in e.definition.loops]
    order = dict(zip(e.definition.write, at.index, strict=True))
    return operands.adopt(factor, e.operands).xreplace({i: order[i] for i in loops})


def _sum_without(system: System, reader: Equation, e: Equation, factor: Expr, reads: Sequence[At]) -> list[Equation]:
    d = reader.definition
    factors = sp.Mul.make_args(d.body)
    if d.reduction != "sum" or len(reads) != 1 or reads[0] not in factors or not set(d.write) <= set(d.extents):
        return []
    operands = Operands(reader.operands)
    outer = _at_place(e, reads[0], factor, operands)
    bound = {i for i, _ in d.reduced}
    if outer.free_symbols & bound or len(set(d.write)) != len(d.write):
        return []
    name = free_name(f"{reader.name}_sum", system)
    remarks = {"origin": reader.origin, "adjoint_of": reader.adjoint_of}
    inner = equation(name, d, reader.operands, **remarks)
    kept: list[tuple[Symbol, Expr]] = [(i, n) for i, n in d.loops if i not in bound]
    operands = Operands(())
    outer = operands.adopt(factor, e.operands)
    order = dict(zip(e.definition.write, reads[0].index, strict=True))
    body = outer.xreplace(order) * At(operands.number(name), d.write)
    return [inner, equation(reader.name, define(kept, d.shape, d.write, body), operands.names, **remarks)]

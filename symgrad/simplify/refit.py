"""Functions kept in the form that makes their readers cheapest: (1 + tanh u)/2 rather than tanh u, for gelu.

A function f that several equations read is kept as a*f + b where that saves passes; a product that an equation holds
already is read by others instead of its factors.
"""

from __future__ import annotations

from collections.abc import Iterator

import sympy as sp
from sympy import Expr

from symgrad.equations import Equation, System
from symgrad.index.bounds import inside
from symgrad.index.definition import At
from symgrad.machine import LIMITS
from symgrad.simplify.scalar_cost import is_plain, passes
from symgrad.simplify.substitute import Operands, rebuilt


def refit_functions(system: System) -> System:
    """The system with its shared functions, and products of them, in the forms that save passes."""
    for name in list(system.equations):
        system = _refitted(system, name)
    return system


def _refitted(system: System, name: str) -> System:
    f = system.equations[name]
    readers = [system.equations[user] for user in system.uses()[name]]
    fits = is_plain(f) and name not in system.wanted() and len(readers) > 1 and all(map(is_plain, readers))
    if not fits or not isinstance(f.definition.body, sp.Function) or not all(_reads_inside(e, f) for e in readers):
        return system
    names = [name, *(e.name for e in readers)]
    best, least = system, _passes(system, names) - LIMITS.refit_gain
    for scale, shift in [(sp.Integer(1), sp.Integer(0)), *dict.fromkeys(_images(f, readers))]:
        tried = _with_products(_scaled(system, f, readers, scale, shift), names)
        if (cost := _passes(tried, names)) <= least:
            best, least = tried, cost - LIMITS.refit_gain / 2
    return best


def _reads_inside(e: Equation, f: Equation) -> bool:
    """Whether e reads no zeros outside of f, which stay 0 when f is shifted."""
    extents = e.definition.extents
    reads = [at for at in e.definition.body.atoms(At) if e.source(at) == f.name]
    return all(inside(at, f.shape, extents) for at in reads)


def _passes(system: System, names: list[str]) -> float:
    return passes(*(system.equations[name] for name in names))


def _images(f: Equation, readers: list[Equation]) -> Iterator[tuple[Expr, Expr]]:
    """The (a, b) for which a*f + b stands in a reader."""
    for e in readers:
        for total in sorted(e.definition.body.atoms(sp.Add), key=sp.default_sort_key):
            shift, rest = total.as_coeff_Add()
            scale, at = rest.as_coeff_Mul()
            if shift != 0 and isinstance(at, At) and e.source(at) == f.name:
                products = [p for p in e.definition.body.atoms(sp.Mul) if total in p.args]
                numbers = {sp.Integer(1), *(p.as_coeff_Mul()[0] for p in products)}
                yield from ((scale * c, shift * c) for c in sorted(numbers, key=sp.default_sort_key))


def _scaled(system: System, f: Equation, readers: list[Equation], scale: Expr, shift: Expr) -> System:
    """The system with scale*f + shift in the place of f."""
    if (scale, shift) == (1, 0):
        return system
    result = system.copy()
    result.add(rebuilt(f, scale * f.definition.body + shift, Operands(f.operands)))
    for e in readers:
        change = {at: (at - shift) / scale for at in e.definition.accesses if e.source(at) == f.name}
        body = e.definition.body.xreplace(change)
        body = body.replace(lambda part, e=e: _is_polynomial(e, part, f.name), sp.factor)
        result.add(rebuilt(e, body, Operands(e.operands)))
    return result


def _is_polynomial(e: Equation, part: Expr, name: str) -> bool:
    """Whether a sum is one of powers of the tensor `name` alone."""
    if not isinstance(part, sp.Add):
        return False
    read = part.atoms(At)
    return bool(read) and all(e.source(at) == name for at in read) and part.is_polynomial(*read)


def _with_products(system: System, names: list[str]) -> System:
    """The equations `names` reading the products that others of them hold."""
    order = list(system.equations)
    result = system
    for name in sorted(names, key=order.index):
        for user in sorted(names, key=order.index):
            if order.index(name) < order.index(user):
                changed = _reading(result.equations[user], result.equations[name])
                if changed is not None and passes(changed) <= passes(result.equations[user]) - LIMITS.refit_gain:
                    result = result.copy()
                    result.add(changed)
    return result


def _reading(e: Equation, product: Equation) -> Equation | None:
    """e with the value of `product` for the factors of which this consists; None if e does not multiply them."""
    number, rest = product.definition.body.as_coeff_Mul()
    factors = sp.Mul.make_args(rest)
    plain = all(isinstance(at, At) and at.index == product.definition.write for at in factors)
    if len(factors) < 2 or not plain or product.shape != e.shape or product.definition.write != e.definition.write:
        return None
    operands = Operands(e.operands)
    wanted = [operands.adopt(at, product.operands) for at in factors]
    value = At(operands.number(product.name), e.definition.write)

    def change(*found: Expr) -> Expr:
        left = list(found)
        for factor in wanted:
            if factor not in left:
                return sp.Mul(*found)
            left.remove(factor)
        return sp.Mul(value, *left) / number

    body = e.definition.body.replace(sp.Mul, change)
    return rebuilt(e, body, operands) if body != e.definition.body else None

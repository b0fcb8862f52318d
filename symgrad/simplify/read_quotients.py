"""What is divided anyway is read in place of what is divided: e = q s, if q = e/s is there.

Then the gradient of a softmax q = e/s, where s is the sum of e, loses its quotients, since s cancels:

    t = sum of d e;   (d/s - t/s**2) e        becomes        t = sum of d q;   (d - t) q

and nobody needs e any more, so that q may lie in its memory. Only divisors are multiplied by: nothing is divided anew.
"""

from __future__ import annotations

from collections.abc import Collection

import sympy as sp
from sympy import Expr

from symgrad.equations import Equation, System
from symgrad.index.definition import At
from symgrad.machine import LIMITS
from symgrad.simplify.nested import nested
from symgrad.simplify.pull_factors import reading
from symgrad.simplify.scalar_cost import is_plain, passes
from symgrad.simplify.substitute import Operands, rebuilt, substitute


def read_quotients(system: System) -> System:
    """The system with the quotients read where that saves passes."""
    for name in list(system.equations):
        divisor = _divisor(system.equations[name]) if name in system.equations else None
        if divisor is not None:
            system = _read(system, system.equations[name], *divisor)
    return system.sorted()


def _divisor(q: Equation) -> tuple[str, Expr] | None:
    """The tensor that q divides, element by element, and what by; None if q is no quotient by fewer elements."""
    if not is_plain(q):
        return None
    d = q.definition
    factors = sp.Mul.make_args(d.body)
    top = [f for f in factors if isinstance(f, At) and f.index == d.write and f.view is None]
    below = [1 / f for f in factors if f not in top]
    divides = below and all(isinstance(f, At) and f.view is None and set(f.index) < set(d.write) for f in below)
    return (q.source(top[0]), sp.Mul(*below)) if divides and len(top) == 1 else None


def _read(system: System, q: Equation, dividend: str, divisor: Expr) -> System:
    before = system.needed_for([q.name])
    users = [system.equations[user] for user in system.uses()[dividend] if user not in before]
    if not users or any(q.name in user.operands for user in users):
        return system
    result = system.copy()
    changed: set[str] = set()
    for user in users:
        at = {at: At(at.operand, at.index) for at in user.definition.accesses if user.source(at) == dividend}
        renamed = rebuilt(user, user.definition.body.xreplace(at), Operands(_replaced(user.operands, dividend, q.name)))
        made = [] if user.solution is not None else reading(result, renamed, q, divisor)
        if not made:
            return system
        changed.update(result.add(part).name for part in made)
    result = _written_out(result.sorted(), q, changed)
    return result if _cost(result, system) <= _cost(system, result) - LIMITS.pull_gain else system


def _replaced(names: tuple[str, ...], old: str, new: str) -> tuple[str, ...]:
    return tuple(new if name == old else name for name in names)


def _written_out(system: System, q: Equation, changed: Collection[str]) -> System:
    """The system with the `changed` equations of few elements written into the elementwise ones that read them."""
    result = system.copy()
    small: dict[str, Equation] = {}
    for e in system:
        sources = {k: small[k] for k in e.operands if k in small}
        if is_plain(e) and sources:
            opened = substitute(result, e, sources)
            e = result.add(rebuilt(opened, _nested(opened.definition.body), Operands(opened.operands)))
        if is_plain(e) and len(e.shape) < len(q.shape) and (sources or e.name in changed):
            small[e.name] = e
    return result.pruned()


def _nested(body: Expr) -> Expr:
    """The body with common factors taken out, so that what they multiply may cancel them."""
    symbols = {at: sp.Dummy(real=True) for at in sorted(body.atoms(At), key=sp.default_sort_key)}
    return nested(body.xreplace(symbols)).xreplace({symbol: at for at, symbol in symbols.items()})


def _cost(system: System, other: System) -> float:
    """Passes over an array of the elementwise equations that are not in the other system."""
    changed = [e for e in system if is_plain(e) and other.equations.get(e.name) != e]
    return passes(*changed) if changed else 0.0

"""Adjoints through composite ops in closed form, where that needs fewer sums inside sums.

Layer norm's input gradient, derived equation by equation, is a sum over an adjoint that contains a sum. Closed over
the network's own values it is three terms side by side.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from sympy import Expr

from symgrad.algebra.closed import Closed
from symgrad.algebra.contractions import Contractions
from symgrad.algebra.inverses import Facts
from symgrad.algebra.naming import heads, nesting
from symgrad.algebra.normal import expanded, normal
from symgrad.algebra.tidy import tidied
from symgrad.equations import Equation, System
from symgrad.formula.indexed import Element, Reduction, substituted
from symgrad.formula.symbols import whole_adjoints

MOST_EQUATIONS = 12  # in one adjoint; beyond that a closed form helps nobody


def shorten_adjoints(system: System, forward: System) -> System:
    """Replace the adjoint of each network tensor by its closed form where sums stand less deep in that."""
    whole = whole_adjoints(system)
    nodes = {name for name, e in forward.equations.items() if e.origin == name} | forward.leaves.keys()
    ends = {name for name, tensor in whole.items() if tensor in nodes} | set(system.gradients.values())
    result = system.copy()
    for name in [n for n in system.equations if n in ends]:
        inner = _inner(system, name, ends | forward.equations.keys())
        if 1 < len(inner) <= MOST_EQUATIONS and all(_plain(system.equations[n]) for n in inner):
            result = _shortened(result, forward, name, ends, inner)
    return result.sorted().pruned()


def _inner(system: System, name: str, ends: Collection[str]) -> list[str]:
    """The equation and those that it alone rests on, down to `ends`."""
    found, stack = [name], [name]
    while stack:
        for operand in system.equations[stack.pop()].operands:
            if operand in system.equations and operand not in ends and operand not in found:
                found.append(operand)
                stack.append(operand)
    return found


def _plain(e: Equation) -> bool:
    return e.solution is None and e.definition.gathers and e.definition.reduction == "sum"


def _shortened(system: System, forward: System, name: str, ends: Collection[str], inner: Collection[str]) -> System:
    keep = forward.equations.keys() | ends
    nested = Closed(system, keep - {name})
    expr = _known_sums(nested[name], nested, forward)
    _, short = tidied(expr, Facts())
    if nesting(short) >= _depth(system, name, inner):
        return system
    build = Contractions(system.copy())
    made = build.add(short, system.shape(name))
    return system if made in system else _renamed(build.system, made, name)  # it may be a tensor that is there already


def _known_sums(expr: Expr, closed: Closed, forward: System) -> Expr:
    """Sums of a tensor of the network that its own definition says to be a number: Σ (x - mean x) = 0."""
    change = {}
    leaves = Closed(forward, [n for n, e in forward.equations.items() if e.origin == n])
    for total in expr.atoms(Reduction):
        body = total.body
        if isinstance(body, Element) and body.view is None and body.name in forward.equations and total.kind == "sum":
            value = substituted((heads(len(body.index)), leaves[body.name]), body.index)
            found = expanded(Reduction("sum", value, total.loops), closed.facts)
            if found.is_number:
                change[total] = found
    return normal(expr.xreplace(change), closed.facts) if change else expr


def _depth(system: System, name: str, inner: Collection[str]) -> int:
    """How many sums stand inside each other in equations that read each other."""
    deepest: dict[str, int] = {}
    for n in system.equations:
        if n in inner:
            e = system.equations[n]
            below = max((deepest.get(operand, 0) for operand in e.operands), default=0)
            deepest[n] = below + bool(e.definition.reduced)
    return deepest[name]


def _renamed(system: System, made: str, name: str) -> System:
    """The system with `made` in the place of `name`."""
    old, new = system.equations.pop(name), system.equations.pop(made)
    system.add(replace(new, name=name, origin=old.origin, adjoint_of=old.adjoint_of))
    return system

"""How each parameter starts, where the graph does not say: by the form of its use."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import sympy as sp
from sympy import Expr

from symgrad.equations import Equation, Leaf, System
from symgrad.index.definition import At, outermost
from symgrad.initialise import SCALED, normalised


def initialisers(system: System) -> dict[str, tuple[Any, ...]]:
    """Parameter -> (scheme, arguments...)."""
    uses = system.uses()
    users = {name: [system.equations[user] for user in dict.fromkeys(names)] for name, names in uses.items()}
    parameters = [leaf for leaf in system.leaves.values() if leaf.kind == "parameter"]
    return {leaf.name: _initialiser(users, leaf) for leaf in parameters}


Users = Mapping[str, Sequence[Equation]]


def _initialiser(users: Users, parameter: Leaf) -> tuple[Any, ...]:
    """(scheme, arguments...): as the graph says, or else by use.

    A factor of a contraction gets He's scheme (2015) where the following activation is zero for negative and
    the identity for large values, Glorot's (2010) otherwise; what is looked up by index gets a normal
    distribution; a term that is added starts at 0, an elementwise factor at 1.
    """
    mine = users[parameter.name]
    fans = _fans(mine, parameter.name)
    if parameter.init is not None:
        scheme, *arguments = normalised(parameter.init)
        return (scheme, *(fans or _plain_fans(parameter))) if scheme in SCALED else (scheme, *arguments)
    if fans:
        return ("he_normal" if any(_rectified(users, e) for e in mine) else "glorot_uniform", *fans)
    if any(_is_lookup(e, parameter.name) for e in mine):
        return ("normal", 1 / int(parameter.shape[-1]) ** 0.5)
    return _by_derivative(mine, parameter.name)


def _accesses(e: Equation, name: str) -> list[At]:
    return [at for at in e.definition.accesses if e.source(at) == name]


def _plain_fans(parameter: Leaf) -> tuple[int, int]:
    sizes = [int(n) for n in parameter.shape] or [1]
    return sizes[0], sizes[-1]


def _fans(users: Sequence[Equation], name: str) -> tuple[int, int] | None:
    """(inputs per output, outputs per input) of the first contraction that reads the parameter."""
    for e in users:
        d = e.definition
        for at in _accesses(e, name):
            others = [other for other in d.accesses if other != at]
            bound = [i for i, _ in d.reduced if at.has(i)]
            if bound and others and d.reduction == "sum":
                window = [i for i in bound if any(index.has(i) and index != i for o in others for index in o.index)]
                kept = [i for i, _ in d.loops if i in d.write and at.has(i)]
                fan_in, fan_out = (_count(d.extents[i] for i in loops) for loops in (bound, [*kept, *window]))
                return fan_in, fan_out
    return None


def _count(sizes: Iterator[Expr]) -> int:
    product = 1
    for n in sizes:
        product *= int(n) if n.is_Integer else 1
    return product


def _is_lookup(e: Equation, name: str) -> bool:
    return any(index.has(At) for at in _accesses(e, name) for index in at.index)


def _rectified(users: Users, e: Equation) -> bool:
    """Whether the first nonlinear elementwise equation after e is rectifying."""
    for _ in range(8):
        following = [u for u in users[e.name] if u.definition.elementwise]
        if not following:
            return False
        e_next = following[0]
        access = next((at for at in e_next.definition.accesses if e_next.source(at) == e.name), None)
        if access is None:
            return False
        if not _is_linear(e_next.definition.body, access):
            return _is_rectifier(e_next.definition.body, access)
        e = e_next
    return False


def _is_linear(body: Expr, access: At) -> bool:
    x = sp.Dummy("x", real=True)
    return not body.xreplace({access: x}).diff(x).has(x)


def _is_rectifier(body: Expr, access: At) -> bool:
    """f(-10) near 0 and f(10) near 10: relu, leaky relu, elu, gelu, silu, whatever they are called."""
    if len(outermost(body)) != 1:
        return False
    low, high = (sp.N(body.xreplace({access: sp.Integer(x)}).doit().rewrite(sp.exp)) for x in (-10, 10))
    numbers = all(value.is_number and value.is_real for value in (low, high))  # not so where the index is added
    return bool(numbers and abs(low) <= 1 and 5 < high < 20)


def _by_derivative(users: Sequence[Equation], name: str) -> tuple[Any, ...]:
    for e in users:
        for at in _accesses(e, name):
            x = sp.Dummy("x", real=True)
            slope = e.definition.body.xreplace({at: x}).diff(x)
            if not slope.has(x):
                return ("zeros",) if slope.is_number else ("ones",)
    return ("normal", 1.0)

"""Poolings before what can wait: max(f(x) + b) over a window as f(max(x) + b), where f does not decrease.

The elementwise part then has fewer elements, as has its adjoint. Where f is constant, as relu is below 0, more
elements may share the maximum than before, but the gradient there is 0 however it is shared.
"""

from __future__ import annotations

from dataclasses import replace

import sympy as sp
from sympy import Expr

from symgrad.equations import Equation, System, equation
from symgrad.index.bounds import inside
from symgrad.index.definition import At, define, outermost
from symgrad.index.functions import sigmoid, softplus
from symgrad.names import free_name
from symgrad.simplify.substitute import Operands

_INCREASING = (sp.tanh, sp.exp, sp.atan, sp.erf, sigmoid, softplus)


def pool_first(system: System) -> System:
    """The network with every elementwise equation that only a max or min reads moved behind it, where it may."""
    result = system.copy()
    queue = [e.name for e in system if e.solution is None and e.definition.reduction in ("max", "min")]
    while queue:
        name = queue.pop()
        split = _split(result, result.equations[name])
        if split:
            equations = {n: e for n, e in result.equations.items() if n != name}
            result = replace(result, equations=equations | {e.name: e for e in split}).pruned().sorted()
            queue.append(split[0].name)
    return result


def _split(system: System, e: Equation) -> tuple[Equation, Equation] | None:
    d = e.definition
    if not d.gathers or not isinstance(d.body, At) or d.body.view is not None:
        return None
    source = system.equations.get(e.source(d.body))
    if source is None or source.solution is not None or not source.definition.elementwise:
        return None
    if source.name in system.wanted() or len(system.uses()[source.name]) > 1:
        return None
    if not inside(d.body, source.shape, d.extents):
        return None
    operands = Operands(e.operands)
    change = dict(zip(source.definition.write, d.body.index, strict=True))
    body = operands.adopt(source.definition.body, source.operands).xreplace(change)
    bound = {i for i, _ in d.reduced}
    moving = [at for at in outermost(body) if at.free_symbols & bound]
    waiting = body.xreplace({at: sp.Dummy() for at in moving})  # what would come after the pooling
    if len(moving) != 1 or waiting.is_Symbol or waiting.free_symbols & bound or not _increases(body, moving[0]):
        return None
    name = free_name(f"{e.name}_first", {*system.leaves, *system.equations})
    first = define(d.loops, d.shape, d.write, moving[0], d.reduction)
    pooled = At(operands.number(name), d.write)
    loops = [(i, n) for i, n in d.loops if i not in bound]
    second = define(loops, d.shape, d.write, body.xreplace({moving[0]: pooled}))
    about = {"dtype": e.dtype, "origin": e.origin, "adjoint_of": e.adjoint_of}
    return equation(name, first, operands.names, **about), equation(e.name, second, operands.names, **about)


def _increases(expr: Expr, x: At) -> bool:
    """Whether the expression provably never decreases as x grows."""
    if expr == x:
        return True
    if not expr.has(x):
        return False
    if isinstance(expr, sp.Add):
        return all(not term.has(x) or _increases(term, x) for term in expr.args)
    if isinstance(expr, sp.Mul):
        number, rest = expr.as_coeff_Mul()
        return bool(number.is_positive) and number != 1 and _increases(rest, x)
    if isinstance(expr, sp.Piecewise):
        return _rectifies(expr, x)
    return isinstance(expr, _INCREASING) and _increases(expr.args[0], x)


def _rectifies(expr: sp.Piecewise, x: At) -> bool:
    """where(u > 0, u, c u) with 0 <= c."""
    if len(expr.args) != 2:
        return False
    (above, test), (below, _) = expr.args
    slope = sp.cancel(below / above) if below != 0 else sp.Integer(0)
    zero = test in (sp.Gt(above, 0), sp.Ge(above, 0))
    return zero and slope.is_number and bool(slope.is_nonnegative) and _increases(above, x)

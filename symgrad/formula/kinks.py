"""Which conventions a derivation used where a function has a kink."""

from __future__ import annotations

from collections.abc import Iterator

import sympy as sp
from sympy import Expr
from sympy.core.relational import Relational

from symgrad.conventions import CONVENTIONS, Convention
from symgrad.formula.functions import VARIABLE
from symgrad.formula.notation import Constant
from symgrad.formula.plan import Plan
from symgrad.formula.render_text import text
from symgrad.index.definition import Definition

_NEAR = sp.Rational(1, 10**9)


def kink_notes(plan: Plan) -> list[str]:
    """One line each: f'(0) = 0 for activations, the record of the convention for the rest."""
    notes = []
    for number, body in enumerate(plan.functions.bodies):
        letter = plan.functions.letter(number).text
        for point, slope in _kinks(body, plan.functions.derivative(number)):
            notes.append(f"{letter}'({text(Constant(point))}) = {text(Constant(slope))}")
    used = {c.function: c for c in _others(plan)}
    return notes + [f"{c.function} at {c.where}: {c.value}" for c in CONVENTIONS if c.function in used]


def _kinks(body: Expr, derivative: Expr) -> list[tuple[Expr, Expr]]:
    """(point, value of the derivative there) wherever the derivative jumps."""
    x = sp.Symbol("x", real=True)
    slope = derivative.xreplace({VARIABLE: x})
    found = {}
    for difference in _switches(body.xreplace({VARIABLE: x})):
        a, b = difference.coeff(x, 1), difference.coeff(x, 0)
        if sp.expand(difference - a * x - b) != 0 or not a.is_number or a == 0:
            continue
        point = -b / a
        sides = [slope.xreplace({x: point + side * _NEAR}).evalf(30) for side in (-1, 1)]
        if all(s.is_number for s in sides) and abs(sides[0] - sides[1]) > 1e-6:
            found[point] = slope.xreplace({x: point}).doit()
    return sorted(found.items(), key=lambda item: sp.default_sort_key(item[0]))


def _switches(body: Expr) -> Iterator[Expr]:
    """What is 0 where the expression changes from one formula to another."""
    for part in sp.preorder_traversal(body):
        if isinstance(part, Relational):
            yield sp.expand(part.lhs - part.rhs)
        elif isinstance(part, sp.Abs | sp.sign | sp.Heaviside):
            yield sp.expand(part.args[0])
        elif isinstance(part, sp.Max | sp.Min):
            first, *rest = part.args
            yield from (sp.expand(first - other) for other in rest)


def _others(plan: Plan) -> Iterator[Convention]:
    """The conventions of the equations that are differentiated and are no activations."""
    differentiated = {e.adjoint_of for e in plan.system if e.adjoint_of is not None}
    for e in plan.system:
        active = e.name in plan.forward and e.name in differentiated and e.name not in plan.functions.of
        if active and differentiated.intersection(e.operands):
            yield from (_convention(start) for start in _kinds(e.definition))


def _kinds(d: Definition) -> Iterator[str]:
    """How the record's entries for what a body contains begin."""
    if d.reduced and d.reduction in ("max", "min"):
        yield "max, min over"
    if d.body.has(sp.Max, sp.Min):
        yield "maximum"
    if d.body.has(sp.Abs):
        yield "abs"
    if d.body.has(sp.sign, sp.Heaviside):
        yield "sign"
    if d.body.has(sp.Piecewise):
        yield "where"


def _convention(start: str) -> Convention:
    return next(c for c in CONVENTIONS if c.function.startswith(start))

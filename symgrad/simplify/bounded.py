"""Elements that are no larger than some number by construction: values of tanh, and of a normalisation."""

from __future__ import annotations

import sympy as sp
from sympy import Expr, Rational

from symgrad.equations import Equation, System
from symgrad.index.definition import At, map_accesses
from symgrad.index.functions import sigmoid
from symgrad.simplify.scalar_cost import is_plain
from symgrad.simplify.substitute import Operands

BOUNDED = (sp.tanh, sp.sin, sp.cos, sp.erf, sigmoid)
DEPTH = 3  # equations that are written into one another to find a norm


def is_bounded(system: System, part: Expr, names: tuple[str, ...]) -> bool:
    """Whether `part`, whose accesses count in `names`, is bounded and rounded whatever the data are."""
    if part.is_number or isinstance(part, BOUNDED):
        return True
    if isinstance(part, At):
        source = system.equations.get(names[part.operand])
        if source is None or not is_plain(source):
            return False
        return is_bounded(system, source.definition.body, source.operands) or _is_normalised(system, source)
    return isinstance(part, sp.Add | sp.Mul) and all(is_bounded(system, arg, names) for arg in part.args)


def _is_normalised(system: System, q: Equation) -> bool:
    """Whether q is d/sqrt(a S + b), where S is a sum of squares of d's elements with this one among them."""
    d = q.definition
    for at in sp.Mul.make_args(d.body):
        if isinstance(at, At) and at.index == d.write and at.view is None:
            operands = Operands(q.operands)
            rest = d.body / at
            for _ in range(DEPTH):
                rest = _written_out(system, rest, operands)
            total = _under_root(rest)
            if total is not None and _has_square(system, total, at, operands):
                return True
    return False


def _written_out(system: System, body: Expr, operands: Operands) -> Expr:
    def element(at: At) -> Expr:
        source = system.equations.get(operands.names[at.operand])
        if source is None or not is_plain(source) or at.view is not None:
            return at
        return operands.element(source, at.index)

    return map_accesses(body, element)


def _under_root(body: Expr) -> At | None:
    """The S where the body is a number times (a S + b)**(-1/2), with a > 0 and b >= 0."""
    base, power = body.as_independent(At, as_Add=False)[1].as_base_exp()
    if power != Rational(-1, 2):
        return None
    shift, rest = base.as_independent(At, as_Add=True)
    scale, total = rest.as_independent(At, as_Add=False)
    return total if isinstance(total, At) and scale.is_positive and shift.is_nonnegative else None


def _has_square(system: System, total: At, at: At, operands: Operands) -> bool:
    """Whether `total` is an element of a sum of squares, of that of `at` too."""
    source = system.equations.get(operands.names[total.operand])
    if source is None or source.solution is not None or source.definition.reduction != "sum" or total.view is not None:
        return False
    d = source.definition
    scale, power = d.body.as_independent(At, as_Add=False)
    read, exponent = power.as_base_exp()
    plain = isinstance(read, At) and exponent == 2 and read.view is None and d.gathers and scale.is_positive
    if not plain or source.source(read) != operands.names[at.operand]:
        return False
    place = dict(zip(d.write, total.index, strict=True))
    bound = dict(d.reduced)
    shape = system.shape(source.source(read))
    return len(set(read.index)) == len(read.index) and all(
        place[i] == j if i in place else bound.get(i) == n
        for i, j, n in zip(read.index, at.index, shape, strict=True)
    )

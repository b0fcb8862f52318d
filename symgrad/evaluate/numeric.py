"""Derivatives from values alone: central differences, complex steps, and differences in 50 digits.

All three differentiate the reference evaluator's target along a direction; none reads a derived formula.
Where the function has a kink on the way, the decisions that the evaluation took say so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import sympy as sp
from sympy import Expr

from symgrad.equations import Equation, System
from symgrad.errors import VerifyError
from symgrad.evaluate.numbers import Array
from symgrad.evaluate.reference import Evaluation, Trace
from symgrad.evaluate.solutions import is_analytic
from symgrad.index.definition import At
from symgrad.index.functions import expm1, log1p, sigmoid, softplus

Direction = Mapping[str, Array]

PRECISE_STEP = "1e-20"
COMPLEX_STEP = 1e-30
CENTRAL_STEP = 1e-3
_ANALYTIC = (
    *(sp.Add, sp.Mul, sp.Pow, sp.exp, sp.log, sp.sin, sp.cos, sp.tan, sp.sinh, sp.cosh, sp.tanh, sp.atan),
    *(expm1, log1p, sigmoid, softplus),
)


@dataclass(frozen=True)
class Slope:
    """The derivative of the target along a direction.

    Attributes:
        right, left: the one-sided derivatives, of the target's shape; equal where only one was needed.
        kink: the point is on an edge and the two differ, or the value jumps there.
        jump: the value jumps, and the differences mean nothing.
    """

    right: Array
    left: Array
    kink: bool
    jump: bool = False


def unit(shape: tuple[int, ...], index: tuple[int, ...], length: float = 1.0) -> Array:
    """The direction of one entry."""
    direction = np.zeros(shape)
    direction[index] = length
    return direction


def precise_slope(at: Evaluation, direction: Direction) -> Slope:
    """One-sided derivatives in 50 digits; good to about 1e-20 times the second derivative.

    `at` evaluates in "mp". The other side is looked at only where a decision says that there may be a kink.
    """
    h = at.numbers.lift(np.asarray(0)) + at.numbers.constant(sp.Rational(PRECISE_STEP))
    steps = {name: at.numbers.lift(d) * h for name, d in direction.items()}
    right, trace = _difference(at, steps, h)
    if not at.trace.edges and not trace.differs(at.trace):
        return Slope(right, right, False)
    left, other = _difference(at, {name: -step for name, step in steps.items()}, -h)
    crossed = trace.differs(at.trace) or other.differs(at.trace)
    jump = crossed and (_jumps(right) or _jumps(left))
    return Slope(right, left, jump or (crossed and _apart(left, right)), jump)


def _difference(at: Evaluation, steps: Direction, h: Any) -> tuple[Array, Trace]:
    value, trace = at.moved(_stepped(at, steps))
    return np.asarray((value - at.value) / h, dtype=object), trace


def _stepped(at: Evaluation, direction: Direction, length: Any = 1) -> dict[str, Array]:
    """The tensors moved along the direction; what the target does not depend on stays out."""
    return {name: at.values[name] + length * d for name, d in direction.items() if name in at.values}


def _apart(left: Array, right: Array) -> bool:
    """Whether two one-sided derivatives differ by more than the numbers can tell."""
    left, right = left.astype(float), right.astype(float)
    scale = np.maximum(np.abs(left), np.abs(right))
    with np.errstate(invalid="ignore"):
        return bool((~(np.abs(left - right) <= 1e-9 * scale + 1e-14)).any())


def _jumps(slope: Array) -> bool:
    """Whether the difference does not vanish with its step, which is 1e-20."""
    return bool((np.abs(slope.astype(float)) > 1e12).any())


def central_difference(at: Evaluation, direction: Direction, step: float = CENTRAL_STEP) -> Array | None:
    """Central differences in float64 with one Richardson step; None if there is a kink within the steps."""
    values = []
    for width in (step, step / 2):
        ends = []
        for side in (width, -width):
            value, trace = at.moved(_stepped(at, direction, side))
            if trace.differs(at.trace):
                return None
            ends.append(value)
        values.append((ends[0] - ends[1]) / (2 * width))
    return np.asarray((4 * values[1] - values[0]) / 3)


def complex_step(at: Evaluation, direction: Direction) -> Array:
    """Im f(x + ih d)/h, which cancels nothing. `at` evaluates in "complex128", where `analytic` allows it."""
    value, _ = at.moved(_stepped(at, direction, 1j * COMPLEX_STEP))
    return np.asarray(value.imag / COMPLEX_STEP)


def analytic(system: System, target: str, names: Iterable[str]) -> bool:
    """Whether every body on the way from `names` to the target is analytic in what depends on `names`."""
    needed = system.needed_for([target])
    active = set(names)
    for e in system:
        if e.name in needed and active.intersection(e.operands):
            active.add(e.name)
            if not _analytic_equation(e, active):
                return False
    return True


def _analytic_equation(e: Equation, active: set[str]) -> bool:
    if e.solution is not None:
        return is_analytic(e.solution)
    if e.dtype != "float" or e.definition.reduction in ("max", "min"):
        return False
    return _analytic_body(e.definition.body, {k for k, name in enumerate(e.operands) if name in active})


def _analytic_body(body: Expr, active: set[int]) -> bool:
    stack = [body]
    while stack:
        expr = stack.pop()
        if isinstance(expr, At) or not _reads(expr, active):
            continue
        if isinstance(expr, sp.Piecewise):
            if any(_reads(condition, active) for _, condition in expr.args):
                return False
            stack += [value for value, _ in expr.args]
        elif isinstance(expr, _ANALYTIC):
            stack += expr.args
        else:
            return False
    return True


def _reads(expr: Expr, active: set[int]) -> bool:
    return any(at.operand in active for at in expr.atoms(At))


def require_scalar(at: Evaluation) -> None:
    """Raise VerifyError unless the target is one finite number."""
    if at.value.shape != ():
        raise VerifyError(f"{at.target!r} has shape {at.value.shape} and is no scalar")
    if not np.isfinite(at.value.astype(complex)):
        raise VerifyError(
            f"{at.target!r} is {float(at.value)} at this point",
            hint="pass inputs= and params= of the right range",
        )

"""Whether a step holds: both of its sides as numbers, or an adjoint against central differences.

What is compared never comes from the code that made the step: the reference evaluator computes each equation over
its full grid of indices, and differences need only the network's own equations.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from symgrad.equations import Equation, System, equation
from symgrad.errors import VerifyError
from symgrad.evaluate.draw import draw
from symgrad.evaluate.numeric import central_difference
from symgrad.evaluate.reference import Evaluation, evaluate
from symgrad.formula.step_system import Record
from symgrad.index.definition import At, Definition, define, index_symbol
from symgrad.names import free_name

Array = NDArray[Any]

DIRECTIONS = 4
STEPS = (1e-3, 1e-5, 1e-7)
EXACT, DIFFERENCES = 1e-9, 1e-5  # tolerated errors of values and of central differences


@dataclass(frozen=True)
class StepCheck:
    """Whether the two sides of a step agree.

    Attributes:
        ok: they do.
        error: the greatest difference, relative to the greatest value where that exceeds 1.
    """

    ok: bool
    error: float

    def __bool__(self) -> bool:
        return self.ok


@dataclass(frozen=True)
class Claim:
    """What a step says: that two equations have the same values.

    Or, without `before`, that `after` holds the derivative of the target by `tensor`; with `access`, by that
    element alone as the equation `user` reads it.
    """

    after: str
    before: str | None = None
    tensor: str = ""
    user: str = ""
    access: At | None = None


def check_claim(
    claim: Claim,
    system: System,
    forward: System,
    record: Record,
    values: Mapping[str, Any] | None,
    dims: Mapping[str, int] | None,
    seed: int,
) -> StepCheck:
    """Evaluate both sides in float64, where `values` are not given at random data.

    Raises VerifyError if a value that is given does not fit, or there is a kink at the data in every direction.
    """
    needed = system.needed_for([claim.after, record.target, *([claim.before] if claim.before else [])])
    data = draw(system, needed, dims, seed, values or {})
    found = evaluate(system, data, needed=needed)
    if claim.before is not None:
        return _compared(found[claim.after], found[claim.before], EXACT)
    return _differences(claim, forward, record, data | found, found[claim.after], seed)


def _compared(a: Array, b: Array, tolerance: float) -> StepCheck:
    if a.shape != b.shape:
        return StepCheck(False, float("inf"))
    scale = max(1.0, float(np.abs(b).max(initial=0.0)))
    error = float(np.abs(a - b).max(initial=0.0)) / scale
    return StepCheck(error <= tolerance, error)


def _differences(
    claim: Claim, forward: System, record: Record, data: Mapping[str, Any], adjoint: Array, seed: int
) -> StepCheck:
    """Inner products of the adjoint with random directions, against the differences along these."""
    probed, name = _probed(forward, claim)
    at = Evaluation(probed, data, record.target)
    cotangent = data[record.seed] if record.seed else np.asarray(1.0)
    random = np.random.default_rng(seed)
    pairs = []
    for _ in range(DIRECTIONS):
        direction = random.standard_normal(adjoint.shape)
        slope = _slope(central_difference, at, {name: direction})
        if slope is not None:
            pairs.append((float((adjoint * direction).sum()), float((cotangent * slope).sum())))
    if not pairs:
        raise VerifyError(
            f"the values of {claim.tensor!r} lie on a kink of {record.target!r}",
            hint="pass another seed, or other values",
        )
    found, expected = np.asarray(pairs).T
    return _compared(found, expected, DIFFERENCES)


def _slope(difference: Callable[..., Array | None], at: Any, direction: Mapping[str, Array]) -> Array | None:
    """The slope at the widest step within which there is no kink."""
    for step in STEPS:
        slope = difference(at, direction, step)
        if slope is not None:
            return slope
    return None


def _probed(forward: System, claim: Claim) -> tuple[System, str]:
    """The network, and the tensor to move: a copy of the claim's, if only one read of it is meant."""
    if claim.access is None:
        return forward, claim.tensor
    probe = free_name(f"{claim.tensor}_read", forward)
    system = replace(forward, equations={})
    for e in forward:
        if e.name == claim.user:
            system.add(equation(probe, _copy(forward.shape(claim.tensor)), [claim.tensor]))
            e = _reading(e, claim.access, probe)
        system.add(e)
    return system, probe


def _copy(shape: tuple[Any, ...]) -> Definition:
    index = [index_symbol(f"i{k}") for k, _ in enumerate(shape)]
    return define(list(zip(index, shape, strict=True)), shape, index, At(0, index))


def _reading(e: Equation, access: At, probe: str) -> Equation:
    """The equation with one access reading the probe."""
    d = e.definition
    moved = At(len(e.operands), access.index, access.view)
    body = d.body.xreplace({access: moved})
    return equation(e.name, replace(d, body=body), [*e.operands, probe], dtype=e.dtype, origin=e.origin)

"""Operands that are repeated along an axis, written out before the call that reads them.

NumPy takes longer to go through an operand that it repeats than to copy that into the result's place and to go through
two arrays in step: `r[...] = b; add(x, r, r)` is `add(x, b, r)` in two thirds of the time for small arrays. Large ones
gain little, and need their cache for other things.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from symgrad.lower.ir import Code, View, dims_product
from symgrad.machine import LIMITS, estimate
from symgrad.schedule.call import Call

FUNCTIONS = ("add", "subtract", "multiply", "divide", "maximum", "minimum")


def spread(code: Code, calls: Iterable[Call]) -> list[Call]:
    """The calls, each repeated operand copied into the result's place first."""
    made: list[Call] = []
    for call in calls:
        operand = _repeated(code, call)
        if operand is None or call.out is None:
            made.append(call)
            continue
        arguments = tuple(call.out if a is operand else a for a in call.arguments)
        made.append(Call("spread", (operand,), call.out, call.equation))
        made.append(replace(call, arguments=arguments))
    return made


def _repeated(code: Code, call: Call) -> View | None:
    """The one operand that the call repeats, if its place can be the result's."""
    out = call.out
    if not call.elementwise or call.function not in FUNCTIONS or out is None or not _is_small(out):
        return None
    views = [a for a in call.arguments if isinstance(a, View)]
    repeated = [v for v in views if v.shape != out.shape and dims_product(v.shape) != 1]
    if len(views) != 2 or len(repeated) != 1:
        return None
    same_type = all(code.arrays[v.array].dtype == code.arrays[out.array].dtype for v in views)
    apart = all(code.root(v.array) != code.root(out.array) for v in views)
    return repeated[0] if same_type and apart else None


def _is_small(view: View) -> bool:
    return estimate(dims_product(view.shape)) <= LIMITS.spread

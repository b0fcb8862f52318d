"""Every statement as calls of NumPy functions with preallocated outputs.

How an elementwise body becomes calls stands in `bodies`.
"""

from __future__ import annotations

from collections.abc import Collection

from symgrad.lower.ir import Apply, Code, Contract, Fill, For, Gather, Map, Reduce, Scatter, Statement
from symgrad.schedule.bodies import map_calls
from symgrad.schedule.call import UPDATES, Call
from symgrad.schedule.picked import Picked
from symgrad.schedule.spread import spread
from symgrad.schedule.sums import plain_product, plain_reduction, product_calls, reduce_calls

__all__ = ["UPDATES", "Call", "flatten"]


def flatten(code: Code, without: Collection[str] = ()) -> list[Call]:
    """The calls that carry out the code's statements; temporaries are added to its arrays.

    `without` names what is left out (see `symgrad.passes.PASSES`).
    """
    picked = Picked(code, "flat_indices" not in without)
    return [call for statement in code.statements for call in _calls(code, statement, picked, without)]


def _calls(code: Code, s: Statement, picked: Picked, without: Collection[str]) -> list[Call]:
    if isinstance(s, Map):
        calls = map_calls(code, s, "cheapest_forms" not in without)
        return calls if "spread_operands" in without else spread(code, calls)
    if isinstance(s, For):
        inside = Picked(code, picked.flat)
        body = tuple(call for inner in s.body for call in _calls(code, inner, inside, without))
        return [Call("for", (), None, s.equation, s.offsets, body)]
    if isinstance(s, Reduce):
        return plain_reduction(code, s) if "sums_as_products" in without else reduce_calls(code, s)
    if isinstance(s, Contract) and s.form not in ("dot", "matmul"):
        return plain_product(s) if "sums_as_products" in without else product_calls(code, s)
    if isinstance(s, Contract):
        plain = s.form == "dot" and max(len(s.left.shape), len(s.right.shape)) <= 2
        return [Call("dot" if plain else "matmul", (s.left, s.right), s.target, s.equation)]
    if isinstance(s, Gather):
        return picked.gather(s)
    if isinstance(s, Scatter):
        return picked.scatter(s)
    if isinstance(s, Apply):
        return [Call("apply", (s.function, *s.operands), s.target, s.equation)]
    assert isinstance(s, Fill)
    return [Call("fill", (s.value,), s.target, s.equation)]

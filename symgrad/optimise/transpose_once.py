"""A transposed right operand of several small products is copied once.

BLAS has kernels for small matrices that read them as they lie, without packing. Those that read the right
operand against its order take up to twice the time.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import sympy as sp

from symgrad.lower.ir import Array, Code, Contract, Map, Statement, View, dims_product, whole
from symgrad.machine import estimate
from symgrad.names import free_name
from symgrad.optimise.stack_contractions import SMALL
from symgrad.optimise.uses import Uses, fresh


def transpose_once(code: Code, keep: Collection[str]) -> Code:
    """See the module's docstring."""
    code = fresh(code)
    uses = Uses(code)
    places: dict[View, list[int]] = {}
    for place, statement in enumerate(code.statements):
        if isinstance(statement, Contract) and _small_transposed(statement):
            places.setdefault(statement.right, []).append(place)
    before: dict[int, list[Statement]] = {}
    for view, users in places.items():
        ready = all(w < users[0] for w in uses.written(code.root(view.array)))
        if len(users) > 1 and ready and code.arrays[code.root(view.array)].kind != "input":
            made = _copy(code, view)
            x = sp.Symbol("a0", real=True)
            equation = code.statements[users[0]].equation
            before.setdefault(users[0], []).append(Map(whole(made), x, {x: view}, equation=equation))
            for place in users:
                user = code.statements[place]
                assert isinstance(user, Contract)
                code.statements[place] = replace(user, right=whole(made))
    code.statements = [s for place, was in enumerate(code.statements) for s in (*before.get(place, []), was)]
    return code


def _small_transposed(s: Contract) -> bool:
    multiplications = estimate(dims_product((*s.left.shape, s.right.shape[-1])))
    plain = s.form == "dot" and len(s.left.shape) == 2 and len(s.right.shape) == 2
    return plain and s.right.order == (1, 0) and multiplications <= SMALL


def _copy(code: Code, view: View) -> Array:
    made = Array(free_name(f"{view.array}_turned", code.arrays), view.shape, code.arrays[view.array].dtype)
    code.arrays[made.name] = made
    return made

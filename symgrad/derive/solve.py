"""Index equations: from "add to X[e(l)] for all l" to "X[s] is the sum over the rest".

An adjoint arises in scatter form: loops l, written at the index e(l) that the forward op read. Where an axis
of e is affine in a loop with coefficient 1 or -1, that loop is solved for, l = s - rest, and the axis becomes
a loop of its own; plain indices give a transpose, i + p a correlation. An axis that cannot be solved, such
as 2*h + p or a data-dependent one, stays as it is: a scatter over small loops, or a scatter-add.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

import sympy as sp
from sympy import Expr, Symbol

from symgrad.index.bounds import within
from symgrad.index.definition import At, Definition, define, index_symbol


class Solution(NamedTuple):
    """One index equation and what it was solved for.

    Attributes:
        axis: the axis of the result that it belongs to; its index is called `target`.
        index: what stood at that axis, over the loops of the definition that was solved.
        loop, value: the loop that it was solved for, and its value over `target` and the other loops.
    """

    axis: int
    target: Symbol
    index: Expr
    loop: Symbol
    value: Expr


def solve(definition: Definition, factor: At, factor_shape: tuple[Expr, ...]) -> Definition:
    """The definition with as many output axes as possible turned into loops over the whole axis.

    `factor` is the cotangent that multiplies the body. Where it lies outside its tensor the body is 0, so a
    loop that indexes it plainly may run over every solution of its equation, as long as the rest of the body
    is finite there: the body must be polynomial in what it reads and in the indices.
    """
    return solutions(definition, factor, factor_shape)[0]


@lru_cache(maxsize=4096)
def solutions(
    definition: Definition, factor: At, factor_shape: tuple[Expr, ...]
) -> tuple[Definition, tuple[Solution, ...]]:
    """What `solve` returns, and the index equations that it solved, in the order of the axes."""
    loops, write, body = dict(definition.loops), list(definition.write), definition.body
    found: list[Solution] = []
    for axis, size in enumerate(definition.shape):
        target = index_symbol(f"s{axis}")
        if size == 1 and write[axis] == 0:
            write[axis] = target
            loops[target] = size
            continue
        for loop in _candidates(write, axis, loops):
            sign = write[axis].coeff(loop)
            solution = sp.expand(sign * (target - (write[axis] - sign * loop)))
            remaining = {i: n for i, n in loops.items() if i != loop} | {target: size}
            vanishing = _reads_zero(loop, loops[loop], factor, factor_shape) and _polynomial(body, loops)
            if not vanishing and not within(solution, remaining, loops[loop]):
                continue
            found.append(Solution(axis, target, write[axis], loop, solution))
            change = {loop: solution}
            body, factor = body.xreplace(change), factor.xreplace(change)
            write = [target if k == axis else w.xreplace(change) for k, w in enumerate(write)]
            loops = remaining
            break
    return define(list(loops.items()), definition.shape, write, body, definition.reduction), tuple(found)


def _candidates(write: Sequence[Expr], axis: int, loops: Mapping[Symbol, Expr]) -> list[Symbol]:
    """The loops that this axis alone names, with coefficient 1 or -1; those of unknown extent first."""
    index = write[axis]
    if index.has(At):
        return []
    others = [w for k, w in enumerate(write) if k != axis]
    found = [i for i in index.free_symbols & loops.keys() if index.coeff(i) in (1, -1)]
    found = [i for i in found if not any(w.has(i) for w in others)]
    return sorted(found, key=lambda i: (loops[i].is_Integer, str(i)))


def _reads_zero(loop: Symbol, extent: Expr, factor: At, shape: tuple[Expr, ...]) -> bool:
    """Whether the factor is 0 for every value of the loop beyond its extent."""
    return any(e == loop and n == extent for e, n in zip(factor.index, shape, strict=True))


def _polynomial(body: Expr, loops: Iterable[Symbol]) -> bool:
    """Whether the body is finite for any finite values of what it reads, and for any index: seen by its form alone."""
    moving = {*loops}
    pending = [body]
    while pending:
        here = pending.pop()
        if isinstance(here, At) or here in moving or not (here.has(At) or here.free_symbols & moving):
            continue
        if isinstance(here, sp.Add | sp.Mul):
            pending.extend(here.args)
        else:
            base, times = here.as_base_exp()
            if base == here or not times.is_Integer or times < 0:
                return False
            pending.append(base)
    return True
